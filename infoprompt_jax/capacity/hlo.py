"""The text of a compiled program (`compiled.as_text()`): its computations, and how often each of them runs.

A program is a list of computations, and a computation is a list of instructions, one a line:

    %all-reduce.1 = f32[2,36]{1,0} all-reduce(%fusion.2), channel_id=1, to_apply=%add, metadata={op_name="..."}

An instruction may call other computations: a fusion its body, a while its condition and its body. A body runs as often
as its loop turns. XLA writes the number of turns (`known_trip_count`), or it follows from the loop's condition
`i < N` and from the step by which its body moves `i`; loops start at 0, as `jax.lax.scan` writes them.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import re

_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([a-z][a-z0-9\-]*)\((.*)$")
_CALLED = re.compile(r"\b(?:calls|to_apply|condition|body|\w+_computations?)=(\{[^}]*\}|[%\w.\-]+)")
_OPERAND = re.compile(r"%([\w.\-]+)")
_TURNS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_ARRAY = re.compile(r"\b([a-z]+\d*\w*)\[([\d,]*)\]")
_MOVES = ("parameter", "tuple", "get-tuple-element", "bitcast", "constant")
_BITS = re.compile(r"\d+")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line. `type` is an array's type and layout, or a tuple of them; `rest` is what follows the opcode."""

    name: str
    type: str
    opcode: str
    rest: str
    root: bool

    @property
    def operands(self) -> list[str]:
        """The names of its operands."""
        return _OPERAND.findall(self.rest.partition(")")[0])

    @property
    def called(self) -> list[str]:
        """The computations that it runs; none for the end of an asynchronous one, whose start has run it."""
        if self.opcode in ("async-update", "async-done"):
            return []
        return [name for match in _CALLED.findall(self.rest) for name in re.findall(r"[\w.\-]+", match)]

    @property
    def op_name(self) -> str:
        """The path of JAX functions that it comes from; "" where XLA made it."""
        match = re.search(r'op_name="([^"]*)"', self.rest)
        return match[1] if match else ""

    def attribute(self, name: str) -> str:
        """The computation that an attribute such as `body` names; "" without it."""
        match = re.search(rf"\b{name}=%?([\w.\-]+)", self.rest)
        return match[1] if match else ""


@dataclasses.dataclass(frozen=True)
class Program:
    """Computations by name, in the order of the text: a computation stands before those that call it."""

    computations: dict[str, list[Instruction]]
    entry: str

    @functools.cached_property
    def runs(self) -> dict[str, int]:
        """How often each computation runs in one run of the program; a loop of unknown length counts as one turn."""
        runs = dict.fromkeys(self.computations, 0) | {self.entry: 1}
        for name in reversed(self.computations):
            for instruction in self.computations[name]:
                turns = (self.turns(instruction) or 1) if instruction.opcode == "while" else 1
                for called in instruction.called:
                    if called in runs:
                        runs[called] += runs[name] * turns
        return runs

    @functools.cached_property
    def callers(self) -> dict[str, Instruction]:
        """The instruction that calls a computation; the last one, if there are several."""
        every = [line for lines in self.computations.values() for line in lines]
        return {called: line for line in every for called in line.called}

    def turns(self, loop: Instruction) -> int | None:
        """How often the body of a while runs; None where the text does not show it."""
        if match := _TURNS.search(loop.rest):
            return int(match[1])
        condition = {line.name: line for line in self.computations.get(loop.attribute("condition"), [])}
        compare = next((line for line in condition.values() if line.root), None)
        if compare is None or compare.opcode != "compare" or "direction=LT" not in compare.rest:
            return None
        counter, bound = (condition.get(name) for name in compare.operands[:2])
        if counter is None or bound is None or bound.opcode != "constant":
            return None
        index = re.search(r"index=(\d+)", counter.rest)
        step = self._step(loop.attribute("body"), int(index[1])) if index else None
        return -(-int(bound.rest.partition(")")[0]) // step) if step else None

    def _step(self, body: str, index: int) -> int | None:
        """What a loop's body adds to its counter, the element `index` of its state."""
        lines = {line.name: line for line in self.computations[body]}
        root = next(line for line in lines.values() if line.root)
        added = lines.get(root.operands[index]) if root.opcode == "tuple" else None
        if added is None or added.opcode != "add":
            return None
        constants = [lines[name] for name in added.operands if name in lines and lines[name].opcode == "constant"]
        return int(constants[0].rest.partition(")")[0]) if constants else None


def read(text: str) -> Program:
    """The computations of a compiled program's text."""
    computations: dict[str, list[Instruction]] = {}
    entry, lines = "", []
    for line in text.splitlines():
        if header := _HEADER.match(line):
            lines = computations.setdefault(header[2], [])
            entry = header[2] if header[1] else entry
        elif match := _INSTRUCTION.match(line):
            lines.append(Instruction(match[2], match[3], match[4], match[5], bool(match[1])))
    return Program(computations, entry)


@dataclasses.dataclass(frozen=True)
class Made:
    """Arrays of one shape that a program makes in a device's main memory."""

    bytes: int  # of one
    shape: str
    count: int  # that are there together at least: a loop's state, or one instruction's results, holds so many
    op_name: str  # of the instruction; "" where XLA made it


def largest_made(program: Program) -> list[Made]:
    """What instructions make, the most bytes first. A loop's state is counted without shapes of arguments."""
    lines = program.computations[program.entry]
    given = {shape(line.type) for line in lines if line.opcode == "parameter"}
    fused = {name for lines in program.computations.values() for line in lines for name in _inside(line)}
    made: dict[str, Made] = {}
    for name in program.computations.keys() - fused:
        for line in program.computations[name]:
            if line.opcode in _MOVES or not program.runs[name]:
                continue
            kinds = [kind for kind in elements(line.type) if "S(" not in kind]  # S(1) is the chip's fast memory
            for kind, count in collections.Counter(shape(kind) for kind in kinds).items():
                one = Made(size(kind), kind, count, line.op_name)
                carried = line.opcode == "while" and kind in given  # weights, most likely
                if not carried and (kind not in made or made[kind].count < count):
                    made[kind] = one
    return sorted(made.values(), key=lambda one: (-one.bytes * one.count, one.shape))


def _inside(line: Instruction) -> list[str]:
    """The computations whose arrays are not kept: those of a fusion, a reduction and the like."""
    return [] if line.opcode in ("while", "conditional", "call") else line.called


def elements(kind: str) -> list[str]:
    """The parts of a tuple's type; of another type, itself."""
    if not kind.startswith("("):
        return [kind]
    parts, depth = [""], 0
    for character in re.sub(r"/\*.*?\*/", "", kind)[1:-1]:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def size(kind: str) -> int:
    """The bytes of an array of this type, or of a tuple's arrays together; padding to tiles is not counted."""
    total = 0
    for name, axes in _ARRAY.findall(kind):
        bits = 8 if name == "pred" else int((_BITS.search(name) or ["0"])[0])
        count = 1
        for axis in filter(None, axes.split(",")):
            count *= int(axis)
        total += -(-bits * count // 8)
    return total


def shape(kind: str) -> str:
    """A type without its layout: `bf16[2,36,64]`; the arrays of a tuple are joined by +."""
    return " + ".join(f"{name}[{axes}]" for name, axes in _ARRAY.findall(kind))
