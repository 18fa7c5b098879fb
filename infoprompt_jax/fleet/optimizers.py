"""The update of one fleet member's trainable tree; under `jax.vmap` every member has its own optimiser state.

Gradients are clipped by their global norm: that of what predictions need and that of the critics, each by itself, or
that of the member's whole tree together. Then the part "prompt" is updated by Adafactor or
AdamW, every other part (critics, verbalizer, posterior) by AdamW. Learning rates and schedules are data, so members
that differ in them share one program: `step_sizes` computes the rates, and `update` takes them.

    updates, state = transform.update(gradients, state, trainable, step_sizes=step_sizes(hyper, step, total_steps))
    trainable = optax.apply_updates(trainable, updates)

Weight decay skips the two critics: their kernels start as the identity, and decay would pull them towards zero, where
all scores are equal and the bound is useless.
"""

from __future__ import annotations

import functools
from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from infoprompt_jax.errors import UserError
from infoprompt_jax.infoprompt.hyper import Hyper

SCHEDULES = ("constant", "linear", "cosine")
NOT_DECAYED = ("head_critic", "representation_critic")


class StepSizes(NamedTuple):
    """One member's learning rates at one step: the prompt's, and that of all other parts."""

    prompt: jax.Array
    critic: jax.Array


def rate_factor(
    step: jax.Array | int, total_steps: int, warmup: jax.Array | float, schedule: jax.Array | int
) -> jax.Array:
    """What the learning rates are multiplied by at `step`, which counts from 0 to `total_steps` - 1.

    `warmup` is a share of the steps and `schedule` an index into `SCHEDULES`. With W = round(warmup * total_steps) the
    factor is

        (step + 1) / W           while step < W: the first step already moves, step W - 1 has the full rate; then
        1                        constant
        1 - x                    linear, where x = (step - W) / (total_steps - W): step W has the full rate, and the
        (1 + cos(pi * x)) / 2    cosine  rate would reach zero at step `total_steps`, so no step is wasted on it
    """
    step = jnp.asarray(step, jnp.float32)
    warmup = jnp.round(jnp.asarray(warmup) * total_steps)
    x = jnp.clip((step - warmup) / jnp.maximum(total_steps - warmup, 1.0), 0.0, 1.0)
    shapes = [jnp.ones_like(x), 1.0 - x, 0.5 + 0.5 * jnp.cos(jnp.pi * x)]  # in the order of SCHEDULES
    after = jnp.select([jnp.asarray(schedule) == i for i in range(len(SCHEDULES))], shapes)
    return jnp.where(step < warmup, (step + 1.0) / jnp.maximum(warmup, 1.0), after)


def step_sizes(hyper: Hyper[jax.Array], step: jax.Array | int, total_steps: int) -> StepSizes:
    """One member's learning rates at `step` by its schedule; see `rate_factor`."""
    factor = rate_factor(step, total_steps, hyper.warmup, hyper.schedule)
    return StepSizes(hyper.learning_rate * factor, hyper.critic_learning_rate * factor)


def scale_by_step_size(entry: str) -> optax.GradientTransformationExtraArgs:
    """Multiplies updates by minus the learning rate `entry` of the argument `step_sizes`."""

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        del params
        rate = getattr(extra["step_sizes"], entry)
        return jax.tree.map(lambda u: -rate * u, updates), state

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


def adafactor(weight_decay: float, entry: str) -> optax.GradientTransformationExtraArgs:
    """Adafactor (Shazeer and Stern 2018) as in T5X, without parameter scaling: the recipe of Lester et al. 2021.

    The second moment decays by 1 - (step + 1) ** -0.8; matrices with both sides >= 128 are factored; an update is
    divided by its root mean square where that exceeds 1. T5X does NOT multiply weight decay by the learning rate:
    p <- (1 - weight_decay) * p - learning_rate * update.
    """
    return optax.chain(
        optax.scale_by_factored_rms(decay_rate=0.8, min_dim_size_to_factor=128, epsilon=1e-30),
        optax.clip_by_block_rms(1.0),
        scale_by_step_size(entry),
        optax.add_decayed_weights(-weight_decay),
    )


def adamw(weight_decay: float, entry: str) -> optax.GradientTransformationExtraArgs:
    """AdamW (Loshchilov and Hutter 2019): p <- p - learning_rate * (update + weight_decay * p)."""
    return optax.chain(
        optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8),
        optax.add_decayed_weights(weight_decay),
        scale_by_step_size(entry),
    )


def _labels(trainable: Mapping[str, Any]) -> dict[str, str]:
    names = {"prompt": "prompt"} | dict.fromkeys(NOT_DECAYED, "critic")
    return {entry: names.get(entry, "other") for entry in trainable}


OPTIMIZERS = {"adafactor": adafactor, "adamw": adamw}


@functools.cache  # the same object for the same arguments, so that fleets compare equal
def optimizer(
    name: str, weight_decay: float, clip_norm: float, clip_apart: bool = False
) -> optax.GradientTransformationExtraArgs:
    """The update of one member's tree, a dict with the part "prompt" and any others.

    Args:
        name: the prompt's optimiser, one of `OPTIMIZERS`.
        weight_decay: share of the weights per step for Adafactor, times the learning rate for AdamW; critics have none.
        clip_norm: limit of the global norm; 0 = off.
        clip_apart: whether the critics' gradients have a norm of their own; large ones then do not slow the prompt.

    Returns:
        A transformation; `update(gradients, state, trainable, step_sizes=...)` returns what to add to the tree.

    Raises:
        UserError: the optimiser is none of these.
    """
    if name not in OPTIMIZERS:
        raise UserError(f"train.optimizer is {name!r}; set it to one of {', '.join(OPTIMIZERS)}.")
    parts: dict[Hashable, optax.GradientTransformation] = {
        "prompt": OPTIMIZERS[name](weight_decay, "prompt"),
        "critic": adamw(0.0, "critic"),
        "other": adamw(weight_decay, "critic"),
    }
    clip = optax.clip_by_global_norm(clip_norm) if clip_norm > 0 else optax.identity()
    if clip_norm > 0 and clip_apart:
        groups: dict[Hashable, optax.GradientTransformation] = {"critics": clip, "others": clip}
        clip = optax.partition(groups, lambda tree: {k: "critics" if k in NOT_DECAYED else "others" for k in tree})
    return optax.chain(clip, optax.partition(parts, _labels))


def turned(gradients: Any) -> Any:
    """A member's gradients, rolled by half of their last axis; the critics' are as they are."""

    def rolled(path: Any, gradient: jax.Array) -> jax.Array:
        is_critic = path[0].key in NOT_DECAYED
        return gradient if is_critic else jnp.roll(gradient, gradient.shape[-1] // 2, axis=-1)

    return jax.tree_util.tree_map_with_path(rolled, gradients)
