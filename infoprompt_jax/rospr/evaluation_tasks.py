"""The evaluation tasks of RoSPr: unseen data sets, each with a template, and the reasons why others are skipped.

`task.name` lists data sets. The word `p3` stands for P3's 11 held-out sets with their templates, `bigbench` for the 14
tasks of RoSPr's evaluation. Of these, a task whose data are missing or cannot be rendered is skipped with the reason. A
data set that is listed by its own name must exist. Free text is skipped, because only answer choices can be ranked.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Sequence

import ml_collections

from infoprompt_jax.data import bigbench, p3
from infoprompt_jax.data.examples import source_fingerprint
from infoprompt_jax.data.rows import combined_fingerprint
from infoprompt_jax.data.selection import Selected, Skipped, select
from infoprompt_jax.data.tasks import Task
from infoprompt_jax.errors import UserError

LONGEST_STEM = 80  # characters of a task's name that its files' names begin with


@dataclasses.dataclass(frozen=True)
class EvaluationTask(Selected):
    """A data set, by its name in results, with a template; `split` is what it is evaluated on."""

    @property
    def file(self) -> str:
        """The name as a file name, unique among all tasks."""
        digest = hashlib.sha256(self.name.encode()).hexdigest()[:8]
        return f"{re.sub(r'[^A-Za-z0-9.]+', '_', self.name)[:LONGEST_STEM].strip('._')}-{digest}"


def find(config: ml_collections.ConfigDict) -> tuple[list[EvaluationTask], list[Skipped]]:
    """The evaluation tasks that `config.task` selects, and those it names that cannot be evaluated.

    Raises:
      UserError: a data set or template that is listed by name does not exist, or nothing is left to evaluate.
    """
    if config.task.metric == "exact_match":
        raise UserError("task.metric='exact_match' is for free text, but answer choices are ranked: leave it empty.")
    collections = {"p3": p3.held_out(), "bigbench": bigbench.evaluation_tasks()}
    selection = select(config, collections, ranked=True)
    return [EvaluationTask(**vars(selected)) for selected in selection.selected], list(selection.skipped)


def rows_fingerprint(config: ml_collections.ConfigDict, tasks: Sequence[EvaluationTask]) -> str:
    """Of the rows and templates of these tasks, before they are tokenised; those that cannot be read count as empty."""
    slices = [(task.task, split) for task in tasks for split in (task.split, config.rospr.query_split) if split]

    def of(task: Task, split: str) -> str:
        try:
            return source_fingerprint(task, split)
        except UserError:
            return ""

    return combined_fingerprint(*(of(*one) for one in slices))
