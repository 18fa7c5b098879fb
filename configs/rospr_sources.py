"""RoSPr's source prompts (arXiv 2210.03029): one soft prompt for every data set x template, and their library.

    python -m infoprompt_jax.main --config=configs/rospr_sources.py

trains on P3's 36 source data sets with 296 templates, on T0 3B, which is downloaded: plain prompt tuning, 100 tokens
each, in groups of `rospr.group` members that take turns. If memory does not suffice, lower train.eval_batch_size or set
backbone.remat to full (a resumed run may do both), or raise train.accumulate; if memory is left, raise fleet.at_once.
Rows come from --config.data.dir or, if that is empty, from the data sets that TFDS has prepared; promptsource's
templates from --config.task.templates_dir. Absent data sets are skipped; runs/rospr_sources/sources.json lists them
with the reason. The same command resumes, also within a group.

`configs/rospr_eval.py` retrieves from runs/rospr_sources/library. It holds every prompt with 100 of its training
instances, encoded by the retriever: the backbone itself, or --config.rospr.retriever=google/t5-small-lm-adapt.

Some data sets have no validation split, so the first 200 training rows are evaluated on and not trained on. They
choose nothing (each prompt is the last one) and may have a single label in files that are sorted by label.

    --config.task.name=glue/sst2,imdb     other data sets, all from data.dir or all from TFDS, with their own-task
                                          templates (--config.task.template=NAME: one); your own data: docs/rospr.md

Variants, separated by commas:
    p3          the default
    nano        67 templates of the generated world's held-in families on the embedded backbone: no download
    mini        the embedded backbone of English on real rows: prompts of 10 tokens, inputs of at most 256; rows and
                templates as for p3 (docs/rospr.md: At T0's shape, on mini)
    smoke       a few steps on a few rows, to check that everything works here
"""

from __future__ import annotations

from typing import Any

import ml_collections

from infoprompt_jax import settings, variants
from infoprompt_jax.nano import world

VARIANTS: dict[str, dict[str, Any]] = {
    "p3": {},
    "nano": {
        **variants.EMBEDDED,
        **variants.GENERATED,
        "task.name": ",".join(world.PREFIX + name for name in world.HELD_IN),
        "task.train_split": "train[:1024]",  # no other rows are rendered and tokenised
        "task.eval_split": "validation[:64]",
        "task.train_limit": 0,
        "task.shots": 256,
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
    "mini": {
        **variants.VARIANTS["mini"],
        "data.buckets": (64, 96, 128, 192, 256),
        "train.eval_every": 0,
        "train.references": False,
        "train.accumulate": 1,
        "train.eval_batch_size": 8,
        "fleet.at_once": 8,
        "rospr.group": 16,
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


def get_config(variant: str = "p3") -> ml_collections.ConfigDict:
    config = settings.defaults()
    config.job = "rospr_sources"
    config.backbone.update(name="bigscience/T0_3B", dtype="bfloat16")
    config.task.update(name="p3", train_split="train[200:]", eval_split="train[:200]")
    config.task.train_limit = 65536  # 2000 steps of 32 rows read no more
    config.fleet.at_once, config.rospr.group = 1, 8
    config.train.update(accumulate=4, eval_every=0)
    config.train.eval_batch_size = 8  # of each member at work
    return variants.apply(config, variant, VARIANTS)
