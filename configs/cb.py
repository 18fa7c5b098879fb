"""A soft prompt for CommitmentBank (three-way entailment, 250 training examples), scored by macro F1.

    python -m infoprompt_jax.main --config=configs/cb.py

T5 base, LM-adapted, is downloaded. Data come from TFDS, or from files under `data.dir` as
super_glue/cb/{train,validation}.jsonl. All templates of the data set are trained on as a mixture. The variants are
those of `rte.py`, as in --config=configs/cb.py:64,smoke.
"""

from __future__ import annotations

import ml_collections

from infoprompt_jax import settings, variants


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    config = settings.defaults()
    config.task.name = "super_glue/cb"
    config.prompt.init = "labels"  # label words, then sampled vocabulary
    config.train.steps = 2000
    return variants.apply(config, variant)
