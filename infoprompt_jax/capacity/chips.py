"""TPU chips and slices: what programs are compiled for, and what a chip can do at best.

A topology is a chip and the shape of a slice, `v5e:4x4`. libtpu describes its devices on any machine, so that programs
can be compiled for them; none can run. Rates are those of the makers' data sheets, in bytes a second.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from infoprompt_jax.errors import UserError

CLOUD = "https://cloud.google.com/tpu/docs"
_LIMIT = re.compile(r"(?:available HBM \(|of )([\d.]+)([KMGT]?)")
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclasses.dataclass(frozen=True)
class Chip:
    """Bytes a second that one chip reads or writes in its memory, and sends over all its links and to other slices.

    `training.speed.PEAK_FLOPS` has its FLOP/s.
    """

    memory: float
    links: float  # half of what the data sheet gives for both directions
    network: float  # the host's network card, shared by its chips
    source: str


CHIPS = {
    "v4": Chip(1.2e12, 300e9, 6.25e9, f"{CLOUD}/v4; links: arXiv 2304.01433, table 4"),
    "v5e": Chip(819e9, 200e9, 3.125e9, f"{CLOUD}/v5e"),
    "v5p": Chip(2765e9, 600e9, 6.25e9, f"{CLOUD}/v5p"),
    "v6e": Chip(1640e9, 400e9, 12.5e9, f"{CLOUD}/v6e"),
}


def chip_of(topology: str) -> Chip:
    """The chip of a topology such as `v5e:4x4`.

    Raises:
      UserError: it is not written so, or the chip is unknown.
    """
    name, _, shape = topology.partition(":")
    if name not in CHIPS or not re.fullmatch(r"\d+(x\d+){1,2}", shape):
        raise UserError(
            f"--topology={topology} is not a chip and the shape of a slice: write one of {', '.join(CHIPS)}, a colon "
            "and the shape, as in v5e:4x4 or v5p:2x2x1."
        )
    return CHIPS[name]


def devices(topology: str, slices: int = 1) -> list[Any]:
    """The devices of one or several slices, to compile for.

    Raises:
      UserError: the topology is not known, or libtpu is not installed.
    """
    chip_of(topology)
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            "The compiler for TPUs, libtpu, is not installed: pip install -r requirements-tpu.txt, or set "
            "PYTHONPATH=.venv/tpu where make test has installed it."
        )
    options: dict[str, Any] = {"chip_config_name": "megacore"} if topology.startswith("v4") else {}
    if math.prod(map(int, topology.partition(":")[2].split("x"))) == 1:
        options["chips_per_host_bounds"] = (1, 1, 1)
    if slices > 1:
        options["num_slices"] = slices
    try:
        return list(topologies.get_topology_desc(platform="tpu", topology_name=topology, **options).devices)
    except Exception as error:  # the compiler's errors have no common base
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(f"--topology={topology} with --slices={slices} is refused: {reason}.") from error


def memory(device: Any) -> int:
    """The bytes of a device's memory that programs can have: what the compiler states when it refuses one."""
    whole = jax.ShapeDtypeStruct((2**40,), jnp.float32, sharding=NamedSharding(Mesh(np.array([device]), "x"), P()))
    try:
        jax.jit(jnp.negative).lower(whole).compile()
    except jax.errors.JaxRuntimeError as error:
        if match := _LIMIT.search(str(error)):
            return round(float(match[1]) * UNITS[match[2]])
        raise
    raise ValueError(f"{device} takes a program of any size")
