"""The source tasks that a prompt is trained on: each data set with each of its templates (RoSPr).

`task.name` lists data sets, `task.template` is a template or all. The word `p3` stands for P3's 36 source data sets
with their 296 templates. Of these, a task whose data are missing, or whose template applies to no row of a slice that
is read, is skipped with the reason. A data set that is listed by its own name must exist.

Tasks are ordered by data set. Those without answer choices come last: their answers are generated, for all members of a
group that holds one.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import logging
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import ml_collections

from infoprompt_jax import checksums
from infoprompt_jax.data import p3
from infoprompt_jax.data.examples import source_fingerprint
from infoprompt_jax.data.rows import combined_fingerprint
from infoprompt_jax.data.selection import Selection, find_tasks, select
from infoprompt_jax.data.tasks import Task
from infoprompt_jax.errors import UserError
from infoprompt_jax.fleet.members import Member
from infoprompt_jax.reports.tables import aligned
from infoprompt_jax.training import recorded

LONGEST_DIRECTORY = 100  # characters of a member's name

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class SourceTask:
    """A data set, by its names in the library and in `task.name`, with a template; `choices` is `Task.choices`."""

    dataset: str
    task: str
    template: str
    choices: tuple[str, ...] | None
    member: str = ""  # its name in a fleet, valid as a directory's name
    requested: bool = True  # listed by its own name, so it must not be skipped
    data: str = ""  # a fingerprint of its rows and its template; former versions have none

    @property
    def name(self) -> str:
        """`dataset:template`, the source prompt's name in the library."""
        return f"{self.dataset}:{self.template}"


@dataclasses.dataclass(frozen=True)
class Plan:
    """The source tasks to train, in order, and the reasons for those skipped, by name."""

    sources: tuple[SourceTask, ...]
    skipped: dict[str, str]
    start: str = ""  # a fingerprint of the saved prompt that members start from; former versions have none

    def groups(self, size: int) -> list[tuple[SourceTask, ...]]:
        """The source tasks in order, `size` at a time; each group trains as one fleet."""
        return [self.sources[start : start + size] for start in range(0, len(self.sources), size)]

    def without(self, reasons: Mapping[str, str]) -> Plan:
        """The plan without the source tasks that `reasons` names. Raises UserError if none is left."""
        left = tuple(source for source in self.sources if source.name not in reasons)
        if not left:
            name, reason = next(iter(reasons.items()))
            raise UserError(f"No source task is left to train: {name} is skipped because: {reason}")
        return dataclasses.replace(self, sources=left, skipped={**self.skipped, **reasons})

    def write(self, path: pathlib.Path) -> None:
        """Writes the plan as JSON; `read` reads it."""
        checksums.write_json(path, dataclasses.asdict(self))


def read(path: pathlib.Path) -> Plan:
    """The plan that `Plan.write` wrote."""
    return from_json(checksums.read_json(path, "choose another --workdir"))


def from_json(content: dict[str, Any]) -> Plan:
    """The plan of what `dataclasses.asdict` made of it, in JSON."""
    for source in content["sources"]:
        source["requested"] = source.pop("asked", source.get("requested", True))  # its former name
        source["choices"] = None if source["choices"] is None else tuple(source["choices"])
    sources = tuple(SourceTask(**source) for source in content["sources"])
    return Plan(sources, content["skipped"], content.get("start", ""))


def find(config: ml_collections.ConfigDict) -> Plan:
    """The plan for `config.task`, as far as data exist. A table of P3's data sets is logged.

    Raises:
      UserError: a data set or template that is listed by name does not exist, or applies to no row of a slice that is
        read; or nothing is left to train.
    """
    selection = select(config, {"p3": p3.sources()}, slices=_slices(config))
    if overview := _overview(selection):
        log.info("%s", overview)
    sources = [
        SourceTask(
            one.dataset,
            one.task.name,
            one.task.template.name,
            one.task.choices,
            requested=one.requested,
            data=_data(config, one.task),
        )
        for one in selection.selected
    ]
    ordered = sorted(sources, key=lambda source: source.choices == ())
    skipped = {one.name: one.reason for one in selection.skipped}
    return Plan(tuple(_with_members(ordered)), skipped, _start(config))


def find_task(config: ml_collections.ConfigDict, source: SourceTask) -> Task:
    """The source task's rows and template, as a run that trains on it finds them."""
    member = config.copy_and_resolve_references()
    member.job = "train"
    member.task.update(name=source.task, template=source.template)
    (task,) = find_tasks(member)
    return task


def check_data(config: ml_collections.ConfigDict, plan: Plan) -> None:
    """Raises UserError unless each source task's rows and template, and the first prompt, are those of the plan."""
    if plan.start and plan.start != _start(config):
        raise UserError(
            f"The prompt at prompt.init={config.prompt.init!r} has changed since this job began: bring back what it "
            "was, or choose another --workdir."
        )
    for source in plan.sources:
        if source.data and source.data != _data(config, find_task(config, source)):
            raise UserError(
                f"The rows or the template of {source.name} have changed since this job began: bring back what they "
                "were, or choose another --workdir."
            )


def warn_of_changes(config: ml_collections.ConfigDict, path: pathlib.Path) -> None:
    """Logs a warning where rows or templates are not those of a finished job's plan; those that are gone are none."""
    for source in read(path).sources if path.exists() else ():
        with contextlib.suppress(UserError):
            if source.data and source.data != _data(config, find_task(config, source)):
                log.warning(
                    "The rows or the template of %s have changed since the run in %s: choose another --workdir to use "
                    "those of now.",
                    source.name,
                    path.parent,
                )
                return


def _start(config: ml_collections.ConfigDict) -> str:
    return recorded.prompts_fingerprint([Member("start", config)]).get("prompts", "")


def _data(config: ml_collections.ConfigDict, task: Task) -> str:
    return combined_fingerprint(*(source_fingerprint(task, split, limit) for split, limit in _slices(config)))


def _slices(config: ml_collections.ConfigDict) -> list[tuple[str, int]]:
    """Every slice that a member reads, with the number of rows that are drawn from it; 0 = all."""
    task = config.task
    slices = [(task.train_split, task.train_limit), (task.eval_split, 0), (task.test_split, 0)]
    return [(split, limit) for split, limit in dict.fromkeys(slices) if split]


def _overview(selection: Selection) -> str:
    """A table of P3's data sets, and below it why templates are skipped; "" where P3 is not selected."""
    selected = collections.Counter(one.dataset for one in selection.selected if not one.requested)
    skipped: dict[str, dict[str, list[str]]] = collections.defaultdict(lambda: collections.defaultdict(list))
    for one in selection.skipped:
        skipped[one.dataset][one.reason].append(one.template)
    rows, reasons = [], []
    for dataset in p3.sources():
        missing = sum(map(len, skipped[dataset.name].values()))
        if total := selected[dataset.name] + missing:
            rows.append((dataset.name, dataset.origin, total, selected[dataset.name]))
        for reason, templates in skipped[dataset.name].items():
            which = "" if len(templates) == total else f" ({', '.join(templates)})"
            reasons.append(f"{dataset.name}{which} is skipped: {reason}")
    total = (
        f"{len(rows)} data set{'s' * (len(rows) != 1)}",
        "",
        *(sum(row[column] for row in rows) for column in (2, 3)),
    )
    table = aligned(("data set", "rows from", "templates", "present"), [*rows, total], text_columns=2)
    return "\n".join([table, *reasons]) if rows else ""


def _with_members(sources: list[SourceTask]) -> Iterator[SourceTask]:
    """The source tasks with names for their directories, unique also where case does not count."""
    taken: set[str] = set()
    for source in sources:
        stem = re.sub(r"[^A-Za-z0-9.]+", "_", source.name)[:LONGEST_DIRECTORY].strip("._")
        names = (stem, *(f"{stem}_{number}" for number in range(2, len(sources) + 1)))
        member = next(name for name in names if name.lower() not in taken)
        taken.add(member.lower())
        yield dataclasses.replace(source, member=member)
