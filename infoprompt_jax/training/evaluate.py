"""The job `evaluate`: scores saved prompts, or the backbone alone (prompt.length=0), without training."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import ml_collections

from infoprompt_jax import files, hosts, settings
from infoprompt_jax.data import counterparts
from infoprompt_jax.errors import UserError
from infoprompt_jax.fleet.members import expand
from infoprompt_jax.infoprompt.trainable import inference
from infoprompt_jax.reports.illustrations import beside_results
from infoprompt_jax.t5.backbone import Backbone
from infoprompt_jax.training import page, prompt_config, recorded, sources, trackers
from infoprompt_jax.training.experiment import build, check_backbone
from infoprompt_jax.training.metrics_log import MetricsLog
from infoprompt_jax.training.results import MemberResult, Results
from infoprompt_jax.training.warning_log import WarningLog
from infoprompt_jax.training.workdir import Workdir, finish


def evaluate(
    config: ml_collections.ConfigDict, workdir: str | os.PathLike[str], backbone: Backbone | None = None
) -> dict[str, Any]:
    """Evaluates every member's initial prompt on the evaluation split, and on the test split if one is named.

    Args:
      config: its prompts are evaluated, whatever its job.
      workdir: an empty or a new directory; a finished run's summary is read from it.
      backbone: the one that the config names, if the caller has loaded it; None = it is loaded.

    Returns:
      The content of `summary.json`, see docs/training.md.

    Raises:
      UserError: the config, the data, the backbone, the prompt or the workdir do not fit, or scores are NaN.
    """
    config = counterparts.resolve(settings.for_job(config, "evaluate"))
    check_backbone(config, backbone)
    directory = Workdir(workdir, config)
    if (summary := directory.finished()) is not None:
        check_same_inputs(directory, config, summary)
        return summary
    trackers.check(config)
    with WarningLog() as warnings:
        experiment = build(config, backbone)
        of_sources = sources.fingerprint(experiment.members, config)
        trainable = inference(experiment.initial_state().trainable)
        # Before the directory is claimed: if scores are NaN, the corrected config can use the same directory.
        evaluator = experiment.evaluator
        values = {name: evaluator.evaluate(trainable, split, strict=True) for name, split in experiment.splits.items()}
    with directory.claim():
        logged = MetricsLog.resume(directory.path / "metrics.jsonl", -1, trackers.sinks(directory.path, config))
        for member, metrics in zip(experiment.members, values["eval"], strict=True):
            logged.write(0, member.name, {f"eval/{name}": value for name, value in metrics.items()})
        logged.close()
        results = Results(
            members=[
                MemberResult(member.name, 0, metrics, metrics, test=values["test"][m] if "test" in values else None)
                for m, (member, metrics) in enumerate(zip(experiment.members, values["eval"], strict=True))
            ],
            examples=experiment.examples(),
            backbone=experiment.backbone.name,
            weights=experiment.backbone.config.weights,
            fingerprints={
                "backbone": experiment.backbone.fingerprint,
                **experiment.evaluation_fingerprints(),
                **recorded.prompts_fingerprint(experiment.members),
                "sources": of_sources,
            },
        )
        if hosts.first():
            with beside_results(directory.path / page.NAME):
                page.write(directory.path, files.strict(results.to_json()), warnings.messages)
            finish(directory.path, results.to_json())
    return results.to_json()


def check_same_inputs(directory: Workdir, config: ml_collections.ConfigDict, summary: Mapping[str, Any]) -> None:
    """Raises UserError where the prompts at `prompt.init` changed after the evaluation, as a longer run's do.

    Rows that have changed are a warning.
    """
    members = [prompt_config.with_prompt_of(member) for member in expand(config)]
    sources.warn_of_changes(directory.path, summary, members, config)
    now = recorded.prompts_fingerprint(members)
    if not now.items() <= (now | summary["fingerprints"]).items():
        raise UserError(
            f"The workdir {directory.path} holds an evaluation of what prompt.init held before: choose another "
            "--workdir to evaluate the prompts that it holds now, or delete this one."
        )
