"""Weights from a checkpoint onto a mesh: each process reads only the slices that its devices hold.

A leaf is placed device by device: the slice of one device is filled on the host, layer by layer, moved, and dropped.
Devices that hold the same slice share one reading of it. Beside the devices' memory, a process thus needs memory for
the largest slice of a leaf that one device holds.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, Sharding

from infoprompt_jax.errors import UserError
from infoprompt_jax.t5 import partition, quantized
from infoprompt_jax.t5.config import T5Config
from infoprompt_jax.t5.convert import Fingerprint
from infoprompt_jax.t5.leaf import Leaf, StoredLeaf
from infoprompt_jax.t5.model import T5

ALIGNMENT = 64  # of the arrays that a CPU device takes over without a copy


def place(config: T5Config, leaves: Iterable[StoredLeaf], mesh: Mesh) -> tuple[nnx.GraphDef, nnx.State, str]:
    """Places the leaves of a T5 on the mesh, by the rules of `partition`; quantised where the config says so.

    Returns:
      The graph and the state of the NNX module, and the fingerprint of the weights, which is the same on every mesh.

    Raises:
      UserError: a leaf cannot be read, or the leaves or the heads cannot be split over the mesh.
    """
    graph, abstract, shardings = planned(config, mesh)
    variables = {"/".join(map(str, path)): variable for path, variable in nnx.to_flat_state(abstract)}
    fingerprint, placed = Fingerprint(config), {}
    for leaf in leaves:
        for part in quantized.parts(leaf, variables):
            variable = variables[part.path]
            placed[part.path] = variable.replace(placed_leaf(part, shardings[part.path], variable.dtype))
        fingerprint.add(leaf)
    ordered = [(path, placed["/".join(map(str, path))]) for path, _ in nnx.to_flat_state(abstract)]
    return graph, nnx.from_flat_state(ordered), fingerprint.hexdigest()


def planned(config: T5Config, mesh: Mesh) -> tuple[nnx.GraphDef, nnx.State, dict[str, NamedSharding]]:
    """The graph of a T5, its variables as shapes, and where on the mesh the variable of each path lies.

    Raises:
      UserError: the leaves or the heads cannot be split over the mesh.
    """
    if config.num_heads % mesh.shape["model"]:
        raise UserError(
            f"mesh.model={mesh.shape['model']} does not divide the {config.num_heads} heads of the backbone: choose a "
            "divisor, and mesh.fsdp for the other devices."
        )
    graph, abstract = skeleton(config, partition.Layout(mesh))
    shapes = {"/".join(map(str, path)): variable.shape for path, variable in nnx.to_flat_state(abstract)}
    return graph, abstract, partition.shardings(shapes, mesh)


def placed_leaf(leaf: Leaf, sharding: Sharding, dtype: Any) -> jax.Array:
    """The leaf on the devices of its sharding, cast to `dtype`."""
    holders: dict[tuple[tuple[int, int], ...], list[Any]] = {}
    for device, index in sharding.addressable_devices_indices_map(leaf.shape).items():
        assert index is not None  # it is None for devices of other processes
        bounds = (part.indices(size)[:2] for part, size in zip(index, leaf.shape, strict=True))
        holders.setdefault(tuple(bounds), []).append(device)
    arrays = []
    for bounds, devices in holders.items():
        values = _aligned(tuple(stop - start for start, stop in bounds), np.dtype(dtype))
        leaf.fill(values, tuple(slice(*ends) for ends in bounds))
        # Waiting keeps a second slice from being filled before this one has left the host.
        arrays += jax.block_until_ready([jax.device_put(values, device) for device in devices])
    return jax.make_array_from_single_device_arrays(leaf.shape, sharding, arrays)


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An uninitialised array that begins at a multiple of ALIGNMENT."""
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    first = -memory.ctypes.data % ALIGNMENT
    return memory[first : first + size].view(dtype).reshape(shape)


@functools.lru_cache(maxsize=8)
def skeleton(config: T5Config, layout: partition.Layout) -> tuple[nnx.GraphDef, nnx.State]:
    """The graph of the NNX module, and its variables as shapes."""
    return nnx.split(nnx.eval_shape(lambda: T5(config, nnx.Rngs(0), layout)))
