"""The result of a seed of `real_rospr`: what its tables need, from the finished evaluations and their library.

An evaluation keeps every source prompt's answers to every row. With them, the accuracy of any other choice is looked
up: of the source prompt that a bag of words finds (`word_retrieval`), and of one that is drawn at random.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.p3_rows import NEAR
from experiments.word_retrieval import WordLibrary
from infoprompt_jax.command_line import read_config
from infoprompt_jax.evaluation import metrics
from infoprompt_jax.rospr import analysis, evaluation_tasks, relations, retrieval, source_keys
from infoprompt_jax.rospr.evaluate import Evaluation
from infoprompt_jax.rospr.library import PromptLibrary
from infoprompt_jax.rospr.library_files import Entry
from infoprompt_jax.rospr.records import TargetRecord, read_record
from infoprompt_jax.rospr.results import NAME
from infoprompt_jax.rospr.zero_shot import Instances

RETRIEVERS = ("encoder", "words")


class Measured(NamedTuple):
    """An evaluation task: its record, the accuracy of each source prompt, and the votes by retriever."""

    record: TargetRecord
    quality_M: np.ndarray
    votes: dict[str, retrieval.Votes]
    words_per_query: float  # accuracy, each row with the winner of its own hits


def extract(workdir: pathlib.Path, groups: Sequence[str], rows: pathlib.Path) -> dict[str, Any]:
    """The result of a seed, whose evaluations are in `workdir/<group>`; `rows` has the facts on the source tasks."""
    facts = json.loads((rows / "facts.json").read_text())
    library = PromptLibrary.load(workdir / "sources" / "library")
    entries = with_formats(library.entries, facts["sources"])
    words = WordLibrary(library)
    result: dict[str, Any] = {"sources": len(library), "keys": len(library.owners_K), "groups": {}}
    missing = dict(facts["missing"])
    for group in groups:
        measured = measure(workdir / group, words)
        skipped = json.loads((workdir / group / NAME).read_text())["skipped"]
        if group == "BIG-bench":
            missing |= {one["name"]: one["reason"] for one in skipped}
        result["groups"][group] = {
            "tasks": [task(one, entries) for one in measured],
            "relations": {retriever: pooled(measured, entries, retriever) for retriever in RETRIEVERS},
            "by_task": relations.by_task([m.record for m in measured], [m.quality_M for m in measured], entries),
        }
    return result | {"missing": missing}


def with_formats(entries: Sequence[Entry], facts: Mapping[str, Mapping[str, Any]]) -> list[Entry]:
    """The library's entries with the answer formats of promptsource's templates."""
    return [dataclasses.replace(one, answer_format=facts[one.name]["answer_format"]) for one in entries]


def measure(workdir: pathlib.Path, words: WordLibrary) -> list[Measured]:
    """The evaluation tasks of a finished evaluation."""
    config = read_config(str(workdir / "config.json"))
    evaluation = Evaluation(config, workdir / "targets")
    tasks, _ = evaluation_tasks.find(config)
    made = []
    for one in tasks:
        path = workdir / "targets" / f"{one.file}.json"
        if path.exists():
            evaluated, queries = evaluation.instances(one)
            texts = texts_of(evaluation, queries), texts_of(evaluation, evaluated)
            made.append(measured(read_record(path), path.with_suffix(".safetensors"), words, texts, config.rospr.top))
    return made


def texts_of(evaluation: Evaluation, instances: Instances) -> np.ndarray:
    """The instances as the retriever reads them."""
    rows = instances.retriever_rows
    return np.array([source_keys.text(evaluation.retriever, rows, int(n)) for n in instances.numbers], object)


def measured(
    record: TargetRecord, table: pathlib.Path, words: WordLibrary, texts: tuple[np.ndarray, np.ndarray], top: int
) -> Measured:
    """An evaluation task, with the votes of both retrievers; `texts` are of its queries and of its rows."""
    queries, rows = texts
    if record.dataset in NEAR:
        record = dataclasses.replace(record, family=NEAR[record.dataset][1])
    content = analysis.read_table(table)
    metric = metrics.find_metric(record.metric)
    quality_M = np.array([metric(answers_B, content["labels"]) for answers_B in content["predictions"]])
    by_words = retrieval.votes(retrieval.search(words, queries, top, record.left_out))
    owners_B = retrieval.per_query(retrieval.search(words, rows, top, record.left_out))
    of_rows_B = content["predictions"][owners_B, np.arange(len(owners_B))]
    votes = {"encoder": votes_of(record), "words": by_words}
    return Measured(record, quality_M, votes, float(metric(of_rows_B, content["labels"])))


def votes_of(record: TargetRecord) -> retrieval.Votes:
    """The votes that a record lists."""
    owners, frequencies = zip(*((one.owner, one.votes) for one in record.candidates), strict=True)
    similarities = [(one.similarity or 0.0) * one.votes for one in record.candidates]
    return retrieval.Votes(np.array(owners, np.int32), np.array(frequencies), np.array(similarities))


def task(one: Measured, entries: Sequence[Entry]) -> dict[str, Any]:
    """An evaluation task's accuracies and what its votes fell on.

    `shares` are of votes by retriever, and under `random` of the source prompts that may get votes.
    """
    record = one.record
    offered = np.setdiff1d(np.arange(len(entries)), record.left_out)
    scores = {
        **record.scores,
        "words": float(one.quality_M[one.votes["words"].owners[0]]),
        "words_per_query": one.words_per_query,
        "random": float(one.quality_M[offered].mean()),
    }
    traits: dict[str, Callable[[int], bool]] = {
        "answer_format": lambda owner: entries[owner].answer_format == record.answer_format,
        **({"family": lambda owner: entries[owner].family == record.family} if record.family else {}),
    }
    weights = {name: (votes.owners, votes.frequencies) for name, votes in one.votes.items()}
    weights["random"] = offered, np.ones(len(offered))
    shares = {
        name: {
            trait: float(np.average([same(owner) for owner in owners], weights=counts))
            for trait, same in traits.items()
        }
        for name, (owners, counts) in weights.items()
    }
    winners = {name: entries[votes.owners[0]].name for name, votes in one.votes.items()}
    about = {"dataset": record.dataset, "template": record.template, "family": record.family, "rows": record.rows}
    return about | {"answer_format": record.answer_format, "scores": scores, "shares": shares, "winners": winners}


def pooled(measured: Sequence[Measured], entries: Sequence[Entry], retriever: str) -> dict[str, Any]:
    """`relations.pooled` of tasks of known families, with the winner of this retriever."""
    known = [one for one in measured if one.record.family]
    records = [led_by(one.record, int(one.votes[retriever].owners[0])) for one in known]
    tables, _ = relations.pooled(records, [one.quality_M for one in known], entries)
    return tables


def led_by(record: TargetRecord, owner: int) -> TargetRecord:
    """The record with another winner, of which only the number is read."""
    winner = dataclasses.replace(record.candidates[0], owner=owner)
    return dataclasses.replace(record, candidates=[winner, *record.candidates[1:]])
