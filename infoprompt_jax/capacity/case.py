"""One question of capacity, a model and a job on a slice, and its answer: a record of plain numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import ml_collections

from infoprompt_jax import settings
from infoprompt_jax.capacity import chips, programs
from infoprompt_jax.capacity.bounds import bounds
from infoprompt_jax.capacity.collectives import collectives, summary
from infoprompt_jax.capacity.fit import Fit, compile_fit
from infoprompt_jax.capacity.largest import best, largest
from infoprompt_jax.capacity.programs import Lengths
from infoprompt_jax.errors import UserError
from infoprompt_jax.t5 import partition

Mesh = tuple[int, int, int]
SHARE = 0.4  # of a device's memory that its part of the weights may take, where the mesh is chosen


@dataclasses.dataclass(frozen=True)
class Case:
    """What is asked. `fields` are those of a run's config that differ from its defaults."""

    model: str
    topology: str
    slices: int = 1
    mesh: Mesh | None = None  # data, fsdp, model; None = chosen by `chosen_mesh`
    job: str = "train"
    batch: int = 0  # rows of a member; 0 = the largest that fits
    lengths: Lengths = dataclasses.field(default_factory=Lengths)
    fields: tuple[tuple[str, Any], ...] = ()

    def config(self, batch: int) -> ml_collections.ConfigDict:
        """The config of a run that has this program.

        Raises:
          UserError: a field does not exist, or has a wrong value.
        """
        config = settings.defaults()
        named = {"backbone.name": self.model, "backbone.dtype": "bfloat16", "train.batch_size": batch}
        for field, value in (named | dict(self.fields)).items():
            if field not in settings.FIELDS:
                raise UserError(f"--config.{field} does not exist{settings.nearest(field, settings.FIELDS)}")
            try:
                config.update_from_flattened_dict({field: value})
            except TypeError as error:
                raise UserError(f"--config.{field}={value!r} is of the wrong type: {error}.") from error
        return settings.check(config)


def answer(case: Case, report: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """The record of a case: what was asked, and whether it fits, its memory, collectives and bounds.

    Args:
      case: what is asked.
      report: gets a line about each compilation.

    Raises:
      UserError: the case cannot be compiled for another reason than memory.
    """
    case.config(max(case.batch, 1))  # mistakes are found before anything is compiled
    devices = chips.devices(case.topology, case.slices)
    memory = chips.memory(devices[0])
    sizes = case.mesh or chosen_mesh(case, len(devices), memory)
    mesh = partition.make_mesh(*sizes, devices=devices)
    step = mesh.shape["data"] * mesh.shape["fsdp"]

    def made(batch: int) -> programs.Program:
        return programs.program(case.config(batch), case.lengths, case.job, mesh)

    def measure(batch: int) -> Fit:
        fit = compile_fit(made(batch).lowered)
        verdict = "fits" if fit.fits else "does not fit"
        report(f"batch {batch}: {fit.needed / 2**30:.2f} GiB of {memory / 2**30:.2f}, {verdict} ({fit.seconds:.0f} s)")
        return fit

    tried = {case.batch: measure(case.batch)} if case.batch else largest(measure, memory, step)
    batch = best(tried) or min(tried)
    record = {
        **_asked(case, mesh.shape, len(devices)),
        "batch": batch,
        "fits": tried[batch].fits,
        "memory": memory,
        **_memory(tried[batch]),
        "tried": {size: fit.needed for size, fit in sorted(tried.items())},
        "compile_seconds": tried[batch].seconds,
    }
    return record | _speed(made(batch), tried[batch], case, devices)


def chosen_mesh(case: Case, devices: int, memory: int) -> Mesh:
    """The mesh that is taken where none is given.

    `model` is 1, or as many devices as there are for each row of a smaller batch. The weights are split over as few
    devices as leave most of the memory to activations, along `fsdp`, inside a slice. The other devices are `data`.
    """
    model = next(n for n in _divisors(devices) if not case.batch % (devices // n))
    rows = devices // model
    weights = programs.weight_bytes(programs.model_config(case.config(max(case.batch, 1)))) / model
    inside = max(rows // case.slices, 1)
    fsdp = next((n for n in _divisors(inside) if weights / n <= SHARE * memory), inside)
    return rows // fsdp, fsdp, model


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


def _asked(case: Case, shape: Any, devices: int) -> dict[str, Any]:
    return {
        "model": case.model,
        "topology": case.topology,
        "slices": case.slices,
        "devices": devices,
        "mesh": dict(shape),
        "job": case.job,
        "lengths": dataclasses.asdict(case.lengths),
        "fields": dict(case.fields),
    }


def _memory(fit: Fit) -> dict[str, Any]:
    return {
        "needed": fit.needed,
        "arguments": fit.arguments,
        "outputs": fit.outputs,
        "temporaries": fit.temporaries,
        "code": fit.code,
        "message": fit.message,
        "largest_arrays": [dataclasses.asdict(one) for one in fit.arrays],
    }


def _speed(program: programs.Program, fit: Fit, case: Case, devices: list[Any]) -> dict[str, Any]:
    """The weights of a device, and of a program that fits its collectives and bounds."""
    record: dict[str, Any] = {"weights": program.weights, "model_flops": program.flops}
    if not fit.fits:
        return record
    listed = collectives(fit.text, program.mesh)
    between = ("data",) if case.slices > 1 else ()
    least = bounds(
        program.flops,
        program.again,
        program.read * program.passes,
        listed,
        between,
        chips.chip_of(case.topology),
        devices[0],
    )
    return record | {
        "collectives": summary(listed),
        "uncounted_loops": sum(not one.counted for one in listed),
        "bounds": dataclasses.asdict(least),
        "step_seconds": least.seconds,
        "limit": least.limit,
        "mfu": least.mfu,
        "rows_per_second": program.rows / least.seconds,
    }
