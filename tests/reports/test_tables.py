"""Tables for terminals and documents."""

from __future__ import annotations

import pytest

from infoprompt_jax.plain_text import in_markdown
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


def test_names_stay_on_their_line_and_are_no_markup() -> None:
    assert aligned(["a"], [["x\ny\x1b[31m"], ["half \ud800"]]).splitlines()[2:] == ["x y\\x1b[31m", "half \\ud800"]
    assert in_markdown("<b>*a* | `c`\n[d](e) $f$") == (
        "&#60;b>&#42;a&#42; &#124; &#96;c&#96; &#91;d&#93;(e) &#36;f&#36;"
    )
    assert markdown(["a"], [[in_markdown("x|\ny")]]).splitlines()[2] == "| x&#124; y |"


def test_markdown() -> None:
    assert markdown(("a", "b"), [("x|y", 1)]) == "| a | b |\n| --- | --- |\n| x\\|y | 1 |"
