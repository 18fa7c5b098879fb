"""Tables in documents: a page's blocks, `<!-- name -->` to `<!-- end -->`, are filled in from results."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping

DOCS = pathlib.Path(__file__).parents[1] / "docs"


def fill(page: pathlib.Path, blocks: Mapping[str, str]) -> None:
    """Replaces the page's blocks, each of which it must hold once."""
    text = page.read_text(encoding="utf-8")
    for name, content in blocks.items():
        parts = re.split(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end -->)", text, flags=re.DOTALL)
        if len(parts) != 4:
            raise SystemExit(f"{page} has {len(parts) // 3} blocks named {name}, expected one.")
        before, start, end, after = parts
        text = f"{before}{start}\n{content}\n\n{end}{after}"
    page.write_text(text, encoding="utf-8")
