"""How many members of a fleet compute together, where `fleet.at_once` leaves it open: as many as memory holds.

The estimate is of what the backward pass keeps and of one layer's attention, from shapes alone: within a quarter of
what XLA counts for a step (`tests/fleet/test_at_once.py`). It reads the size of the memory and not what is free, so
that a run which is resumed on the same machine computes as it began.
"""

from __future__ import annotations

import dataclasses
import math

import jax.numpy as jnp

from infoprompt_jax.t5.config import T5Config

SHARE = 0.25  # of a device's memory, for activations: weights, batches and other processes need the rest
KEEPING = {"none": "all", "dots": "products"}  # by `backbone.remat`; others keep a layer's input


@dataclasses.dataclass(frozen=True)
class StepShape:
    """What one member computes at once on one device."""

    rows: int
    inputs: int  # tokens of one, with its prompt
    targets: int  # tokens of one, or of all its answer choices where these are scored


def step_bytes(config: T5Config, shape: StepShape, backward: bool = True) -> int:
    """About the bytes of activations of one member's training step on a device; without `backward`, of scoring."""
    inner, stored = config.num_heads * config.d_kv, jnp.dtype(config.dtype).itemsize
    layer = 4 * inner + 2 * config.d_ff + 2 * config.d_model  # values of one token
    kept = KEEPING.get(config.remat, "inputs") if backward else "nothing"

    def stack(layers: int, width: int) -> int:
        return {"inputs": layers * config.d_model + width, "nothing": width}.get(kept, layers * width)

    attention = shape.rows * config.num_heads * shape.inputs**2 * 4
    encoder = shape.rows * shape.inputs * stack(config.num_layers, layer) * stored
    decoder = shape.rows * shape.targets * stack(config.num_decoder_layers, layer + 4 * inner) * stored
    logits = shape.rows * shape.targets * 3 * config.vocab_size * 4
    return encoder + decoder + logits + attention * {"all": 3 * config.num_layers, "nothing": 2}.get(kept, 4)


def together(members: int, each: int, memory: int | None, devices: int = 1) -> int:
    """How many members compute together: the most that divide evenly and fit into SHARE of a device's memory.

    Args:
      each: `step_bytes`.
      memory: of a device, in bytes; None if unknown, and then all do.
      devices: over which whole members are split; 1 where rows are.
    """
    if memory is None:
        return members
    most = max(int(SHARE * memory // max(each, 1)), 1) * devices
    fitting = [count for count in _divisors(members) if count % devices == 0 and count <= most]
    return max(fitting, default=members)


def _divisors(number: int) -> list[int]:
    small = [count for count in range(1, math.isqrt(number) + 1) if number % count == 0]
    return [*small, *(number // count for count in small)]
