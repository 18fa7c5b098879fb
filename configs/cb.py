"""InfoPrompt on CommitmentBank (three-way entailment, 250 training examples), scored by macro F1.

    python -m infoprompt_jax.main --config=configs/cb.py

T5 base, LM-adapted, is downloaded. Data come from TFDS, or from files under `data.dir` as
super_glue/cb/{train,validation}.jsonl. All templates of the data set are trained on as a mixture. The variants are
those of `rte.py`, joined by commas: 3b, 11b, 64, 256 (few-shot), smoke, nano (needs no network); for example
--config=configs/cb.py:64,smoke.
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
