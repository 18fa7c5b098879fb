"""Which source prompts are trained: one for every pair of a data set and one of its hard prompts (RoSPr).

`task.name` lists data sets, `task.template` is a hard prompt or all. The word `p3` stands for P3's 36 source data sets
with their 296 hard prompts: of these, what is not on this machine, or does not apply to a row of every slice that is
read, is skipped with the reason, while a data set that is asked for by its own name must be there.

The hard prompts of a data set stand together. Those without answer choices come last: their answers are generated, for
all members of a group that holds one.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import pathlib
import re
from collections.abc import Iterator, Mapping

import ml_collections

from infoprompt_jax import files
from infoprompt_jax.data import p3
from infoprompt_jax.data.selection import find_tasks
from infoprompt_jax.data.templates import load_templates
from infoprompt_jax.errors import UserError

LONGEST_DIRECTORY = 100  # characters of a member's name

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set, as the library and `task.name` name it, with one hard prompt; `choices` is as `Task.choices`."""

    dataset: str
    task: str
    template: str
    choices: tuple[str, ...] | None
    member: str = ""  # its name in a fleet, which can be a directory's
    asked: bool = True  # for by its own name: it is not skipped

    @property
    def name(self) -> str:
        return f"{self.dataset}:{self.template}"


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is trained, in this order, and what was asked for but is not, by name, with the reason."""

    sources: tuple[Source, ...]
    skipped: dict[str, str]

    def groups(self, size: int) -> list[tuple[Source, ...]]:
        return [self.sources[start : start + size] for start in range(0, len(self.sources), size)]

    def without(self, reasons: Mapping[str, str]) -> Plan:
        """The plan with some sources skipped, by name. Raises UserError if none is left."""
        left = tuple(source for source in self.sources if source.name not in reasons)
        if not left:
            name, reason = next(iter(reasons.items()))
            raise UserError(f"No source is left to train: {name} is skipped because: {reason}")
        return Plan(left, {**self.skipped, **reasons})

    def write(self, path: pathlib.Path) -> None:
        files.write_json(path, dataclasses.asdict(self))


def read(path: pathlib.Path) -> Plan:
    """What `Plan.write` has left."""
    content = json.loads(path.read_text(encoding="utf-8"))
    for source in content["sources"]:
        source["choices"] = None if source["choices"] is None else tuple(source["choices"])
    return Plan(tuple(Source(**source) for source in content["sources"]), content["skipped"])


def find(config: ml_collections.ConfigDict) -> Plan:
    """The plan for `config.task`, as far as the data are there; a table of P3's is logged.

    Raises:
      UserError: a data set or hard prompt asked for by name is not there, or applies to no row of a slice that is
        read; or nothing is left to train.
    """
    found: dict[str, Source] = {}
    skipped: dict[str, str] = {}
    for name in filter(None, map(str.strip, config.task.name.split(","))):
        made = _p3(config, skipped) if name == "p3" else _named(config, name)
        found |= {source.name: source for source in made}
    if not found:
        why = next((f": {name} is skipped because: {reason}" for name, reason in skipped.items()), ".")
        raise UserError(f"task.name={config.task.name!r} with task.template={config.task.template!r} is no source{why}")
    ordered = sorted(found.values(), key=lambda source: source.choices == ())
    return Plan(tuple(_with_members(ordered)), skipped)


def _named(config: ml_collections.ConfigDict, name: str) -> Iterator[Source]:
    own = config.copy_and_resolve_references()
    own.job = "train"  # BIG-bench is refused
    own.task.name = name
    for task in find_tasks(own):
        for split, limit in _slices(config):
            if reason := p3.misfit(task, split, limit):
                raise UserError(f"task.name={name!r} with the template {task.template.name!r} is no source: {reason}")
        yield Source(name, name, task.template.name, task.choices)


def _p3(config: ml_collections.ConfigDict, skipped: dict[str, str]) -> Iterator[Source]:
    """P3's sources that are there; adds the others to `skipped`."""
    pairs = [pair for dataset in p3.sources() for pair in _pairs(config, dataset)]
    chosen = [pair for pair in pairs if config.task.template in ("all", pair.prompt)]
    log.info("%s", p3.table(chosen))
    skipped |= {f"{pair.dataset.name}:{pair.prompt}": pair.reason for pair in chosen if not pair.present}
    present = filter(lambda pair: pair.present, chosen)
    for task, own in itertools.groupby(present, key=lambda pair: pair.task):
        templates = load_templates(config.task.templates_dir, task)
        for pair in own:
            yield Source(pair.dataset.name, task, pair.prompt, templates[pair.prompt].fixed_choices, asked=False)


def _slices(config: ml_collections.ConfigDict) -> list[tuple[str, int]]:
    """Every slice that a member reads, with how many of its rows are drawn; 0 = all."""
    task = config.task
    found = [(task.train_split, task.train_limit), (task.eval_split, 0), (task.test_split, 0)]
    return [(split, limit) for split, limit in dict.fromkeys(found) if split]


def _pairs(config: ml_collections.ConfigDict, dataset: p3.Dataset) -> list[p3.Pair]:
    """Each hard prompt as `p3.report` has it on the first slice that it does not fit, or on the first of all.

    All slices of a data set before the next: its files are then still in memory.
    """
    reports = []
    for split, limit in _slices(config):
        sliced = dataclasses.replace(dataset, split=split, tfds=dataset.tfds and (dataset.tfds[0], split))
        reports.append(p3.report([sliced], config, limit))
    return [next((pair for pair in same if not pair.present), same[0]) for same in zip(*reports, strict=True)]


def _with_members(sources: list[Source]) -> Iterator[Source]:
    """The sources with names for their directories, no two alike even where case does not count."""
    taken: set[str] = set()
    for source in sources:
        stem = re.sub(r"[^A-Za-z0-9.]+", "_", source.name)[:LONGEST_DIRECTORY].strip("._")
        names = (stem, *(f"{stem}_{number}" for number in range(2, len(sources) + 1)))
        member = next(name for name in names if name.lower() not in taken)
        taken.add(member.lower())
        yield dataclasses.replace(source, member=member)
