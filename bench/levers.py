"""What single decisions are worth, each as a ratio measured in turn.

`python -m bench.levers [scoring fleet remat unroll pages] [--out DIRECTORY]`
"""

from __future__ import annotations

import dataclasses
from typing import Any

from bench import command
from bench.synthetic import SHAPES, Size
from bench.train_step import PLAIN
from bench.turns import Subject, compare


def step(name: str, size: Size, fields: dict[str, Any] | None = None) -> Subject:
    return Subject(name, "bench.ours:train_step", {"size": size, "fields": PLAIN | (fields or {})})


def scoring(shape: str) -> list[Subject]:
    """Rank classification of four choices: the input is encoded once, or once a choice."""
    size = Size(shape, batch=8, choices=4)
    return [
        Subject("one encoder pass for 4 choices", "bench.ours:score_choices", {"size": size, "shared": True}),
        Subject("a forward pass for each choice", "bench.ours:score_choices", {"size": size, "shared": False}),
    ]


def fleet(shape: str) -> list[Subject]:
    """Eight members at an eighth of the batch each, beside one member: the same rows a step."""
    return [
        step("1 member x batch 32", Size(shape, batch=32)),
        step("8 members x batch 4", Size(shape, members=8, batch=4)),
    ]


def remat(shape: str) -> list[Subject]:
    return [step(f"remat={policy}", Size(shape), {"backbone.remat": policy}) for policy in ("dots", "none", "full")]


def unroll(shape: str) -> list[Subject]:
    """Layers per scan iteration, up to no scan at all."""
    counts = (1, 2, SHAPES[shape]["num_layers"])
    return [step(f"unroll={count}", Size(shape), {"backbone.unroll": count}) for count in counts]


def pages(shape: str) -> list[Subject]:
    """The C library's memory in pages of 4 KB, or in huge ones where the kernel has them, as the Makefile asks."""
    return [
        dataclasses.replace(step(name, Size(shape)), environment={"GLIBC_TUNABLES": f"glibc.malloc.hugetlb={value}"})
        for name, value in (("small pages", 0), ("huge pages", 1))
    ]


LEVERS = {"scoring": scoring, "fleet": fleet, "remat": remat, "unroll": unroll, "pages": pages}


def main(arguments: list[str] | None = None) -> None:
    options = command.parser("Single levers, each beside what it is compared with.", rounds=5, steps=2)
    options.add_argument("levers", nargs="*", help=f"of {', '.join(LEVERS)}; all if none is given")
    given = options.parse_args(arguments)
    for lever in given.levers or LEVERS:
        subjects = LEVERS[lever](given.shape)
        records = compare(subjects, given.rounds, given.steps)
        name = f"{lever}-{given.shape}"
        sizes = {s.name: dataclasses.asdict(s.arguments["size"]) for s in subjects}
        command.finish(given.out, name, records, sizes=sizes, rounds=given.rounds, steps=given.steps)


if __name__ == "__main__":
    main()
