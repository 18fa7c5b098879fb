"""The device mesh, and the rules by which weights, activations and batches are split over it.

A mesh has three axes. The rows of a batch are split over `data` and `fsdp`, the weights over `fsdp` and `model`. A
weight is gathered over `fsdp` where it is used, layer by layer; over `model` the products themselves are split. The
rules are data: the first regular expression that matches a weight's path gives its PartitionSpec, and a weight without
a rule is an error. `jax.jit` takes arrays that have a NamedSharding; XLA partitions the program and inserts the
collectives (formerly `pjit`). One device is a 1 x 1 x 1 mesh and has no other code path.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from infoprompt_jax.devices import before_use
from infoprompt_jax.errors import UserError

AXES = ("data", "fsdp", "model")
ROWS = ("data", "fsdp")  # the axes that split the rows of a batch


class Rule(NamedTuple):
    """The spec of the weights whose path the pattern matches, and why it is this one."""

    pattern: str
    spec: P
    why: str


ATTENTION = r"layers/(attention|cross)/"
INT8 = "(/values)?$"  # an int8 kernel has two leaves: its values, split as the kernel is, and the scales of its outputs
# Kernels of layers are stacked, [N, in, out]. Over `model`: Megatron's layout.
T5_RULES: tuple[Rule, ...] = (
    Rule(f"{ATTENTION}(query|key|value){INT8}", P(None, "fsdp", "model"), "columns over model: whole heads"),
    Rule(f"{ATTENTION}(query|key|value)/scale$", P(None, "model"), "as the columns"),
    Rule(f"{ATTENTION}out{INT8}", P(None, "model", "fsdp"), "rows over model: one all-reduce a block"),
    Rule(f"layers/mlp/wi_[01]{INT8}", P(None, "fsdp", "model"), "columns over model: hidden units are independent"),
    Rule("layers/mlp/wi_[01]/scale$", P(None, "model"), "as the columns"),
    Rule(f"layers/mlp/wo{INT8}", P(None, "model", "fsdp"), "rows over model: one all-reduce a block"),
    Rule("layers/.*/(out|wo)/scale$", P(), "small"),
    Rule(f"^embedding{INT8}", P(None, ("model", "fsdp")), "width over both: a lookup stays on its device"),
    Rule("^embedding/scale$", P(), "small"),
    Rule(f"^head{INT8}", P("model", "fsdp"), "vocabulary over model: no device has whole logits"),
    Rule("^head/scale$", P("model"), "as the vocabulary"),
    Rule("relative_bias/embedding$", P(), "small"),
    Rule("norm/scale$", P(), "small"),
)


def make_mesh(
    data: int = -1, fsdp: int = 1, model: int = 1, slices: int = -1, devices: Sequence[Any] | None = None
) -> Mesh:
    """A mesh `data` x `fsdp` x `model` over `devices`; None = all of them.

    Args:
      data: -1 = as many as the other two axes leave.
      fsdp, model: inside a slice.
      slices: of a multislice TPU; `data` spans them over the data-centre network. -1 = as the devices report. Devices
        that report none, like CPUs, are grouped in their order.
      devices: of one platform.

    Raises:
      UserError: the numbers do not fit the number of devices, or their slices.
    """
    before_use()
    devices = jax.devices() if devices is None else list(devices)
    count, inner = len(devices), fsdp * model
    if min(fsdp, model) < 1 or count % inner or (data != -1 and data * inner != count):
        raise UserError(
            f"mesh.data={data} x mesh.fsdp={fsdp} x mesh.model={model} does not fit {count} devices: choose mesh.fsdp "
            "and mesh.model to divide their number and mesh.data=-1, or a product equal to it."
        )
    shape = (count // inner, fsdp, model)
    reported = len({device.slice_index for device in devices if hasattr(device, "slice_index")})
    slices = max(reported, 1) if slices == -1 else slices
    if slices < 1 or shape[0] % slices or reported not in (0, slices):
        raise UserError(
            f"mesh.slices={slices} does not fit mesh.data={shape[0]} and {reported or 'no'} reported slices: choose "
            "mesh.slices=-1, and mesh.fsdp and mesh.model so that a slice holds both."
        )
    return Mesh(_ordered(shape, slices, devices, reported > 1), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def _ordered(shape: tuple[int, ...], slices: int, devices: Sequence[Any], reported: bool) -> np.ndarray:
    """The devices in the mesh's shape, neighbours in the hardware's network beside each other."""
    if reported:
        inside = (shape[0] // slices, *shape[1:])
        across = (slices, *(1 for _ in shape[1:]))
        return mesh_utils.create_hybrid_device_mesh(inside, across, devices, allow_split_physical_axes=True)
    return mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)


def spec_of(path: str, rules: Sequence[Rule] = T5_RULES) -> P:
    """The spec of a weight, by the first rule that matches its path; UserError where none does."""
    for rule in rules:
        if re.search(rule.pattern, path):
            return rule.spec
    raise UserError(f"No partition rule matches the weight {path!r}; add one to partition.T5_RULES.")


def shardings(
    shapes: Mapping[str, tuple[int, ...]], mesh: Mesh, rules: Sequence[Rule] = T5_RULES
) -> dict[str, NamedSharding]:
    """A NamedSharding for each path, by the first rule that matches.

    Raises:
      UserError: no rule matches a path, or an axis cannot be split evenly.
    """
    placed = {}
    for path, shape in shapes.items():
        spec = spec_of(path, rules)
        for size, axis in zip(shape, spec, strict=False):
            if size % _devices(mesh, axis):
                over = " x ".join(f"mesh.{name}={mesh.shape[name]}" for name in _names(axis))
                raise UserError(
                    f"The weight {path!r} of shape {shape} cannot be split over {over}: choose a divisor of {size}."
                )
        placed[path] = NamedSharding(mesh, spec)
    return placed


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the arrays of a compiled program lie; part of the program, not of its data.

    `rows` are the mesh's axes that split a batch's rows: `ROWS`, or none where a fleet's members are split instead.
    """

    mesh: Mesh | None = None  # None: one device, nothing to lay out
    rows: tuple[str, ...] = ROWS

    @property
    def platform(self) -> str:
        """What the program runs on: "cpu", "gpu" or "tpu"."""
        return jax.default_backend() if self.mesh is None else self.mesh.devices.flat[0].platform

    @property
    def one_cpu(self) -> bool:
        """Whether it runs on a CPU alone, whose cache and slow reductions are worth a program of its own."""
        return self.platform == "cpu" and (self.mesh is None or self.mesh.size == 1)

    def constrain(self, x: jax.Array, *axes: str | None) -> jax.Array:
        """`x`, with its first axis split over `rows` and the following ones as named; the rest is whole.

        What does not divide evenly is not split.
        """
        if self.mesh is None or self.mesh.size == 1:
            return x
        wanted = [self.rows, *axes]
        spec = [None if size % _devices(self.mesh, axis) else axis for axis, size in zip(wanted, x.shape, strict=False)]
        return jax.lax.with_sharding_constraint(x, NamedSharding(self.mesh, P(*spec)))

    def gathered(self, path: str, weight: jax.Array, layer: bool = False) -> jax.Array:
        """A weight, whole over `fsdp`; `layer`: it is that of one layer, without the stack's axis."""
        if self.mesh is None or self.mesh.shape["fsdp"] == 1:
            return weight
        spec = [tuple(name for name in _names(axis) if name != "fsdp") for axis in spec_of(path)][layer:]
        return jax.lax.with_sharding_constraint(weight, NamedSharding(self.mesh, P(*spec)))


def row_devices(mesh: Mesh) -> int:
    """How many parts the rows of a batch are split into."""
    return _devices(mesh, ROWS)


def split(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """Arrays whose axis number `axis` is split as the rows of a batch are."""
    return NamedSharding(mesh, P(*(None,) * axis, ROWS))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, P())


def process_places(mesh: Mesh, size: int) -> np.ndarray:
    """Which of `size` places, split as the rows of a batch are, this process's devices hold; sorted.

    Processes whose devices differ along `model` alone hold the same places.
    """
    parts = split(mesh).addressable_devices_indices_map((size,)).values()
    held = {part[0].indices(size)[:2] for part in parts if part is not None}
    return np.concatenate([np.arange(*bounds) for bounds in sorted(held)])


def place_share(tree: Any, mesh: Mesh, axis: int = 0) -> Any:
    """Arrays on the mesh, with axis number `axis` split as rows are, from this process's share of each.

    Args:
      tree: NumPy arrays that hold the `process_places` of their axis `axis`; with one process, that is all of it.
      mesh: of the devices.
      axis: the number of the axis that is split.
    """
    sharding, devices = split(mesh, axis), row_devices(mesh)
    held = process_places(mesh, devices)

    def placed(value: np.ndarray) -> jax.Array:
        rows = value.shape[axis] // len(held)  # of a device
        size = rows * devices

        def part(index: Any) -> np.ndarray:
            first = int(np.searchsorted(held, index[axis].indices(size)[0] // rows)) * rows
            return value[(*(slice(None),) * axis, slice(first, first + rows))]

        shape = (*value.shape[:axis], size, *value.shape[axis + 1 :])
        return jax.make_array_from_callback(shape, sharding, part)

    return jax.tree.map(placed, tree)


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


def on_host(tree: Any, mesh: Mesh) -> Any:
    """The tree's arrays, of the mesh, as NumPy's arrays with all their values, on every process."""
    return jax.device_get(jax.tree.map(lambda array: whole(array, mesh), tree))


@functools.partial(jax.jit, static_argnums=1)
def _replicate(array: jax.Array, sharding: NamedSharding) -> jax.Array:
    return jax.lax.with_sharding_constraint(array, sharding)


def _names(axis: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """The axes that one entry of a PartitionSpec names."""
    return (axis,) if isinstance(axis, str) else axis or ()


def _devices(mesh: Mesh, axis: str | tuple[str, ...] | None) -> int:
    """How many parts an entry of a PartitionSpec splits its axis into."""
    return math.prod(mesh.shape[name] for name in _names(axis))
