"""The effect of single choices on speed, each as a ratio to its alternative.

python -m bench.levers [scoring fleet remat unroll pages] [--shape v1.1-small] [--out DIRECTORY]
"""

from __future__ import annotations

import dataclasses
from typing import Any

from bench import command
from bench.synthetic import PLAIN, SHAPES, Size
from bench.turns import Subject, compare


def step(name: str, size: Size, fields: dict[str, Any] | None = None) -> Subject:
    return Subject(name, "bench.ours:train_step", {"size": size, "fields": PLAIN | (fields or {})})


def scoring(shape: str) -> list[Subject]:
    """Rank classification of four choices: the input is encoded once, or once for each choice."""
    size = Size(shape, batch=8, choices=4)
    return [
        Subject("one encoder pass for 4 choices", "bench.ours:score_choices", {"size": size, "shared": True}),
        Subject("a forward pass for each choice", "bench.ours:score_choices", {"size": size, "shared": False}),
    ]


def fleet(shape: str) -> list[Subject]:
    """One member, and eight members with an eighth of its batch each: the same rows a step."""
    return [
        step("1 member x batch 32", Size(shape, batch=32)),
        step("8 members x batch 4", Size(shape, members=8, batch=4)),
    ]


def remat(shape: str) -> list[Subject]:
    """What the backward pass recomputes."""
    return [step(f"remat={policy}", Size(shape), {"backbone.remat": policy}) for policy in ("dots", "none", "full")]


def unroll(shape: str) -> list[Subject]:
    """Layers in an iteration of the scan; all of them = no scan."""
    counts = (1, 2, SHAPES[shape]["num_layers"])
    return [step(f"unroll={count}", Size(shape), {"backbone.unroll": count}) for count in counts]


def pages(shape: str) -> list[Subject]:
    """The C library's memory in pages of 4 KB, or in huge pages as the Makefile sets, if the kernel has them."""
    return [
        dataclasses.replace(step(name, Size(shape)), environment={"GLIBC_TUNABLES": f"glibc.malloc.hugetlb={value}"})
        for name, value in (("small pages", 0), ("huge pages", 1))
    ]


LEVERS = {"scoring": scoring, "fleet": fleet, "remat": remat, "unroll": unroll, "pages": pages}


def main(arguments: list[str] | None = None) -> None:
    options = command.parser("Single choices, each with its alternative.", rounds=5, steps=2)
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
