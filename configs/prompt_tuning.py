"""Plain prompt tuning with the recipe of Lester et al. (2021): no mutual-information terms in the program.

    python -m infoprompt_jax.main --config=configs/prompt_tuning.py

T5 LM-adapted, 100 tokens from the class labels and the 5,000 most frequent pieces, Adafactor without parameter scaling,
constant learning rate 0.3, weight decay 1e-5, batch size 32, no dropout in the frozen model. T5 and the data set, RTE,
are downloaded; --config.task.name=glue/sst2 chooses another. The variants are those of `rte.py`, as in
--config=configs/prompt_tuning.py:64,smoke.
"""

from __future__ import annotations

import ml_collections

from infoprompt_jax import settings, variants


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    config = settings.defaults()
    config.prompt.init = "labels"
    config.train.steps = 30000
    config.train.eval_every = 1000
    config.train.clip_norm = 0.0
    return variants.apply(config, variant)
