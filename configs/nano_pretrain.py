"""Pretrains `nano`, the backbone that comes with the package, on the held-in tasks of the generated world.

    python -m infoprompt_jax.main --config=configs/nano_pretrain.py

No download: rows and plain text are generated, and the vocabulary is trained first (WORKDIR/vocabulary). The result is
the Hugging Face directory WORKDIR/backbone. The table at the end is its accuracy on validation rows of the tasks that
it was trained on; WORKDIR/backbone/validation.json keeps it. The same command resumes a stopped run. The same seed
gives the same weights on the same machine. The group `pretrain` has the sizes of the model and the data; the group
`train` has steps, batch size and rates:

    ... --config.train.steps=30000 --config.pretrain.denoising_phase=0.3 --config.train.learning_rate=0.01

Variant:
    smoke     a few steps on a few rows, to check that everything works here
"""

from __future__ import annotations

import ml_collections

from infoprompt_jax import settings, variants
from infoprompt_jax.nano import world

SMOKE = {"pretrain.lines": 2000, "train.steps": 20, "train.log_every": 5, "task.eval_limit": 8}


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    config = settings.defaults()
    config.job = "pretrain"
    config.task.name = ",".join(world.PREFIX + name for name in world.HELD_IN)
    config.task.eval_limit = 200
    config.prompt.length = 0
    config.data.max_input_length = 64
    config.data.max_target_length = 16
    config.data.buckets = (32, 48, 64)
    config.pretrain.denoising_phase = 0.25
    config.pretrain.denoising_share = 0.25
    config.train.steps = 16000
    config.train.batch_size = 64
    config.train.learning_rate = 0.02  # times the size of the matrix that is stepped
    config.train.warmup = 0.03
    config.train.schedule = "cosine"
    config.train.weight_decay = 0.0
    config.train.log_every = 100
    config.train.save_every = 1000
    return variants.apply(config, variant, {"smoke": SMOKE})
