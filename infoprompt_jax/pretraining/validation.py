"""Validation of a pretrained backbone: its quality on the held-in tasks' validation rows, without a soft prompt.

Tasks with answer choices are ranked; free text is generated greedily and counts by exact match. A data set's value is
the mean over its templates, beside those of guessing and of the most frequent answer.
"""

from __future__ import annotations

import collections
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from infoprompt_jax.data.batches import eval_batches
from infoprompt_jax.data.rows import Rows
from infoprompt_jax.data.tasks import Task
from infoprompt_jax.evaluation import metrics
from infoprompt_jax.t5 import partition
from infoprompt_jax.t5.backbone import Backbone, load_backbone

Pairs = dict[int, list[tuple[Any, Any]]]  # task -> (prediction, gold) of its rows


def validate(
    path: pathlib.Path, own: Sequence[Task], found: Sequence[Rows], config: ml_collections.ConfigDict
) -> dict[str, dict[str, Any]]:
    """By data set: its metric, `value` (mean over hard prompts), `chance`, `majority`, `rows`, and each hard prompt's.

    Args:
      path: of the backbone.
      own, found: the tasks and their validation rows; the first `config.task.eval_limit` of each are read.
    """
    depth = max(config.pretrain.num_layers, config.pretrain.num_decoder_layers)
    backbone = load_backbone(str(path), mesh=partition.make_mesh(1, 1, _first_device()), remat="none", unroll=depth)
    pairs: Pairs = {}
    for free in (False, True):
        chosen = [index for index, rows in enumerate(found) if (rows.max_choices == 0) == free]
        if chosen:
            results = predictions(backbone, [found[index] for index in chosen], free, config)
            pairs |= {chosen[index]: values for index, values in results.items()}
    by_name: dict[str, list[int]] = {}
    for index, task in enumerate(own):
        by_name.setdefault(task.name, []).append(index)
    return {name: data_set([(own[i], found[i], pairs[i]) for i in of_name]) for name, of_name in by_name.items()}


def _first_device() -> list[Any]:
    import jax

    return jax.devices()[:1]


def predictions(backbone: Backbone, found: Sequence[Rows], free: bool, config: ml_collections.ConfigDict) -> Pairs:
    """Predicted and right choice, or text where answers are free, of every row of tasks of one kind."""
    pairs: Pairs = collections.defaultdict(list)
    data, size = config.data, config.train.eval_batch_size
    for batch in eval_batches([found], size, data.buckets, data.max_input_length, config.task.eval_limit):
        only = {name: values[0] for name, values in batch.items()}  # one member
        if free:
            tokens = np.asarray(backbone.generate(only["inputs"], data.max_target_length))
            predicted = [backbone.tokenizer.decode(row) for row in tokens]
        else:
            predicted = np.argmax(np.asarray(backbone.score(only["inputs"], only["choices"])), axis=-1).tolist()
        for b in np.flatnonzero(only["weight"]):
            task, row = int(only["task"][b]), int(only["row"][b])
            gold = normal_form(backbone, found[task].target_text(row)) if free else int(only["label"][b])
            pairs[task].append((predicted[b], gold))
    return pairs


def normal_form(backbone: Backbone, text: str) -> str:
    """The text as the vocabulary spells it: folded to lower case, where the vocabulary is."""
    return backbone.tokenizer.decode(backbone.tokenizer.encode([text])[0])


def data_set(parts: Sequence[tuple[Task, Rows, list[tuple[Any, Any]]]]) -> dict[str, Any]:
    """What `validate` says of one data set; hard prompts that ask for something else count only where all do."""
    by_prompt = {task.template.name: metrics.find_metric(task.metric)(*_columns(pairs)) for task, _, pairs in parts}
    own = [part for part in parts if part[0].template.metadata.original_task is not False] or parts
    return {
        "metric": own[0][0].metric,
        "value": float(np.mean([by_prompt[task.template.name] for task, _, _ in own])),
        "chance": float(np.mean([chance(rows) for _, rows, _ in own])),
        "majority": float(np.mean([majority(pairs) for _, _, pairs in own])),
        "rows": max(len(pairs) for _, _, pairs in own),
        "hard_prompts": by_prompt,
    }


def chance(rows: Rows) -> float:
    """Accuracy of guessing; 0 for free text."""
    if not rows.max_choices:
        return 0.0
    choices = np.diff(rows.arrays["choice_starts"])[rows.arrays["choice_index"]]
    return float(np.mean(1 / choices))


def majority(pairs: list[tuple[Any, Any]]) -> float:
    """Accuracy of always giving the most frequent answer."""
    return collections.Counter(gold for _, gold in pairs).most_common(1)[0][1] / len(pairs)


def _columns(pairs: list[tuple[Any, Any]]) -> tuple[list[Any], list[Any]]:
    predicted, gold = zip(*pairs, strict=True)
    return list(predicted), list(gold)


def table(summary: Mapping[str, Any]) -> str:
    """The data sets of a pretraining run's summary as aligned text, worst margin over the majority first."""
    measured = summary["validation"]
    header = ["data set", "hard prompts", "rows", "value", "chance", "majority"]
    order = sorted(measured, key=lambda name: measured[name]["value"] - measured[name]["majority"])
    lines = [header]
    for name in order:
        entry = measured[name]
        figures = [f"{entry[field]:.4f}" for field in ("value", "chance", "majority")]
        lines.append([name, str(len(entry["hard_prompts"])), str(entry["rows"]), *figures])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines]
    return "\n".join([text[0], "-" * len(text[0]), *text[1:]])
