"""Where the time of a training step goes on a CPU: `python -m bench.parts [--shape v1.1-small] [--out DIRECTORY]`.

The profiler times each instruction of XLA's program. An instruction's time is a low percentile of its runs, because
other work only adds to it. Beside each part stands its bound: products alone, in the same process; for the
rest, the bytes that it reads and writes, at the rate of a copy from memory, which a part in the caches can beat.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import pathlib
import re
import tempfile
import time
from collections.abc import Iterable
from typing import Any

import numpy as np

from bench import command
from bench.synthetic import PLAIN, SHAPES, Size

UNDISTURBED = 10  # percentile of repeated times
COPIED = 64 << 20  # bytes
INSTRUCTION = re.compile(r"\s+(?:ROOT )?%([\w.\-]+) = (\S+) ([\w\-]+)\((.*)")
COMPUTATION = re.compile(r"(?:ENTRY )?%([\w.\-]+) \(")
DIMENSIONS = re.compile(r"(lhs|rhs)_(contracting|batch)_dims=\{([\d,]*)\}")
Axes = tuple[int, ...]
WIDTHS = {"f32": 4, "s32": 4, "u32": 4, "bf16": 2, "pred": 1}
MOVES = {"copy", "transpose", "bitcast", "slice", "reshape", "parameter", "constant", "subtract", "reduce-precision"}


@dataclasses.dataclass(frozen=True)
class Product:
    """A dot: the operands' shapes, and which axes it sums over and repeats, as `jax.lax.dot_general` takes them."""

    shapes: tuple[Axes, Axes]
    summed: tuple[Axes, Axes]
    repeated: tuple[Axes, Axes]

    @property
    def flops(self) -> float:
        left, right = self.shapes
        shared = math.prod(right[axis] for axis in self.summed[1] + self.repeated[1])
        return 2.0 * math.prod(left) * math.prod(right) / shared


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One that runs by itself: its shape, the kinds of what is fused in it, its product, the bytes it must move."""

    shape: tuple[int, ...]
    kinds: frozenset[str]
    product: Product | None
    moved: float


def _shape(text: str) -> tuple[int, ...]:
    found = re.match(r"\w+\[([\d,]*)\]", text)
    return tuple(map(int, filter(None, found[1].split(",")))) if found else ()


def _bytes(text: str) -> int:
    return WIDTHS.get(text.split("[")[0], 4) * math.prod(_shape(text))


def read(hlo: str, depth: int) -> dict[str, Instruction]:
    """The instructions of an optimised program by name. Buffers of `depth` layers count once a layer where sliced."""
    inside: dict[str, list[str]] = collections.defaultdict(list)
    lines: dict[str, tuple[str, str, str]] = {}
    computation = ""
    for line in hlo.splitlines():
        if header := COMPUTATION.match(line):
            computation = header[1]
        elif found := INSTRUCTION.match(line):
            inside[computation].append(found[1])
            lines[found[1]] = found[2], found[3], found[4]

    def operands(name: str) -> list[str]:
        return [lines[each][0] for each in re.findall(r"%([\w.\-]+)", lines[name][2].split(")")[0]) if each in lines]

    def instruction(name: str) -> Instruction:
        shape, _, rest = lines[name]
        called = re.search(r"calls=%([\w.\-]+)", rest)
        within = [name, *inside[called[1]]] if called else [name]
        kinds = {lines[each][1] for each in within} | ({"broadcast"} if "broadcast" in name else set())
        sliced = any(each.startswith("dynamic") for each in kinds)
        buffers = [shape, *operands(name)]
        moved = sum(_bytes(b) / (depth if sliced and _shape(b)[:1] == (depth,) else 1) for b in buffers)
        dots = [each for each in within if lines[each][1] == "dot"]
        product = None
        if dots:
            axes = {(side, of): tuple(map(int, filter(None, numbers.split(",")))) for side, of, numbers in
                    DIMENSIONS.findall(lines[dots[0]][2])}  # fmt: skip
            left, right = map(_shape, operands(dots[0]))
            product = Product(
                (left, right),
                (axes["lhs", "contracting"], axes["rhs", "contracting"]),
                (axes.get(("lhs", "batch"), ()), axes.get(("rhs", "batch"), ())),
            )
        return Instruction(_shape(shape), frozenset(kinds), product, moved)

    return {name: instruction(name) for name, (_, kind, _) in lines.items() if kind != "while"}


def part(instruction: Instruction, size: Size) -> str:
    """The part of the step that an instruction belongs to, by its product, its shape and what it computes."""
    config, shape = SHAPES[size.shape], instruction.shape
    positions = {size.input_length + size.prompt_length, size.target_length}
    if instruction.product and not instruction.product.repeated[0]:
        head = config["vocab_size"] in {axis for each in instruction.product.shapes for axis in each}
        return "products with the LM head" if head else "products with weights"
    if instruction.product:
        return "attention: products, and what XLA fuses with them"
    if config["vocab_size"] in shape:
        return "loss"
    if len(shape) > 3 and shape[-1] in positions and shape[-2] in positions:
        return "attention: mask, bias and softmax"
    if "dynamic-update-slice" in instruction.kinds or (shape[:1] == (config["num_layers"],) and len(shape) > 4):
        return "loop: what the backward pass needs is stored"
    if instruction.kinds <= MOVES | {"fusion", "dynamic-slice"}:
        return "copies and transposes"
    if shape[-1:] == (config["d_ff"],):
        return "feed-forward: activation and gate"
    return "norms, residual sums and the rest"


def alone(products: Iterable[Product], repetitions: int) -> dict[Product, float]:
    """Seconds of each product in a program of its own, the products in turn."""
    import jax

    random = np.random.default_rng(0)
    programs = {}
    for each in set(products):
        program = jax.jit(lambda a, b, each=each: jax.lax.dot_general(a, b, (each.summed, each.repeated)))
        programs[each] = program, [jax.device_put(random.random(s, np.float32)) for s in each.shapes]
    times = collections.defaultdict(list)
    for _ in range(repetitions + 1):  # the first run compiles
        for each, (program, arguments) in programs.items():
            since = time.perf_counter()
            jax.block_until_ready(program(*arguments))
            times[each].append(time.perf_counter() - since)
    return {each: float(np.percentile(values[1:], UNDISTURBED)) for each, values in times.items()}


def bytes_per_second(repetitions: int) -> float:
    """Read and written by a copy, by numpy in one thread."""
    source = np.ones(COPIED, np.uint8)
    target, times = source.copy(), []
    for _ in range(repetitions):
        since = time.perf_counter()
        np.copyto(target, source)
        times.append(time.perf_counter() - since)
    return 2 * COPIED / float(np.percentile(times, UNDISTURBED))


def traced(step: Any, steps: int) -> dict[str, list[float]]:
    """Seconds of every run of each instruction, of `steps` steps on a CPU."""
    import jax

    found = collections.defaultdict(list)
    with tempfile.TemporaryDirectory() as directory:
        with jax.profiler.trace(directory):
            for _ in range(steps):
                step()
        (file,) = pathlib.Path(directory).rglob("*.xplane.pb")
        for plane in jax.profiler.ProfileData.from_file(str(file)).planes:
            for line in plane.lines:
                for event in line.events if line.name.startswith("tf_") else ():
                    found[event.name].append(event.duration_ns * 1e-9)
    return found


def records(size: Size, steps: int) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """The whole step's record, whose `share` is of the rate of its weights' products alone; then each part's."""
    import jax

    from bench import ours
    from infoprompt_jax.training import speed

    made: Any = ours.setup(size, PLAIN)
    placed, states = made.fleet.place(made.batch), [made.state]
    arguments = made.backbone.frozen, placed, made.hyper, made.keys
    program = made.fleet.step.lower(made.state, *arguments).compile()

    def step() -> None:
        states[0], metrics = made.fleet.step(states[0], *arguments)
        jax.block_until_ready((states[0], metrics))

    step()
    runs = traced(step, steps)
    instructions = {n: i for n, i in read(program.as_text(), SHAPES[size.shape]["num_layers"]).items() if n in runs}
    seconds_alone = alone((i.product for i in instructions.values() if i.product), 4 * steps)
    rate = bytes_per_second(4 * steps)
    parts: dict[str, np.ndarray] = collections.defaultdict(lambda: np.zeros(3))
    for name, each in instructions.items():
        count = len(runs[name]) / steps
        bound = seconds_alone[each.product] if each.product else each.moved / rate
        flops = each.product.flops if each.product else 0.0
        parts[part(each, size)] += count * np.array([np.percentile(runs[name], UNDISTURBED), bound, flops])
    total = float(sum(p[0] for p in parts.values()))
    positions = size.batch * (size.input_length + size.prompt_length)
    model = speed.step_flops(made.backbone.config, positions, size.batch * size.target_length)
    weights = np.sum([p for name, p in parts.items() if name.startswith("products")], axis=0)
    ceiling = weights[2] / weights[1]
    about = {"step_seconds": total, "model_flops": model, "product_flops": weights[2], "flops_alone": ceiling}
    about |= {"copied_per_second": rate, "share_of_ceiling": model / total / ceiling}
    rows = [{"subject": "ours", "part_seconds": total, "share": about["share_of_ceiling"]}]
    rows += [
        {"subject": n, "part_seconds": s, "part_share": s / total, "bound_seconds": b, "part_flops": f or None}
        for n, (s, b, f) in sorted(parts.items(), key=lambda item: -item[1][0])
    ]
    return rows, about


def main(arguments: list[str] | None = None) -> None:
    given = command.parser("Where the time of a training step goes on a CPU.", steps=8).parse_args(arguments)
    size = Size(given.shape)
    rows, about = records(size, given.steps)
    for name, value in about.items():
        print(f"{name}: {value:.4g}")
    command.finish(given.out, f"parts-{given.shape}", rows, size=dataclasses.asdict(size), steps=given.steps, **about)


if __name__ == "__main__":
    main()
