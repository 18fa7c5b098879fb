"""The job `train`: a fleet of prompts, trained as the config says.

config.json  metrics.jsonl  checkpoints/  features/  summary.json  curves.png  report.html
prompts/<member>/  the best prompt of each member       last_prompts/<member>/  the last one

A run, finished or not, goes on with more steps, or with a test split that it did not have: docs/training.md.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import ml_collections

from infoprompt_jax import files, hosts, settings
from infoprompt_jax.data import counterparts
from infoprompt_jax.errors import UserError
from infoprompt_jax.fleet.members import expand
from infoprompt_jax.infoprompt.trainable import inference
from infoprompt_jax.reports import curves
from infoprompt_jax.reports.illustrations import beside_results
from infoprompt_jax.t5.backbone import Backbone
from infoprompt_jax.training import page, prompt_config, sources, trackers
from infoprompt_jax.training.estimates import has_noise
from infoprompt_jax.training.experiment import build, check_backbone
from infoprompt_jax.training.export import export_prompts
from infoprompt_jax.training.interrupt import Interrupt
from infoprompt_jax.training.loop import Run
from infoprompt_jax.training.results import Results, collect, last_evaluations
from infoprompt_jax.training.speed import Compilations
from infoprompt_jax.training.warning_log import WarningLog
from infoprompt_jax.training.workdir import SUMMARY, Workdir, finish


def train(
    config: ml_collections.ConfigDict, workdir: str | os.PathLike[str], backbone: Backbone | None = None
) -> dict[str, Any]:
    """Trains a fleet into `workdir` and returns its summary; a finished run's summary is read from there.

    Args:
      config: its prompts are trained, whatever its job.
      workdir: an empty or a new directory, or that of the same run, which is then resumed; also with more
        `train.steps`, or with a `task.test_split` where it had none.
      backbone: the one that the config names, if the caller has loaded it; None = it is loaded.

    Returns:
      The content of `summary.json`, see docs/training.md.

    Raises:
      UserError: the config, the data, the backbone or the workdir do not fit, or the loss of every member became NaN or
        infinite.
      Stopped: SIGTERM or Ctrl-C stopped the run; everything is saved, and the same call resumes.
    """
    summary = train_members(settings.for_job(config, "train"), workdir, backbone)
    if all("failed_at_step" in member for member in summary["members"]):
        raise UserError("The loss of every member became NaN or infinite: lower train.learning_rate.")
    return summary


def train_members(
    config: ml_collections.ConfigDict, workdir: str | os.PathLike[str], backbone: Backbone | None = None
) -> dict[str, Any]:
    """As `train`, but also returns the summary of a run whose members all failed (`failed_at_step`)."""
    config = counterparts.resolve(config)
    check_backbone(config, backbone)
    directory = Workdir(workdir, config, may_grow=True)
    hosts.decided(lambda: check_growth(directory, config))
    if (summary := directory.finished()) is not None:
        members = [prompt_config.with_prompt_of(member) for member in expand(config)]
        sources.warn_of_changes(directory.path, summary, members, config)
        return summary
    trackers.check(config)
    with WarningLog() as warnings:
        experiment = build(config, backbone)
        state = experiment.initial_state()
        with directory.claim(), Compilations() as compilations:
            with Interrupt() as interrupt:
                run = Run(experiment, directory.path, state, compilations)
                run.train(interrupt)
            results = collect(run)
            write(run, results, warnings.messages)
    return results.to_json()


def check_growth(directory: Workdir, config: ml_collections.ConfigDict) -> None:
    """Raises UserError for a run that cannot go on: its schedule depends on the steps, or it has no checkpoint."""
    if "train.steps" in directory.grown:
        former = directory.grown["train.steps"]
        for member in expand(config):
            for field in of_all_steps(member.config):
                raise UserError(
                    f"The run in {directory.path} was planned for {former} steps, and its {field} depends on their "
                    f"number, so it cannot go on to {config.train.steps}: choose a new --workdir, with prompt.init="
                    f"{directory.path / 'prompts' / member.name} to begin with its best prompt."
                )
    finished, checkpoints = (directory.path / SUMMARY).exists(), (directory.path / "checkpoints").glob("[0-9]*")
    if directory.grown and finished and not any(checkpoints):
        raise UserError(f"The run in {directory.path} has no checkpoint to go on from: choose a new --workdir.")


def of_all_steps(config: ml_collections.ConfigDict) -> list[str]:
    """The fields of a member, with their values, that make each step depend on the number of all steps."""
    train, terms = config.train, config.infoprompt
    weights = (terms.gamma, terms.beta, terms.kappa if terms.variational else 0.0)
    fields = {
        f"train.schedule={train.schedule!r}": train.schedule != "constant",
        f"train.warmup={train.warmup:g}": train.warmup > 0,
        "infoprompt.noise='relative'": terms.noise == "relative" and has_noise(config) and terms.beta > 0,
        f"infoprompt.decay={terms.decay:g}": terms.decay > 0 and any(weights),
    }
    return [field for field, depends in fields.items() if depends]


def write(run: Run, results: Results, warnings: Sequence[str]) -> None:
    """Exports the prompts, draws the curves, writes the report and, last, the summary: with that a run is finished.

    Of several processes the first one writes.
    """
    experiment, members = run.experiment, results.members
    best_steps, last_steps = [member.best_step for member in members], last_evaluations(run)
    best, final = [member.best for member in members], [member.final for member in members]
    export_prompts(run.path / "prompts", experiment, run.on_host(run.state.best), best_steps, best)
    export_prompts(
        run.path / "last_prompts", experiment, run.on_host(inference(run.state.trainable)), last_steps, final
    )
    if not hosts.first():
        return
    picture = run.path / "curves.png"
    with beside_results(picture):
        curves.draw(picture, run.log.records, [member.name for member in members])
    with beside_results(run.path / page.NAME):
        page.write(run.path, files.strict(results.to_json()), warnings)
    finish(run.path, results.to_json())
