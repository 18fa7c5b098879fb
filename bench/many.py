"""Many prompts on one backbone: a fleet in one process, and PEFT one prompt after another, start-up included.

    python -m bench.many [--prompts 64] [--batch 4] [--out DIRECTORY]

Each side is a fresh process that imports its libraries, loads the same checkpoint of random weights and takes a few
steps. `totals` has the sums for 64 prompts, computed from start-up and step, and a smaller pair that was run whole.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

from bench import command
from bench.synthetic import PLAIN, SHAPES, Size

STEPS = (10, 100, 1000)  # of a prompt, for which totals are computed


@dataclasses.dataclass(frozen=True)
class Taken:
    """Seconds of a process."""

    whole: float
    step: float  # median, without the first

    def start(self, steps: int) -> float:
        """What is not steps: imports, loading, compiling."""
        return self.whole - steps * self.step


def process(side: str, checkpoint: pathlib.Path, size: Size, steps: int) -> Taken:
    """Runs one side in a fresh process."""
    arguments = json.dumps(dataclasses.asdict(size))
    since = time.perf_counter()
    line = [sys.executable, "-m", "bench.many", "--worker", side, str(checkpoint), arguments, str(steps)]
    done = subprocess.run(line, check=True, capture_output=True, text=True, cwd=pathlib.Path(__file__).parents[1])
    whole = time.perf_counter() - since
    taken = json.loads(done.stdout.splitlines()[-1])
    return Taken(whole, float(np.median(taken[1:])))


def ours(checkpoint: pathlib.Path, size: Size) -> Any:
    """A step of the fleet on the checkpoint's weights."""
    import jax

    from bench.ours import assemble, configured
    from infoprompt_jax import program_cache
    from infoprompt_jax.t5 import convert, partition
    from infoprompt_jax.t5.backbone import Backbone
    from infoprompt_jax.t5.placement import place
    from infoprompt_jax.t5.tokenizer import load_tokenizer

    program_cache.keep(str(checkpoint / "cache"))
    config, sizes = configured(size, PLAIN | {"fleet.at_once": min(8, size.members)}), convert.read_config(checkpoint)
    sizes = dataclasses.replace(sizes, remat=config.backbone.remat)
    mesh = partition.make_mesh()
    graph, frozen, fingerprint = place(sizes, convert.read_leaves(checkpoint, sizes), mesh)
    model = Backbone("checkpoint", sizes, graph, frozen, mesh, load_tokenizer("bytes"), fingerprint)
    made = assemble(model, size, config)
    states = [made.state]

    def step() -> None:
        placed = made.fleet.place(made.batch)
        states[0], metrics = made.fleet.step(states[0], made.backbone.frozen, placed, made.hyper, made.keys)
        jax.block_until_ready((states[0], metrics))

    return step


def peft(checkpoint: pathlib.Path, size: Size) -> Any:
    """A step of one prompt on the checkpoint's weights."""
    from bench.peft_step import loaded, stepped

    return stepped(loaded(checkpoint, size), dataclasses.replace(size, members=1))


def worker(side: str, checkpoint: str, size: str, steps: str) -> None:
    """The process of one side: prints each step's seconds."""
    step = {"ours": ours, "PEFT": peft}[side](pathlib.Path(checkpoint), Size(**json.loads(size)))
    taken = []
    for _ in range(int(steps)):
        since = time.perf_counter()
        step()
        taken.append(time.perf_counter() - since)
    print(json.dumps(taken))


def total(prompts: int, steps: int, ours: float, peft: float, how: str) -> dict[str, Any]:
    return {"prompts": prompts, "steps": steps, "ours": ours, "peft": peft, "ratio": peft / ours, "how": how}


def measure(shape: str, prompts: int, batch: int, small: int, steps: int) -> tuple[list[Any], list[Any]]:
    """The parts of both sides, and the totals."""
    from bench.loading import write
    from infoprompt_jax.t5.config import T5Config

    with tempfile.TemporaryDirectory() as directory:
        checkpoint = pathlib.Path(directory, "checkpoint")
        write(checkpoint, T5Config(**SHAPES[shape]))
        size = Size(shape, members=prompts, batch=batch)
        process("ours", checkpoint, size, 1)  # compiles; its programs are kept, as a second command's are
        fleet = process("ours", checkpoint, size, 3)
        some = dataclasses.replace(size, members=small)
        process("ours", checkpoint, some, 1)
        few = process("ours", checkpoint, some, steps)
        one = [process("PEFT", checkpoint, size, steps) for _ in range(small)]
    start, step = (float(np.median(values)) for values in ([o.start(steps) for o in one], [o.step for o in one]))
    parts = [
        {"subject": "PEFT: start", "seconds": start, "what": "imports, loading and the first step's extra time"},
        {"subject": "PEFT: step", "seconds": step, "what": f"one prompt, {batch} rows"},
        {"subject": "fleet: start", "seconds": fleet.start(3), "what": "the same, programs kept from an earlier run"},
        {"subject": "fleet: step", "seconds": fleet.step, "what": f"{prompts} prompts, {batch} rows each"},
    ]
    totals = [
        total(prompts, n, fleet.start(3) + n * fleet.step, prompts * (start + n * step), "computed from the parts")
        for n in STEPS
    ]
    totals.append(total(small, steps, few.whole, sum(o.whole for o in one), "run whole"))
    return parts, totals


def main(arguments: list[str] | None = None) -> None:
    options = command.parser("Many prompts: one fleet, and PEFT one after another.", steps=3)
    options.add_argument("--prompts", type=int, default=64)
    options.add_argument("--batch", type=int, default=4, help="rows of a prompt's step")
    options.add_argument("--small", type=int, default=4, help="prompts that are run whole on both sides")
    given = options.parse_args(arguments)
    parts, totals = measure(given.shape, given.prompts, given.batch, given.small, given.steps)
    command.finish(given.out, f"many-{given.shape}", parts, batch=given.batch, totals=totals)
    for each in totals:
        print(json.dumps(each), flush=True)


if __name__ == "__main__":
    worker(*sys.argv[2:]) if sys.argv[1:2] == ["--worker"] else main()
