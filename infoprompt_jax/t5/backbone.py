"""The backbone: a frozen T5 on a device mesh, with the methods embed, encode, logits, score and generate.

The weights are one pytree, `frozen`, sharded by the rules of `partition`. No gradient is taken with respect to it and
nothing writes to it. Prompts are None, [P, D] (one for all rows), [B, P, D] (one for each row, so that a batch may mix
prompts) or a saved prompt (`SoftPrompt`).
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.core import Tracer
from jax.sharding import Mesh
from jax.typing import ArrayLike

from infoprompt_jax import memory
from infoprompt_jax.errors import UserError
from infoprompt_jax.t5 import convert, fused, hub, partition, scoring
from infoprompt_jax.t5.config import T5Config
from infoprompt_jax.t5.leaf import StoredLeaf, of_array
from infoprompt_jax.t5.model import T5
from infoprompt_jax.t5.placement import place
from infoprompt_jax.t5.tokenizer import Tokenizer, check_vocabulary, has_vocabulary, load_tokenizer

log = logging.getLogger(__name__)

DTYPES = ("float32", "bfloat16")
WEIGHTS = ("full", "int8")
TOO_MUCH = "give it fewer rows at once (train.eval_batch_size) or shorter ones (data.max_input_length)"


@runtime_checkable
class SoftPrompt(Protocol):
    """A prompt that gives its value for the rows of a batch; `prompts.saved.Prompt` is one."""

    def rows(self, backbone: Backbone, tokens_BL: jax.Array) -> jax.Array:
        """[P, D], or [B, P, D] where each row has its own. Raises UserError where the prompt does not fit."""
        ...


Prompts = ArrayLike | SoftPrompt | None


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Backbone:
    """A frozen T5 on a mesh. `nnx.merge(graph, frozen)` is the module `t5.model.T5`.

    The `prompts` of its methods are None, [P, D] for all rows, [B, P, D] with one for each row, or a saved prompt from
    `load_prompt`. Token ids are whole numbers; PAD is 0.

    Raises:
      UserError: from every method, if its arguments do not fit the backbone.
    """

    name: str
    config: T5Config
    graph: nnx.GraphDef
    frozen: nnx.State
    mesh: Mesh
    vocabulary: Tokenizer | None
    fingerprint: str

    def __repr__(self) -> str:
        """Three lines: the checkpoint, its sizes, its vocabulary and mesh."""
        c, weights = self.config, sum(map(math.prod, convert.leaf_shapes(self.config).values()))
        held = c.dtype if c.weights == "full" else f"{c.weights}, activations in {c.dtype}"
        axes = ", ".join(f"{name}={size}" for name, size in self.mesh.shape.items())
        vocabulary = f"vocabulary of {self.vocabulary.vocab_size}" if self.vocabulary else "no vocabulary"
        return (
            f"Backbone({self.name!r}, fingerprint {self.fingerprint}): {weights / 1e6:,.1f} M weights in {held}\n"
            f"  {c.num_layers} + {c.num_decoder_layers} layers, D={c.d_model}, {c.num_heads} heads of {c.d_kv}, "
            f"F={c.d_ff} ({c.feed_forward}), V={c.vocab_size}, head {'tied' if c.tied else 'untied'}\n"
            f"  {vocabulary}, inputs {'end' if c.takes_eos else 'do not end'} in </s>; mesh {axes} on "
            f"{self.mesh.devices.flat[0].device_kind}"
        )

    @property
    def tokenizer(self) -> Tokenizer:
        """The vocabulary.

        Raises:
          UserError: a T5X checkpoint was loaded without a vocabulary.
        """
        if self.vocabulary is None:
            raise UserError(
                f"{self.name!r} has no vocabulary: load it with tokenizer=, a spiece.model or its directory."
            )
        return self.vocabulary

    def embed(self, tokens_BL: ArrayLike) -> jax.Array:
        """Input embeddings [B, L, D] of int32 tokens (pad id 0)."""
        return self._whole(_embed(self.graph, self.frozen, self._tokens("tokens_BL", tokens_BL)))

    def head_rows(self, tokens: ArrayLike) -> jax.Array:
        """Rows of the LM head, with the axes of `tokens` and D; rows of the embeddings if they are tied."""
        whole = _whole_numbers("tokens", tokens)
        if whole.size:
            self._check_ids("tokens", whole)
        return self._whole(nnx.merge(self.graph, self.frozen).head_rows(jnp.asarray(whole, jnp.int32)))

    def encode(self, tokens_BL: ArrayLike, prompts: Prompts = None) -> jax.Array:
        """Encoder states [B, S, D]: the prompt's positions, then the tokens'."""
        tokens = self._tokens("tokens_BL", tokens_BL)
        return self._whole(_encode(self.graph, self.frozen, tokens, self._prompts(prompts, tokens)))

    def logits(self, tokens_BL: ArrayLike, targets_BT: ArrayLike, prompts: Prompts = None) -> jax.Array:
        """Float32 logits [B, T, V] that predict `targets_BT`, teacher-forced."""
        tokens = self._tokens("tokens_BL", tokens_BL)
        targets = self._tokens("targets_BT", targets_BT, len(tokens))
        return self._whole(_logits(self.graph, self.frozen, tokens, targets, self._prompts(prompts, tokens)))

    def score(
        self,
        tokens_BL: ArrayLike,
        choices_BCT: ArrayLike,
        prompts: Prompts = None,
        normalize: str = "none",
    ) -> jax.Array:
        """Log-probability [B, C] of each answer choice, in nats; an EOS that a choice ends in counts.

        The input is encoded once for all its choices. A choice of only padding scores -inf. `normalize` is "none", or
        "tokens" or "characters": what the score is divided by the number of.
        """
        tokens = self._tokens("tokens_BL", tokens_BL)
        choices = self._tokens("choices_BCT", choices_BCT, len(tokens))
        scores_BC = self._run("Scoring", _score, tokens, choices, self._prompts(prompts, tokens))
        return scores_BC / jnp.asarray(
            scoring.lengths(np.asarray(choices_BCT), normalize, lambda ids: self.tokenizer.decode(ids))
        )

    def generate(self, tokens_BL: ArrayLike, max_length: int = 16, prompts: Prompts = None) -> jax.Array:
        """Greedy decoding: tokens [B, max_length], PAD after EOS."""
        if not isinstance(max_length, int | np.integer) or max_length < 1:
            raise UserError(f"max_length={max_length!r}, but a whole number of at least 1 was expected.")
        tokens = self._tokens("tokens_BL", tokens_BL)
        return self._run("Generation", _generate, tokens, self._prompts(prompts, tokens), int(max_length))

    def _run(self, what: str, program: Any, tokens: jax.Array, *others: Any) -> jax.Array:
        """The program's result, after a check of its memory."""
        arguments = self.graph, self.frozen, tokens, *others
        shapes = self.config, *(getattr(one, "shape", one) for one in (tokens, *others))
        what = f"{what} with {tokens.shape[0]} inputs of {tokens.shape[1]} tokens at once"
        return self._whole(memory.run(program, arguments, shapes, what, TOO_MUCH))

    def _whole(self, array: jax.Array) -> jax.Array:
        """The values of all hosts' devices, on each of them."""
        return partition.whole(array, self.mesh)

    def _tokens(self, argument: str, tokens: ArrayLike, rows: int | None = None) -> jax.Array:
        """The argument's tokens, checked, on the mesh: split by rows if they divide evenly, else whole on each device.

        Its name ends in its axes. `rows`: how many it must have.
        """
        tokens = _whole_numbers(argument, tokens)
        if rows is not None and len(tokens) != rows:
            raise UserError(f"{argument} has {len(tokens)} rows, but tokens_BL has {rows}: one for each was expected.")
        self._check_ids(argument, tokens)
        placed = jnp.asarray(tokens, jnp.int32)
        whole = len(placed) % partition.row_devices(self.mesh) > 0
        return partition.place(placed, partition.replicated(self.mesh) if whole else partition.split(self.mesh))

    def _check_ids(self, argument: str, tokens: np.ndarray | jax.Array) -> None:
        """Raises UserError for an id without an embedding: in a jitted program it is clipped, or gives NaN."""
        if isinstance(tokens, np.ndarray):  # the values of traced tokens are not known
            least, most = int(tokens.min()), int(tokens.max())
            if least < 0 or most >= self.config.vocab_size:
                raise UserError(
                    f"{argument} holds the token id {least if least < 0 else most}, but the backbone {self.name!r} "
                    f"has the ids 0 to {self.config.vocab_size - 1}: encode the text with its own tokenizer."
                )

    def _prompts(self, prompts: Prompts, tokens_BL: jax.Array) -> jax.Array | None:
        if prompts is None:
            return None
        if isinstance(prompts, SoftPrompt):
            return prompts.rows(self, tokens_BL)
        try:
            values, batch, width = jnp.asarray(prompts), len(tokens_BL), self.config.d_model
        except (TypeError, ValueError) as error:  # a path, or rows of different lengths
            raise UserError("prompts is neither an array nor a saved prompt, as load_prompt reads it.") from error
        fits = values.ndim in (2, 3) and values.shape[-1] == width and (values.ndim == 2 or len(values) == batch)
        if not fits or not jnp.issubdtype(values.dtype, jnp.floating):
            raise UserError(
                f"prompts of shape {list(values.shape)} and type {values.dtype} do not fit {batch} rows and the "
                f"backbone {self.name!r}: floats [P, {width}] or [{batch}, P, {width}] were expected."
            )
        return values


def _whole_numbers(argument: str, tokens: ArrayLike) -> np.ndarray | jax.Array:
    """The argument as an array of its axes, the capitals at the end of its name; a traced one stays as it is.

    Without such capitals it may have any axes, and be empty.
    """
    _, named, letters = argument.rpartition("_")
    try:
        array: Any = tokens if isinstance(tokens, Tracer) else np.asarray(tokens)
    except ValueError as error:  # rows of different lengths
        raise UserError(f"{argument} has rows of different lengths: fill the shorter ones up with 0.") from error
    fits = not named or (array.ndim == len(letters) and array.size)
    if not fits or not jnp.issubdtype(array.dtype, jnp.integer):
        seen = f"{array.dtype} of shape {list(array.shape)}"
        shape = f" of shape [{', '.join(letters)}] were expected, at least one" if named else " were expected"
        raise UserError(f"{argument} is {seen}, but whole numbers{shape}.")
    return array


@functools.partial(jax.jit, static_argnums=0)
def _embed(graph: nnx.GraphDef, frozen: nnx.State, tokens_BL: jax.Array) -> jax.Array:
    return nnx.merge(graph, frozen).embed(tokens_BL)


@functools.partial(jax.jit, static_argnums=0)
def _encode(graph: nnx.GraphDef, frozen: nnx.State, tokens_BL: jax.Array, prompts: jax.Array | None) -> jax.Array:
    return nnx.merge(graph, frozen).encode(tokens_BL, prompts, forward_only=True)[0]


@functools.partial(jax.jit, static_argnums=0)
def _logits(
    graph: nnx.GraphDef, frozen: nnx.State, tokens_BL: jax.Array, targets_BT: jax.Array, prompts: jax.Array | None
) -> jax.Array:
    model = nnx.merge(graph, frozen)
    return model.logits(model.decode(targets_BT, *model.encode(tokens_BL, prompts)))


@functools.partial(jax.jit, static_argnums=0)
def _score(
    graph: nnx.GraphDef, frozen: nnx.State, tokens_BL: jax.Array, choices_BCT: jax.Array, prompts: jax.Array | None
) -> jax.Array:
    model = nnx.merge(graph, frozen)
    hidden = scoring.decode_choices(model, choices_BCT, *model.encode(tokens_BL, prompts, forward_only=True))
    return scoring.choice_scores(model, hidden, choices_BCT)


@functools.partial(jax.jit, static_argnums=(0, 4))
def _generate(
    graph: nnx.GraphDef, frozen: nnx.State, tokens_BL: jax.Array, prompts: jax.Array | None, max_length: int
) -> jax.Array:
    model = nnx.merge(graph, frozen)
    return model.generate(*model.encode(tokens_BL, prompts, forward_only=True), max_length)


def load_backbone(
    name: str,
    *,
    dtype: str = "float32",
    mesh: Mesh | None = None,
    revision: str | None = None,
    weights: str = "full",
    tokenizer: str | None = None,
    takes_eos: str = "auto",
    dropout: float = 0.0,
    remat: str = "dots",
    unroll: int = 1,
    attention: str = "xla",
) -> Backbone:
    """Loads and freezes a T5.

    Args:
      name: hub id; local directory (Hugging Face or T5X); "nano" or "mini", the T5s that come with the package
        (docs/nano.md, docs/mini.md); or "random", a tiny untrained T5 for tests.
      dtype: "float32" or "bfloat16", of weights and activations.
      mesh: from `partition.make_mesh`; None = all devices along `data`.
      revision: of a hub id.
      weights: "full", or "int8": kernels and tables are quantised while they are loaded.
      tokenizer: file or directory of the vocabulary; None = beside the weights. T5X checkpoints may have none.
      takes_eos: "auto" (from the checkpoint), "yes" or "no".
      dropout, remat, unroll: of the training forward pass; see docs/configuration.md.
      attention: what computes attention to the encoder's positions: "xla", or "cudnn" on NVIDIA GPUs in bfloat16.

    Raises:
      UserError: the name, a file, the vocabulary or a keyword is wrong; the message says which.
      OfflineError: the checkpoint has to be downloaded and the hub cannot be reached.
    """
    if dtype not in DTYPES:
        why = " (T5 overflows in float16)" if dtype == "float16" else ""
        raise UserError(f"backbone.dtype={dtype!r} is not supported{why}: choose one of {', '.join(DTYPES)}.")
    if weights not in WEIGHTS:
        raise UserError(f"backbone.weights={weights!r} is not supported: choose one of {', '.join(WEIGHTS)}.")
    mesh = mesh or partition.make_mesh()
    computed = {"dropout": dropout, "remat": remat, "unroll": unroll, "attention": attention}
    switches = {"dtype": dtype, "weights": weights, **computed}
    fused.check(mesh, **switches)
    if name == "random":
        return _random_backbone(mesh, switches)
    path = hub.find(name, revision)
    checkpoint = convert.open_checkpoint(path)
    config = convert.read_config(path, takes_eos, checkpoint)
    config = dataclasses.replace(config, tokenizer=tokenizer or "", **switches)
    vocabulary = None
    if tokenizer or has_vocabulary(path) or not convert.is_t5x(path):  # T5X keeps vocabularies elsewhere
        vocabulary = load_tokenizer(hub.find_vocabulary(tokenizer or str(path)))
        check_vocabulary(vocabulary, config.vocab_size)
    graph, frozen, fingerprint = place(config, convert.read_leaves(path, config, checkpoint), mesh)
    return Backbone(name, config, graph, frozen, mesh, vocabulary, fingerprint)


def _random_backbone(mesh: Mesh, switches: dict) -> Backbone:
    """An untrained byte-level T5 v1.1 of about 0.2 M weights, for tests and trials of a config."""
    log.warning("backbone.name='random' is a tiny T5 with random weights: its scores say nothing about the method.")
    tokenizer = load_tokenizer("bytes")
    sizes = {"d_model": 64, "d_kv": 8, "d_ff": 128, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 8}
    config = T5Config(vocab_size=384, **sizes, **switches)  # 259 bytes and controls, in rows that a mesh can split
    graph, frozen, fingerprint = place(config, _random_leaves(config), mesh)
    return Backbone("random", config, graph, frozen, mesh, tokenizer, fingerprint)


@functools.lru_cache(maxsize=2)
def _random_leaves(config: T5Config) -> list[StoredLeaf]:
    """Drawn once for all the runs of a process."""
    state = nnx.split(T5(dataclasses.replace(config, weights="full"), nnx.Rngs(0)))[1]
    return [of_array("/".join(map(str, path)), np.asarray(v[...])) for path, v in nnx.to_flat_state(state)]
