"""Pretrains `mini`, the backbone of real English, on a corpus of public text and T0's source tasks.

    python -m experiments.mini_corpus FOLDER --out runs/mini_corpus
    python -m infoprompt_jax.main --config=configs/mini_pretrain.py

The first command makes the corpus from downloaded data sets and texts; docs/mini.md lists them. The second trains the
vocabulary (WORKDIR/vocabulary) and the model; the result is the Hugging Face directory WORKDIR/backbone. The same
command resumes a stopped run. The table at the end is the accuracy on validation rows of tasks that it was trained on.

Variants:
    gpu       the backbone that is shipped: 19 M weights in bfloat16, for eight minutes on an H100
    longer    goes on from the shipped one for as long, with prompted rows alone but for one in twenty
    cpu       8 M weights in float32, for about six hours on two cores
    smoke     a few steps of a tiny model, to check that everything works here
"""

from __future__ import annotations

import ml_collections

from infoprompt_jax import settings, variants

GPU = {
    "pretrain.d_model": 384,
    "pretrain.num_heads": 6,
    "pretrain.d_ff": 768,
    "pretrain.num_layers": 8,
    "pretrain.dtype": "bfloat16",
    "pretrain.minutes": 8.0,
    "train.batch_size": 256,
    "train.log_every": 10,
    "train.save_every": 0,
    "data.threads": 6,
}
LONGER = {
    **GPU,
    "pretrain.start_from": "mini",
    "pretrain.denoising_phase": 0.0,
    "pretrain.denoising_share": 0.05,
    "train.learning_rate": 0.005,
}
CPU = {
    "pretrain.d_model": 256,
    "pretrain.num_heads": 4,
    "pretrain.d_ff": 640,
    "pretrain.num_layers": 6,
    "data.max_input_length": 128,
    "data.max_target_length": 32,
    "data.buckets": (32, 64, 128),
    "pretrain.minutes": 350.0,
    "train.batch_size": 48,
}
SMOKE = {
    "pretrain.d_model": 64,
    "pretrain.num_heads": 2,
    "pretrain.d_kv": 32,
    "pretrain.d_ff": 128,
    "pretrain.num_layers": 2,
    "pretrain.num_decoder_layers": 1,
    "pretrain.measurements": 2,
    "pretrain.minutes": 0.0,
    "pretrain.start_from": "",
    "train.steps": 20,
    "train.batch_size": 8,
    "train.log_every": 5,
    "task.eval_limit": 4,
}


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    config = settings.defaults()
    config.job = "pretrain"
    config.prompt.length = 0
    config.data.max_input_length = 256
    config.data.max_target_length = 64
    config.data.buckets = (64, 128, 256)
    config.pretrain.corpus = "runs/mini_corpus"
    config.pretrain.pieces = 8092  # with 100 sentinels, 8192 rows
    config.pretrain.cased = True
    config.pretrain.tied = True
    config.pretrain.d_kv = 64
    config.pretrain.num_decoder_layers = 2
    config.pretrain.denoising_phase = 0.35
    config.pretrain.denoising_share = 0.3
    config.pretrain.measurements = 8
    config.train.learning_rate = 0.01  # times the size of the matrix that is stepped
    config.train.warmup = 0.03
    config.train.schedule = "cosine"
    config.train.weight_decay = 0.0
    config.train.log_every = 100
    config.train.save_every = 1000
    config.task.eval_limit = 0
    return variants.apply(config, variant or "gpu", {"gpu": GPU, "longer": LONGER, "cpu": CPU, "smoke": SMOKE})
