"""The job `rospr_eval`: unseen tasks with prompts from a Source Prompt Library, by rank classification, untrained.

Every target (`rospr_targets`) is evaluated with every method of `rospr.methods` (`zero_shot`) and written as one file,
with all that explains the choice: candidates with votes, similarity, variance, score and weights, and the instances
that the winner was found by. A target whose file is there is not evaluated again.

config.json  targets/<target>.json  targets/<target>.safetensors (with the oracle: every source prompt's answers)
results.json  results.md  results.png  analysis.png  report.html  summary.json
"""

from __future__ import annotations

import collections
import json
import logging
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np
from jax.sharding import Mesh

from infoprompt_jax import files
from infoprompt_jax.data import p3
from infoprompt_jax.data.families import answer_format, family, same_choices
from infoprompt_jax.data.selection import Skipped
from infoprompt_jax.errors import Stopped, UserError
from infoprompt_jax.evaluation import metrics
from infoprompt_jax.evaluation.predictions import Predictor
from infoprompt_jax.files import whole
from infoprompt_jax.rospr import analysis as rospr_analysis
from infoprompt_jax.rospr import keys, page, source_keys
from infoprompt_jax.rospr import results as rospr_report
from infoprompt_jax.rospr import retrieval as rospr
from infoprompt_jax.rospr import targets as rospr_targets
from infoprompt_jax.rospr.library import FIELD, PromptLibrary
from infoprompt_jax.rospr.library_files import read_manifest
from infoprompt_jax.rospr.targets import Target
from infoprompt_jax.rospr.zero_shot import METHODS, Instances, Mixture, Outcome, ZeroShot
from infoprompt_jax.t5 import partition
from infoprompt_jax.t5.backbone import Backbone
from infoprompt_jax.training.experiment import TokenizedSplits, own_backbone
from infoprompt_jax.training.train import Interrupt
from infoprompt_jax.training.workdir import Workdir

NEAREST = 3  # instances that are shown of the winner

log = logging.getLogger(__name__)


def evaluate(config: ml_collections.ConfigDict, workdir: str | os.PathLike[str]) -> dict[str, Any]:
    """Evaluates all targets that the config names, into `workdir`; the summary, also of a run finished before.

    Raises:
      UserError: a target, the library, the backbone, the retriever or the workdir do not fit.
      Stopped: the process was told to stop; finished targets are kept.
    """
    directory = Workdir(workdir, config)
    if (summary := directory.finished()) is not None:
        check_library_of(summary, directory, config.rospr.library)
        return summary
    check_methods(config)
    targets, skipped = rospr_targets.find(config)
    for one in skipped:
        log.info("%s is skipped: %s", one.name, one.reason)
    evaluation = Evaluation(config, directory.path / "targets")
    for target in targets:  # before the directory is claimed, so that the mended config may have it
        evaluation.own_prompts(target)
        if target.requested:
            evaluation.instances(target)
    with directory.claim():
        records, unfit = evaluate_all(evaluation, targets)
        return conclude(directory.path, evaluation, records, [*skipped, *unfit])


def evaluate_all(evaluation: Evaluation, targets: Sequence[Target]) -> tuple[list[dict[str, Any]], list[Skipped]]:
    """The records of the targets, and which of them cannot be read.

    Raises UserError for one of these that was asked for by its own name, and where none is left.
    """
    records, unfit = [], []
    with Interrupt() as evaluation.interrupt:
        for number, target in enumerate(targets):
            try:
                evaluated, queries = evaluation.instances(target)
            except UserError as error:
                if target.requested:
                    raise
                unfit.append(Skipped(target.dataset, target.task.template.name, str(error)))
                log.info("%s is skipped: %s", target.name, error)
                continue
            records.append(evaluation.evaluate(target, evaluated, queries))
            shown = ", ".join(f"{method} {score:.4f}" for method, score in records[-1]["scores"].items())
            log.info("%d/%d %s: %s", number + 1, len(targets), target.name, shown)
    if not records:
        name = evaluation.config.task.name
        raise UserError(f"No target of task.name={name!r} can be evaluated: {unfit[-1].reason}")
    return records, unfit


def conclude(
    directory: pathlib.Path, evaluation: Evaluation, records: Sequence[dict[str, Any]], skipped: Sequence[Skipped]
) -> dict[str, Any]:
    """Writes the results and all that shows them; the summary."""
    # Before the analysis, which takes time and memory of its own: the scores are there whatever becomes of it.
    retrieval = {"retrieval": rospr_analysis.retrieval(records)}
    config, library = evaluation.config, evaluation.library
    about = {"path": str(library.path), "prompts": len(library), "keys": len(library.owners_K)}
    files.write_json(directory / "results.json", rospr_report.results(records, skipped, retrieval, about))
    analysis = rospr_analysis.analyse(records, evaluation.directory, library, config.rospr, config.seed)
    results = rospr_report.results(records, skipped, analysis, about)
    rospr_report.write(directory, results)
    page.write(directory / page.NAME, library, results, records)
    summary = rospr_report.summary(results) | {"backbone": evaluation.backbone.name, "fingerprints": evaluation.made_by}
    files.write_json(directory / "summary.json", summary)
    return summary


def check_library_of(summary: Mapping[str, Any], directory: Workdir, path: str) -> None:
    """Raises UserError where a finished run is asked for with the path of another library: the same may have moved."""
    before = json.loads((directory.path / "config.json").read_text(encoding="utf-8"))
    if path == before["rospr"]["library"]:
        return
    _, digest = read_manifest(pathlib.Path(path).expanduser(), FIELD)
    if digest[:16] != (used := summary["fingerprints"]["library"]):
        raise UserError(
            f"The workdir {directory.path} holds a run with the library of fingerprint {used}, but that of "
            f"{FIELD}={path!r} is {digest[:16]}: choose another --workdir, or the same library."
        )


def answered(answers_Q: np.ndarray, choices: int) -> np.ndarray:
    """How many queries chose each answer, [choices]."""
    return np.bincount(answers_Q[answers_Q != metrics.NO_ANSWER], minlength=choices)


def check_methods(config: ml_collections.ConfigDict) -> None:
    unknown = [method for method in config.rospr.methods if method not in METHODS]
    if unknown or not config.rospr.methods:
        raise UserError(f"rospr.methods={config.rospr.methods!r} was not understood: choose from {', '.join(METHODS)}.")
    if not config.rospr.library:
        raise UserError(f"{FIELD} is empty: give it the directory of a library, as job=rospr_sources makes one.")


class Evaluation:
    """All that targets share: the models, the library, tokenised rows, and where the results go."""

    def __init__(self, config: ml_collections.ConfigDict, directory: pathlib.Path) -> None:
        """Raises UserError unless the library is whole, made with this backbone and retriever, and fits `rospr`."""
        self.config, self.directory = config, directory
        mesh = partition.make_mesh(config.mesh.data, config.mesh.model)
        self.library = PromptLibrary.load(config.rospr.library, mesh)
        _check_settings(self.library, config.rospr)
        self.backbone, self.retriever = _load(config, mesh)
        _check_same(self.library, self.backbone, self.retriever)
        data = config.data
        size = config.train.eval_batch_size
        self.interrupt = Interrupt()
        predictor = Predictor(
            self.backbone.tokenizer,
            size,
            data.buckets,
            data.max_input_length,
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
        """Between two batches: raises Stopped if the process was told to stop."""
        if self.interrupt.requested:
            raise Stopped("Stopped; the targets that are finished are kept, and the same command resumes.")

    def evaluate(self, target: Target, evaluated: Instances, queries: Instances) -> dict[str, Any]:
        """The target's record, from its file where an earlier run has left it."""
        path = self.directory / f"{target.file}.json"
        made_by = self.made_by | {"rows": evaluated.rows.fingerprint, "queries": queries.rows.fingerprint}
        if (kept := self.kept(path, made_by)) is not None:
            return kept
        metric = metrics.find_metric(target.task.metric)
        left_out = self.own_prompts(target)
        outcome = self.zero_shot.evaluate(evaluated, queries, metric, left_out)
        scores = {m: metric(outcome.predictions[m], evaluated.labels) for m in self.config.rospr.methods}
        record = self.described(target, evaluated, queries)
        record |= {"made_by": made_by, "left_out": left_out, "scores": scores}
        record |= self.explained(outcome, queries)
        if outcome.table_MB is not None:
            self.save_table(self.directory / f"{target.file}.safetensors", outcome, evaluated, queries)
        files.write_json(path, record)  # last: a target is finished when this file is there
        return json.loads(path.read_text(encoding="utf-8"))

    def own_prompts(self, target: Target) -> list[int]:
        """The source prompts of the target's own data set: a task is unseen only without them.

        Raises UserError where the library holds no others.
        """
        names = p3.aliases(target.dataset) | p3.aliases(target.task.name)
        own = [owner for owner, entry in enumerate(self.library.entries) if entry.dataset in names]
        if len(own) == len(self.library):
            raise UserError(
                f"All source prompts of {FIELD}={str(self.library.path)!r} were trained on {target.dataset}, the "
                "target itself: choose other data sets in task.name, or another library."
            )
        return own

    def kept(self, path: pathlib.Path, made_by: Mapping[str, str]) -> dict[str, Any] | None:
        """What an earlier run has left; None where there is nothing, or a file that cannot be read.

        Raises UserError where it was made of something else.
        """
        if not path.exists():
            return None
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            made_before = dict(record["made_by"])
            if "oracle" in self.config.rospr.methods:
                rospr_analysis.read_table(path.with_suffix(".safetensors"))
        except (ValueError, KeyError, TypeError, OSError) as error:
            log.warning("%s or its table cannot be read (%s): the target is evaluated again.", path, error)
            return None
        for what, fingerprint in made_by.items():
            if (found := made_before.get(what)) != fingerprint:
                raise UserError(
                    f"{path} was made when the fingerprint of the {what} was {found}, but it is {fingerprint} now: "
                    "choose another --workdir."
                )
        return record

    def instances(self, target: Target) -> tuple[Instances, Instances]:
        """The rows to evaluate, and those that vote, drawn by the run's seed; read and tokenised once.

        They are the same for all hard prompts of a data set that apply to as many of its rows. Raises UserError where
        they cannot be read.
        """
        task, limit = target.task, self.config.task.eval_limit
        query_split = self.config.rospr.query_split or target.split
        rows, queries = (self.tokenized(task, split) for split in (target.split, query_split))
        drawn = np.random.default_rng(self.config.seed).permutation(len(queries))[: self.config.rospr.queries]
        return (
            Instances(rows, self.retriever_tokenized(task, target.split), np.arange(len(rows))[: limit or None]),
            Instances(queries, self.retriever_tokenized(task, query_split), np.sort(drawn)),
        )

    def described(self, target: Target, evaluated: Instances, queries: Instances) -> dict[str, Any]:
        return {
            "target": target.name,
            "file": target.file,
            "dataset": target.dataset,
            "task": target.task.name,
            "template": target.task.template.name,
            "split": target.split,
            "family": family(target.task.name),
            "answer_format": answer_format(same_choices(target.task.choices, evaluated.rows, self.backbone.tokenizer)),
            "beyond_t0": target.beyond_t0,
            "metric": target.task.metric,
            "rows": len(evaluated.numbers),
            "cut_inputs_of_split": evaluated.rows.truncated_inputs,
            "query_split": self.config.rospr.query_split or target.split,
            "query_rows": queries.numbers,
        }

    def explained(self, outcome: Outcome, queries: Instances) -> dict[str, Any]:
        """Which prompts each method has taken, every candidate's figures, and the winner's nearest instances."""
        names = [entry.name for entry in self.library.entries]

        def parts(mixture: Mixture) -> list[dict[str, Any]]:
            return [{"name": names[o], "weight": w} for o, w in zip(mixture.owners, mixture.weights, strict=True)]

        chosen: dict[str, Any] = {method: parts(mixture) for method, mixture in outcome.mixtures.items()}
        if outcome.owners_B is not None:
            rows = collections.Counter(outcome.owners_B.tolist())
            chosen["per_query"] = [{"name": names[o], "rows": count} for o, count in rows.most_common()]
        choices = queries.rows.max_choices
        candidates = [self.candidate(outcome, place, choices) for place in range(len(outcome.votes.owners))]
        return {"chosen": chosen, "candidates": candidates, "nearest": self.nearest(outcome, queries)}

    def candidate(self, outcome: Outcome, place: int, choices: int) -> dict[str, Any]:
        """`similarity` is the mean over the candidate's hits; what only the first N' have is None for the others."""
        votes, first = outcome.votes, outcome.candidates
        owner, count = int(votes.owners[place]), int(votes.frequencies[place])
        entry = self.library.entries[owner]
        weights = {m: dict(zip(x.owners, x.weights, strict=True)) for m, x in outcome.mixtures.items() if m != "oracle"}
        asked = place < len(first.scores)
        return {
            "owner": owner,
            "name": entry.name,
            "dataset": entry.dataset,
            "template": entry.template,
            "family": entry.family,
            "answer_format": entry.answer_format,
            "votes": count,
            "similarity": votes.similarities[place] / count,
            "answers": answered(first.answers_NQ[place], choices) if asked else None,
            "variance": first.variances[place] if asked else None,
            "score": first.scores[place] if asked else None,
            "weights": {method: of[owner] for method, of in weights.items() if owner in of},
        }

    def nearest(self, outcome: Outcome, queries: Instances) -> list[dict[str, Any]]:
        """The instances of the most voted for that were most similar to queries, and these queries, as text."""
        winner = int(outcome.votes.owners[0])
        shown = []
        for key, query, similarity in rospr.nearest(outcome.hits, winner, NEAREST):
            row = int(queries.numbers[query])
            text = source_keys.text(self.retriever, queries.retriever_rows, row)
            found = {"key": key, "text": self.library.text(key), "similarity": similarity}
            shown.append(found | {"query_row": row, "query": text})
        return shown

    @staticmethod
    def save_table(path: pathlib.Path, outcome: Outcome, evaluated: Instances, queries: Instances) -> None:
        from safetensors.numpy import save_file

        tensors = {
            "predictions": outcome.table_MB,
            "labels": evaluated.labels,
            "query_rows": queries.numbers,
            "query_keys": outcome.query_keys_QR,
        }
        with whole(path) as partial:
            save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, partial)


def _load(config: ml_collections.ConfigDict, mesh: Mesh) -> tuple[Backbone, Backbone]:
    """The backbone, and the retriever: the same thing where the config names no other."""
    backbone = own_backbone(config, mesh)
    return backbone, backbone if source_keys.is_own(config) else source_keys.load_retriever(config)


def _check_settings(library: PromptLibrary, settings: ml_collections.ConfigDict) -> None:
    if settings.similarity not in ("", library.manifest.similarity):
        raise UserError(
            f"rospr.similarity={settings.similarity!r} is not what the library {str(library.path)!r} was made with, "
            f"{library.manifest.similarity!r}: leave rospr.similarity empty, or choose another {FIELD}."
        )
    if not 1 <= settings.top <= len(library.owners_K):
        raise UserError(
            f"rospr.top={settings.top} is not between 1 and {len(library.owners_K)}, the number of keys of the library "
            f"{str(library.path)!r}: set rospr.top to at most that."
        )


def _check_same(library: PromptLibrary, backbone: Backbone, retriever: Backbone) -> None:
    manifest = library.manifest
    for what, field, made_with, found in (
        ("prompts", "backbone.name", manifest.backbone, keys.model(backbone)),
        ("keys", "rospr.retriever", manifest.retriever, keys.model(retriever)),
    ):
        if made_with != found:
            raise UserError(
                f"The {what} of the library {str(library.path)!r} were made with {made_with}, not with {found}: set "
                f"{field} to the former, or {FIELD} to another library."
            )
