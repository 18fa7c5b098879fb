"""What decides how well retrieval does: library, instances, queries, hits (RoSPr, analysis).

It is computed in NumPy from the evaluation tasks' tables, which hold every source prompt's answers to every row; they
are written when `rospr.methods` has the oracle. The quality of any other choice is then looked up. Without tables only
the shares of votes are known.

Averages are over a data set's templates first and then over data sets. Answer format and family are in `relations`.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from infoprompt_jax import files, foreign
from infoprompt_jax.evaluation import metrics
from infoprompt_jax.progress import watched
from infoprompt_jax.rospr import relations, retrieval, search
from infoprompt_jax.rospr.library import PromptLibrary
from infoprompt_jax.rospr.records import TargetRecord
from infoprompt_jax.rospr.retrieval import Hits

SEEDS = 5  # random subsets of everything that is varied
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128)  # instances, queries, hits and source prompts; the run's own number comes last


@dataclasses.dataclass(frozen=True, eq=False)
class Searched:
    """One evaluation task: all keys by similarity to each query, and the quality of every source prompt."""

    dataset: str
    order_QK: np.ndarray  # key numbers, the most similar first; of equal ones the lower number
    scores_QK: np.ndarray  # similarities in this order
    quality_M: np.ndarray  # the task's metric with each source prompt
    left_out: Sequence[int]  # source prompts of the task's own data set

    def top1(self, owners_K: np.ndarray, kept_K: np.ndarray, queries: np.ndarray, top: int) -> float:
        """The metric with the most voted for, had there only been the keys `kept_K` and these queries."""
        order_QK = self.order_QK[queries]
        kept_QK = kept_K[order_QK]
        top = min(top, int(kept_K.sum()))
        hit_QK = kept_QK & (np.cumsum(kept_QK, axis=1) <= top)
        keys_QN = order_QK[hit_QK].reshape(len(queries), top)
        scores_QN = self.scores_QK[queries][hit_QK].reshape(len(queries), top)
        return float(self.quality_M[retrieval.votes(Hits(scores_QN, owners_K[keys_QN], keys_QN)).owners[0]])


def analyse(
    records: Sequence[TargetRecord],
    directory: pathlib.Path,
    library: PromptLibrary,
    settings: ml_collections.ConfigDict,
    seed: int,
) -> dict[str, Any]:
    """All tables: `retrieval`, and with the oracle's files `varied` and those on what is in common with a task.

    These are `relations` (with `unknown_family`) over all pairs, `by_task` and `contrasts` within each task.

    Args:
      records: of the evaluation tasks.
      directory: of the records' files and tables.
      settings: `config.rospr` of the run.
      seed: of the random subsets.
    """
    tables: dict[str, Any] = {"retrieval": vote_shares(records)}
    paths = {record.target: directory / f"{record.file}.safetensors" for record in records}
    if not all(path.exists() for path in paths.values()):
        return tables
    similarity = library.manifest.similarity
    keys_KR = search.comparable(library.keys_KR, similarity)
    searched = [
        _searched(record, paths[record.target], keys_KR, similarity)
        for record in watched(records, "Analysis, evaluation tasks", len(records))
    ]
    if all("none" in record.scores for record in records):
        qualities = [one.quality_M for one in searched]
        tables["relations"], tables["unknown_family"] = relations.pooled(records, qualities, library.entries)
        tables["by_task"] = relations.by_task(records, qualities, library.entries)
        tables["contrasts"] = relations.contrasts(tables["by_task"])
    tables["varied"] = varied(searched, library.owners_K, settings.top, seed)
    return tables


def read_table(path: pathlib.Path) -> dict[str, np.ndarray]:
    """A task's table: answers [M, B] of every source prompt, labels, query rows and query keys.

    Raises:
      UserError: it is damaged, or not there.
    """
    from safetensors.numpy import load_file

    with foreign.reading(str(path), "evaluate the task again"):
        return load_file(files.local(path))


def _searched(record: TargetRecord, path: pathlib.Path, keys_KR: np.ndarray, similarity: str) -> Searched:
    table = read_table(path)
    queries_QR = search.comparable(table["query_keys"], similarity)
    scores_QK = queries_QR @ keys_KR.T
    order_QK = np.argsort(-scores_QK, axis=1, kind="stable").astype(np.int32)
    metric = metrics.find_metric(record.metric)
    quality_M = np.array([metric(answers_B, table["labels"]) for answers_B in table["predictions"]])
    scores_QK = np.take_along_axis(scores_QK, order_QK, axis=1)
    return Searched(record.dataset, order_QK, scores_QK, quality_M, record.left_out)


def vote_shares(records: Sequence[TargetRecord]) -> dict[str, Any]:
    """`share[i][j]`: which part of the votes of evaluated data set j fell on source data set i; columns sum to 1."""
    targets = list(dict.fromkeys(record.dataset for record in records))
    sources = sorted({candidate.dataset for record in records for candidate in record.candidates})
    share = np.zeros((len(sources), len(targets)))
    for record in records:
        total = sum(candidate.votes for candidate in record.candidates)
        templates = sum(other.dataset == record.dataset for other in records)
        for candidate in record.candidates:
            place = sources.index(candidate.dataset), targets.index(record.dataset)
            share[place] += candidate.votes / total / templates
    return {"sources": sources, "targets": targets, "share": share.tolist()}


def varied(searched: Sequence[Searched], owners_K: np.ndarray, top: int, seed: int) -> dict[str, list[dict]]:
    """The quality of the most voted for against `instances` a source prompt, `queries`, hits (`top`), `prompts`.

    One of them is varied, the others are as in the run. Each row has the `value`, the `mean` over random subsets (all
    data sets count the same) and their `spread`, the standard deviation over subsets. Hits are not drawn and have no
    spread.
    """
    most_instances = int(np.bincount(owners_K).max())
    queries = max(len(one.order_QK) for one in searched)
    prompts = int(owners_K.max()) + 1

    def row(value: int, draws: int, **changed: int) -> dict[str, float]:
        means = []
        for draw in range(draws):
            setting = {"instances": most_instances, "queries": queries, "top": top, "prompts": prompts} | changed
            means.append(_mean_over_datasets(searched, owners_K, setting, [seed, draw]))
        spread = float(np.std(means, ddof=1)) if len(means) > 1 else 0.0
        return {"value": value, "mean": float(np.mean(means)), "spread": spread}

    tables = {}
    for name, most in {"instances": most_instances, "queries": queries, "prompts": prompts}.items():
        tables[name] = [row(value, SEEDS if value < most else 1, **{name: value}) for value in _counts(most)]
    tables["top"] = [row(value, 1, top=value) for value in sorted({*_counts(min(max(COUNTS), len(owners_K))), top})]
    return tables


def _counts(most: int) -> list[int]:
    return [*(count for count in COUNTS if count < most), most]


def kept_keys(
    owners_K: np.ndarray, prompts: int, instances: int, left_out: Sequence[int], generator: np.random.Generator
) -> np.ndarray:
    """A mask [K] of random keys: `instances` of each of `prompts` source prompts, all where it has fewer."""
    order = generator.permutation(len(owners_K))
    by_owner = order[np.argsort(owners_K[order], kind="stable")]
    counts = np.bincount(owners_K)
    rank = np.empty(len(owners_K), np.int64)  # how many keys of the same owner come before, in this order
    rank[by_owner] = np.arange(len(owners_K)) - np.repeat(np.cumsum(counts) - counts, counts)
    drawn = generator.permutation(int(owners_K.max()) + 1)
    chosen = drawn[~np.isin(drawn, left_out)][:prompts]
    return (rank < instances) & np.isin(owners_K, chosen)


def _mean_over_datasets(
    searched: Sequence[Searched],
    owners_K: np.ndarray,
    setting: Mapping[str, int],
    seed: Sequence[int],
) -> float:
    by_dataset: dict[str, list[float]] = {}
    for one in searched:
        generator = np.random.default_rng(seed)  # the same keys and queries for every task, but for excluded keys
        kept_K = kept_keys(owners_K, setting["prompts"], setting["instances"], one.left_out, generator)
        queries = generator.permutation(len(one.order_QK))[: setting["queries"]]
        by_dataset.setdefault(one.dataset, []).append(one.top1(owners_K, kept_K, queries, setting["top"]))
    return float(np.mean([np.mean(values) for values in by_dataset.values()]))
