"""The sizes and switches of a T5, and the tokens that mean the same in all of them."""

from __future__ import annotations

import dataclasses

PAD = 0  # also T5's decoder start token
EOS = 1


@dataclasses.dataclass(frozen=True)
class T5Config:
    """Sizes and switches of one T5. `feed_forward` is "relu" or "gated-gelu" (the tanh approximation)."""

    vocab_size: int
    d_model: int
    d_kv: int
    d_ff: int
    num_layers: int
    num_decoder_layers: int
    num_heads: int
    relative_buckets: int = 32
    relative_max_distance: int = 128
    layer_norm_epsilon: float = 1e-6
    feed_forward: str = "gated-gelu"
    tied: bool = False  # one matrix for embeddings and LM head
    scale_decoder_outputs: bool = False  # multiply hidden states by D ** -0.5 before the LM head (v1.0)
    takes_eos: bool = True  # inputs ended in </s> when the checkpoint was trained (not for T0)
    tokenizer: str = ""  # directory or file of the vocabulary; empty = beside the weights
    dtype: str = "float32"  # of activations and full weights
    weights: str = "full"  # of kernels and tables: "full" = in `dtype`, or "int8"
    dropout: float = 0.0
    remat: str = "dots"  # what the backward pass recomputes: "none", or one of REMAT_POLICIES
    unroll: int = 1  # layers in an iteration of the scan
    attention: str = "xla"  # to the encoder's positions: "xla", or "cudnn" (`fused.py`)
