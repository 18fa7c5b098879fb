"""Names and texts of other people, shown as text: on one line of a terminal or a plot, and in Markdown as no markup.

HTML needs nothing of this: `reports.pages.tag` escapes all that it did not make.
"""

from __future__ import annotations

import re
import unicodedata

UNSEEN = ("Cc", "Cs", "Zl", "Zp")  # Unicode's categories of control characters, half surrogates and line ends
MARKUP = re.compile(r"[&<\\`*\[\]|$~]")  # what Markdown could read as more than text


def is_seen(character: str) -> bool:
    """Whether a terminal and a plot show the character where it stands, and UTF-8 has it."""
    return unicodedata.category(character) not in UNSEEN


def one_line(text: object) -> str:
    """`str` of it, with white space as single spaces and other unseen characters as Python's escapes."""
    words = " ".join(str(text).split())
    return "".join(c if is_seen(c) else c.encode("unicode_escape").decode("ascii") for c in words)


def in_markdown(text: object) -> str:
    """As `one_line`; what Markdown could read as markup is written as entities, which pages show as the characters."""
    return MARKUP.sub(lambda match: f"&#{ord(match[0])};", one_line(text))
