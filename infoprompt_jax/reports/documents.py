"""Documents with generated parts: a block between `<!-- name -->` and `<!-- end -->` is replaced, the rest stays."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping


def fill(document: pathlib.Path, blocks: Mapping[str, str]) -> None:
    """Replaces blocks of a document.

    Args:
      document: a Markdown file.
      blocks: the new content by the block's name. Blocks that are not named here stay as they are.

    Raises:
      ValueError: the document does not hold a named block exactly once; it is left unchanged.
    """
    text = document.read_text(encoding="utf-8")
    for name, content in blocks.items():
        parts = re.split(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end -->)", text, flags=re.DOTALL)
        if len(parts) != 4:
            raise ValueError(f"{document} has {len(parts) // 3} blocks named {name}, expected one.")
        before, start, end, after = parts
        text = f"{before}{start}\n{content}\n\n{end}{after}"
    document.write_text(text, encoding="utf-8")
