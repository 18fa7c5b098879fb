"""InfoPrompt beside plain prompt tuning in two minutes, with no download: what `make run` runs.

    python -m infoprompt_jax.main --config=configs/nano.py --workdir=runs/nano

The backbone is `nano`, the small T5 that comes with the package (docs/nano.md). The task is to judge reviews with 64
training examples, with no instruction and in answers that the backbone has never given: the soft prompt has to say what
is wanted. Four seeds are trained with InfoPrompt's two terms and, from the same first prompts and on the same batches,
four without. The table says how soon and how well; runs/nano/curves.png shows it.

    --config=configs/nano.py:TASK         a task of a family held out from pretraining: entailment, inference, causes,
                                          endings, pronouns, senses (docs/nano.md says how far the backbone gets)
    ... --config.task.shots=256           or 0 for all of the training rows
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
    "causes": "letters",
    "endings": "options",
    "pronouns": "gap",
    "senses": "same meaning",
}


def get_config(task: str = "films") -> ml_collections.ConfigDict:
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
    config.task.shots = 64
    config.task.eval_limit = 256
    config.task.test_split = "test"
    config.data.max_input_length = 64
    config.data.max_target_length = 16
    config.data.buckets = (32, 48, 64)
    config.prompt.length = 8
    config.train.steps = 300
    config.train.batch_size = 16
    config.train.learning_rate = 1.0  # best of 0.03, 0.1, 0.3 and 1 for plain prompt tuning, on validation rows
    config.train.eval_every = 20
    config.train.eval_batch_size = 64
    config.train.references = True
    config.fleet.seeds = (0, 1, 2, 3)
    config.fleet.variants = ("plain", "both")
    return config
