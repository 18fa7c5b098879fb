"""The least time that a step can take on its devices, by what it computes, reads and sends (a roofline).

Computing counts model FLOPs, 4 N a token to train on a frozen backbone and 2 N to score (`training.speed`), and what
the backward pass computes again, at the chip's peak in bfloat16. Reading counts every weight once in each pass that
uses it: forward, and backward too when training. Sending counts the collectives of the compiled program over all the
links of a chip, and those between slices over the network. A real step takes longer than each of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from infoprompt_jax.capacity.chips import Chip
from infoprompt_jax.capacity.collectives import Collective
from infoprompt_jax.training import speed


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Seconds of one step, by what limits it; `model` is `compute` without what is computed again."""

    model: float
    compute: float
    memory: float
    links: float
    network: float

    @property
    def seconds(self) -> float:
        """The least time of a step."""
        return max(self.compute, self.memory, self.links, self.network)

    @property
    def limit(self) -> str:
        """What the step is bound by: compute, memory, links or network."""
        return max(("compute", "memory", "links", "network"), key=lambda name: getattr(self, name))

    @property
    def mfu(self) -> float:
        """The largest model FLOPs utilisation that a step can have."""
        return self.model / self.seconds


def bounds(
    flops: float, again: float, read: int, listed: Iterable[Collective], between: Iterable[str], chip: Chip, device: Any
) -> Bounds:
    """The bounds of a step.

    Args:
      flops: of the model, on one device.
      again: what the program computes for each of them.
      read: the bytes of weights that a device reads: its own and those that it gathers, in each pass.
      listed: the program's collectives.
      between: the axes of the mesh that span slices.
      chip: of the device.
      device: that the program is compiled for.
    """
    listed, across = list(listed), set(between)
    network = sum(one.times * one.sent for one in listed if across & set(one.axes))
    links = sum(one.times * one.sent for one in listed) - network
    peak = speed.peak_flops(device)
    assert peak is not None  # every chip of `chips.CHIPS` is listed there
    model = flops / peak
    return Bounds(model, model * again, read / chip.memory, links / chip.links, network / chip.network)
