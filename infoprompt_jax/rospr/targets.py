"""What zero-shot evaluation runs on: targets, each a data set with one template, and what is left out and why.

`task.name` lists data sets. The word `p3` stands for P3's 11 held-out sets with their templates, `bigbench` for the
14 tasks of RoSPr's evaluation: of these, what is not on this machine, or cannot be rendered, is skipped with the
reason, while a data set that is listed by its own name must be there. Only answer choices can be ranked, so that
free text is skipped too.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re

import ml_collections

from infoprompt_jax.data import bigbench, p3
from infoprompt_jax.data.selection import Selected, Skipped, select
from infoprompt_jax.errors import UserError

LONGEST_STEM = 80  # characters of a target's name that its files' names begin with


@dataclasses.dataclass(frozen=True)
class Target(Selected):
    """A data set, as results name it, with one template; `split` is what it is evaluated on."""

    @property
    def file(self) -> str:
        """The name as files can have it, unlike any other target's."""
        digest = hashlib.sha256(self.name.encode()).hexdigest()[:8]
        return f"{re.sub(r'[^A-Za-z0-9.]+', '_', self.name)[:LONGEST_STEM].strip('._')}-{digest}"


def find(config: ml_collections.ConfigDict) -> tuple[list[Target], list[Skipped]]:
    """The targets that `config.task` selects, and what it names that cannot be evaluated.

    Raises:
      UserError: a data set or template that is listed by name is not there, or nothing is left to evaluate.
    """
    if config.task.metric == "exact_match":
        raise UserError("task.metric='exact_match' is for free text, but answer choices are ranked: leave it empty.")
    collections = {"p3": p3.held_out(), "bigbench": bigbench.evaluation_tasks()}
    selection = select(config, collections, ranked=True)
    return [Target(**vars(selected)) for selected in selection.selected], list(selection.skipped)
