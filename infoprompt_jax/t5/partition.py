"""The device mesh, and the rules by which weights and batches are split over it.

A mesh has two axes: the batch is split over `data`, the weights over `model`. The rules are data: the first regular
expression that matches a weight's path gives its PartitionSpec, and a weight without a rule is an error. `jax.jit`
takes arrays that have a NamedSharding; XLA partitions the program and inserts the collectives (formerly `pjit`). One
device is a 1 x 1 mesh and has no other code path.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
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
    return place(tree, replicated(mesh))


def place(tree: Any, sharding: NamedSharding) -> Any:
    """Puts arrays that every process holds whole on the devices of a sharding; each takes its own devices' parts."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda value: _place_parts(value, sharding), tree)


def _place_parts(value: Any, sharding: NamedSharding) -> jax.Array:
    """As `place`. `jax.device_put` compares the values of all processes here, by a program for each array."""
    if isinstance(value, Tracer):
        return jax.lax.with_sharding_constraint(value, sharding)
    if isinstance(value, jax.Array):
        if not value.is_fully_addressable:
            return jax.device_put(value, sharding)
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            data = _place_parts(jax.random.key_data(value), sharding)
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(value))
    array = np.asarray(value)
    array = array.astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def whole(array: jax.Array, mesh: Mesh) -> jax.Array:
    """The array of the mesh with all its values on every process, so that NumPy can read it; on one, as it is."""
    if isinstance(array, Tracer) or array.is_fully_addressable or array.is_fully_replicated:
        return array
    return _replicate(array, replicated(mesh))


@functools.partial(jax.jit, static_argnums=1)
def _replicate(array: jax.Array, sharding: NamedSharding) -> jax.Array:
    return jax.lax.with_sharding_constraint(array, sharding)
