"""The trained prompts of a run, exported one directory each, with what they are and where they come from."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import cast

import numpy as np

from infoprompt_jax import hosts
from infoprompt_jax.infoprompt.trainable import Part, Trainable
from infoprompt_jax.prompts import saved
from infoprompt_jax.t5.backbone import Backbone
from infoprompt_jax.training import recorded
from infoprompt_jax.training.experiment import Experiment


def export_prompts(
    directory: pathlib.Path,
    experiment: Experiment,
    trainable: Trainable,
    steps: Sequence[int | None],
    metrics: Sequence[dict[str, float]],
) -> None:
    """Writes every member's prompt to `directory/<member>/`; of several processes, all come here and the first writes.

    Args:
      directory: is made.
      experiment: whose members these are.
      trainable: the parts that predictions need, [M].
      steps: at which each member's prompt was evaluated.
      metrics: of each member's prompt at that step.
    """
    backbone = experiment.backbone
    table_VD = piece_directions(backbone)
    if not hosts.first():
        return
    for m, member in enumerate(experiment.members):
        parts = cast(dict[str, Part], trainable)
        tensors = {f"{part}/{name}": np.asarray(v[m]) for part, leaves in parts.items() for name, v in leaves.items()}
        value_PD = tensors.pop("prompt/value")
        metadata = {
            "backbone": backbone.name,
            "fingerprint": backbone.fingerprint,
            "weights": backbone.config.weights,
            "kind": member.config.prompt.kind,
            "representation": member.config.infoprompt.representation,  # what an instance prompt is generated from
            "init": member.config.prompt.init,
            "seed": member.config.seed,
            "task": member.config.task.name,
            "template": member.config.task.template,
            "tasks": [task.id for task in experiment.tasks[m]],
            **recorded.record(member.config, experiment.tasks[m]),
            "task_loss": member.config.train.task_loss,
            "step": steps[m],
            "metrics": metrics[m],
            "nearest_tokens": nearest_tokens(value_PD, table_VD, backbone),
        }
        saved.save_prompt(directory / member.name, saved.Prompt(value_PD, metadata, tensors))


def piece_directions(backbone: Backbone) -> np.ndarray:
    """The embeddings of the vocabulary's real pieces, scaled to length 1, [V, D]."""
    table_VD = np.asarray(backbone.embed(backbone.tokenizer.pieces[None])[0], np.float32)
    return table_VD / np.maximum(np.linalg.norm(table_VD, axis=1, keepdims=True), 1e-9)


def nearest_tokens(value_PD: np.ndarray, table_VD: np.ndarray, backbone: Backbone, count: int = 10) -> list[str]:
    """The vocabulary piece with the largest cosine to each of the first `count` prompt tokens."""
    nearest = np.argmax(value_PD[:count] @ table_VD.T, axis=1)
    return [backbone.tokenizer.decode(backbone.tokenizer.pieces[[index]]) for index in nearest]
