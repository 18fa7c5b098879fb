"""What to know about the rows of a split, logged in each run: also where their tokens come from the cache."""

from __future__ import annotations

import logging

from infoprompt_jax.data.examples import examples
from infoprompt_jax.data.rows import Rows
from infoprompt_jax.data.tasks import Task

SHOWN = 200  # characters of an input in a message

log = logging.getLogger(__name__)


def warn(rows: Rows, task: Task, split: str, limit: int = 0) -> None:
    """Logs what is odd: rows left out or cut, inputs or targets that are all the same, repeated answer choices.

    `rows` are those of `examples(task, split, limit)`.
    """
    if rows.left_out:
        log.info("%s: %d rows, %d more that the template does not apply to.", rows.name, len(rows), rows.left_out)
    if rows.same_inputs():
        log.warning(
            "%s: all %d inputs are the same tokens, those of %r. A template names a column as {{ column }}, and the "
            "vocabulary must have the characters of the texts.",
            rows.name,
            len(rows),
            next(examples(task, split, limit)).input[:SHOWN],
        )
    if rows.same_targets():
        log.warning(
            "%s: all %d rows have the target %r. A slice of a file that is sorted by label has one class, and so has a "
            "template that compares the label with something else than the file has.",
            rows.name,
            len(rows),
            rows.target_text(0)[:SHOWN],
        )
    if repeated := task.template.repeated:
        log.warning("%s lists %r for more than one label: it counts as one answer.", task.template, repeated[0])
    if rows.truncated_inputs or rows.truncated_answers:
        log.warning(
            "%s: of %d rows, the inputs of %d and a target or answer choice of %d were cut; see "
            "data.max_input_length and data.max_target_length.",
            rows.name,
            len(rows),
            rows.truncated_inputs,
            rows.truncated_answers,
        )


def warn_of_limit(rows: Rows, limit: int) -> None:
    """Logs a warning where the first `limit` rows, those that are evaluated, have one target, and others another."""
    if limit and rows.same_targets(limit) and not rows.same_targets():
        log.warning(
            "%s: the first %d rows, which task.eval_limit takes, all have the target %r, so no metric tells what a "
            "prompt has learned. The file may be sorted by label: shuffle it, or take another slice of it.",
            rows.name,
            limit,
            rows.target_text(0)[:SHOWN],
        )
