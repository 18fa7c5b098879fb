"""The job `evaluate`: scores saved prompts, or the backbone alone (prompt.length=0), without training."""

from __future__ import annotations

import os
from typing import Any

import ml_collections

from infoprompt_jax import files
from infoprompt_jax.data import counterparts
from infoprompt_jax.infoprompt.trainable import inference
from infoprompt_jax.training.experiment import build
from infoprompt_jax.training.metrics_log import MetricsLog
from infoprompt_jax.training.workdir import Workdir


def evaluate(config: ml_collections.ConfigDict, workdir: str | os.PathLike[str]) -> dict[str, Any]:
    """Evaluates every member's initial prompt on the evaluation split (and the test split, if one is named).

    Raises:
      UserError: something in the config, the data, the backbone, the prompt or the workdir does not fit, or scores are
        NaN.
    """
    config = counterparts.resolve(config)
    directory = Workdir(workdir, config)
    if (summary := directory.finished()) is not None:
        return summary
    experiment = build(config)
    trainable = inference(experiment.initial_state().trainable)
    # Before the directory is claimed: where scores are NaN, the mended config may have it.
    evaluator = experiment.evaluator
    results = {name: evaluator.evaluate(trainable, split, strict=True) for name, split in experiment.splits.items()}
    with directory.claim():
        log = MetricsLog.resume(directory.path / "metrics.jsonl", -1, config.train.tensorboard)
        for member, values in zip(experiment.members, results["eval"], strict=True):
            log.write(0, member.name, {f"eval/{name}": value for name, value in values.items()})
        log.flush()
        members = [
            {"name": member.name, "steps": 0, "final": results["eval"][m], "best": results["eval"][m]}
            | ({"test": results["test"][m]} if "test" in results else {})
            for m, member in enumerate(experiment.members)
        ]
        summary = {"members": members, "examples": experiment.examples(), "backbone": experiment.backbone.name}
        fingerprints = {"backbone": experiment.backbone.fingerprint, **experiment.evaluation_fingerprints()}
        summary["fingerprints"] = fingerprints
        files.write_json(directory.path / "summary.json", summary)
    return summary
