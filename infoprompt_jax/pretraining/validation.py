"""Validation of a pretrained backbone: its quality on the held-in tasks' validation rows, without a soft prompt.

Tasks with answer choices are ranked; free text is generated greedily and counts by exact match. A data set's value is
the mean over its templates, beside those of guessing and of the most frequent answer.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from infoprompt_jax.data.rows import Rows
from infoprompt_jax.data.tasks import Task
from infoprompt_jax.evaluation.predictions import Predictions, Predictor, Prompted, majority
from infoprompt_jax.reports.tables import aligned
from infoprompt_jax.t5 import partition
from infoprompt_jax.t5.backbone import Backbone, load_backbone


def validate(
    path: pathlib.Path, tasks: Sequence[Task], rows: Sequence[Rows], config: ml_collections.ConfigDict
) -> dict[str, dict[str, Any]]:
    """Measures a backbone on each data set.

    Args:
      path: of the backbone.
      tasks, rows: the tasks and their validation rows; the first `config.task.eval_limit` of each are read.

    Returns:
      By data set: `metric`, `value` (mean over templates), `chance`, `majority`, `rows`, and the value of each template
      (`hard_prompts`).
    """
    depth = max(config.pretrain.num_layers, config.pretrain.num_decoder_layers)
    backbone = load_backbone(str(path), mesh=partition.make_mesh(devices=_first_device()), remat="none", unroll=depth)
    predictions = predict(backbone, rows, config)
    by_name: dict[str, list[int]] = {}
    for index, task in enumerate(tasks):
        by_name.setdefault(task.name, []).append(index)
    limit = config.task.eval_limit
    return {
        name: data_set([(tasks[i], rows[i], predictions[i]) for i in of_name], limit)
        for name, of_name in by_name.items()
    }


def _first_device() -> list[Any]:
    import jax

    return jax.devices()[:1]


def predict(backbone: Backbone, rows: Sequence[Rows], config: ml_collections.ConfigDict) -> list[Predictions]:
    """The backbone's predictions of each task. Tasks with answer choices are not generated, and have a pass apart."""
    data = config.data
    predictor = Predictor(
        backbone.tokenizer,
        config.train.eval_batch_size,
        data.buckets,
        data.max_input_length,
        limit=config.task.eval_limit,
    )
    alone = Prompted.with_each(backbone, [None], data.max_target_length)
    predictions: dict[int, Predictions] = {}
    for free in (False, True):
        of_kind = [index for index, of_task in enumerate(rows) if (of_task.max_choices == 0) == free]
        if of_kind:
            (results,) = predictor.predict(alone, [[rows[index] for index in of_kind]])
            predictions |= dict(zip(of_kind, results, strict=True))
    return [predictions[index] for index in range(len(rows))]


def data_set(parts: Sequence[tuple[Task, Rows, Predictions]], limit: int) -> dict[str, Any]:
    """The entry of one data set; templates that change its task count only where all of them do."""
    by_template = {task.template.name: predictions.measure(metric(rows)) for task, rows, predictions in parts}
    original = [part for part in parts if part[0].template.metadata.original_task is not False] or parts
    return {
        "metric": metric(original[0][1]),
        "value": float(np.mean([by_template[task.template.name] for task, _, _ in original])),
        "chance": float(np.mean([chance(rows) for _, rows, _ in original])),
        "majority": float(np.mean([most_frequent(rows, limit) for _, rows, _ in original])),
        "rows": max(len(predictions) for _, _, predictions in original),
        "hard_prompts": by_template,
    }


def metric(rows: Rows) -> str:
    """Accuracy or exact match: all values are shares of rows, so they compare with guessing and with the majority."""
    return "accuracy" if rows.max_choices else "exact_match"


def chance(rows: Rows) -> float:
    """Accuracy of guessing; 0 for free text."""
    return float(np.mean(1 / rows.choice_counts(np.arange(len(rows))))) if rows.max_choices else 0.0


def most_frequent(rows: Rows, limit: int) -> float:
    """Share of the rows that the most frequent answer is right for."""
    return majority(rows, limit).measure(metric(rows))


def table(summary: Mapping[str, Any]) -> str:
    """The data sets of a pretraining run's summary as text, the smallest margin over the majority first."""
    entries = sorted(summary["validation"].items(), key=lambda item: item[1]["value"] - item[1]["majority"])
    figures = ("value", "chance", "majority")
    rows = [
        (name, len(entry["hard_prompts"]), entry["rows"], *(f"{entry[figure]:.4f}" for figure in figures))
        for name, entry in entries
    ]
    return aligned(("data set", "templates", "rows", *figures), rows)
