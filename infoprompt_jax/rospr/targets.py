"""What zero-shot evaluation runs on: targets, each a data set with one hard prompt, and what is left out and why.

`task.name` lists data sets. The word `p3` stands for P3's 11 held-out sets with their hard prompts, `bigbench` for the
14 tasks of RoSPr's evaluation: of these, what is not on this machine, or cannot be rendered, is skipped with the
reason, while a data set that is asked for by its own name must be there. Only answer choices can be ranked, so that
free text is skipped too.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterator

import ml_collections

from infoprompt_jax.data import bigbench, p3
from infoprompt_jax.data.local_files import not_found
from infoprompt_jax.data.selection import find_tasks
from infoprompt_jax.data.tasks import Task
from infoprompt_jax.errors import UserError

LONGEST_STEM = 80  # characters of a target's name that its files' names begin with


@dataclasses.dataclass(frozen=True)
class Target:
    """A data set, as results name it, with one hard prompt; `split` is what it is evaluated on."""

    dataset: str
    task: Task
    split: str
    asked: bool = True  # for by its own name: without it there is no result
    beyond_t0: bool = False  # one of P3's hard prompts that T0's own evaluation leaves out

    @property
    def name(self) -> str:
        return f"{self.dataset}:{self.task.template.name}"

    @property
    def file(self) -> str:
        """The name as files can have it, unlike any other target's."""
        digest = hashlib.sha256(self.name.encode()).hexdigest()[:8]
        return f"{re.sub(r'[^A-Za-z0-9.]+', '_', self.name)[:LONGEST_STEM].strip('._')}-{digest}"


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A target, or a data set with all of its hard prompts, that is not evaluated."""

    name: str
    reason: str


def find(config: ml_collections.ConfigDict) -> tuple[list[Target], list[Skipped]]:
    """The targets that `config.task` names, and what it names that cannot be evaluated.

    Raises:
      UserError: a data set or hard prompt asked for by name is not there, or nothing is left to evaluate.
    """
    if config.task.metric == "exact_match":
        raise UserError("task.metric='exact_match' is for free text, but answer choices are ranked: leave it empty.")
    names = [name.strip() for name in config.task.name.split(",") if name.strip()]
    words = {"p3": _p3, "bigbench": _bigbench}
    found: dict[str, Target | Skipped] = {}
    for name in names:
        made = words[name](config) if name in words else _targets(config, name, config.task.eval_split)
        found |= {one.name: one for one in made}
    targets = [one for one in found.values() if isinstance(one, Target)]
    skipped = [one for one in found.values() if isinstance(one, Skipped)]
    if not targets:
        why = f": {skipped[0].name} is skipped because: {skipped[0].reason}" if skipped else "."
        raise UserError(f"task.name={config.task.name!r} with task.template={config.task.template!r} is no target{why}")
    return targets, skipped


def _targets(
    config: ml_collections.ConfigDict, dataset: str, split: str, name: str = "", template: str = ""
) -> Iterator[Target | Skipped]:
    """Of the data set `name` ("" = `dataset`), with the hard prompts that `template` ("" = the config's) names."""
    own = config.copy_and_resolve_references()
    own.task.update(name=name or dataset, template=template or config.task.template, metric="")
    for task in find_tasks(own):
        if task.metric == "exact_match":
            yield Skipped(f"{dataset}:{task.template.name}", "The prompt has no answer choices to rank.")
        else:
            yield Target(dataset, dataclasses.replace(task, metric=config.task.metric or task.metric), split)


def _p3(config: ml_collections.ConfigDict) -> Iterator[Target | Skipped]:
    for pair in p3.report(p3.held_out(), config):
        if config.task.template not in ("all", pair.prompt):
            continue
        if pair.present:
            beyond = pair.prompt in pair.dataset.beyond_t0
            for one in _targets(config, pair.dataset.name, pair.split, pair.task, pair.prompt):
                yield dataclasses.replace(one, asked=False, beyond_t0=beyond) if isinstance(one, Target) else one
        else:
            yield Skipped(f"{pair.dataset.name}:{pair.prompt}", pair.reason)


def _bigbench(config: ml_collections.ConfigDict) -> Iterator[Target | Skipped]:
    for task in bigbench.TASKS:
        dataset = f"bigbench/{task}"
        try:
            if not config.data.dir:
                raise not_found(dataset, "")
            for one in _targets(config, dataset, bigbench.SPLIT):
                yield dataclasses.replace(one, asked=False) if isinstance(one, Target) else one
        except UserError as error:
            yield Skipped(dataset, str(error))
