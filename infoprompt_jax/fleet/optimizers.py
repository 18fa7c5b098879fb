"""The update of one fleet member's trainable tree, to be run under `jax.vmap`: one state per member.

Gradients are clipped by the global norm of the member's whole tree. Then the entry "prompt" is updated by Adafactor or
AdamW, every other entry (critics, verbalizer, posterior) by AdamW. Learning rates and schedules are data, so members
that differ in them share one program: `step_sizes` computes the rates, and `update` takes them.

    updates, state = transform.update(gradients, state, trainable, step_sizes=step_sizes(hyper, step, total_steps))
    trainable = optax.apply_updates(trainable, updates)

Weight decay leaves the two critics alone: their kernels start as the identity, and decay would pull them towards zero,
where all scores are equal and the bound says nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from infoprompt_jax.errors import UserError

SCHEDULES = ("constant", "linear", "cosine")
NOT_DECAYED = ("head_critic", "representation_critic")


class StepSizes(NamedTuple):
    """Learning rates of one member at one step: of the prompt, and of everything else."""

    prompt: jax.Array
    critic: jax.Array


def step_sizes(hyper: Mapping[str, jax.Array | float], step: jax.Array | int, total_steps: int) -> StepSizes:
    """The learning rates of step `step`, which counts from 0 to `total_steps` - 1.

    `hyper` holds scalars: learning_rate, critic_learning_rate, warmup (share of the steps) and schedule (index into
    `SCHEDULES`). With W = round(warmup * total_steps), both rates are multiplied by

        (step + 1) / W           while step < W: the first step already moves, step W - 1 has the full rate; then
        1                        constant
        1 - x                    linear, where x = (step - W) / (total_steps - W): step W has the full rate, and the
        (1 + cos(pi * x)) / 2    cosine  rate reaches zero where step `total_steps` would be: no step is wasted on it
    """
    step = jnp.asarray(step, jnp.float32)
    warmup = jnp.round(jnp.asarray(hyper["warmup"]) * total_steps)
    x = jnp.clip((step - warmup) / jnp.maximum(total_steps - warmup, 1.0), 0.0, 1.0)
    shapes = [jnp.ones_like(x), 1.0 - x, 0.5 + 0.5 * jnp.cos(jnp.pi * x)]  # in the order of SCHEDULES
    after = jnp.select([jnp.asarray(hyper["schedule"]) == i for i in range(len(SCHEDULES))], shapes)
    factor = jnp.where(step < warmup, (step + 1.0) / jnp.maximum(warmup, 1.0), after)
    return StepSizes(hyper["learning_rate"] * factor, hyper["critic_learning_rate"] * factor)


def scale_by_step_size(entry: str) -> optax.GradientTransformationExtraArgs:
    """Multiplies by minus the learning rate that stands under `entry` in the argument `step_sizes`."""

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        del params
        rate = getattr(extra["step_sizes"], entry)
        return jax.tree.map(lambda u: -rate * u, updates), state

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


def adafactor(weight_decay: float, entry: str) -> optax.GradientTransformationExtraArgs:
    """Adafactor (Shazeer and Stern 2018) as T5X has it, without parameter scaling: the recipe of Lester et al. 2021.

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


def optimizer(name: str, weight_decay: float, clip_norm: float) -> optax.GradientTransformationExtraArgs:
    """The update of one member's tree, a dict with the entry "prompt" and any others.

    Args:
        name: of the prompt's optimiser, one of `OPTIMIZERS`.
        weight_decay: share of the weights per step for Adafactor, times the learning rate for AdamW; none on critics.
        clip_norm: limit of the global norm of all gradients together; 0 = off.

    Returns:
        A transformation whose `update(gradients, state, trainable, step_sizes=...)` gives what is to be added.

    Raises:
        UserError: the optimiser has another name.
    """
    if name not in OPTIMIZERS:
        raise UserError(f"train.optimizer is {name!r}; set it to one of {', '.join(OPTIMIZERS)}.")
    parts: dict[Hashable, optax.GradientTransformation] = {
        "prompt": OPTIMIZERS[name](weight_decay, "prompt"),
        "critic": adamw(0.0, "critic"),
        "other": adamw(weight_decay, "critic"),
    }
    clip = optax.clip_by_global_norm(clip_norm) if clip_norm > 0 else optax.identity()
    return optax.chain(clip, optax.partition(parts, _labels))
