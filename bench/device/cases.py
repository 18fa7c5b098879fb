"""A case is one thing measured at one size; a group is the cases that one process measures on one backbone."""

from __future__ import annotations

import dataclasses
from typing import Any

from bench.synthetic import Size

NEW_TOKENS = 32  # generated for each row


@dataclasses.dataclass(frozen=True)
class Case:
    """`build` is "module:function", called with the case in the group's process; `rates.complete` takes its result."""

    name: str
    topic: str  # its table
    build: str
    size: Size
    options: dict[str, Any] = dataclasses.field(default_factory=dict)  # config fields, or options of the peer
    beside: str = ""  # the case that its time per example is divided by
    estimate: bool = False  # whether XLA's estimate stands beside the time; it takes two more compilations
    seconds: float = 2.0  # timed, about; never fewer than five repetitions

    @property
    def kind(self) -> str:
        """What one repetition does: train, score, generate or product."""
        return self.build.split(":")[1]


@dataclasses.dataclass(frozen=True)
class Group:
    """Cases in order; `modules` are imported while the previous group is measured."""

    name: str
    cases: tuple[Case, ...]
    modules: tuple[str, ...] = ()
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    share: float = 1.0  # of the whole time; after it, the rest of the group waits for the other groups


def toy(group: Group) -> Group:
    """The same cases on a T5 of 0.1 M weights with a few rows and tokens and one thread."""
    environment = group.environment | {"OMP_NUM_THREADS": "1"}
    return dataclasses.replace(group, cases=tuple(_toy(case) for case in group.cases), environment=environment)


def _toy(case: Case) -> Case:
    size = dataclasses.replace(
        case.size,
        shape="toy",
        members=min(case.size.members, 4),
        batch=min(case.size.batch, 4),
        input_length=max(8, case.size.input_length // 16),
        target_length=4,
        prompt_length=max(2, case.size.prompt_length // 10),
    )
    options = dict(case.options)
    if options.get("fleet.at_once"):
        options["fleet.at_once"] = 2
    if "backbone.attention" in options:
        options["backbone.attention"] = "xla"  # the kernel needs a GPU
    return dataclasses.replace(case, size=size, options=options, seconds=0.0)
