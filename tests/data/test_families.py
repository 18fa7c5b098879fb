"""Families of data sets and formats of answers."""

from __future__ import annotations

import pathlib

import pytest
import tiny

from infoprompt_jax.data import p3
from infoprompt_jax.data.families import answer_format, family, same_choices
from infoprompt_jax.data.templates import Example
from infoprompt_jax.data.tokenization import tokenize
from infoprompt_jax.nano import world


def test_every_data_set_of_p3_and_of_the_world_has_a_family() -> None:
    for dataset in (*p3.sources(), *p3.held_out()):
        assert family(dataset.task) and family(dataset.task.split("/")[0]) in ("", family(dataset.task)), dataset.name
        assert dataset.tfds is None or family(dataset.tfds[0]) == family(dataset.task)
    assert all(family(world.PREFIX + name) == dataset.family for name, dataset in world.DATASETS.items())
    assert family("glue/sst2") == family("mine") == ""


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        ((), "free text"),
        (None, "options"),
        (("No", "Yes"), "yes/no"),
        (("Not at all", "No", "Maybe", "Yes", "Definitely"), "yes/no"),
        (("True", "Neither", "False"), "true/false"),
        (("A", "B", "C", "D"), "letters"),
        (("1", "2", "3", "4", "5"), "letters"),
        (("Ending 2", "Ending 1"), "letters"),
        (("1 star", "2 stars"), "label words"),
        (("B", "C"), "label words"),
        (("negative", "positive"), "label words"),
        (("not duplicate", "duplicate"), "label words"),
    ],
)
def test_formats_of_answers(choices: tuple[str, ...] | None, expected: str) -> None:
    assert answer_format(choices) == expected


def test_choices_that_rows_make_are_those_of_all_where_they_are_alike(tmp_path: pathlib.Path) -> None:
    tokenizer = tiny.backbone().tokenizer

    def found(*lists: tuple[str, ...]) -> tuple[str, ...] | None:
        examples = [Example("x", choices[0], choices) for choices in lists]
        return same_choices(None, tokenize(examples, tokenizer, tmp_path, str(lists), True, 8, 8), tokenizer)

    assert found(("Yes", "No"), ("No", "Yes"), ("Yes", "No")) == ("No", "Yes")
    assert found(("Yes", "No"), ("Yes", "Maybe")) is None and found(("a", "b"), ("a", "b", "c")) is None
    rows = tokenize([Example("x", "a", ("a",))], tokenizer, tmp_path, "one", True, 8, 8)
    assert same_choices(("Yes", "No"), rows, tokenizer) == ("Yes", "No") and same_choices((), rows, tokenizer) == ()
