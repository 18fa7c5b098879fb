"""What a case is: one thing measured at one size; and a group: cases that one process measures on one backbone."""

from __future__ import annotations

import dataclasses
from typing import Any

from bench.synthetic import Size

NEW_TOKENS = 32  # that a case of generation continues each row by


@dataclasses.dataclass(frozen=True)
class Case:
    """`build` is "module:function"; the group's process calls it with the case and gets what `rates.complete` takes."""

    name: str
    topic: str  # the table it stands in
    build: str
    size: Size
    options: dict[str, Any] = dataclasses.field(default_factory=dict)  # config fields, or switches of the peer
    beside: str = ""  # the case its time per example is divided by
    seconds: float = 2.0  # that are timed, about; never fewer than five repetitions

    @property
    def kind(self) -> str:
        """train | score | generate | product: what one repetition does."""
        return self.build.split(":")[1]


@dataclasses.dataclass(frozen=True)
class Group:
    """Cases in order; `modules` are imported while the group before is still measured."""

    name: str
    cases: tuple[Case, ...]
    modules: tuple[str, ...] = ()
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    share: float = 1.0  # of all the time; what is left of the group then waits until the other groups are done


def toy(group: Group) -> Group:
    """The same cases on a T5 of 0.1 M weights with a few rows and tokens, on one thread: a rehearsal."""
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
    return dataclasses.replace(case, size=size, options=options, seconds=0.0)
