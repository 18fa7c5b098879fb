"""One run of the experiment that chooses a form of InfoPrompt's terms and confirms it (docs/claims.md, Protocol).

    python -m infoprompt_jax.main --config=experiments/forms_config.py:entailment,256,static,160,plain,0-9

The text after the file's name has, by commas: a task, the number of training examples (64, 256 or full), the kind of
prompt, the number of steps, an arm of `ARMS`, and the first and last seed; `initial` after them gives all seeds the
same examples in the same order. A run is a fleet with one member a seed. Arms that differ in their terms alone start
from the same prompts and read the same batches.
"""

from __future__ import annotations

import pathlib
from typing import Any

import ml_collections

from experiments.claims_config import RELEASED_TERMS
from infoprompt_jax.command_line import read_config
from infoprompt_jax.errors import UserError

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"
CHOOSING = ("entailment", "inference", "causes")  # tasks that the form is chosen on
CONFIRMING = ("endings", "pronouns", "films", "rewordings", "grammar", "relations")  # tasks that it is confirmed on
# Held-in data sets without their question, so that a prompt has to learn it: the config whose counterpart they are.
WITHOUT_QUESTION = {"rewordings": "mrpc", "grammar": "cola", "relations": "semeval"}
SAME_CHOICES = (
    "films",
    "rewordings",
    "grammar",
    "relations",
)  # of CONFIRMING: all rows have the same, so init=labels fits
TESTED = 512  # rows, at the end

Fields = dict[str, Any]

NONE: Fields = {"infoprompt.gamma": 0.0, "infoprompt.beta": 0.0}
COSINE: Fields = {"infoprompt.score": "cosine", "train.clip_apart": True}


def start(steps: int) -> Fields:
    """Plain prompt tuning from a prompt that took so many steps on the head loss alone."""
    return {**head("answer", 0.0), "infoprompt.head_steps": steps}


def head(form: str, gamma: float, temperature: float = 0.1) -> Fields:
    """The head term alone."""
    weights = {"infoprompt.gamma": gamma, "infoprompt.beta": 0.0, "infoprompt.temperature": temperature}
    return {**COSINE, **weights, "infoprompt.head": form}


def representation(negatives: str, beta: float, temperature: float = 0.5) -> Fields:
    """The representation term alone."""
    weights = {"infoprompt.gamma": 0.0, "infoprompt.beta": beta, "infoprompt.temperature": temperature}
    return {**COSINE, **weights, "infoprompt.negatives": negatives, "infoprompt.noise": "relative"}


ARMS: dict[str, Fields] = {
    "plain": NONE,
    "labels": {**NONE, "prompt.init": "labels"},
    "released": RELEASED_TERMS,
    "start10": start(10),
    "start40": start(40),
    "answer0.1": head("answer", 0.1),
    "conditional0.3": head("conditional", 0.3),
    "conditional1": head("conditional", 1.0),
    "conditional3": head("conditional", 3.0),
    "unprompted0.2": representation("unprompted", 0.2),
    "shuffled0.2": representation("shuffled", 0.2),
    "answer1": head("answer", 1.0),
}
ARMS |= {f"{arm}-placebo": {**ARMS[arm], "infoprompt.placebo": True} for arm in ("start10", "answer1")}


def get_config(chosen: str = "entailment,256,static,160,plain,0-9") -> ml_collections.ConfigDict:
    task, shots, kind, steps, arm, seeds, *initial = chosen.split(",")
    if arm not in ARMS:
        raise UserError(f"The config has no arm {arm!r}: choose from {', '.join(ARMS)}.")
    config = read_config(f"{CONFIGS}/nano.py:{'films' if task in WITHOUT_QUESTION else task}")
    if task in WITHOUT_QUESTION:
        config.task = read_config(f"{CONFIGS}/{WITHOUT_QUESTION[task]}.py:nano").task
        config.task.train_split, config.task.eval_limit = "train", 0
    few = task in CHOOSING  # choices are made by fewer evaluations of fewer rows
    config.task.shots = 0 if shots == "full" else int(shots)
    config.task.eval_split, config.task.test_split = f"validation[:{256 if few else 512}]", f"test[:{TESTED}]"
    config.task.metric = "accuracy"
    config.prompt.kind, config.train.steps = kind, int(steps)
    config.train.eval_every = 20 if int(steps) <= 160 and not few else 40
    config.train.eval_batch_size, config.train.log_every, config.train.save_every = 32, 10, 0
    config.data.seed = 0 if initial else -1
    first, last = (int(seed) for seed in seeds.split("-"))
    config.fleet.seeds, config.fleet.presets, config.fleet.at_once = (
        tuple(range(first, last + 1)),
        ("run",),
        8 if few else 10,
    )
    config.update_from_flattened_dict(ARMS[arm])
    return config
