"""What a fleet member trains: its prompt, and the parts that its objective adds to it.

The tree is a dict of dicts, so that an optimiser can treat each part by its name and a checkpoint stores it by path
(`prompt/value`). A part that the objective does not train is absent. In a fleet's tree every leaf has a leading axis M.
"""

from __future__ import annotations

from typing import NotRequired, TypedDict, cast

import jax

Part = dict[str, jax.Array]


class Trainable(TypedDict):
    """P prompt tokens, D the model's width, C answer choices, E the bottleneck's width; all float32."""

    prompt: Part  # value [P, D]
    generator: NotRequired[Part]  # of an instance prompt: down [D, E], up [E, P, D]
    head_critic: NotRequired[Part]  # kernel [D, D] and a learned log_temperature, or one of them
    representation_critic: NotRequired[Part]  # kernel [D, D], bias [D], and a learned log_temperature
    verbalizer: NotRequired[Part]  # value [C, D]: a row for each answer choice
    posterior: NotRequired[Part]  # of the variational bottleneck: mean [D, E], log_std [D, E], out [E, D]


INFERENCE = ("prompt", "generator", "verbalizer", "posterior")  # the parts that predictions need; critics are not


def inference(trainable: Trainable) -> Trainable:
    """The parts of a tree that predictions need: these are exported, and kept at the best evaluation."""
    return cast(Trainable, {name: part for name, part in trainable.items() if name in INFERENCE})
