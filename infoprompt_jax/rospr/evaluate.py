"""The job `rospr_eval`: zero-shot evaluation of unseen tasks with prompts from a Source Prompt Library.

Every evaluation task (`evaluation_tasks`) is scored with every method of `rospr.methods` (`zero_shot`). Its record
(`records`) is one file; a task whose file exists is not evaluated again. Results, tables, plots and a page come last.

config.json  targets/<task>.json  targets/<task>.safetensors (with the oracle: every source prompt's answers)
results.json  results.md  results.png  analysis.png  report.html  summary.json
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from infoprompt_jax import checksums, files, foreign, hosts
from infoprompt_jax.data import p3, row_warnings
from infoprompt_jax.data.families import answer_format, family, same_choices
from infoprompt_jax.data.selection import Skipped
from infoprompt_jax.errors import Stopped, UserError
from infoprompt_jax.evaluation import metrics
from infoprompt_jax.evaluation.predictions import Predictor
from infoprompt_jax.files import whole
from infoprompt_jax.reports.illustrations import beside_results
from infoprompt_jax.rospr import (
    analysis,
    library_manifest,
    opened,
    page,
    plots,
    records,
    results,
    retrieval,
    source_keys,
    tables,
)
from infoprompt_jax.rospr.evaluation_tasks import EvaluationTask, find, rows_fingerprint
from infoprompt_jax.rospr.library import FIELD
from infoprompt_jax.rospr.records import Nearest, TargetRecord
from infoprompt_jax.rospr.results import LibrarySize, Results, SkippedTask
from infoprompt_jax.rospr.zero_shot import METHODS, Instances, Outcome, ZeroShot
from infoprompt_jax.training import sources
from infoprompt_jax.training.experiment import configured_backbone, configured_mesh
from infoprompt_jax.training.interrupt import Interrupt
from infoprompt_jax.training.tokenized_splits import TokenizedSplits
from infoprompt_jax.training.workdir import Workdir, finish

AGAIN = "the task is evaluated again"
NEAREST = 3  # instances of the winner that a record shows

log = logging.getLogger(__name__)


def evaluate(config: ml_collections.ConfigDict, workdir: str | os.PathLike[str]) -> dict[str, Any]:
    """Evaluates every task that the config names, into `workdir`; the summary, also of a run finished before.

    Raises:
      UserError: an evaluation task, the library, the backbone, the retriever or the workdir do not fit.
      Stopped: the process received a stop signal; finished tasks are kept.
    """
    directory = Workdir(workdir, config)
    if (summary := directory.finished()) is not None:
        hosts.decided(lambda: check_library_of(summary, directory, config.rospr.library))
        sources.warn(directory.path, summary, lambda: rows_fingerprint(config, find(config)[0]))
        return summary
    check_methods(config)
    tasks, skipped = hosts.together(lambda: find(config))
    hosts.check_same("The evaluation tasks", [task.name for task in tasks])
    for one in skipped:
        log.info("%s is skipped: %s", one.name, one.reason)
    of_sources = hosts.decided(lambda: rows_fingerprint(config, tasks))
    evaluation = Evaluation(config, directory.path / "targets")
    for task in tasks:  # before the directory is claimed, so that a corrected config can use it
        evaluation.excluded(task)
        if task.requested:
            hosts.together(functools.partial(evaluation.instances, task))
    with directory.claim():
        done, unfit = evaluate_all(evaluation, tasks)
        return hosts.decided(lambda: conclude(directory.path, evaluation, done, [*skipped, *unfit], of_sources))


def evaluate_all(evaluation: Evaluation, tasks: Sequence[EvaluationTask]) -> tuple[list[TargetRecord], list[Skipped]]:
    """The records of the evaluation tasks, and the tasks that cannot be read.

    Raises:
      UserError: a task that was requested by its own name cannot be read, or none can.
    """
    done, unfit = [], []
    with Interrupt() as evaluation.interrupt:
        for number, task in enumerate(tasks):
            try:
                evaluated, queries = hosts.together(functools.partial(evaluation.instances, task))
            except UserError as error:
                if task.requested:
                    raise
                unfit.append(Skipped(task.dataset, task.task.template.name, str(error)))
                log.info("%s is skipped: %s", task.name, error)
                continue
            done.append(evaluation.evaluate(task, evaluated, queries))
            shown = ", ".join(f"{method} {score:.4f}" for method, score in done[-1].scores.items())
            log.info("%d/%d %s: %s", number + 1, len(tasks), task.name, shown)
    if not done:
        name = evaluation.config.task.name
        raise UserError(f"No evaluation task of task.name={name!r} can be read: {unfit[-1].reason}")
    return done, unfit


def conclude(
    directory: pathlib.Path,
    evaluation: Evaluation,
    done: Sequence[TargetRecord],
    skipped: Sequence[Skipped],
    of_sources: str,
) -> dict[str, Any]:
    """Writes the results with their tables, plots and page; the summary, with the fingerprint of the rows it is of."""
    config, library = evaluation.config, evaluation.library
    size = LibrarySize(str(library.path), len(library), len(library.owners_K))
    missing = [SkippedTask(one.name, one.reason) for one in skipped]
    of_run = Results.of(done, missing, size, {"retrieval": analysis.vote_shares(done)})
    # Before the analysis, which takes time and memory of its own: the scores are there even if it fails.
    checksums.write_json(directory / results.NAME, of_run.to_json())
    analysed = analysis.analyse(done, evaluation.directory, library, config.rospr, config.seed)
    of_run = dataclasses.replace(of_run, analysis=analysed)
    checksums.write_json(directory / results.NAME, of_run.to_json())
    with whole(directory / "results.md") as partial:
        partial.write_text(tables.page(of_run), encoding="utf-8")
    metric = ", ".join(sorted({dataset.metric.replace("_", " ") for dataset in of_run.datasets.values()}))
    scores = {name: dataset.scores for name, dataset in of_run.datasets.items()}
    with beside_results(directory / "results.png"):
        plots.plot_methods(directory / "results.png", scores, metric)
    with beside_results(directory / "analysis.png"):
        plots.heat_map(directory / "analysis.png", of_run.analysis["retrieval"])
    with beside_results(directory / page.NAME):
        page.write(directory / page.NAME, library, of_run, done)
    model = evaluation.backbone
    about = {
        "backbone": model.name,
        "weights": model.config.weights,
        "fingerprints": evaluation.made_by | {"sources": of_sources},
    }
    summary = of_run.summary() | about
    finish(directory, summary)
    return summary


def check_library_of(summary: Mapping[str, Any], directory: Workdir, path: str) -> None:
    """Raises UserError where a finished run used another library than the path holds.

    The same one may have moved; it may be gone from where it was.
    """
    before = checksums.read_json(directory.path / "config.json", "choose another --workdir")
    if path == before["rospr"]["library"] and not files.path(path).exists():
        return
    _, digest = library_manifest.read(files.path(path), FIELD)
    if digest[:16] != (used := summary["fingerprints"]["library"]):
        raise UserError(
            f"The workdir {directory.path} holds a run with the library of fingerprint {used}, but that of "
            f"{FIELD}={path!r} is {digest[:16]}: choose another --workdir, or the same library."
        )


def check_methods(config: ml_collections.ConfigDict) -> None:
    """Raises UserError unless `rospr.methods` and `rospr.library` are set."""
    if not config.rospr.methods:
        raise UserError(f"rospr.methods is empty: choose from {', '.join(METHODS)}.")
    if not config.rospr.library:
        raise UserError(f"{FIELD} is empty: give it the directory of a library, as job=rospr_sources makes one.")


def check_made_by(path: pathlib.Path, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raises UserError if the fingerprints that a record was made from are not today's."""
    for what, fingerprint in now.items():
        if before.get(what) != fingerprint:
            raise UserError(
                f"{path} was made when the fingerprint of the {what} was {before.get(what)}, but it is {fingerprint} "
                "now: choose another --workdir."
            )


def readable(path: pathlib.Path, read: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
    """What `read` returns; None, with a warning, where it cannot read the file."""
    try:
        with foreign.reading(str(path), AGAIN):
            return read()
    except UserError as error:
        log.warning("%s", error)
        return None


def check_table(path: pathlib.Path, digest: str) -> None:
    """Raises UserError unless the file with all source prompts' answers is the one that a record names.

    Records of former versions name none.
    """
    analysis.read_table(path)
    if digest and checksums.of_file(path) != digest:
        raise checksums.DamagedError(f"{path} is not what was written, as its checksum differs: {AGAIN}.")


class Evaluation:
    """What all evaluation tasks share: the models, the library, tokenised rows, and where the results go."""

    def __init__(self, config: ml_collections.ConfigDict, directory: pathlib.Path) -> None:
        """Raises UserError unless the library is whole, made with this backbone and retriever, and fits `rospr`."""
        self.config, self.directory = config, directory
        mesh = configured_mesh(config)
        self.library = opened.open_library(config, mesh)
        self.backbone = configured_backbone(config, mesh)
        self.retriever = opened.load_retriever(config, self.library, self.backbone)
        self.interrupt = Interrupt()
        predictor = Predictor(
            self.backbone.tokenizer,
            config.train.eval_batch_size,
            config.data.buckets,
            config.data.max_input_length,
            config.scoring.normalize,
            before_batch=self.heed,
        )
        self.zero_shot = ZeroShot(self.library, self.retriever, self.backbone, predictor, config.rospr)
        self.tokenized = TokenizedSplits(config, self.backbone)
        same = self.retriever is self.backbone
        self.retriever_tokenized = self.tokenized if same else TokenizedSplits(config, self.retriever)
        self.made_by = {
            "library": self.library.fingerprint,
            "backbone": self.backbone.fingerprint,
            "retriever": self.retriever.fingerprint,
        }

    def heed(self) -> None:
        """Raises Stopped, between two batches, if the process received a stop signal."""
        if self.interrupt.requested():
            raise Stopped("Stopped; the evaluation tasks that are finished are kept, and the same command resumes.")

    def evaluate(self, task: EvaluationTask, evaluated: Instances, queries: Instances) -> TargetRecord:
        """The task's record, read from its file where an earlier run wrote it; the first process reads and writes."""
        path = self.directory / f"{task.file}.json"
        made_by = self.made_by | {"rows": evaluated.rows.fingerprint, "queries": queries.rows.fingerprint}
        hosts.check_same(f"The rows of {task.name}, or the library,", made_by)
        if (kept := hosts.decided(lambda: self.kept(path, made_by))) is not None:
            return TargetRecord.from_json(kept)
        row_warnings.warn_of_limit(evaluated.rows, self.config.task.eval_limit)
        metric = metrics.find_metric(task.task.metric)
        outcome = self.zero_shot.evaluate(evaluated, queries, metric, self.excluded(task))
        scores = {m: metric(outcome.predictions[m], evaluated.labels) for m in self.config.rospr.methods}
        record = self.record(task, evaluated, queries, outcome, scores, made_by)

        def write() -> dict[str, Any]:
            table = ""
            if outcome.table_MB is not None:
                self.save_table(path.with_suffix(".safetensors"), outcome, evaluated, queries)
                table = checksums.of_file(path.with_suffix(".safetensors"))
            # Last: a task is finished when this file is there.
            checksums.write_json(path, dataclasses.replace(record, table=table).to_json())
            return records.read_record(path).to_json()

        return TargetRecord.from_json(hosts.decided(write))

    def excluded(self, task: EvaluationTask) -> list[int]:
        """The source prompts trained on the task's own data set: a task is unseen only without them.

        Raises UserError where the library holds no others.
        """
        names = p3.aliases(task.dataset) | p3.aliases(task.task.name)
        excluded = [owner for owner, entry in enumerate(self.library.entries) if entry.dataset in names]
        if len(excluded) == len(self.library):
            raise UserError(
                f"All source prompts of {FIELD}={str(self.library.path)!r} were trained on {task.dataset}, the "
                "data set to evaluate: choose other data sets in task.name, or another library."
            )
        return excluded

    def kept(self, path: pathlib.Path, made_by: Mapping[str, str]) -> dict[str, Any] | None:
        """The record of an earlier run, as JSON; None where there is none, or its files cannot be read.

        Raises UserError where it was made from something else.
        """
        if not path.exists():
            return None
        content = readable(path, lambda: checksums.read_json(path, AGAIN))
        if content is None:
            return None
        # First: another version may have other fields.
        check_made_by(path, dict(content.get("made_by", {})), made_by)

        def record() -> dict[str, Any]:
            table = TargetRecord.from_json(content).table
            if "oracle" in self.config.rospr.methods:
                check_table(path.with_suffix(".safetensors"), table)
            return content

        return readable(path, record)

    def instances(self, task: EvaluationTask) -> tuple[Instances, Instances]:
        """The rows to evaluate, and the queries, drawn by the run's seed; read and tokenised once.

        They are the same for all templates of a data set that apply to the same number of its rows. Raises UserError
        where they cannot be read.
        """
        query_split = self.config.rospr.query_split or task.split
        rows, queries = (self.tokenized.rows(task.task, split) for split in (task.split, query_split))
        evaluated = np.arange(len(rows))[: self.config.task.eval_limit or None]
        drawn = np.random.default_rng(self.config.seed).permutation(len(queries))[: self.config.rospr.queries]
        return (
            Instances(rows, self.retriever_tokenized.rows(task.task, task.split), evaluated),
            Instances(queries, self.retriever_tokenized.rows(task.task, query_split), np.sort(drawn)),
        )

    def record(
        self,
        task: EvaluationTask,
        evaluated: Instances,
        queries: Instances,
        outcome: Outcome,
        scores: dict[str, float],
        made_by: dict[str, str],
    ) -> TargetRecord:
        """The record of an evaluated task: its scores, the prompts that each method took, and what explains them.

        Args:
          outcome: the predictions of every method, with the retrieval behind them.
          scores: by method, the task's metric over the evaluated rows.
          made_by: fingerprints of the library, the backbone, the retriever, the rows and the queries.
        """
        entries = self.library.entries
        choices = same_choices(task.task.choices, evaluated.rows, self.backbone.tokenizer)
        return TargetRecord(
            target=task.name,
            file=task.file,
            dataset=task.dataset,
            task=task.task.name,
            template=task.task.template.name,
            split=task.split,
            family=family(task.task.name),
            answer_format=answer_format(choices),
            beyond_t0=task.beyond_t0,
            metric=task.task.metric,
            rows=len(evaluated.numbers),
            cut_inputs_of_split=evaluated.rows.truncated_inputs,
            query_split=self.config.rospr.query_split or task.split,
            query_rows=queries.numbers.tolist(),
            made_by=made_by,
            left_out=self.excluded(task),
            scores=scores,
            chosen=records.chosen(outcome, entries),
            candidates=records.candidates(outcome, entries, queries.rows.max_choices),
            nearest=self.nearest(outcome, queries),
        )

    def nearest(self, outcome: Outcome, queries: Instances) -> list[Nearest]:
        """The instances of the most voted for that were most similar to queries, and these queries, as text."""
        shown = []
        for key, query, similarity in retrieval.nearest(outcome.hits, int(outcome.votes.owners[0]), NEAREST):
            row = int(queries.numbers[query])
            text = source_keys.text(self.retriever, queries.retriever_rows, row)
            shown.append(Nearest(key, self.library.text(key), similarity, row, text))
        return shown

    @staticmethod
    def save_table(path: pathlib.Path, outcome: Outcome, evaluated: Instances, queries: Instances) -> None:
        """Writes what `analysis.read_table` reads, for the oracle and the analysis, as one safetensors file.

        It holds the answers of every source prompt [M, B], the labels [B], the query rows [Q] and their keys [Q, R].
        """
        from safetensors.numpy import save_file

        tensors = {
            "predictions": outcome.table_MB,
            "labels": evaluated.labels,
            "query_rows": queries.numbers,
            "query_keys": outcome.query_keys_QR,
        }
        with whole(path) as partial:
            save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, partial)
