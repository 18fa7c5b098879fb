"""One run of the comparison of InfoPrompt with plain prompt tuning on public English tasks, on mini (docs/claims.md).

    python -m infoprompt_jax.main --config=experiments/real_config.py:sst2,64,static,200,plain,0-9 \\
        --config.data.dir=DATA

The text after the file's name has, by commas: a task of `TASKS`, the number of training examples (64, 256 or full), the
kind of prompt, the number of steps, an arm of `ARMS`, and the first and last seed. A run is a fleet with one member a
seed. Arms start from the same prompts and read the same batches. The validation rows are the last of the training
split, so that the test rows are all of the data set's own.
"""

from __future__ import annotations

from typing import Any

import ml_collections

from experiments.claims_config import RELEASED_TERMS
from experiments.forms_config import NONE
from infoprompt_jax import settings, variants
from infoprompt_jax.errors import UserError

VALIDATION = 256  # rows
Fields = dict[str, Any]


def packaged(name: str, template: str, test: str = "validation", metric: str = "accuracy") -> Fields:
    """A data set with one of the package's templates."""
    return {"task.name": name, "task.template": template, "task.test_split": test, "task.metric": metric}


def written(name: str, question: str, target: str, choices: str, test: str = "validation") -> Fields:
    """A data set with a template of its own."""
    template = {"task.input": question, "task.target": target, "task.answer_choices": choices}
    return {"task.name": name, **template, "task.test_split": test, "task.metric": "accuracy"}


TASKS: dict[str, Fields] = {  # in the order of their value
    "sst2": packaged("glue/sst2", "tone"),
    "trec": written(
        "trec",
        "{{ text }}\nWhat does this question ask for?",
        "{{ answer_choices[coarse_label] }}",
        "abbreviation ||| entity ||| description ||| person ||| place ||| number",
        "test",
    ),
    "mrpc": packaged("glue/mrpc", "restates"),
    "ag_news": packaged("ag_news", "topic", "test[:1000]"),
    "cr": written("cr", "{{ text }}\nTone of this review:", "{{ answer_choices[label] }}", "negative ||| positive"),
    "rte": packaged("super_glue/rte", "entails"),
    "qqp": written(
        "glue/qqp",
        "{{ question1 }}\n{{ question2 }}\nDo these questions ask the same?",
        "{{ answer_choices[label] }}",
        "no ||| yes",
    ),
    "cola": packaged("glue/cola", "native", metric="matthews"),
    "relations": packaged("sem_eval_2010_task_8", "phrase", "test[:1000]", "macro_f1"),
}
STEPS = {"64": 200, "256": 200, "full": 600}  # by the number of training examples
SCALE_FREE: Fields = {
    **variants.VARIANTS["infoprompt"],
    "infoprompt.score": "cosine",
    "infoprompt.head": "conditional",
    "infoprompt.negatives": "unprompted",
    "train.clip_apart": True,
}
ARMS: dict[str, Fields] = {
    "plain": NONE,
    "both": RELEASED_TERMS,
    "head": {**RELEASED_TERMS, "infoprompt.beta": 0.0},
    "representation": {**RELEASED_TERMS, "infoprompt.gamma": 0.0},
    "scale_free": SCALE_FREE,  # both terms, free of the vectors' scale, of the row's answer and of its prompt
}


def get_config(chosen: str = "sst2,64,static,200,plain,0-9") -> ml_collections.ConfigDict:
    task, shots, kind, steps, arm, seeds = chosen.split(",")
    for name, known in ((task, TASKS), (arm, ARMS)):
        if name not in known:
            raise UserError(f"The config has no {name!r}: choose from {', '.join(known)}.")
    config = variants.apply(settings.defaults(), "mini")
    config.update_from_flattened_dict({**TASKS[task], **ARMS[arm]})
    config.task.train_split, config.task.eval_split = f"train[:-{VALIDATION}]", f"train[-{VALIDATION}:]"
    config.task.shots, config.task.eval_limit = (0 if shots == "full" else int(shots)), 0
    config.data.max_input_length, config.data.buckets = 128, (32, 64, 96, 128)
    config.prompt.kind, config.train.steps = kind, int(steps)
    config.train.eval_every, config.train.log_every, config.train.save_every = int(steps) // 8, 10, 0
    config.train.eval_batch_size = 64
    first, last = (int(seed) for seed in seeds.split("-"))
    config.fleet.seeds, config.fleet.at_once = tuple(range(first, last + 1)), 10
    return config
