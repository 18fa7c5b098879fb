"""Questions: a row's input and answer choices, whether or not the row has an answer."""

from __future__ import annotations

import json
import pathlib
import re
from typing import Any

import invented_rows
import pytest
from tiny_data import INLINE, configure, one_task

from infoprompt_jax.data.derived_columns import complete
from infoprompt_jax.data.tasks import Task
from infoprompt_jax.data.template_yaml import load_templates
from infoprompt_jax.data.templates import Example, Template
from infoprompt_jax.errors import UserError

CHOICES = ("bad", "good")


def question(jinja: str, row: dict[str, Any], choices: str = "bad ||| good") -> Example | None:
    return Template("test", "id", jinja, choices).render_question(row)


@pytest.mark.parametrize(
    ("jinja", "row"),
    [
        ("{{ a }} ||| {{ answer_choices[label] }}", {"a": "x"}),
        ("{{ a }} ||| It is {{ answer_choices[label] }}.", {"a": "x"}),
        ("{{ a }} ||| {{ answer_choices[label | int] }}", {"a": "x"}),
        ("{{ a }} ||| {{ ['bad', 'good'][label] }}", {"a": "x"}),
        ("{% if a %}{{ a }} ||| {{ answer }}{% endif %}", {"a": "x"}),
        ("{{ a }} ||| {% if label == 1 %}good{% else %}bad{% endif %}", {"a": "x"}),
        ("{{ a }} ||| {{ answer }}", {"a": "x", "answer": None}),
        ("{{ a }} ||| {{ answer }}", {"a": "x", "answer": ""}),
        ('{{ a }} ||| {{ row["the answer"] }}', {"a": "x"}),
    ],
)
def test_a_row_without_an_answer(jinja: str, row: dict[str, Any]) -> None:
    example = question(jinja, row)
    assert example == Example("x", "", CHOICES) and example.label == -1
    assert question(jinja, row, "") == Example("x", "") if "answer_choices" not in jinja else True


@pytest.mark.parametrize(
    ("jinja", "choices", "column"),
    [
        ("{% if label != -1 %}{{ a }} ||| {{ answer_choices[label] }}{% endif %}", "bad ||| good", "label"),
        ("{{ a }} {{ label }} ||| b", "", "label"),
        ("{{ a }} ||| {{ options[0] }}", "{{ options | join('|||') }}", "options"),
    ],
)
def test_an_input_or_choices_that_need_what_is_missing(jinja: str, choices: str, column: str) -> None:
    with pytest.raises(UserError, match=f"test' of .* uses the column '{column}', but the columns are a: rename"):
        question(jinja, {"a": "x"}, choices)


def test_a_question_is_refused_for_what_else_is_wrong() -> None:
    jinja = "{{ a }} ||| {{ answer_choices[label] }}"
    with pytest.raises(UserError, match=r"answer choice 7 \(from 0\) does not exist"):
        question(jinja, {"a": "x", "label": 7})
    with pytest.raises(UserError, match="is unsafe"):
        question("{{ a }} ||| {{ a.__class__ }}", {"a": "x"})
    assert question(jinja, {"a": " "}) is None
    assert question(jinja, {"a": "x"}, "{{ a }} ||| x") is None
    assert question("{{ a }} {% if b %}||| b{% endif %}", {"a": "x", "b": 0}) is None


@pytest.mark.parametrize("label", [-1, None, "", "-1.0", float("nan")])
def test_a_task_takes_the_label_of_a_row_without_one_away(label: Any) -> None:
    task = one_task(configure("", "mine", **INLINE))
    assert task.question({"text": "x", "label": label}) == Example("Review: x", "", CHOICES)
    assert task.question({"text": "x"}) == Example("Review: x", "", CHOICES)
    assert task.question({"text": "x", "label": 1}) == task.render({"text": "x", "label": 1})
    shown = one_task(configure("", "mine", **INLINE | {"input": "{{ ['a', 'b'][label] }}"}))
    with pytest.raises(UserError, match="uses the column 'label', but the columns are text: rename"):
        shown.question({"text": "x", "label": label})


def test_an_answer_that_is_no_choice_is_refused() -> None:
    task = one_task(configure("", "mine", **INLINE | {"target": "{{ word }}"}))
    with pytest.raises(UserError, match="target 'awful', which is not one of its answer choices"):
        task.question({"text": "x", "word": "awful"})


def survey(folder: pathlib.Path, templates: str | None, datasets: list[str], limit: int) -> tuple[int, int]:
    """Checks the questions of rows with answers. Returns how many templates can do without `label`, or not."""
    asks, needs = 0, 0
    for dataset in datasets:
        file = sorted((folder / dataset).glob("*.jsonl"))[-1]
        rows = [complete(dataset, json.loads(line)) for line in file.open(encoding="utf-8").readlines()[:limit]]
        for template in load_templates(templates, dataset).values():
            task = Task(dataset, template, "accuracy")
            try:
                rendered = [(row, example) for row in rows if (example := task.render(row))]
            except UserError:  # a column that these rows lack
                continue
            assert all(task.question(row) == example for row, example in rendered), template
            if not rendered or "label" not in rendered[0][0] or "label" not in template.columns:
                continue
            row, example = rendered[0]
            try:
                bare = template.render_question({name: row[name] for name in row if name != "label"})
            except UserError as error:
                assert "uses the column 'label'" in str(error), template
                needs += 1
                continue
            drawn = re.search(r"\| *(choice|random)\b", template.jinja)  # by the row, its label included
            assert bare and (bare.input == example.input or drawn), template
            asks += 1
    return asks, needs


def test_shipped_templates_ask_without_the_answer(invented: pathlib.Path) -> None:
    asks, needs = survey(invented, None, list(invented_rows.DATASETS), 20)
    assert asks > 20 and needs == 0


def test_public_templates_ask_without_the_answer(shared: pathlib.Path) -> None:
    folder = shared / "data"
    datasets = sorted({str(path.parent.relative_to(folder)) for path in folder.rglob("*.jsonl")})
    public = [name for name in datasets if list((folder / "promptsource" / name.split("/")[0]).rglob("*.yaml"))]
    asks, needs = survey(folder, str(folder / "promptsource"), [n for n in public if n not in MISSING], 5)
    assert asks >= 175 and needs <= 12


MISSING = {"openbookqa", "super_glue/boolq"}  # templates of these are for other configurations
