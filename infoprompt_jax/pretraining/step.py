"""One step of pretraining: the optimiser of all weights, the loss and the compiled update. Axes as in `t5/model.py`."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from flax import nnx
from jax.typing import ArrayLike

from infoprompt_jax.fleet import optimizers
from infoprompt_jax.t5 import scoring
from infoprompt_jax.t5.config import PAD, T5Config
from infoprompt_jax.t5.model import T5
from infoprompt_jax.t5.tokenizer import SENTINELS

State = dict[str, Any]  # "params": the weights, "optimizer": its state


def t5_config(config: ml_collections.ConfigDict) -> T5Config:
    """The T5 that `config.pretrain` describes."""
    sizes = config.pretrain
    return T5Config(
        vocab_size=sizes.pieces + len(SENTINELS),
        d_model=sizes.d_model,
        d_kv=sizes.d_kv,
        d_ff=sizes.d_ff,
        num_layers=sizes.num_layers,
        num_decoder_layers=sizes.num_decoder_layers,
        num_heads=sizes.num_heads,
        tied=sizes.tied,
        scale_decoder_outputs=sizes.tied,  # as in T5 v1.0, which has both
        dtype=sizes.dtype,
        remat="none",  # small enough to keep everything
        unroll=max(sizes.num_layers, sizes.num_decoder_layers),
    )


def initial(model: T5Config, seed: int) -> tuple[nnx.GraphDef, nnx.State]:
    """The graph of a T5 and its first weights, in float32 whatever it computes in."""
    graph, params = nnx.split(T5(model, nnx.Rngs(seed)))
    return graph, jax.tree.map(lambda weight: weight.astype(jnp.float32), params)


@functools.cache  # the same object for the same arguments, so that `step` is compiled once
def make_optimizer(weight_decay: float, clip_norm: float) -> optax.GradientTransformationExtraArgs:
    """Adam after clipping; updates are scaled by each matrix's RMS, and by the argument `rate`.

    Embeddings start a hundred times larger than the weights of queries. One absolute step size for both, as AdamW has,
    is too small for the embeddings or too large for the queries.
    """

    def stepped(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        del params
        return jax.tree.map(lambda update: -extra["rate"] * update, updates), state

    return optax.chain(
        optax.clip_by_global_norm(clip_norm) if clip_norm > 0 else optax.identity(),
        optax.scale_by_adam(b2=0.98),
        optax.scale_by_param_block_rms(),
        optax.add_decayed_weights(weight_decay),
        optax.GradientTransformationExtraArgs(optax.init_empty_state, stepped),
        optax.stateless(keep_content_heads),
    )


def rates(train: ml_collections.ConfigDict) -> np.ndarray:
    """The learning rate of each step, float32 [steps], with the schedules of a fleet."""
    schedule = optimizers.SCHEDULES.index(train.schedule)
    factors = optimizers.rate_factor(jnp.arange(train.steps), train.steps, train.warmup, schedule)
    return np.asarray(train.learning_rate * factors, np.float32)


def keep_content_heads(updates: Any, _: Any = None) -> Any:
    """Sets the update of every second head's relative bias to 0: the bias stays near zero, so the head reads content.

    T5 has one bias for all layers of a stack. If all are trained, every head becomes local within a few thousand steps,
    and no head can look up the answer to a question elsewhere in the text.
    """

    def masked(path: Any, update: jax.Array) -> jax.Array:
        if "relative_bias" not in jax.tree_util.keystr(path):
            return update
        return update * jnp.expand_dims(jnp.arange(update.shape[-1]) % 2 == 0, 0)

    return jax.tree_util.tree_map_with_path(masked, updates)


def losses(model: T5, batch: dict[str, jax.Array]) -> jax.Array:
    """Cross-entropy of each row [B], in nats: the mean over its target's tokens, so short answers count as much."""
    targets_BT = batch["targets"]
    logits_BTV = model.logits(model.decode(targets_BT, *model.encode(batch["inputs"])))
    tokens_B = jnp.sum(targets_BT != PAD, axis=1)
    return -scoring.token_log_probabilities(logits_BTV, targets_BT).sum(axis=1) / tokens_B


def computing(graph: nnx.GraphDef, params: nnx.State) -> T5:
    """The model, with its weights in the type that it computes in."""
    dtype = nnx.merge(graph, params).config.dtype
    return nnx.merge(graph, jax.tree.map(lambda weight: weight.astype(dtype), params))


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def step(
    graph: nnx.GraphDef,
    optimizer: optax.GradientTransformationExtraArgs,
    state: State,
    batch: dict[str, jax.Array],
    rate: ArrayLike,
) -> tuple[State, dict[str, jax.Array]]:
    """One update of all weights, and its metrics: the loss over all rows and over each kind of row, in nats."""

    def loss(params: nnx.State) -> tuple[jax.Array, jax.Array]:
        loss_B = losses(computing(graph, params), batch)
        return loss_B.mean(), loss_B

    (mean, loss_B), gradients = jax.value_and_grad(loss, has_aux=True)(state["params"])
    updates, optimizer_state = optimizer.update(gradients, state["optimizer"], state["params"], rate=rate)
    kinds = {"denoising_loss": batch["denoising"], "task_loss": ~batch["denoising"]}
    metrics = {name: jnp.sum(loss_B * rows_B) / rows_B.sum() for name, rows_B in kinds.items()}
    metrics |= {"loss": mean, "gradient_norm": optax.tree.norm(gradients)}
    return {"params": optax.apply_updates(state["params"], updates), "optimizer": optimizer_state}, metrics
