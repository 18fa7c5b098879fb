"""InfoPrompt with the settings of the authors' released code, without its defects (docs/infoprompt.md lists them).

    python -m infoprompt_jax.main --config=configs/released_code.py

Instance-conditioned prompts with a bottleneck of 32, a trained verbalizer over the label words, the variational
bottleneck with its KL term, AdamW at 1e-3 with 6 % linear warm-up and linear decay, weight decay 0.01, batch size 8, 30
epochs, one template. Two places differ, because the code has RoBERTa and this package T5. The code inserts a token at
each of four places of the input; here four tokens come before the input. The code reads the state of <mask>; here the
decoder's state at position 0 is read. T5 base, LM-adapted, is downloaded. The variants are those of `rte.py`, as in
--config=configs/released_code.py:64,smoke.
"""

from __future__ import annotations

import ml_collections

from infoprompt_jax import settings, variants


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    config = settings.defaults()
    config.task.name = "super_glue/rte"
    config.task.template = "entails"
    config.prompt.length = 4
    config.prompt.kind = "instance"
    config.prompt.init = "uniform"
    config.infoprompt.update(gamma=0.1, beta=0.2, variational=True)
    config.train.task_loss = "verbalizer"
    config.train.optimizer = "adamw"
    config.train.learning_rate = 1e-3
    config.train.weight_decay = 0.01
    config.train.schedule = "linear"
    config.train.warmup = 0.06
    config.train.batch_size = 8
    config.train.steps = 30 * 2490 // 8  # epochs of RTE
    return variants.apply(config, variant)
