"""Tasks: a data set with one template, which turns a row into an input, a target and answer choices."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from infoprompt_jax.data.derived_columns import complete
from infoprompt_jax.data.template_text import Truth
from infoprompt_jax.data.templates import Example, Template
from infoprompt_jax.errors import UserError

LABEL = "label"
WHOLE = re.compile(r"(0|-?[1-9]\d{0,8})(\.0+)?", re.ASCII)
TRUTHS = ("true", "false")
NO_LABEL = (-1, "-1", "-1.0", "", "nan")  # in test splits whose answers are kept secret, and where pandas lacks one


@dataclasses.dataclass(frozen=True)
class Task:
    """One data set with one template."""

    name: str  # of the data set: super_glue/rte
    template: Template
    metric: str
    folder: str = ""  # of local files; "" = TFDS
    tfds_dir: str = ""
    module: str = ""  # of a task that is registered with seqio: the Python module that registers it
    rate: float | None = None  # in a mixture of seqio's; None: by the number of rows

    @property
    def id(self) -> str:
        """`dataset:template`, in messages and in the names of cached rows."""
        return f"{self.name}:{self.template.name}"

    @property
    def choices(self) -> tuple[str, ...] | None:
        """The answer choices; () for free text, None where they differ by row."""
        return self.template.fixed_choices

    def lacks_label(self, row: Mapping[str, Any]) -> bool:
        """Whether the template reads `label`, and the row has no such column."""
        return LABEL in self.template.columns and LABEL not in row

    def render(self, row: Mapping[str, Any]) -> Example | None:
        """The row as text; None if the template does not apply to it, or it has no label.

        Raises:
          UserError: `Template.render` refuses the row, or its target is not one of the answer choices.
        """
        if self.lacks_label(row) or (_is_unlabelled(row) and self.choices != ()):
            return None
        return self._checked(self.template.render(with_typed_label(complete(self.name, row))))

    def question(self, row: Mapping[str, Any]) -> Example | None:
        """The row as text, with the target "" and the label -1 where it has no answer.

        None if the template does not apply to it. The input of a row with an answer is the one that `render` gives.

        Raises:
          UserError: `Template.render_question` refuses the row, such as one without a label for a template whose input
            reads it; or the target is not one of the answer choices.
        """
        row = with_typed_label(complete(self.name, row))
        if _is_unlabelled(row) and self.choices != ():
            row = {name: value for name, value in row.items() if name != LABEL}
        return self._checked(self.template.render_question(row))

    def _checked(self, example: Example | None) -> Example | None:
        if example and example.choices and example.target and example.target not in example.choices:
            raise UserError(
                f"{self.template} has the target {example.target!r}, which is not one of its answer choices "
                f"{', '.join(example.choices)}; see task.template, task.target and task.answer_choices."
            )
        return example


def with_typed_label(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row with a label in other clothes as what it is: "1", "1.0" and 1.0 an integer, "false" a `Truth`.

    Templates compare labels with integers (`{% if label == 0 %}`), and no text equals one.
    """
    label = row.get(LABEL)
    if isinstance(label, str) and label.strip().lower() in TRUTHS:
        return {**row, LABEL: Truth(label)}
    if isinstance(label, str) and WHOLE.fullmatch(label.strip()):
        return {**row, LABEL: int(float(label))}
    return {**row, LABEL: int(label)} if isinstance(label, float) and label.is_integer() else row


def _is_unlabelled(row: Mapping[str, Any]) -> bool:
    """Whether the row's label stands for a missing one."""
    label = row.get(LABEL, 0)
    if isinstance(label, str):
        label = label.strip().lower()
    return label is None or label in NO_LABEL or label != label  # the last is NaN
