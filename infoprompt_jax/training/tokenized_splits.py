"""The tokenised rows of a job: each split is read once, and members with the same data share one stream of batches.

The tasks of one member are tokenised together and kept as one, up to TOGETHER bytes of their files: thousands of
templates on a small data set cost one read of the cache.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import ml_collections
import numpy as np

from infoprompt_jax.data import row_warnings
from infoprompt_jax.data.batches import Stream, mixing_rates, subset
from infoprompt_jax.data.examples import checked, source_fingerprint, source_size
from infoprompt_jax.data.rows import Rows
from infoprompt_jax.data.tasks import Task
from infoprompt_jax.data.tokenization import Part, tokenize_parts
from infoprompt_jax.files import cache_directory
from infoprompt_jax.fleet.members import Member, data_seed
from infoprompt_jax.progress import Rhythm
from infoprompt_jax.t5.backbone import Backbone

TOGETHER = 2**26  # bytes, counted anew for each template

log = logging.getLogger(__name__)


class TokenizedSplits:
    """The splits of a job's tasks, tokenised with a backbone's vocabulary when they are first requested."""

    def __init__(self, config: ml_collections.ConfigDict, backbone: Backbone) -> None:
        self.config, self.backbone = config, backbone
        self.directory = cache_directory(config.data.cache_dir) / "rows"
        self.tokenized: dict[tuple[Any, ...], Rows] = {}
        self.streams: dict[tuple[Any, ...], Stream] = {}
        self.rhythm = Rhythm()

    def rows(self, task: Task, split: str, limit: int = 0) -> Rows:
        """The rows of a split; if `limit` is positive, so many of them, drawn from the whole split.

        Raises:
          UserError: the split cannot be read, rendered or tokenised.
        """
        return self.rows_of([task], split, limit)[0]

    def rows_of(self, tasks: Sequence[Task], split: str, limit: int = 0) -> list[Rows]:
        """`rows` of each task: those that fit into TOGETHER are tokenised and kept as one. Raises as `rows` does."""
        unread = {key: task for task in tasks if (key := _key(task, split, limit)) not in self.tokenized}
        for group in self._groups(list(unread.values()), split):
            for task, rows in zip(group, self._tokenize(group, split, limit), strict=True):
                self.tokenized[_key(task, split, limit)] = rows
        return [self.tokenized[_key(task, split, limit)] for task in tasks]

    def training_rows(self, task: Task) -> Rows:
        """The rows that members train on, before `task.shots` of them are drawn. Raises as `rows` does."""
        return self.rows(task, self.config.task.train_split, self.config.task.train_limit)

    def _groups(self, tasks: Sequence[Task], split: str) -> list[list[Task]]:
        """The tasks, in order, in as few groups as hold up to TOGETHER bytes; one of unknown size is alone."""
        groups: list[list[Task]] = []
        room = 0
        for task in tasks:
            size = source_size(task, split) if len(tasks) > 1 else None
            if not groups or size is None or size > room:
                groups.append([])
                room = 0 if size is None else TOGETHER
            groups[-1].append(task)
            room -= size or 0
        return groups

    def _tokenize(self, tasks: Sequence[Task], split: str, limit: int) -> list[Rows]:
        data, tokenizer = self.config.data, self.backbone.tokenizer
        if self.rhythm.due():
            log.info("Reading %s, %s; %d splits are read.", tasks[0].id, split, len(self.tokenized))
        parts = [
            Part(checked(task, split, limit), source_fingerprint(task, split, limit), f"{task.id}, {split}")
            for task in tasks
        ]
        lengths = data.max_input_length, data.max_target_length
        made = tokenize_parts(parts, tokenizer, self.directory, self.backbone.config.takes_eos, *lengths)
        for rows, task in zip(made, tasks, strict=True):
            row_warnings.warn(rows, task, split, limit)
        return made

    def stream(self, member: Member, member_tasks: Sequence[Task]) -> Stream:
        """The member's training batches: a mixture of its tasks, or of `task.shots` rows of each.

        Members with the same tasks, shots and data seed share one stream. Raises as `rows` does.
        """
        task, seed = member.config.task, data_seed(member.config, member.config.seed)
        key = (tuple(t.id for t in member_tasks), task.shots, seed)
        if key in self.streams:
            return self.streams[key]
        rows = self.rows_of(member_tasks, self.config.task.train_split, self.config.task.train_limit)
        for one, of_task in zip(member_tasks, rows, strict=True):
            if task.shots > len(of_task):
                there = len(of_task)
                log.warning("task.shots=%d, but %s has %d rows to train on: all are taken.", task.shots, one.id, there)
        shots = [subset(len(r), task.shots, seed, r.labels) for r in rows] if task.shots else None
        if shots and (differing := _drawn_differently(member_tasks, rows, shots)):
            log.warning(
                "task.shots=%d, but the templates of %s leave out different rows, or not all have answer choices: each "
                "has rows of its own, so that the prompt sees more than %d. Choose one by task.template.",
                *(task.shots, differing, task.shots),
            )
        sizes = [len(r) for r in rows] if shots is None else [len(s) for s in shots]
        rates = [t.rate for t in member_tasks if t.rate is not None] or mixing_rates(sizes, task.temperature, task.cap)
        self.streams[key] = Stream(rows, rates, seed, self.config.train.batch_size, shots)
        return self.streams[key]


def _drawn_differently(tasks: Sequence[Task], rows: Sequence[Rows], shots: Sequence[np.ndarray]) -> str:
    """A data set whose templates have different shots; "" where there is none."""
    drawn = {(task.name, len(of_task), few.tobytes()) for task, of_task, few in zip(tasks, rows, shots, strict=True)}
    names = [name for name, *_ in drawn]
    return next((name for name in names if names.count(name) > 1), "")


def _key(task: Task, split: str, limit: int) -> tuple[Any, ...]:
    """What the rows depend on in one job; saved prompts may record different templates of one name."""
    return task.id, task.template.id, task.template.jinja, task.template.answer_choices, split, limit
