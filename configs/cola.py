"""A soft prompt for CoLA (linguistic acceptability), scored by Matthews correlation.

    python -m infoprompt_jax.main --config=configs/cola.py

T5 base, LM-adapted, is downloaded. Data come from TFDS, or from files under `data.dir` as
glue/cola/{train,validation}.jsonl. All templates of the data set are trained on as a mixture. The variants are those of
`rte.py`, as in --config=configs/cola.py:64,smoke.
"""

from __future__ import annotations

import ml_collections

from infoprompt_jax import settings, variants


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    config = settings.defaults()
    config.task.name = "glue/cola"
    config.prompt.init = "labels"  # label words, then sampled vocabulary
    config.train.steps = 4000
    return variants.apply(config, variant)
