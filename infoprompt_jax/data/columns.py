"""Columns that hard prompts read and that some releases of a data set leave out, derived from the ones they have."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

# The last sentence end that something follows: what comes after it is unfinished.
UNFINISHED = re.compile(r"(?P<before>.*[.!?]['\")]*)\s+(?P<phrase>\S.*)", re.DOTALL)
FINISHED = re.compile(r"[.!?]['\")]*\s*$")


def hellaswag_context(row: Mapping[str, Any]) -> dict[str, str]:
    """`ctx_a` and `ctx_b` of a row of HellaSwag, from its `ctx`.

    By the data set's description (data/README.md of its repository), `ctx_b` is the unfinished noun phrase that a
    context of ActivityNet ends in and `ctx` is `ctx_a`, a space, `ctx_b`; contexts of WikiHow end in a whole sentence,
    and their `ctx_b` is empty. So a context that ends like a sentence is `ctx_a` alone, and any other is divided after
    its last sentence. TFDS and some files have `ctx` only.
    """
    context = row.get("ctx")
    if not isinstance(context, str):
        return {}
    divided = None if FINISHED.search(context) else UNFINISHED.fullmatch(context)
    return {"ctx_a": divided["before"], "ctx_b": divided["phrase"]} if divided else {"ctx_a": context, "ctx_b": ""}


DERIVED: dict[str, Callable[[Mapping[str, Any]], dict[str, str]]] = {"hellaswag": hellaswag_context}


def complete(dataset: str, row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row with its data set's derived columns; columns that it has stay as they are."""
    return {**DERIVED[dataset](row), **row} if dataset in DERIVED else row
