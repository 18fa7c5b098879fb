"""Tables for terminals and documents."""

from __future__ import annotations

import pytest

from infoprompt_jax.reports.tables import aligned, markdown


def test_text_is_aligned_left_and_numbers_right() -> None:
    rows = [["rte", "accuracy", 0.5], ["a longer name", "f1", 12.25]]
    assert aligned(["data set", "metric", "value"], rows, text_columns=2).splitlines() == [
        "data set       metric    value",
        "-" * 30,
        "rte            accuracy    0.5",
        "a longer name  f1        12.25",
    ]


def test_a_table_without_rows_is_its_header() -> None:
    assert aligned(["a", "b"], []) == "a  b\n----"


def test_a_row_has_as_many_cells_as_the_header() -> None:
    with pytest.raises(ValueError):
        aligned(["a", "b"], [["x", 1, 2]])


def test_markdown() -> None:
    assert markdown(("a", "b"), [("x|y", 1)]) == "| a | b |\n| --- | --- |\n| x\\|y | 1 |"
