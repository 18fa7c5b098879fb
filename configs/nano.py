"""InfoPrompt beside plain prompt tuning in two minutes, with no download: what `make run` runs.

    python -m infoprompt_jax.main --config=configs/nano.py

The backbone is `nano`, the small T5 that comes with the package (docs/nano.md). The task is natural language inference.
Nano was not pretrained on it: without a soft prompt, it always gives the same answer. Four prompts are trained on 256
examples with InfoPrompt's two terms. Four more start from the same values, read the same batches and have no terms. The
table at the end compares their speed and accuracy; runs/nano/curves.png shows the curves.

    --config=configs/nano.py:TASK         entailment, causes, endings, pronouns, senses: not in the pretraining either;
                                          films: reviews, in the pretraining, but with other answers
    ... --config.task.shots=64            or 0 for all training rows
    ... --config.prompt.kind=instance     a prompt for every example
"""

from __future__ import annotations

import ml_collections

from infoprompt_jax import settings
from infoprompt_jax.nano import world

# One template for each task, so that a run takes minutes.
TEMPLATES = {
    "entailment": "follows",
    "inference": "yes maybe no",
    "causes": "go on",
    "endings": "options",
    "pronouns": "gap",
    "senses": "same meaning",
}


def get_config(task: str = "inference") -> ml_collections.ConfigDict:
    config = settings.defaults()
    config.backbone.name = "nano"
    config.backbone.remat = "none"
    config.backbone.unroll = 4
    config.task.name = world.PREFIX + task
    config.task.template = TEMPLATES.get(task, "all")
    if task == "films":
        config.task.input = "{{ text }}"
        config.task.target = "{{ answer_choices[label] }}"
        config.task.answer_choices = "stay away ||| go and see"
    config.task.shots = 256
    config.task.eval_split = "validation[:256]"
    config.task.test_split = "test"
    config.data.max_input_length = 64
    config.data.max_target_length = 16
    config.data.buckets = (32, 48, 64)
    config.prompt.length = 8
    config.infoprompt.update(gamma=0.1, beta=0.2)  # as the released code; the preset `plain` has none
    config.train.steps = 160
    config.train.batch_size = 8
    config.train.learning_rate = 1.0  # 0.3, 1 and 3 do equally well for plain prompt tuning in short trials
    config.train.eval_every = 10
    config.train.eval_batch_size = 64
    config.train.references = True
    config.fleet.seeds = (0, 1, 2, 3)
    config.fleet.presets = ("plain", "both")
    return config
