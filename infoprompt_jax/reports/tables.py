"""Tables as text: `aligned` for a terminal, `markdown` for a document.

Cells may be of any type; they are shown as `str` shows them, on one line. A cell of `markdown` may hold markup: names
and texts of other people go through `plain_text.in_markdown`. Numbers are formatted by the caller, who knows how many
digits they have.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from infoprompt_jax.plain_text import one_line


def aligned(header: Sequence[object], rows: Iterable[Sequence[object]], text_columns: int = 1) -> str:
    """A table in columns, with a rule under the header.

    Args:
      header: the titles of the columns.
      rows: as many cells each as the header has.
      text_columns: how many columns, from the left, hold text and are aligned left; the others are aligned right.

    Raises:
      ValueError: a row has more or fewer cells than the header.
    """
    lines = [[one_line(cell) for cell in line] for line in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    sides = [str.ljust if column < text_columns else str.rjust for column in range(len(widths))]
    title, *body = (
        "  ".join(side(cell, width) for side, cell, width in zip(sides, line, widths, strict=True)) for line in lines
    )
    return "\n".join([title, "-" * len(title), *body])


def markdown(header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; a `|` in a cell is escaped."""
    lines = (header, ["---"] * len(header), *rows)
    return "\n".join("| " + " | ".join(one_line(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
