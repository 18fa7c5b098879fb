"""The device mesh, and the rules by which weights and batches are split over it.

A mesh has two axes: the batch is split over `data`, the weights over `model`. The rules are data: the first regular
expression that matches a weight's path gives its PartitionSpec, and a weight without a rule is an error. `jax.jit`
takes arrays that have a NamedSharding; XLA partitions the program and inserts the collectives (formerly `pjit`). One
device is a 1 x 1 mesh and has no other code path.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from infoprompt_jax.batch import Batch
from infoprompt_jax.errors import UserError

# Heads and feed-forward columns are split over `model` (Megatron's layout: one all-reduce a block). The embedding is
# split by width, so that a lookup stays local; the LM head by vocabulary, so that no device holds whole logits.
# An int8 kernel has two leaves: its values, split as the kernel is, and its scale, as the kernel's output channels are.
T5_RULES: tuple[tuple[str, P], ...] = (
    (r"^embedding(/values)?$", P(None, "model")),
    (r"^embedding/scale$", P()),
    (r"^head(/values)?$", P("model", None)),
    (r"^head/scale$", P("model")),
    (r"layers/(attention|cross)/(query|key|value)(/values)?$", P(None, None, "model")),
    (r"layers/(attention|cross)/(query|key|value)/scale$", P(None, "model")),
    (r"layers/(attention|cross)/out(/values)?$", P(None, "model", None)),
    (r"layers/mlp/wi_[01](/values)?$", P(None, None, "model")),
    (r"layers/mlp/wi_[01]/scale$", P(None, "model")),
    (r"layers/mlp/wo(/values)?$", P(None, "model", None)),
    (r"layers/.*/(out|wo)/scale$", P()),
    (r"relative_bias/embedding$", P()),
    (r"norm/scale$", P()),
)


def make_mesh(data: int = -1, model: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """A `data` x `model` mesh over `devices`; None = all. data = -1: as many as `model` leaves.

    Raises:
      UserError: the two numbers do not fit the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    if model < 1 or len(devices) % model or (data != -1 and data * model != len(devices)):
        raise UserError(
            f"mesh.data={data} x mesh.model={model} does not fit {len(devices)} devices: "
            "choose mesh.model to divide their number and mesh.data=-1, or a product equal to it."
        )
    shape = (len(devices) // model, model)
    return jax.make_mesh(shape, ("data", "model"), axis_types=(AxisType.Auto,) * 2, devices=devices)


def shardings(
    shapes: Mapping[str, tuple[int, ...]], mesh: Mesh, rules: Sequence[tuple[str, P]] = T5_RULES
) -> dict[str, NamedSharding]:
    """A NamedSharding for each path, by the first rule that matches.

    Raises:
      UserError: no rule matches a path, or an axis cannot be split evenly.
    """
    placed = {}
    for path, shape in shapes.items():
        spec = next((spec for pattern, spec in rules if re.search(pattern, path)), None)
        if spec is None:
            raise UserError(f"No partition rule matches the weight {path!r}; add one to partition.T5_RULES.")
        for size, axis in zip(shape, spec, strict=False):
            if axis is not None and size % mesh.shape[axis]:
                raise UserError(
                    f"The weight {path!r} of shape {shape} cannot be split over mesh.{axis}={mesh.shape[axis]}: "
                    f"choose a divisor of {size}."
                )
        placed[path] = NamedSharding(mesh, spec)
    return placed


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, P())


def place_batch(batch: Batch[np.ndarray], mesh: Mesh, axis: int = 1) -> Batch[jax.Array]:
    """This host's share of a batch on the mesh, split over `data` along `axis`: 1 after the fleet's axis, else 0."""
    sharding = NamedSharding(mesh, P(*(None,) * axis, "data"))
    return jax.tree.map(lambda value: jax.make_array_from_process_local_data(sharding, value), batch)


def place_replicated(tree: Any, mesh: Mesh) -> Any:
    """Copies every leaf of a pytree to all devices of the mesh."""
    return jax.device_put(tree, replicated(mesh))
