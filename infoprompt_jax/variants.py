"""The variants that the shipped configs of tasks share, `--config=configs/rte.py:NAME,NAME`.

`nano` needs no network: it trains on the embedded backbone, with real rows where `data.dir` holds them, else with the
data set of the generated world that asks for the same kind of answer (docs/nano.md).
"""

from __future__ import annotations

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


VARIANTS: dict[str, dict[str, Any]] = {
    "3b": _large("xl"),
    "11b": _large("xxl"),
    "64": _few_shot(64),
    "256": _few_shot(256),
    "nano": {
        "backbone.name": "nano",
        "backbone.remat": "none",
        "backbone.unroll": 4,
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


def apply(config: ml_collections.ConfigDict, names: str) -> ml_collections.ConfigDict:
    """The config with the fields of these variants, separated by commas; of one field, the last that sets it counts.

    Raises:
      UserError: an unknown name, or two backbones.
    """
    chosen = [name for name in names.split(",") if name]
    for name in chosen:
        if name not in VARIANTS:
            raise UserError(f"The config has no variant {name!r}: choose from {', '.join(VARIANTS)}.")
        config.update_from_flattened_dict(VARIANTS[name])
    backbones = [name for name in chosen if "backbone.name" in VARIANTS[name]]
    if len(set(backbones)) > 1:
        raise UserError(f"The variants {' and '.join(backbones)} each set backbone.name: choose one of them.")
    return config
