"""Columns that templates read but some releases of a data set lack, derived from the columns they have."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

# The last end of a sentence that is followed by text; that text is unfinished.
UNFINISHED = re.compile(r"(?P<before>.*[.!?]['\")]*)\s+(?P<phrase>\S.*)", re.DOTALL)
FINISHED = re.compile(r"[.!?]['\")]*\s*$")


def hellaswag_context(row: Mapping[str, Any]) -> dict[str, str]:
    """`ctx_a` and `ctx_b` of a row of HellaSwag, from its `ctx`.

    The data set's description (data/README.md of its repository) says: `ctx` is `ctx_a`, a space, `ctx_b`. A context
    from ActivityNet ends in an unfinished noun phrase, its `ctx_b`. A context from WikiHow ends in a whole sentence;
    its `ctx_b` is empty. So a context that ends like a sentence has no `ctx_b`, and any other is divided after its
    last sentence. TFDS and some files have `ctx` only.
    """
    context = row.get("ctx")
    if not isinstance(context, str):
        return {}
    divided = None if FINISHED.search(context) else UNFINISHED.fullmatch(context)
    return {"ctx_a": divided["before"], "ctx_b": divided["phrase"]} if divided else {"ctx_a": context, "ctx_b": ""}


DERIVED: dict[str, Callable[[Mapping[str, Any]], dict[str, str]]] = {"hellaswag": hellaswag_context}


def complete(dataset: str, row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row with its data set's derived columns; a column that the row has keeps its value."""
    return {**DERIVED[dataset](row), **row} if dataset in DERIVED else row
