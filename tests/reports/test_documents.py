"""Blocks of documents."""

from __future__ import annotations

import pathlib

import pytest

from infoprompt_jax.reports.documents import fill


def test_a_page_is_filled_in_and_its_words_stay(tmp_path: pathlib.Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Words\n\n<!-- main -->\nold\n<!-- end -->\n\nMore <!-- other -->\n<!-- end -->\n")
    fill(page, {"main": "new \\1", "other": "x"})
    assert (
        page.read_text()
        == "# Words\n\n<!-- main -->\n\nnew \\1\n\n<!-- end -->\n\nMore <!-- other -->\n\nx\n\n<!-- end -->\n"
    )


def test_a_block_that_is_missing_or_there_twice_is_an_error(tmp_path: pathlib.Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- main -->\n<!-- end -->\n" * 2)
    before = page.read_text()
    for name, count in (("absent", 0), ("main", 2)):
        with pytest.raises(ValueError, match=f"{count} blocks named {name}, expected one"):
            fill(page, {name: ""})
    assert page.read_text() == before
