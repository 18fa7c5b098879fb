"""InfoPrompt beside plain prompt tuning in a minute, with no download: what `make run` runs.

    python -m infoprompt_jax.main --config=configs/nano.py

The backbone is `nano`, the small T5 that comes with the package (docs/nano.md). The task is natural language inference,
a family that it was not pretrained on: without a soft prompt it always answers the same. Four prompts are trained on
256 examples with InfoPrompt's two terms and, from the same first prompts and on the same batches, four without. The
table says how soon and how well; runs/nano/curves.png shows it.

    --config=configs/nano.py:TASK         entailment, causes, endings, pronouns, senses (held out, too), or films:
                                          reviews, held in, but in answers that the backbone has never given
    ... --config.task.shots=64            or 0 for all of the training rows
    ... --config.prompt.kind=instance     a prompt for every example
"""

from __future__ import annotations

import ml_collections

from infoprompt_jax import settings
from infoprompt_jax.nano import world

# One hard prompt each, so that a run takes minutes.
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
    config.train.steps = 160
    config.train.batch_size = 8
    config.train.learning_rate = 1.0  # of 0.3, 1 and 3, as good as any for plain prompt tuning in short trials
    config.train.eval_every = 10
    config.train.eval_batch_size = 64
    config.train.references = True
    config.fleet.seeds = (0, 1, 2, 3)
    config.fleet.presets = ("plain", "both")
    return config
