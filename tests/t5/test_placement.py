"""Weights on a mesh: the same on every mesh and from every format, and read in slices."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import socket
import subprocess
import sys
import tracemalloc
from collections import Counter
from typing import Any

import jax
import numpy as np
import pytest
import tiny
import tiny_t5
import tiny_t5x
from flax import nnx
from safetensors.numpy import load_file, save_file

from infoprompt_jax.t5 import convert, mapped, partition, placement, quantized, weight_files
from infoprompt_jax.t5.config import T5Config
from infoprompt_jax.t5.int8 import TABLES, quantize
from infoprompt_jax.t5.leaf import Leaf, of_array
from infoprompt_jax.t5.model import T5

SIZES = {"d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 3, "num_decoder_layers": 2, "num_heads": 8}
MESHES = [{"data": 8}, {"fsdp": 8}, {"model": 8}, {"data": 2, "fsdp": 2, "model": 2}]


@pytest.fixture(scope="module", autouse=True)
def eight_devices() -> None:
    if jax.device_count() < 8:
        pytest.skip("needs 8 devices")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """One safetensors file."""
    path, config = tmp_path_factory.mktemp("saved") / "t5", T5Config(40, **SIZES)
    convert.export(path, config, tiny_t5.leaves_of(T5(config, nnx.Rngs(0))))
    return path


@pytest.fixture(scope="module", params=["safetensors", "shards", "pickled shards", "T5X"])
def checkpoint(request: pytest.FixtureRequest, saved: pathlib.Path, tmp_path_factory: Any) -> pathlib.Path:
    path = tmp_path_factory.mktemp("checkpoint") / "t5"
    if request.param == "safetensors":
        return saved
    if request.param == "T5X":
        pytest.importorskip("tensorstore")
        tiny_t5x.write(path)
        return path
    write_shards(saved, path, request.param == "pickled shards")
    return path


def write_shards(saved: pathlib.Path, path: pathlib.Path, pickled: bool) -> None:
    """The tensors in two files and an index."""
    path.mkdir()
    (path / "config.json").write_bytes((saved / "config.json").read_bytes())
    tensors, files = load_file(saved / "model.safetensors"), {}
    name = weight_files.PICKLE if pickled else weight_files.SAFETENSORS
    for shard in (0, 1):
        file = name.replace(".", f"-{shard}.")
        part = {tensor: tensors[tensor] for tensor in sorted(tensors)[shard::2]}
        files |= dict.fromkeys(part, file)
        if pickled:
            torch = pytest.importorskip("torch")
            torch.save({tensor: torch.tensor(array) for tensor, array in part.items()}, path / file)
        else:
            save_file(part, path / file)
    (path / weight_files.index(name)).write_text(json.dumps({"weight_map": files}))


def placed(path: pathlib.Path, mesh: jax.sharding.Mesh, **switches: str) -> tuple[dict[str, np.ndarray], str]:
    """All leaves, put together again, and the fingerprint."""
    config = dataclasses.replace(convert.read_config(path), **switches)
    _, frozen, fingerprint = placement.place(config, convert.read_leaves(path, config), mesh)
    flat = nnx.to_flat_state(frozen)
    return {"/".join(map(str, leaf)): np.asarray(variable[...]) for leaf, variable in flat}, fingerprint


def test_every_mesh_holds_the_same_weights(checkpoint: pathlib.Path, saved: pathlib.Path) -> None:
    t5x = convert.is_t5x(checkpoint)
    expected, fingerprint = placed(checkpoint, tiny.one_device(), dtype="bfloat16")
    if not t5x:
        tensors = load_file(saved / "model.safetensors")
        wo = [tensors[f"encoder.block.{i}.layer.1.DenseReluDense.wo.weight"].T for i in range(3)]
        np.testing.assert_array_equal(expected["encoder/layers/mlp/wo"], np.stack(wo).astype("bfloat16"))
    for axes in MESHES:
        if t5x and axes in ({"fsdp": 8}, {"model": 8}):  # its matrices are 4 wide
            continue
        found, again = placed(checkpoint, partition.make_mesh(**axes), dtype="bfloat16")
        tiny_t5.assert_same(found, expected)
        assert again == fingerprint == placed(checkpoint, tiny.one_device(), dtype="float32")[1]


@pytest.mark.parametrize("axes", MESHES)
def test_int8_weights_are_those_of_whole_kernels(
    axes: dict[str, int], saved: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a mesh splits the axis that a product sums over, and a kernel is quantised in blocks."""
    monkeypatch.setattr(quantized, "BLOCK", 200)
    full, fingerprint = placed(saved, tiny.one_device())
    found, again = placed(saved, partition.make_mesh(**axes), weights="int8", dtype="bfloat16")
    assert again == fingerprint
    for leaf, array in full.items():
        if leaf in found:
            np.testing.assert_array_equal(found[leaf], array.astype("bfloat16"))
        else:
            values, scale = quantize(array, -1 if leaf in TABLES else -2)
            np.testing.assert_array_equal(found[f"{leaf}/values"], values, err_msg=leaf)
            np.testing.assert_array_equal(found[f"{leaf}/scale"], scale, err_msg=leaf)


@pytest.mark.parametrize("axes", MESHES)
def test_what_several_devices_hold_is_read_once(
    axes: dict[str, int], saved: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = count_reads(monkeypatch)
    leaves = convert.read_leaves(saved, config := convert.read_config(saved))
    taken.clear()
    mesh = partition.make_mesh(**axes)
    for path, sharding in partition.shardings(convert.leaf_shapes(config), mesh).items():
        leaf = next(leaf for leaf in leaves if leaf.path == path)
        placement.placed_leaf(leaf, sharding, "float32")
    assert taken == {name: tensor.size for name, tensor in load_file(saved / "model.safetensors").items()}


def count_reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Elements that are read of each tensor."""
    taken: Counter[str] = Counter()

    class Counted(weight_files.Safetensors):
        def read(self, name: str, index: mapped.Index = ()) -> np.ndarray:
            part = super().read(name, index)
            taken[name] += part.size
            return part

    monkeypatch.setitem(weight_files.READERS, ".safetensors", Counted)
    return taken


def test_a_device_reads_only_its_slice(saved: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a fingerprint only the elements that it samples."""
    taken = count_reads(monkeypatch)
    config = convert.read_config(saved)
    leaves = {leaf.path: leaf for leaf in convert.read_leaves(saved, config)}
    taken.clear()
    leaf, out = leaves["encoder/layers/mlp/wi_0"], np.empty((1, 16, 3), np.float32)
    leaf.fill(out, (slice(1, 2), slice(0, 16), slice(6, 9)))
    name = "encoder.block.1.layer.1.DenseReluDense.wi_0.weight"
    assert taken == {name: 16 * 3}
    np.testing.assert_array_equal(out[0], load_file(saved / "model.safetensors")[name][6:9].T)
    taken.clear()
    assert len(leaf.sample(100)) == sum(taken.values()) == 3 * 16 * 24 // 13 + 1
    assert len(taken) == 3


@pytest.mark.parametrize("axes", MESHES)
def test_the_host_holds_one_slice_at_a_time(axes: dict[str, int]) -> None:
    """Beside what becomes the devices' memory, which a simulated device takes over from the host."""
    shape = (8, 64, 1024)
    mesh = partition.make_mesh(**axes)
    sharding = partition.shardings({path: shape for path in [PATH]}, mesh)[PATH]

    def fill(out: np.ndarray, slices: tuple[slice, ...]) -> None:
        out[...] = slices[2].start

    leaf = Leaf(PATH, shape, fill)
    tracemalloc.start()
    try:
        array = placement.placed_leaf(leaf, sharding, "float32")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    of_a_device = int(np.prod(sharding.shard_shape(shape))) * 4
    buffers = {shard.data.unsafe_buffer_pointer() for shard in array.addressable_shards}
    assert peak < (len(buffers) + 0.2) * of_a_device + 2**16
    for shard in array.addressable_shards:
        assert (np.asarray(shard.data) == (shard.index[2].start or 0)).all()


PATH = "encoder/layers/mlp/wi_0"


def test_a_sample_does_not_depend_on_where_the_values_are(saved: pathlib.Path) -> None:
    for leaf in convert.read_leaves(saved, convert.read_config(saved)):
        whole = np.empty(leaf.shape, np.float32)
        leaf.fill(whole, tuple(slice(0, size) for size in leaf.shape))
        for count in (7, 4096):
            np.testing.assert_array_equal(leaf.sample(count), of_array(leaf.path, whole).sample(count))
            assert len(leaf.sample(count)) <= count


PROCESS = """
import collections, json, sys
import jax
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
from infoprompt_jax.t5 import convert, partition, placement, weight_files
taken = collections.Counter()
class Counted(weight_files.Safetensors):
    def read(self, name, index=()):
        part = super().read(name, index)
        if all(isinstance(axis, slice) for axis in index):  # not single values
            taken[name] += part.size
        return part
weight_files.READERS[".safetensors"] = Counted
path = convert.pathlib.Path(sys.argv[3])
config = convert.read_config(path)
taken.clear()
mesh = partition.make_mesh(model=8)
_, _, fingerprint = placement.place(config, convert.read_leaves(path, config), mesh)
print(json.dumps([fingerprint, taken]))
"""


@pytest.mark.slow
def test_two_processes_read_their_own_halves(saved: pathlib.Path) -> None:
    """The fingerprint is that of one process; each half of a kernel is read by the process that holds it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    root = pathlib.Path(__file__).parents[2]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, address, str(process), str(saved)],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=root,
        )
        for process in (0, 1)
    ]
    (first, of_first), (second, of_second) = [json.loads(process.communicate()[0]) for process in started]
    assert first == second == placed(saved, tiny.one_device())[1]
    for name, tensor in load_file(saved / "model.safetensors").items():
        whole = "norm" in name or "relative" in name
        assert of_first[name] == of_second[name] == tensor.size // (1 if whole else 2), name
