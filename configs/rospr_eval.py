"""RoSPr's table (arXiv 2210.03029): unseen tasks with retrieved soft prompts, no training on them.

    python -m infoprompt_jax.main --config=configs/rospr_eval.py

The library is runs/rospr_sources/library, that of `configs/rospr_sources.py`, or --config.rospr.library=DIR; it is made
with the same backbone and retriever. Every data set is evaluated with each of its hard prompts, by rank classification
with: no soft prompt, the most voted for source prompt, INTER, VAR, INTER+VAR, a prompt of each row's own, and the
oracle, the source prompt that does best on the very rows. results.md has the tables (mean, median and quartiles over
hard prompts) and the analysis, results.png and analysis.png show them, targets/ holds a file for each data set and hard
prompt: which prompts were taken, and why. The same command resumes after the last finished one.

The oracle scores all source prompts on all rows, which costs as much as there are source prompts; the analysis of
library size, instances, queries and hits is made of these scores. To go without:

    --config.rospr.methods="('none','rospr','inter','var','inter_var','per_query')"

Variants, separated by commas:
    p3          the default: P3's 11 held-out sets with 120 hard prompts on T0 3B; rows from --config.data.dir or, where
                it is empty, of what TFDS has prepared; promptsource's templates from --config.task.templates_dir. What
                is not there is skipped: results.md says why and, of StoryCloze, how to get it.
    bigbench    the 14 BIG-bench tasks, from --config.data.dir, which holds bigbench/<task>/task.json
    nano        the held-out families of the generated world on the embedded backbone: no download
    smoke       a few rows of each: does everything work here?
"""

from __future__ import annotations

from typing import Any

import ml_collections

from infoprompt_jax import settings
from infoprompt_jax.errors import UserError
from infoprompt_jax.nano import world

VARIANTS: dict[str, dict[str, Any]] = {
    "p3": {},
    "bigbench": {"task.name": "bigbench"},
    "nano": {
        "backbone.name": "nano",
        "backbone.dtype": "float32",
        "backbone.unroll": 4,
        "task.name": ",".join(world.PREFIX + name for name in world.HELD_OUT),
        "task.eval_split": "test",
        "task.eval_limit": 128,
        "data.max_input_length": 64,
        "data.max_target_length": 16,
        "data.buckets": (32, 48, 64),
        "train.eval_batch_size": 64,
    },
    "smoke": {"task.eval_limit": 8, "rospr.queries": 4, "train.eval_batch_size": 8},
}


def get_config(variants: str = "p3") -> ml_collections.ConfigDict:
    config = settings.defaults()
    config.job = "rospr_eval"
    config.backbone.name = "bigscience/T0_3B"
    config.backbone.dtype = "bfloat16"
    config.task.name = "p3"
    config.task.metric = "accuracy"  # as in the papers; "" = each data set's own, which is macro F1 for CB
    config.rospr.library = "runs/rospr_sources/library"
    config.prompt.length = 0  # that of the library counts
    config.data.max_input_length = 1024
    config.data.max_target_length = 256  # HellaSwag's and StoryCloze's endings are whole sentences
    config.train.eval_batch_size = 32
    for name in filter(None, variants.split(",")):
        if name not in VARIANTS:
            raise UserError(f"The config has no variant {name!r}: choose from {', '.join(VARIANTS)}.")
        config.update_from_flattened_dict(VARIANTS[name])
    return config
