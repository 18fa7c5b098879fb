"""The variants of a config, `--config=configs/rte.py:NAME,NAME`, and those that the shipped tasks' configs share.

A variant is a set of fields with a name. `nano` needs no network: it trains the embedded backbone's prompts on real
rows if `data.dir` has them, else on the generated data set that asks for the same kind of answer (docs/nano.md). `mini`
trains the embedded backbone of English, on real rows only: generated ones would say nothing about it (docs/mini.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ml_collections

from infoprompt_jax.errors import UserError


def _few_shot(shots: int) -> dict[str, Any]:
    return {"task.shots": shots, "prompt.length": 20, "train.steps": 1000, "train.eval_every": 100}


def _large(size: str) -> dict[str, Any]:
    return {
        "backbone.name": f"google/t5-{size}-lm-adapt",
        "backbone.dtype": "bfloat16",
        "train.accumulate": 4,
        "train.eval_batch_size": 16,
    }


EMBEDDED = {
    "backbone.name": "nano",
    "backbone.dtype": "float32",
    "backbone.remat": "none",
    "backbone.unroll": 4,
}
# The generated world's rows are short.
GENERATED = {"data.max_input_length": 64, "data.max_target_length": 16, "data.buckets": (32, 48, 64)}

VARIANTS: dict[str, dict[str, Any]] = {
    "infoprompt": {"infoprompt.gamma": 0.1, "infoprompt.beta": 0.2},  # as the released code
    "3b": _large("xl"),
    "11b": _large("xxl"),
    "64": _few_shot(64),
    "256": _few_shot(256),
    "nano": {
        **EMBEDDED,
        "data.max_input_length": 256,
        "data.buckets": (32, 64, 128, 256),
        "task.counterpart": True,
        "task.eval_limit": 256,
        "prompt.length": 8,
        "train.steps": 200,
        "train.batch_size": 8,
        "train.eval_every": 20,
        "train.references": True,
    },
    "mini": {
        **EMBEDDED,
        "backbone.name": "mini",
        "data.max_input_length": 256,
        "data.buckets": (32, 48, 64, 96, 256),
        "task.eval_limit": 256,
        "prompt.length": 10,
        "train.steps": 200,
        "train.batch_size": 8,
        "train.schedule": "linear",  # with few rows, a constant rate ends anywhere around the best prompt
        "train.eval_every": 50,
        "train.references": True,
    },
    "smoke": {
        "prompt.length": 8,
        "train.steps": 4,
        "train.batch_size": 8,
        "train.eval_every": 2,
        "train.log_every": 1,
        "train.save_every": 2,
        "task.eval_limit": 16,
    },
}

SMALLEST = "smoke"  # is to stay small whatever stands beside it


def apply(
    config: ml_collections.ConfigDict, names: str, known: Mapping[str, dict[str, Any]] = VARIANTS
) -> ml_collections.ConfigDict:
    """The config with the fields of these variants, separated by commas; if several set a field, the last one counts.

    `smoke` counts as the last one wherever it stands.

    Raises:
      UserError: a name that is not among the `known` variants, or two backbones.
    """
    chosen = sorted((name for name in names.split(",") if name), key=SMALLEST.__eq__)
    for name in chosen:
        if name not in known:
            raise UserError(f"The config has no variant {name!r}: choose from {', '.join(known)}.")
        config.update_from_flattened_dict(known[name])
    backbones = [name for name in chosen if "backbone.name" in known[name]]
    if len(set(backbones)) > 1:
        raise UserError(f"The variants {' and '.join(backbones)} each set backbone.name: choose one of them.")
    return config
