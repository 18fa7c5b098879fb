"""RoSPr's table (arXiv 2210.03029): unseen tasks with retrieved soft prompts and no training on them.

    python -m infoprompt_jax.main --config=configs/rospr_eval.py

T0 3B is downloaded. The library is runs/rospr_sources/library, which `configs/rospr_sources.py` makes, or
--config.rospr.library=DIR. It must have been made with the same backbone and retriever. Each template of each data set
is evaluated by rank classification with: no soft prompt; the source prompt with the most votes; INTER; VAR; INTER+VAR;
a prompt for each row; and the oracle, the source prompt that does best on these very rows. results.md has the tables
(mean, median and quartiles over templates) and the analysis, results.png and analysis.png show them, and targets/ has a
file for each data set and template: which prompts were retrieved, and why. The same command resumes after the last
finished one.

The oracle scores all source prompts on all rows. Its cost grows with the library, and the analysis of library size,
instances, queries and hits needs its scores. To leave it out:

    --config.rospr.methods="('none','rospr','inter','var','inter_var','per_query')"

Variants, separated by commas:
    p3          the default: P3's 11 held-out sets with 120 templates on T0 3B; rows from --config.data.dir or, if that
                is empty, from the data sets that TFDS has prepared; promptsource's templates from
                --config.task.templates_dir. Absent data sets are skipped; results.md lists them with the reason.
    bigbench    the 14 BIG-bench tasks, from bigbench/<task>/task.json under --config.data.dir
    nano        the held-out families of the generated world on the embedded backbone: no download
    mini        the embedded backbone of English on real rows, with a library made by rospr_sources.py:mini; also
                bigbench,mini
    smoke       a few rows of each, to check that everything works here
"""

from __future__ import annotations

from typing import Any

import ml_collections

from infoprompt_jax import settings, variants
from infoprompt_jax.nano import world

VARIANTS: dict[str, dict[str, Any]] = {
    "p3": {},
    "bigbench": {"task.name": "bigbench"},
    "nano": {
        **variants.EMBEDDED,
        **variants.GENERATED,
        "task.name": ",".join(world.PREFIX + name for name in world.HELD_OUT),
        "task.eval_split": "test",
        "task.eval_limit": 128,
        "train.eval_batch_size": 64,
    },
    "mini": {
        **variants.EMBEDDED,
        "backbone.name": "mini",
        "data.max_input_length": 256,
        "data.buckets": (64, 96, 128, 192, 256),
        "train.eval_batch_size": 8,  # rows of similar length: few are padded
    },
    "smoke": {"task.eval_limit": 8, "rospr.queries": 4, "train.eval_batch_size": 8},
}


def get_config(variant: str = "p3") -> ml_collections.ConfigDict:
    config = settings.defaults()
    config.job = "rospr_eval"
    config.backbone.name = "bigscience/T0_3B"
    config.backbone.dtype = "bfloat16"
    config.task.name = "p3"
    config.task.metric = "accuracy"  # as in the papers; "" = each data set's own metric, which is macro F1 for CB
    config.rospr.library = "runs/rospr_sources/library"
    config.prompt.length = 0  # the library's prompts have their length
    config.data.max_input_length = 1024
    config.data.max_target_length = 256  # HellaSwag's and StoryCloze's endings are whole sentences
    config.train.eval_batch_size = 32
    return variants.apply(config, variant, VARIANTS)
