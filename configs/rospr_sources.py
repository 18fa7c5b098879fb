"""RoSPr's source prompts (arXiv 2210.03029): one soft prompt for every data set x hard prompt, and their library.

    python -m infoprompt_jax.main --config=configs/rospr_sources.py

trains on P3's 36 source data sets with 296 hard prompts, on T0 3B: plain prompt tuning, 100 tokens each, in groups of
`rospr.group`, whose members take turns. Where memory does not suffice, lower train.eval_batch_size or set
backbone.remat to full, which may also be done on resuming, or raise train.accumulate; where there is plenty, raise
fleet.at_once. Rows come from --config.data.dir or, where it is empty, from what TFDS has prepared; promptsource's
templates from --config.task.templates_dir. What is not there is skipped: runs/rospr_sources/sources.json says what and
why. The same command resumes, also within a group.

runs/rospr_sources/library is what `configs/rospr_eval.py` retrieves from: every prompt with 100 of its training
instances, encoded by the retriever. That is the backbone itself, or

    ... --config.rospr.retriever=google/t5-small-lm-adapt

Not all of these data sets have a validation split: the first 200 training rows are evaluated on, and not trained on.
They pick nothing, each prompt being the last; in files that are sorted by label, they may have but one.

    --config.task.name=glue/sst2,imdb     your own choice of data sets, with all of their own-task hard prompts;
                                          --config.task.template=NAME for one. All of them are read from data.dir, or
                                          all from TFDS where it is empty; your own data: docs/rospr.md

Variants, separated by commas:
    p3          the default
    nano        67 hard prompts of the generated world's held-in families on the embedded backbone: no download
    smoke       a few steps on a few rows: does everything work here?
"""

from __future__ import annotations

from typing import Any

import ml_collections

from infoprompt_jax import settings
from infoprompt_jax.errors import UserError
from infoprompt_jax.nano import world

VARIANTS: dict[str, dict[str, Any]] = {
    "p3": {},
    "nano": {
        "backbone.name": "nano",
        "backbone.dtype": "float32",
        "backbone.remat": "none",
        "backbone.unroll": 4,
        "task.name": ",".join(world.PREFIX + name for name in world.HELD_IN),
        "task.train_split": "train[:1024]",  # only these are rendered and tokenised
        "task.eval_split": "validation[:64]",
        "task.train_limit": 0,
        "task.shots": 256,
        "data.max_input_length": 64,
        "data.max_target_length": 16,
        "data.buckets": (32, 48, 64),
        "prompt.length": 8,
        "train.steps": 100,
        "train.batch_size": 8,
        "train.accumulate": 1,
        "train.eval_batch_size": 64,
        "train.learning_rate": 1.0,  # as in configs/nano.py
        "fleet.at_once": 0,
        "scoring.max_length": 16,
        "rospr.group": 32,
    },
    "smoke": {
        "prompt.length": 4,
        "train.steps": 4,
        "train.batch_size": 4,
        "train.accumulate": 1,
        "train.log_every": 1,
        "task.train_limit": 512,
        "task.shots": 16,
        "task.eval_limit": 8,
        "rospr.instances": 4,
    },
}


def get_config(variants: str = "p3") -> ml_collections.ConfigDict:
    config = settings.defaults()
    config.job = "rospr_sources"
    config.backbone.name = "bigscience/T0_3B"
    config.backbone.dtype = "bfloat16"
    config.task.name = "p3"
    config.task.train_split = "train[200:]"
    config.task.eval_split = "train[:200]"
    config.task.train_limit = 65536  # what 2000 steps of 32 rows read at most
    config.infoprompt.gamma = 0.0
    config.infoprompt.beta = 0.0
    config.train.accumulate = 4
    config.train.eval_batch_size = 8  # of every member whose turn it is
    config.train.eval_every = 0
    config.fleet.at_once = 1
    config.rospr.group = 8
    for name in filter(None, variants.split(",")):
        if name not in VARIANTS:
            raise UserError(f"The config has no variant {name!r}: choose from {', '.join(VARIANTS)}.")
        config.update_from_flattened_dict(VARIANTS[name])
    return config
