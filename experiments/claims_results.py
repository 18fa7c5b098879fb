"""The results of the runs behind docs/claims.md: read from disk, named and sorted.

A run is named `<task>-<examples>[-<kind>]`, as in `causes-256` and `causes-256-fresh`.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

Result = Mapping[str, Any]  # what experiments.claims keeps of a run

RESULTS = pathlib.Path(__file__).parent / "results" / "claims"
TASKS = ("entailment", "inference", "causes", "endings", "pronouns", "films")  # means are over these
PUBLIC = ("sst2", "rotten_tomatoes", "ag_news")  # real text
SHOTS = ("64", "256", "full")  # training examples


def read(directory: pathlib.Path) -> dict[str, Result]:
    """Results by the run's name.

    Raises:
      ValueError: the results are of several backbones, so that they cannot be compared.
    """
    results = {path.stem: json.loads(path.read_text()) for path in sorted(directory.glob("*.json"))}
    backbones = {result["fingerprints"]["backbone"] for result in results.values()}
    if len(backbones) > 1:
        raise ValueError(f"{directory} holds results of several backbones: {', '.join(sorted(backbones))}.")
    return results


def of_kind(results: Mapping[str, Result], kind: str) -> dict[str, Result]:
    """The runs of one kind, few examples first; the kind "" has the main runs."""
    chosen = {name: result for name, result in results.items() if "-".join(name.split("-")[2:]) == kind}
    return dict(sorted(chosen.items(), key=lambda item: SHOTS.index(shots_of(item[0]))))


def rows_of(results: Iterable[Result]) -> tuple[int, int]:
    """The numbers of validation and of test rows, which all runs share.

    Raises:
      ValueError: the runs have different numbers.
    """
    numbers = {tuple(result["examples"].values()) for result in results}  # by split: validation, test
    if len(numbers) != 1 or len(min(numbers)) != 2:
        raise ValueError(f"The results have {sorted(numbers)} validation and test rows, expected one pair.")
    validation, test = numbers.pop()
    return validation, test


def task_of(name: str) -> str:
    return name.split("-")[0]


def shots_of(name: str) -> str:
    return name.split("-")[1]


def base_of(name: str) -> str:
    """The main run that a run of another kind is compared with: `causes-256` for `causes-256-decay`."""
    return f"{task_of(name)}-{shots_of(name)}"


def title_of(name: str) -> str:
    """`causes, 256`."""
    return f"{task_of(name)}, {shots_of(name)}"
