"""One step of pretraining: the optimiser of all weights, the loss and the compiled update. Axes as in `t5/model.py`."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax
from flax import nnx
from jax.typing import ArrayLike

from infoprompt_jax.fleet import optimizers
from infoprompt_jax.t5 import scoring
from infoprompt_jax.t5.model import PAD, T5, T5Config
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
        remat="none",  # small enough to keep everything
        unroll=max(sizes.num_layers, sizes.num_decoder_layers),
    )


def make_optimizer(config: ml_collections.ConfigDict) -> optax.GradientTransformation:
    """Adam after clipping, with the learning-rate schedules of a fleet; updates are scaled by each matrix's RMS.

    Embeddings start a hundred times larger than the weights of queries. One absolute step size for both, as AdamW has,
    is too small for the embeddings or too large for the queries.
    """
    train = config.train

    def rate(step: ArrayLike) -> jax.Array:
        schedule = optimizers.SCHEDULES.index(train.schedule)
        return train.learning_rate * optimizers.rate_factor(jnp.asarray(step), train.steps, train.warmup, schedule)

    clip = optax.clip_by_global_norm(train.clip_norm) if train.clip_norm > 0 else optax.identity()
    return optax.chain(
        clip,
        optax.scale_by_adam(b2=0.98),
        optax.scale_by_param_block_rms(),
        optax.add_decayed_weights(train.weight_decay),
        optax.scale_by_learning_rate(rate),
        optax.stateless(keep_content_heads),
    )


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


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def step(
    graph: nnx.GraphDef, optimizer: optax.GradientTransformation, state: State, batch: dict[str, jax.Array]
) -> tuple[State, dict[str, jax.Array]]:
    """One update of all weights, and its metrics: the loss over all rows and over each kind of row, in nats."""

    def loss(params: nnx.State) -> tuple[jax.Array, jax.Array]:
        loss_B = losses(nnx.merge(graph, params), batch)
        return loss_B.mean(), loss_B

    (mean, loss_B), gradients = jax.value_and_grad(loss, has_aux=True)(state["params"])
    updates, optimizer_state = optimizer.update(gradients, state["optimizer"], state["params"])
    kinds = {"denoising_loss": batch["denoising"], "task_loss": ~batch["denoising"]}
    metrics = {name: jnp.sum(loss_B * rows_B) / rows_B.sum() for name, rows_B in kinds.items()}
    metrics |= {"loss": mean, "gradient_norm": optax.tree.norm(gradients)}
    return {"params": optax.apply_updates(state["params"], updates), "optimizer": optimizer_state}, metrics
