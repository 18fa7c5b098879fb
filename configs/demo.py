"""The demonstration behind `make run`: every part of the system in a minute, with no download.

    python -m infoprompt_jax.demo runs/demo-data
    python -m infoprompt_jax.main --config=configs/demo.py --workdir=runs/demo

The backbone is a tiny T5 with RANDOM weights and the task is generated (which of two kinds of words fills a line?), so
the scores show that the machinery works and nothing about the method. A fleet of two paired seeds is trained with and
without InfoPrompt's terms, in one run.
"""

from __future__ import annotations

import ml_collections

from infoprompt_jax import settings


def get_config() -> ml_collections.ConfigDict:
    config = settings.defaults()
    config.backbone.name = "random"
    config.data.dir = "runs/demo-data"
    config.task.name = "generated/words"
    config.task.input = "{{ words }}"
    config.task.target = "{{ answer_choices[label] }}"
    config.task.answer_choices = "animals ||| tools"
    config.prompt.length = 8
    config.train.task_loss = "verbalizer"
    config.train.steps = 300
    config.train.batch_size = 16
    config.train.eval_every = 50
    config.data.max_input_length = 64
    config.fleet.seeds = (0, 1)
    config.fleet.variants = ("both", "plain")
    return config
