"""What is predicted for a row: an answer with each template, and their mean."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from infoprompt_jax.data.tasks import Task
from infoprompt_jax.data.templates import SEPARATOR, Example
from infoprompt_jax.errors import UserError
from infoprompt_jax.serving.engine import Answer, Engine, Question, ranked
from infoprompt_jax.serving.prompt_sources import Chosen, PromptSource

DIGITS = 6  # significant digits of scores in predictions
CHOICES = "answer_choices"  # the name of the choices inside a template


@dataclasses.dataclass(frozen=True)
class Rendered:
    """A row with one template that applies to it; without a task, a text as it is."""

    task: Task | None
    example: Example

    @property
    def target(self) -> str:
        """The right answer as text; "" where the row has none."""
        return self.example.target


@dataclasses.dataclass(frozen=True)
class RowAnswer:
    """The answers to one row: by template, and over all templates. Empty where no template applies to the row."""

    rendered: Sequence[Rendered]
    answers: Sequence[Answer]
    prompts: Sequence[str | None]  # names of the prompts, one for each template

    @property
    def mean(self) -> Answer | None:
        """The answer over the templates.

        Scores are the mean of the templates' scores, where their choices correspond (`correspondence`). Otherwise, and
        for generated texts, the prediction is the most frequent one, without scores. None without any answer.
        """
        if len(self.answers) < 2:
            return self.answers[0] if self.answers else None
        places_RC = correspondence(self.rendered)
        if places_RC is None:
            texts = [answer.prediction for answer in self.answers if answer.prediction is not None]
            return Answer(collections.Counter(texts).most_common(1)[0][0] if texts else None, {})
        scores_RC = [list(answer.scores.values()) for answer in self.answers]
        mean_C = np.mean([np.take(s, p) for s, p in zip(scores_RC, places_RC, strict=True)], axis=0)
        return ranked(list(self.answers[0].scores), mean_C)

    def target(self, mean: Answer) -> str:
        """The right answer in the words of the mean, "" where the row has none.

        They are the first template's; without scores, those of the first template that gave the same text.
        """
        pairs = zip(self.rendered, self.answers, strict=True)
        alike = (one for one, answer in pairs if mean.scores or answer.prediction == mean.prediction)
        return next(alike, self.rendered[0]).target if self.rendered else ""

    def to_json(self) -> dict[str, Any]:
        """The fields of a line of `predictions.jsonl`, without the row's own."""
        mean = self.mean or Answer(None, {})
        templates = {
            rendered.task.template.name: _entry(answer, rendered.target, prompt)
            for rendered, answer, prompt in zip(self.rendered, self.answers, self.prompts, strict=True)
            if rendered.task
        }
        return _entry(mean, self.target(mean)) | ({"templates": templates} if self.has_templates else {})

    @property
    def has_templates(self) -> bool:
        """False for a text as it is."""
        return not any(rendered.task is None for rendered in self.rendered)


def _entry(answer: Answer, target: str, prompt: str | None = None) -> dict[str, Any]:
    scores = {choice: _rounded(score) for choice, score in answer.scores.items()}
    entry: dict[str, Any] = {"prediction": answer.prediction, "scores": scores}
    entry |= {"target": target} if target else {}
    return entry | ({"prompt": prompt} if prompt else {})


def _rounded(score: float) -> float | None:
    return float(f"{score:.{DIGITS}g}") if math.isfinite(score) else None


def correspondence(rendered: Sequence[Rendered]) -> list[list[int]] | None:
    """For each template the places [C] of its choices that mean the same as the first template's; None if unknown.

    They correspond by place, if all templates have the same number of them and take their target alike from
    `answer_choices`, as with `{{ answer_choices[label] }}`: one may ask the opposite, so that its Yes is the other's
    No. Otherwise choices of the same texts correspond by text.
    """
    choices = [one.example.choices for one in rendered]
    first = choices[0]
    if not first:
        return None
    targets = {"".join(one.task.template.jinja.rpartition(SEPARATOR)[2].split()) for one in rendered if one.task}
    alike = len(targets) == 1 and len({len(other) for other in choices}) == 1
    if alike and any(CHOICES in target for target in targets):
        return [list(range(len(first)))] * len(rendered)
    if all(set(other) == set(first) for other in choices):
        return [[other.index(choice) for choice in first] for other in choices]
    return None


def render(source: PromptSource, rows: Sequence[Mapping[str, Any]], first: int = 0) -> list[list[Rendered]]:
    """Each row with the templates that apply to it.

    Args:
      first: the number of the first row, for messages.

    Raises:
      UserError: a row cannot be rendered, or names no prompt; the sentence has its number.
    """
    made = []
    for number, row in enumerate(rows, first):
        try:
            questions = [(task, task.question(row)) for task in source.tasks(row)]
        except UserError as error:
            raise UserError(f"Row {number} (from 0): {error}") from error
        made.append([Rendered(task, example) for task, example in questions if example])
    return made


def answer_rows(
    engine: Engine, source: PromptSource, rows: Sequence[Mapping[str, Any]], first: int = 0
) -> list[RowAnswer]:
    """The answers to rows, with the templates of their prompts. Raises UserError as `render` and `Engine.answers`."""
    rendered = render(source, rows, first)
    pairs = [(row, one.example) for row, of_row in zip(rows, rendered, strict=True) for one in of_row]
    chosen = iter(source.choose([row for row, _ in pairs], [example for _, example in pairs]) if pairs else [])
    return answer_rendered(engine, [[(one, next(chosen)) for one in of_row] for of_row in rendered])


def answer_rendered(engine: Engine, rows: Sequence[Sequence[tuple[Rendered, Chosen]]]) -> list[RowAnswer]:
    """The answers to rendered rows, each template with the prompt chosen for it. Raises as `Engine.answers`."""
    answers = iter(engine.answers([Question(one.example, c.prompt) for of_row in rows for one, c in of_row]))
    return [
        RowAnswer([one for one, _ in of_row], [next(answers) for _ in of_row], [chosen.name for _, chosen in of_row])
        for of_row in rows
    ]
