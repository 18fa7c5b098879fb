"""HellaSwag's context, divided as its authors describe it, on their example and on every real row."""

from __future__ import annotations

import collections
import json
import pathlib

import pytest

from infoprompt_jax.data.derived_columns import complete
from infoprompt_jax.data.local_files import find_files, read_rows


@pytest.mark.parametrize(
    ("context", "first", "second"),
    [
        ("A man is sitting on a roof. he", "A man is sitting on a roof.", "he"),  # published with both parts
        ("One stops! Two run. the two of them", "One stops! Two run.", "the two of them"),
        ('A title says "stop." a man', 'A title says "stop."', "a man"),
        ("How to wait. Sit down. Breathe.", "How to wait. Sit down. Breathe.", ""),
        ("Is it over? (It is.)", "Is it over? (It is.)", ""),
        ("Is it over?", "Is it over?", ""),
        ("Stop! he", "Stop!", "he"),
        ("a man", "a man", ""),
    ],
)
def test_the_context_is_divided_after_its_last_sentence(context: str, first: str, second: str) -> None:
    assert complete("hellaswag", {"ctx": context, "label": "1"}) == {
        "ctx": context,
        "ctx_a": first,
        "ctx_b": second,
        "label": "1",
    }


def test_columns_that_are_there_stay() -> None:
    row = {"ctx": "One. two", "ctx_a": "own", "ctx_b": ""}
    assert complete("hellaswag", row) == row
    assert complete("hellaswag", {"text": "x"}) == {"text": "x"} and complete("mine", {"ctx": "x"}) == {"ctx": "x"}


def test_real_contexts_are_those_of_two_sources(shared: pathlib.Path) -> None:
    """ActivityNet's labels and WikiHow's do not overlap: every row of a label is divided, or none is."""
    divided = collections.defaultdict(set)
    rows = [json.loads(row) for row in read_rows(find_files(str(shared / "data"), "hellaswag")["validation"])]
    for row in rows:
        whole = complete("hellaswag", row)
        divided[row["activity_label"]].add(bool(whole["ctx_b"]))
        assert whole["ctx_a"] + (" " + whole["ctx_b"] if whole["ctx_b"] else "") == row["ctx"]
        assert whole["ctx_b"] == whole["ctx_b"].lower() and whole["ctx_a"]  # a sentence begins with a capital
    assert all(len(found) == 1 for found in divided.values())
    assert sum(bool(complete("hellaswag", row)["ctx_b"]) for row in rows) == 3243
