"""A fleet against one run with the same total batch: the cost of a prompt for each member.

    python -m bench.fleet [--members 64] [--batch 1] [--shape v1.0-small] [--out DIRECTORY]

A fleet's `examples_ratio` is its examples a second divided by those of the one run, the inverse of `ratio`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from bench import command
from bench.synthetic import PLAIN, Size
from bench.turns import Subject, compare


def subjects(size: Size) -> list[Subject]:
    """The one run; the fleet of `size.members` with `size.batch` rows each, all members at once; an eighth at once."""
    one = dataclasses.replace(size, members=1, batch=size.members * size.batch)
    turns = max(1, size.members // 8)

    def subject(name: str, each: Size, at_once: int = 0) -> Subject:
        return Subject(name, "bench.ours:train_step", {"size": each, "fields": PLAIN | {"fleet.at_once": at_once}})

    return [
        subject(f"1 x batch {one.batch}", one),
        subject(f"{size.members} x batch {size.batch}", size),
        subject(f"{size.members} x batch {size.batch}, {turns} at once", size, turns),
    ]


def measure(size: Size, rounds: int, steps: int) -> list[dict[str, Any]]:
    records = compare(subjects(size), rounds, steps)
    return [record | {"examples_ratio": 1 / record["ratio"]} for record in records]


def main(arguments: list[str] | None = None) -> None:
    options = command.parser("A fleet and one run of as many rows a step, in turn.", rounds=3, steps=1)
    options.add_argument("--members", type=int, default=64)
    options.add_argument("--batch", type=int, default=1, help="rows of each member")
    given = options.parse_args(arguments)
    size = Size(given.shape, members=given.members, batch=given.batch)
    records = measure(size, given.rounds, given.steps)
    name = f"fleet-{given.members}x{given.batch}-{given.shape}"
    command.finish(given.out, name, records, size=dataclasses.asdict(size), rounds=given.rounds, steps=given.steps)
    for record in records[1:]:
        print(f"{record['subject']}: {record['examples_ratio']:.3f} of the one run's examples a second", flush=True)


if __name__ == "__main__":
    main()
