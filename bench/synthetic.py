"""What is measured: shapes of published T5s, batches of random tokens. Shared with torch, so without JAX."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

_GATED = {"feed_forward": "gated-gelu", "tied": False, "scale_decoder_outputs": False}
_RELU = {"feed_forward": "relu", "tied": True, "scale_decoder_outputs": True}
_SMALL = {"vocab_size": 32128, "d_model": 512, "d_kv": 64}
_BASE = {"vocab_size": 32128, "d_model": 768, "d_kv": 64, "num_layers": 12, "num_decoder_layers": 12, "num_heads": 12}
_DEEP = {"vocab_size": 32128, "d_kv": 64, "num_layers": 24, "num_decoder_layers": 24}

PLAIN = {"infoprompt.gamma": 0.0, "infoprompt.beta": 0.0}  # config fields of plain prompt tuning
BOTH = {"infoprompt.gamma": 0.1, "infoprompt.beta": 0.2}  # of both terms, weighted as in the released code
# Keyword arguments of `infoprompt_jax.t5.config.T5Config`.
SHAPES: dict[str, dict[str, Any]] = {
    "v1.1-small": _SMALL | {"d_ff": 1024, "num_layers": 8, "num_decoder_layers": 8, "num_heads": 6} | _GATED,
    "v1.0-small": _SMALL | {"d_ff": 2048, "num_layers": 6, "num_decoder_layers": 6, "num_heads": 8} | _RELU,
    "v1.1-base": _BASE | {"d_ff": 2048} | _GATED,
    "v1.1-large": _DEEP | {"d_model": 1024, "d_ff": 2816, "num_heads": 16} | _GATED,
    "v1.1-xl": _DEEP | {"d_model": 2048, "d_ff": 5120, "num_heads": 32} | _GATED,  # T0-3B's
    "v1.1-xxl": _DEEP | {"d_model": 4096, "d_ff": 10240, "num_heads": 64} | _GATED,
    "toy": {"vocab_size": 384, "d_model": 32, "d_kv": 4, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 8}
    | {"d_ff": 64}
    | _GATED,  # for trials of a measurement
}


@dataclasses.dataclass(frozen=True)
class Size:
    """The sizes of a step. Rows have 7/8 L to L tokens, so that a sixteenth of the input positions is padding."""

    shape: str = "v1.1-small"
    members: int = 1
    batch: int = 8
    input_length: int = 128
    target_length: int = 8
    prompt_length: int = 100
    choices: int = 2

    def host_batch(self) -> dict[str, np.ndarray]:
        """Arrays [M, B, ...] as `batches.train_batches` yields them; the same every time."""
        random, rows = np.random.default_rng(0), (self.members, self.batch)
        vocabulary = SHAPES[self.shape]["vocab_size"]
        inputs = random.integers(2, vocabulary, (*rows, self.input_length))
        lengths = np.linspace(self.input_length * 7 // 8, self.input_length, self.batch).round()
        choices = random.integers(2, vocabulary, (*rows, self.choices, self.target_length))
        label = random.integers(0, self.choices, rows)
        return {
            "inputs": np.where(np.arange(self.input_length) < lengths[:, None], inputs, 0).astype(np.int32),
            "targets": np.take_along_axis(choices, label[..., None, None], axis=2)[:, :, 0].astype(np.int32),
            "choices": choices.astype(np.int32),
            "label": label.astype(np.int32),
            "weight": np.ones(rows, np.float32),
            "row": np.tile(np.arange(self.batch, dtype=np.int32), (self.members, 1)),
        }

    def counts(self) -> dict[str, float]:
        """Examples, non-pad tokens and the share of padding in the inputs of one step."""
        batch = self.host_batch()
        real = int((batch["inputs"] != 0).sum())
        return {
            "examples": self.members * self.batch,
            "tokens": real + batch["targets"].size,
            "padding_share": 1 - real / batch["inputs"].size,
        }
