"""The record of one evaluation task: its scores, the source prompts that each method took, and what explains them.

An evaluation writes it as `targets/<task>.json`; the results, the analysis and the page read it. The fields are the
file's keys. What is not a finite number is null in the file, and None here.
"""

from __future__ import annotations

import collections
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from infoprompt_jax import checksums
from infoprompt_jax.evaluation import metrics
from infoprompt_jax.rospr.library_files import Entry
from infoprompt_jax.rospr.zero_shot import Mixture, Outcome


@dataclasses.dataclass(frozen=True)
class Part:
    """A source prompt that a method took: with its weight, or (per_query) with the number of rows that use it."""

    name: str
    weight: float | None = None
    rows: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The part as JSON, without the one of `weight` and `rows` that does not apply."""
        use = {"weight": self.weight} if self.rows is None else {"rows": self.rows}
        return {"name": self.name, **use}


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A source prompt with votes. `answers`, `variance` and `score` are VAR's, which the first N' candidates have."""

    owner: int  # the source prompt's number in the library
    name: str
    dataset: str
    template: str
    family: str
    answer_format: str
    votes: int
    similarity: float | None  # mean over the candidate's hits
    answers: list[int] | None  # how many queries chose each answer
    variance: float | None
    score: float | None
    weights: dict[str, float]  # by method, of the methods that took it


@dataclasses.dataclass(frozen=True)
class Nearest:
    """One of the winner's training instances that were most similar to a query, and that query."""

    key: int  # the instance's number in the library
    text: str
    similarity: float | None
    query_row: int
    query: str


@dataclasses.dataclass(frozen=True)
class TargetRecord:
    """What is known of one evaluation task after its evaluation."""

    target: str  # data set and template
    file: str  # the stem of this record's file
    dataset: str
    task: str
    template: str
    split: str
    family: str
    answer_format: str
    beyond_t0: bool  # one of P3's templates that T0's own evaluation leaves out
    metric: str
    rows: int  # evaluated
    cut_inputs_of_split: int
    query_split: str
    query_rows: list[int]
    made_by: dict[str, str]  # fingerprints of the library, the backbone, the retriever, the rows and the queries
    left_out: list[int]  # source prompts of the task's own data set, by their numbers in the library
    scores: dict[str, float]  # by method
    chosen: dict[str, list[Part]]  # by method
    candidates: list[Candidate]  # the most voted for first
    nearest: list[Nearest]  # of the first candidate
    table: str = ""  # SHA-256 of the file with every source prompt's answers, with the oracle

    def to_json(self) -> dict[str, Any]:
        """The content of the record's file; `from_json` reads it."""
        chosen = {method: [part.to_json() for part in parts] for method, parts in self.chosen.items()}
        return dataclasses.asdict(self) | {"chosen": chosen}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> TargetRecord:
        """The record of what `to_json` gave; KeyError or TypeError where a field is missing or is not known."""
        parts = {
            "chosen": parts_from_json(content["chosen"]),
            "candidates": [Candidate(**one) for one in content["candidates"]],
            "nearest": [Nearest(**one) for one in content["nearest"]],
        }
        return cls(**{**content, **parts})


def parts_from_json(chosen: Mapping[str, list[dict[str, Any]]]) -> dict[str, list[Part]]:
    """By method, the source prompts that it took."""
    return {method: [Part(**part) for part in parts] for method, parts in chosen.items()}


def read_record(path: pathlib.Path) -> TargetRecord:
    """The record in a file.

    Raises:
      UserError: the file is not what was written.
      ValueError, KeyError, TypeError: it is no record of this version.
    """
    return TargetRecord.from_json(checksums.read_json(path, "evaluate the task again"))


def chosen(outcome: Outcome, entries: Sequence[Entry]) -> dict[str, list[Part]]:
    """By method, the source prompts that it took."""

    def parts(mixture: Mixture) -> list[Part]:
        return [Part(entries[owner].name, weight) for owner, weight in mixture]

    by_method = {method: parts(mixture) for method, mixture in outcome.mixtures.items()}
    if outcome.owners_B is not None:
        rows = collections.Counter(outcome.owners_B.tolist()).most_common()
        by_method["per_query"] = [Part(entries[owner].name, rows=count) for owner, count in rows]
    return by_method


def candidates(outcome: Outcome, entries: Sequence[Entry], choices: int) -> list[Candidate]:
    """Every source prompt with votes; `choices` is the largest number of answer choices of a query."""
    weights = {method: dict(mixture) for method, mixture in outcome.mixtures.items() if method != "oracle"}
    votes, first = outcome.votes, outcome.candidates
    listed = []
    for place, owner in enumerate(votes.owners.tolist()):
        entry, count, measured = entries[owner], int(votes.frequencies[place]), place < len(first.scores)
        listed.append(
            Candidate(
                owner=owner,
                name=entry.name,
                dataset=entry.dataset,
                template=entry.template,
                family=entry.family,
                answer_format=entry.answer_format,
                votes=count,
                similarity=votes.similarities[place] / count,
                answers=answer_counts(first.answers_NQ[place], choices).tolist() if measured else None,
                variance=first.variances[place] if measured else None,
                score=first.scores[place] if measured else None,
                weights={method: by_owner[owner] for method, by_owner in weights.items() if owner in by_owner},
            )
        )
    return listed


def answer_counts(answers_Q: np.ndarray, choices: int) -> np.ndarray:
    """How many queries chose each answer, [choices]; those without an answer are not counted."""
    return np.bincount(answers_Q[answers_Q != metrics.NO_ANSWER], minlength=choices)
