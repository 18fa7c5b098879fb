"""What a run of the fuzzer found: a table of kinds and outcomes, and a line that repeats each bad case."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections import Counter
from collections.abc import Sequence

from experiments.fuzz.cases import ACCEPTED, BAD, Outcome
from infoprompt_jax import files

COLUMNS = ("kind", "tried", "sentence", "accepted", *BAD)


def table(outcomes: Sequence[Outcome]) -> str:
    """The counts as Markdown, a line for each kind and one for all."""
    kinds = sorted({outcome.kind for outcome in outcomes})
    lines = [_line(kind, [one for one in outcomes if one.kind == kind]) for kind in kinds]
    rows = [COLUMNS, ("---",) * len(COLUMNS), *lines, _line("all", outcomes)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _line(kind: str, outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    counts = Counter(outcome.outcome for outcome in outcomes)
    accepted = sum(counts[name] for name in ACCEPTED)
    numbers = (len(outcomes), counts["sentence"], accepted, *(counts[name] for name in BAD))
    return (kind, *map(str, numbers))


def page(outcomes: Sequence[Outcome], title: str) -> str:
    """The report as Markdown."""
    parts = [f"# {title}", "", table(outcomes), ""]
    for bad in (outcome for outcome in outcomes if outcome.is_bad):
        parts += [f"## {bad.kind}/{bad.number}: {bad.outcome}", "", f"    {bad.command}", ""]
        parts += [*(f"    {line}" for line in f"{bad.what}\n{bad.detail}".strip().splitlines()), ""]
    return "\n".join(parts)


def write(out: pathlib.Path, outcomes: Sequence[Outcome], title: str) -> None:
    """Writes `report.md` and `report.json` into `out`."""
    with files.whole(out / "report.md") as partial:
        partial.write_text(page(outcomes, title), encoding="utf-8", errors="backslashreplace")
    content = [dataclasses.asdict(outcome) for outcome in outcomes]
    with files.whole(out / "report.json") as partial:
        partial.write_text(json.dumps(content, indent=1))
