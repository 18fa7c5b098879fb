"""What InfoPrompt claims, measured on the nano backbone: the config of one run of the experiment behind docs/claims.md.

    python -m infoprompt_jax.main --config=experiments/claims_config.py --workdir=runs/claims/entailment-256
    python -m experiments.claims run        # all runs, in order; the same command resumes
    python -m experiments.claims report     # docs/claims.md and its plots, from the results of the runs

A run is a fleet: {plain, head, representation, both} x 20 seeds, from the same first prompts and on the same batches.
What follows the file's name, separated by commas: the task (see configs/nano.py), the number of training examples (64,
256 or full) and what differs from the default, a static prompt and all four presets:

    pair            plain and both alone
    terms           head and representation alone, the presets that `pair` leaves out
    instance        a prompt for every example instead of one for all
    fresh           plain, head and both on 30 seeds that no other run has (20 to 49)
    initial         the same examples in the same order for all seeds, which then differ in their first prompt and noise
    long            four times the steps; without the representation term alone
    estimators      {nwj, dv, smile, js} x both; infonce is the default run
    gentle          nwj, dv and smile x both, at a tenth and a hundredth of the weights
    weights         both terms at 0.3, 3 and 10 times their weights
    head            the head term alone, at these weights
    rates           plain and both at 0.3 and 3 times the learning rate
    negatives       both, with the other rows of the batch as negatives
    mean_encoder    both, with the mean of the encoder's states as Z
    decay           both, with weights that fall to zero over the run
    critic          both, with a dot product as the head term's critic instead of a bilinear form
    released_code   the recipe and objective of the released code, with and without its terms
    probe=RUN       critics alone, on the finished prompts of RUN's directory: the MI that each preset's prompts carry

Instead of a task: sst2, rotten_tomatoes or ag_news, public text, with --config.data.dir=DATA.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import ml_collections

from infoprompt_jax.command_line import read_config
from infoprompt_jax.errors import UserError

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"
SEEDS = tuple(range(20))
FRESH = tuple(range(20, 50))  # none of SEEDS: a replication of what those show
PRESETS = ("plain", "head", "representation", "both")
ESTIMATORS = ("nwj", "dv", "smile", "js")
PROBED = 10  # seeds
FACTORS = (0.3, 3.0, 10.0)
GENTLE = (0.1, 0.01)
PROBE_NEGATIVES = 1024  # log(1025) = 6.9 nats is the most that InfoNCE can then estimate of the representation
EVALUATED, TESTED = 64, 512  # rows: every tenth step, and at the end
# data set, template, and the splits: training, evaluation (chosen by) and test (reported)
REAL = {
    "sst2": ("glue/sst2", "tone", "train[:-500]", f"train[-{EVALUATED}:]", f"validation[:{TESTED}]"),
    "rotten_tomatoes": ("rotten_tomatoes", "tone", "train[:-500]", f"train[-{EVALUATED}:]", f"validation[:{TESTED}]"),
    "ag_news": ("ag_news", "topic", "test[:6000]", f"test[6000:{6000 + EVALUATED}]", f"test[-{TESTED}:]"),
}
RECIPE = ("task_loss", "optimizer", "learning_rate", "schedule", "warmup", "weight_decay", "batch_size")

Fields = dict[str, Any]

# The terms as in the released code, whatever the defaults are; experiments/forms_config.py has other forms of them.
RELEASED_TERMS: Fields = {
    "infoprompt.gamma": 0.1,
    "infoprompt.beta": 0.2,
    "infoprompt.head": "released_code",
    "infoprompt.head_steps": 0,
    "infoprompt.score": "product",
    "infoprompt.negatives": "posterior",
    "infoprompt.noise": "absolute",
    "train.clip_apart": False,
}


def get_config(chosen: str = "entailment,256") -> ml_collections.ConfigDict:
    task, shots, *differs = chosen.split(",")
    config = read_config(f"{CONFIGS}/nano.py:{'inference' if task in REAL else task}")
    config.task.eval_split, config.task.test_split = f"validation[:{EVALUATED}]", f"test[:{TESTED}]"
    if task in REAL:
        config.task.name, config.task.template, *splits = REAL[task]
        config.task.train_split, config.task.eval_split, config.task.test_split = splits
        config.data.max_input_length, config.data.buckets = 128, (64, 96, 128)  # nano's vocabulary splits public text
    config.update_from_flattened_dict(RELEASED_TERMS)
    config.task.shots = 0 if shots == "full" else int(shots)
    config.fleet.seeds, config.fleet.presets, config.fleet.at_once = SEEDS, PRESETS, 8
    config.train.log_every, config.train.eval_batch_size = 20, 16
    for difference in differs:
        name, _, value = difference.partition("=")
        config.update_from_flattened_dict(fields(name, value, config))
    return config


def fields(name: str, value: str, config: ml_collections.ConfigDict) -> Fields:
    """The fields that a run sets instead of the default's. Raises UserError for an unknown name."""
    if name == "probe":
        return probe(value)
    if name in COMPUTED:
        return COMPUTED[name](config)
    if name not in FIXED:
        known = (*FIXED, *COMPUTED, "probe=RUN")
        raise UserError(f"The config has no variant {name!r}: choose from {', '.join(known)}.")
    return FIXED[name]


FIXED: dict[str, Fields] = {
    "pair": {"fleet.presets": ("plain", "both")},
    "terms": {"fleet.presets": ("head", "representation")},
    "instance": {"prompt.kind": "instance"},
    "fresh": {"fleet.presets": ("plain", "head", "both"), "fleet.seeds": FRESH},
    "initial": {"data.seed": 0},
    "estimators": {
        "fleet.presets": ("both",),
        "fleet.members": tuple({"name": name, "infoprompt.estimator": name} for name in ESTIMATORS),
    },
    "negatives": {"fleet.presets": ("both",), "infoprompt.negatives": "in_batch"},
    "mean_encoder": {"fleet.presets": ("both",), "infoprompt.representation": "mean_encoder"},
    "decay": {"fleet.presets": ("both",), "infoprompt.decay": 1.0},
    "critic": {"fleet.presets": ("both",), "infoprompt.critic": "dot"},
}


def long(config: ml_collections.ConfigDict) -> Fields:
    lengths = {f"train.{field}": 4 * config.train[field] for field in ("steps", "eval_every")}
    return {"fleet.presets": ("plain", "head", "both"), **lengths}


def gentle(config: ml_collections.ConfigDict) -> Fields:
    members = tuple(
        {"name": f"{name}-x{factor:g}", "infoprompt.estimator": name, **weighted(config, factor)}
        for name in ESTIMATORS[:3]
        for factor in GENTLE
    )
    return {"fleet.presets": ("both",), "fleet.members": members}


def weights(config: ml_collections.ConfigDict) -> Fields:
    members = tuple({"name": f"x{factor:g}", **weighted(config, factor)} for factor in FACTORS)
    return {"fleet.presets": ("both",), "fleet.members": members}


def weighted(config: ml_collections.ConfigDict, factor: float) -> Fields:
    """A member's weights of both terms, as a factor of the run's."""
    return {f"infoprompt.{weight}": factor * config.infoprompt[weight] for weight in ("gamma", "beta")}


def head(config: ml_collections.ConfigDict) -> Fields:
    gamma = config.infoprompt.gamma
    members = tuple({"name": f"x{factor:g}", "infoprompt.gamma": factor * gamma} for factor in FACTORS)
    return {"fleet.presets": ("head",), "fleet.members": members}


def rates(config: ml_collections.ConfigDict) -> Fields:
    rate = config.train.learning_rate
    members = tuple({"name": f"x{factor:g}", "train.learning_rate": factor * rate} for factor in FACTORS[:2])
    return {"fleet.presets": ("plain", "both"), "fleet.members": members}


def released_code(_: ml_collections.ConfigDict) -> Fields:
    released = read_config(f"{CONFIGS}/released_code.py")
    taken = {"infoprompt": released.infoprompt, "prompt": released.prompt}
    taken["train"] = {field: released.train[field] for field in RECIPE}
    recipe = {f"{section}.{field}": value for section, group in taken.items() for field, value in group.items()}
    # 320 steps are 10 epochs of 256 examples.
    return {**recipe, "fleet.presets": ("plain", "both"), "train.steps": 320, "train.eval_every": 20}


def probe(run: str) -> Fields:
    """Trains critics at a learning rate of zero for the prompts, which their own run has evaluated."""
    names = [(f"{preset}-seed{seed}", seed) for preset in PRESETS for seed in SEEDS[:PROBED]]
    return {
        "fleet.presets": ("run",),
        "fleet.members": tuple({"name": n, "seed": seed, "prompt.init": f"{run}/prompts/{n}"} for n, seed in names),
        "fleet.seeds": (),
        "infoprompt.negatives_per_example": PROBE_NEGATIVES,
        "train.learning_rate": 0.0,
        "train.log_every": 4,
        "train.eval_every": 0,
        "train.references": False,
        "task.eval_split": "validation[:16]",
        "task.test_split": "",
    }


COMPUTED: dict[str, Callable[[ml_collections.ConfigDict], Fields]] = {
    "long": long,
    "gentle": gentle,
    "weights": weights,
    "head": head,
    "rates": rates,
    "released_code": released_code,
}
