"""The collectives of a compiled program: which arrays devices exchange, along which axes of the mesh, how often.

    for one in collectives(compiled.as_text(), mesh):
        print(one.kind, one.shape, one.bytes, one.times, one.axes, one.op_name)

Bytes are of one device and of the whole array: what an all-gather gives, what an all-reduce or a reduce-scatter takes.
A TPU's reduce-scatter is a fusion around an all-reduce, and a collective that runs beside other work is a chain of
fusions that all name it: both are listed once, as what they are.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable
from typing import Any

import numpy as np
from jax.sharding import Mesh

from infoprompt_jax.capacity import hlo

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")
_KIND = re.compile(rf"(?:ragged-)?({'|'.join(KINDS)})(-start)?")
_PAIRS = re.compile(r"source_target_pairs=\{(\{.*?\})\}")
_LISTED = re.compile(r"replica_groups=\{(\{.*?\})\}")
_IOTA = re.compile(r"replica_groups=(\[[\d,]+\]<=\[[\d,]+\](?:T\([\d,]+\))?)")
_MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\((.*?\]T?(?:\([\d,]+\))?)\))?(?: \{([^}]*)\})?")


@dataclasses.dataclass(frozen=True)
class Collective:
    """One collective of the program."""

    kind: str  # of KINDS
    shape: str  # of the whole array on a device, as in `bf16[8,612,2048]`
    bytes: int  # of that
    times: int  # in one run of the program
    counted: bool  # whether every loop around it has a known length; else such a loop counts as one turn
    axes: tuple[str, ...]  # of the mesh, along which it exchanges
    devices: int  # that exchange with each other
    op_name: str  # the path of JAX functions that it comes from, or one of them; "" where XLA made it
    computation: str  # of the program's text

    @property
    def backward(self) -> bool:
        """Whether it comes from the backward pass, by its `op_name`."""
        return "transpose(" in self.op_name

    @property
    def sent(self) -> int:
        """The bytes that one device sends in one execution, by the ring algorithms."""
        if self.kind in ("collective-permute", "collective-broadcast"):
            return self.bytes
        return math.ceil(self.bytes * (self.devices - 1) / self.devices * (2 if self.kind == "all-reduce" else 1))


def collectives(text: str, mesh: Mesh) -> list[Collective]:
    """Every collective of a program's text, in its order; those that exchange nothing are left out.

    Args:
      text: from `compiled.as_text()`.
      mesh: that the program was compiled for, with all of its devices.
    """
    program = hlo.read(text)
    uncounted = _uncounted(program)
    listed: dict[str, Collective] = {}
    for name, lines in program.computations.items():
        for line in lines:
            match = _KIND.fullmatch(line.opcode)
            if not match or not program.runs[name]:
                continue
            groups = _groups(line.rest, mesh.devices.size)
            axes = _axes(groups, mesh)
            if not axes:
                continue
            kind, size = _whole(match, line.type, groups.shape[1])
            # The parts of a chain have one channel; other collectives may share theirs.
            chain = re.search(r"channel_id=\d+", line.rest) if "chain_id=" in line.rest else None
            listed.setdefault(
                f"{match[1]} {chain[0]}" if chain else f"{name} {line.name}",
                Collective(
                    kind="reduce-scatter" if name.startswith("all-reduce-scatter") else match[1],
                    shape=hlo.shape(kind),
                    bytes=size,
                    times=program.runs[name],
                    counted=name not in uncounted,
                    axes=axes,
                    devices=groups.shape[1],
                    op_name=line.op_name or _caller_name(program, name),
                    computation=name,
                ),
            )
    return list(listed.values())


def largest(listed: Iterable[Collective], *kinds: str) -> Collective | None:
    """The one of these kinds (none = all) with the most bytes; None where there is none."""
    return max((one for one in listed if not kinds or one.kind in kinds), key=lambda one: one.bytes, default=None)


def summary(listed: Iterable[Collective]) -> list[dict[str, Any]]:
    """A record for each kind and the axes that it runs along, those with the most bytes sent first.

    `count` is of instructions, `executed` of executions in one run; `sent` counts bytes of all executions on a device.
    """
    records: dict[tuple[str, str], dict[str, Any]] = {}
    for one in listed:
        along = "+".join(one.axes)
        first = {
            "kind": one.kind,
            "along": along,
            "count": 0,
            "executed": 0,
            "sent": 0,
            "largest": 0,
            "largest_shape": "",
        }
        record = records.setdefault((one.kind, along), first)
        record["count"] += 1
        record["executed"] += one.times
        record["sent"] += one.times * one.sent
        if one.bytes > record["largest"]:
            record["largest"], record["largest_shape"] = one.bytes, one.shape
    return sorted(records.values(), key=lambda record: -record["sent"])


def _whole(match: re.Match[str], kind: str, size: int) -> tuple[str, int]:
    """The whole array's type and bytes. An asynchronous start gives its operand too, except that of an all-reduce."""
    if match[2] and match[1] != "all-reduce":
        kind = hlo.elements(kind)[1]
    return kind, hlo.size(kind) * (size if match[1] == "reduce-scatter" else 1)


def _caller_name(program: hlo.Program, name: str) -> str:
    caller = program.callers.get(name)
    return caller.op_name if caller else ""


def _uncounted(program: hlo.Program) -> set[str]:
    """The computations in a loop whose length is not known."""
    seen: set[str] = set()
    for name in reversed(program.computations):
        for line in program.computations[name]:
            if name in seen or (line.opcode == "while" and program.turns(line) is None):
                seen.update(line.called)
    return seen


def _axes(groups: np.ndarray, mesh: Mesh) -> tuple[str, ...]:
    """The axes of the mesh along which the members of a group [G, n] differ."""
    places = np.stack(np.unravel_index(groups, mesh.devices.shape))  # [axes, G, n]
    varied = (places != places[..., :1]).any(axis=(1, 2))
    return tuple(name for name, varies in zip(mesh.axis_names, varied, strict=True) if varies)


def _groups(rest: str, devices: int) -> np.ndarray:
    """Positions of devices that exchange, [G, n], from one of the forms that XLA writes them in."""
    if (match := _PAIRS.search(rest)) or (match := _LISTED.search(rest)):
        rows = [[int(number) for number in group.split(",")] for group in re.findall(r"\{([\d,]+)\}", match[1])]
        return np.array([row for row in rows if len(set(row)) > 1] or [[0]])
    if match := _IOTA.search(rest):
        return _iota(match[1])
    if match := _MESH.search(rest):
        sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", match[1])}
        order = _iota(match[2].strip()).reshape(-1) if match[2] else np.arange(math.prod(sizes.values()))
        along = re.findall(r"'(\w+)'", match[3]) if match[3] else list(sizes)
        axes = [list(sizes).index(name) for name in along]
        moved = np.moveaxis(order.reshape(tuple(sizes.values())), axes, range(-len(axes), 0))
        return moved.reshape(-1, math.prod(sizes[name] for name in along))
    return np.arange(devices)[None]


def _iota(text: str) -> np.ndarray:
    """`[2,4]<=[4,2]T(1,0)`: numbers from 0 in the second shape, transposed, in the first one; also `[2,4]T(1,0)`."""
    numbers = [[int(number) for number in part.split(",")] for part in re.findall(r"[\[(]([\d,]+)[\])]", text)]
    if "<=" not in text:
        numbers = [[math.prod(numbers[0])], *numbers]
    values = np.arange(math.prod(numbers[1])).reshape(numbers[1])
    return values.transpose(numbers[2] if "T(" in text else None).reshape(numbers[0])
