"""Loading: memory of the host beside that of the devices, and seconds, on eight simulated CPU devices.

    python -m bench.loading [--shape v1.1-xl] [--directory DIRECTORY] [--out DIRECTORY]

A checkpoint of random bfloat16 weights is written to a temporary directory: files of safetensors and an index, 5.7 GB
for the default shape. Each subject loads it in a fresh process, as `load_backbone` does, once after its pages were
dropped from the kernel's cache ("cold") and once more ("warm").

What counts as memory of the host is the whole process, at its peak, less the buffers of the devices: also Python, JAX
and the pages of files that are mapped. It is to be at most 1.2 times the largest slice of a leaf that one device
holds, and 300 MB. Simulated devices that hold the same slice share one buffer, so that replicas take no memory.

The subject "converted" reads what a cache of converted leaves would hold: stacked, transposed, one file a leaf.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import multiprocessing
import os
import pathlib
import struct
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np

from bench import command
from bench.synthetic import SHAPES
from bench.turns import peak_memory, variables
from infoprompt_jax.t5 import convert, hugging_face, partition, placement, weight_files
from infoprompt_jax.t5.config import T5Config
from infoprompt_jax.t5.leaf import StoredLeaf, blocks

DEVICES = "--xla_force_host_platform_device_count=8"
ALLOWED, SHARE = 300e6, 1.2  # bytes, and the share of the largest slice


@dataclasses.dataclass(frozen=True)
class Case:
    """A mesh, and how the weights are read and held."""

    subject: str
    axes: dict[str, Any]
    weights: str = "full"
    converted: bool = False


CASES = (
    Case("data 8", {"data": 8}),
    Case("model 8", {"model": 8}),
    Case("fsdp 8", {"fsdp": 8}),
    Case("2 x 2 x 2", {"data": 2, "fsdp": 2, "model": 2}),
    Case("model 8, int8", {"model": 8}, "int8"),
    Case("model 8, converted", {"model": 8}, converted=True),
)


def write(directory: pathlib.Path, config: T5Config, size_of_file: float = 2e9) -> None:
    """A checkpoint of Hugging Face with random weights; memory holds one tensor."""
    directory.mkdir(parents=True)
    random, files = np.random.default_rng(0), {}
    for number, tensors in enumerate(_files(config, size_of_file)):
        name = weight_files.SAFETENSORS.replace(".", f"-{number:05d}.")
        files |= dict.fromkeys(tensors, name)
        ends = np.cumsum([2 * math.prod(shape) for shape in tensors.values()]).tolist()
        header: dict[str, Any] = {
            tensor: {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
            for (tensor, shape), start, end in zip(tensors.items(), [0, *ends], ends, strict=False)
        }
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)  # the tensors are aligned
        with (directory / name).open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for shape in tensors.values():
                bits = np.frombuffer(random.bytes(2 * math.prod(shape)), np.uint16)
                file.write((bits & 0x807F | 0x3C00).tobytes())  # sign and mantissa are random: 2^-7 to 2^-6
            os.fsync(file.fileno())
    (directory / weight_files.index(weight_files.SAFETENSORS)).write_text(
        json.dumps({"metadata": {}, "weight_map": files})
    )
    (directory / "config.json").write_text(json.dumps(hugging_face.config_json(config, "bfloat16")))


def _files(config: T5Config, size_of_file: float) -> Iterator[dict[str, tuple[int, ...]]]:
    """The shapes of the tensors in each file, by name."""
    tensors, size = {}, 0
    for leaf, shape in convert.leaf_shapes(config).items():
        name = hugging_face.tensor_name(leaf, config.feed_forward == "gated-gelu")
        layers, shape = (shape[0], shape[1:]) if "{}" in name else (1, shape)
        for layer in range(layers):
            tensors[name.format(layer)] = shape[::-1] if hugging_face.is_transposed(leaf) else shape
            size += 2 * math.prod(shape)
            if size > size_of_file:
                yield tensors
                tensors, size = {}, 0
    yield tensors


def write_converted(checkpoint: pathlib.Path, directory: pathlib.Path) -> None:
    """One .npy file for each leaf, as the devices hold it."""
    directory.mkdir()
    for number, leaf in enumerate(convert.read_leaves(checkpoint, convert.read_config(checkpoint))):
        stored = np.lib.format.open_memmap(directory / f"{number}.npy", "w+", np.uint16, leaf.shape)
        for layer in range(leaf.shape[0]) if len(leaf.shape) == 3 else [slice(None)]:
            rows = slice(layer, layer + 1) if isinstance(layer, int) else slice(0, leaf.shape[0])
            leaf.fill(stored[rows].view(ml_dtypes.bfloat16), (rows, *(slice(0, size) for size in leaf.shape[1:])))
        stored.flush()


def load(checkpoint: pathlib.Path, converted: pathlib.Path, case: Case) -> dict[str, Any]:
    """Loads in this process: bytes and seconds."""
    import jax

    mesh = partition.make_mesh(**case.axes)
    since, cpu = time.perf_counter(), time.process_time()
    config = dataclasses.replace(convert.read_config(checkpoint), dtype="bfloat16", weights=case.weights)
    leaves = convert.read_leaves(checkpoint, config)
    if case.converted:
        leaves = [_converted(leaf, converted / f"{number}.npy") for number, leaf in enumerate(leaves)]
    _, frozen, fingerprint = placement.place(config, leaves, mesh)
    seconds, cpu = time.perf_counter() - since, time.process_time() - cpu
    shards = [shard.data for leaf in jax.tree.leaves(frozen) for shard in leaf.addressable_shards]
    held = sum({shard.unsafe_buffer_pointer(): shard.nbytes for shard in shards}.values())
    largest, peak = max(shard.nbytes for shard in shards), peak_memory()
    return {
        "peak_memory_bytes": peak,
        "device_bytes": held,
        "largest_slice_bytes": largest,
        "beyond_bytes": peak - held,
        "limit_bytes": SHARE * largest + ALLOWED,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "fingerprint": fingerprint,
    }


def _converted(leaf: StoredLeaf, file: pathlib.Path) -> StoredLeaf:
    """The leaf, read from its converted file; only a slice of it is mapped at a time."""

    def fill(out: np.ndarray, slices: tuple[slice, ...]) -> None:
        for layers, place in blocks(slices[0], 1 if len(leaf.shape) == 3 else 2048):
            out[place] = np.load(file, mmap_mode="r").view(ml_dtypes.bfloat16)[(layers, *slices[1:])]

    return dataclasses.replace(leaf, fill=fill)


def drop_pages(*directories: pathlib.Path) -> None:
    """Removes the files' pages from the kernel's cache, where the system can."""
    for file in (file for directory in directories for file in directory.iterdir() if hasattr(os, "posix_fadvise")):
        with file.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def records(directory: pathlib.Path, config: T5Config) -> list[dict[str, Any]]:
    """Every case, cold and warm, each load in a fresh process."""
    paths = directory / "checkpoint", directory / "converted"
    write(paths[0], config)
    write_converted(*paths)
    made, spawn = [], multiprocessing.get_context("spawn")
    for case in CASES:
        drop_pages(*paths)
        loads = []
        for _ in ("cold", "warm"):
            with variables({"JAX_PLATFORMS": "cpu", "XLA_FLAGS": DEVICES}), spawn.Pool(1) as pool:
                loads.append(pool.apply(load, (*paths, case)))
        cold, warm = loads
        times = {"cold_seconds": cold["seconds"], "warm_seconds": warm["seconds"], "cpu_seconds": warm["cpu_seconds"]}
        worst = max(loads, key=lambda one: one["beyond_bytes"])
        made.append({"subject": case.subject} | {k: v for k, v in worst.items() if k != "seconds"} | times)
    return made


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description="Memory and seconds of loading a checkpoint onto eight devices.")
    options.add_argument("--shape", default="v1.1-xl", help="of bench.synthetic.SHAPES")
    options.add_argument("--directory", type=pathlib.Path, help="where the checkpoint is written, twice its size")
    options.add_argument("--out", type=pathlib.Path, help="directory for the results, as JSON")
    given = options.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=given.directory) as directory:
        made = records(pathlib.Path(directory), T5Config(**SHAPES[given.shape]))
    command.finish(given.out, f"loading-{given.shape}", made)
    over = [record["subject"] for record in made if record["beyond_bytes"] > record["limit_bytes"]]
    print(f"Over the limit: {', '.join(over)}." if over else "All within the limit.")


if __name__ == "__main__":
    main()
