"""What InfoPrompt claims, measured on the nano backbone: one run of the experiment behind docs/claims.md.

    python -m infoprompt_jax.main --config=configs/nano_claims.py --workdir=runs/claims/entailment-256
    python -m experiments.claims run        # all runs, in order; the same command resumes
    python -m experiments.claims report     # docs/claims.md and its plots, from the results of the runs

A run is a fleet: {plain, head, representation, both} x 20 seeds, from the same first prompts and on the same batches.
What follows the file's name, separated by commas: the task (see configs/nano.py), the number of training examples (64,
256 or full) and what differs from the default, a static prompt and all four variants:

    pair            plain and both alone
    terms           head and representation alone: what `pair` left out
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
    probe=RUN       critics alone, on the finished prompts of RUN's directory: what MI the prompts of each variant carry

Instead of a task: sst2, rotten_tomatoes or ag_news, public text, with --config.data.dir=DATA.
"""

from __future__ import annotations

import pathlib
import runpy

import ml_collections

SEEDS = tuple(range(20))
FRESH = tuple(range(20, 50))  # none of SEEDS: what those found is tried again on these
VARIANTS = ("plain", "head", "representation", "both")
ESTIMATORS = ("nwj", "dv", "smile", "js")
PROBED = 10  # seeds
FACTORS = (0.3, 3.0, 10.0)
GENTLE = (0.1, 0.01)
PROBE_NEGATIVES = 1024  # log(1025) = 6.9 nats is the most that InfoNCE can then tell of the representation
EVALUATED, TESTED = 64, 512  # rows: every tenth step, and at the end
# data set, hard prompt, and what of it is trained on, chosen by and reported
REAL = {
    "sst2": ("glue/sst2", "tone", "train[:-500]", f"train[-{EVALUATED}:]", f"validation[:{TESTED}]"),
    "rotten_tomatoes": ("rotten_tomatoes", "tone", "train[:-500]", f"train[-{EVALUATED}:]", f"validation[:{TESTED}]"),
    "ag_news": ("ag_news", "topic", "test[:6000]", f"test[6000:{6000 + EVALUATED}]", f"test[-{TESTED}:]"),
}


def beside(name: str, *arguments: str) -> ml_collections.ConfigDict:
    """The config of another file in this directory."""
    return runpy.run_path(str(pathlib.Path(__file__).with_name(f"{name}.py")))["get_config"](*arguments)


def get_config(chosen: str = "entailment,256") -> ml_collections.ConfigDict:
    task, shots, *differs = chosen.split(",")
    config = beside("nano", "inference" if task in REAL else task)
    config.task.eval_split, config.task.test_split = f"validation[:{EVALUATED}]", f"test[:{TESTED}]"
    if task in REAL:
        real(config, task)
    config.task.shots = 0 if shots == "full" else int(shots)
    config.fleet.seeds = SEEDS
    config.fleet.presets = VARIANTS
    config.train.log_every = 20
    config.train.eval_batch_size = 16
    config.fleet.at_once = 8
    for change in differs:
        name, _, value = change.partition("=")
        CHANGES[name](config, value)
    return config


def real(config: ml_collections.ConfigDict, task: str) -> None:
    """Public text, which the backbone reads in pieces: set data.dir to a folder with the data set's files."""
    config.task.name, config.task.template, *splits = REAL[task]
    config.task.train_split, config.task.eval_split, config.task.test_split = splits
    config.data.max_input_length = 128
    config.data.buckets = (64, 96, 128)


def pair(config: ml_collections.ConfigDict, _: str) -> None:
    config.fleet.presets = ("plain", "both")


def terms(config: ml_collections.ConfigDict, _: str) -> None:
    config.fleet.presets = ("head", "representation")


def instance(config: ml_collections.ConfigDict, _: str) -> None:
    config.prompt.kind = "instance"


def fresh(config: ml_collections.ConfigDict, _: str) -> None:
    config.fleet.seeds = FRESH
    config.fleet.presets = ("plain", "head", "both")


def estimators(config: ml_collections.ConfigDict, _: str) -> None:
    config.fleet.presets = ("both",)
    config.fleet.members = tuple({"name": name, "infoprompt.estimator": name} for name in ESTIMATORS)


def initial(config: ml_collections.ConfigDict, _: str) -> None:
    config.data.seed = 0


def long(config: ml_collections.ConfigDict, _: str) -> None:
    config.fleet.presets = ("plain", "head", "both")
    config.train.steps *= 4
    config.train.eval_every *= 4


def gentle(config: ml_collections.ConfigDict, _: str) -> None:
    config.fleet.presets = ("both",)
    config.fleet.members = tuple(
        {"name": f"{name}-x{factor:g}", "infoprompt.estimator": name, **weighted(config.infoprompt, factor)}
        for name in ESTIMATORS[:3]
        for factor in GENTLE
    )


def weighted(info: ml_collections.ConfigDict, factor: float) -> dict[str, float]:
    """A member's weights of both terms, as a factor of the run's."""
    return {"infoprompt.gamma": factor * info.gamma, "infoprompt.beta": factor * info.beta}


def weights(config: ml_collections.ConfigDict, _: str) -> None:
    config.fleet.presets = ("both",)
    config.fleet.members = tuple({"name": f"x{factor:g}", **weighted(config.infoprompt, factor)} for factor in FACTORS)


def head(config: ml_collections.ConfigDict, _: str) -> None:
    config.fleet.presets = ("head",)
    gamma = config.infoprompt.gamma  # a member's own beta would be in the place of the variant's 0
    config.fleet.members = tuple({"name": f"x{factor:g}", "infoprompt.gamma": factor * gamma} for factor in FACTORS)


def critic(config: ml_collections.ConfigDict, _: str) -> None:
    config.fleet.presets = ("both",)
    config.infoprompt.critic = "dot"


def rates(config: ml_collections.ConfigDict, _: str) -> None:
    config.fleet.presets = ("plain", "both")
    rate = config.train.learning_rate
    config.fleet.members = tuple(
        {"name": f"x{factor:g}", "train.learning_rate": factor * rate} for factor in FACTORS[:2]
    )


def negatives(config: ml_collections.ConfigDict, _: str) -> None:
    config.fleet.presets = ("both",)
    config.infoprompt.negatives = "in_batch"


def mean_encoder(config: ml_collections.ConfigDict, _: str) -> None:
    config.fleet.presets = ("both",)
    config.infoprompt.representation = "mean_encoder"


def decay(config: ml_collections.ConfigDict, _: str) -> None:
    config.fleet.presets = ("both",)
    config.infoprompt.decay = 1.0


def released(config: ml_collections.ConfigDict, _: str) -> None:
    own = beside("released_code")
    config.infoprompt, config.prompt = own.infoprompt, own.prompt
    for field in ("task_loss", "optimizer", "learning_rate", "schedule", "warmup", "weight_decay", "batch_size"):
        config.train[field] = own.train[field]
    config.fleet.presets = ("plain", "both")
    config.train.steps = 320  # 10 epochs of 256 examples
    config.train.eval_every = 20


def probe(config: ml_collections.ConfigDict, run: str) -> None:
    config.fleet.presets = ("run",)
    config.fleet.members = tuple(
        {"name": f"{variant}-seed{seed}", "seed": seed, "prompt.init": f"{run}/prompts/{variant}-seed{seed}"}
        for variant in VARIANTS
        for seed in SEEDS[:PROBED]
    )
    config.fleet.seeds = ()
    config.infoprompt.negatives_per_example = PROBE_NEGATIVES
    config.train.learning_rate = 0.0
    config.train.log_every = 4
    config.train.eval_every = 0
    config.task.eval_split = "validation[:16]"  # the prompts were evaluated by their own run
    config.task.test_split = ""
    config.train.references = False


CHANGES = {
    "pair": pair,
    "terms": terms,
    "instance": instance,
    "fresh": fresh,
    "initial": initial,
    "long": long,
    "estimators": estimators,
    "gentle": gentle,
    "weights": weights,
    "head": head,
    "critic": critic,
    "rates": rates,
    "negatives": negatives,
    "mean_encoder": mean_encoder,
    "decay": decay,
    "released_code": released,
    "probe": probe,
}
