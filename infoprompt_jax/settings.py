"""The config: every field with its default, and what a config is checked for before a job does anything.

A file in `configs/` starts from `defaults()`, sets what its run is about and returns the config; the command line
overrides single fields (`--config.train.steps=100`). The config is locked: a field that is not listed here is refused,
in a file and on the command line. Lists are tuples, so that the command line can hold them: `"(0,1,2)"`.

`run_fields.py` and `recipe_fields.py` declare each field once. The reference as tables is docs/configuration.md, which
this command writes:

    python -m infoprompt_jax.settings > docs/configuration.md
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import ml_collections

from infoprompt_jax import member_names
from infoprompt_jax.errors import UserError
from infoprompt_jax.fields import Field, shortened
from infoprompt_jax.recipe_fields import FLEET, INFOPROMPT, PRETRAIN, PROMPT, ROSPR, TRAIN
from infoprompt_jax.run_fields import BACKBONE, DATA, MESH, RUN, SCORING, TASK

SECTIONS = (RUN, BACKBONE, DATA, TASK, PROMPT, INFOPROMPT, TRAIN, FLEET, MESH, SCORING, ROSPR, PRETRAIN)
FIELDS: dict[str, Field] = {name: field for section in SECTIONS for name, field in section.named()}
RENAMED = {"fleet.variants": "fleet.presets"}  # fields of former versions


def defaults() -> ml_collections.ConfigDict:
    """All fields with their defaults: Lester et al.'s recipe plus InfoPrompt's terms, on T5 base LM-adapt."""
    groups = {section.name: section.defaults() for section in SECTIONS if section is not RUN}
    return ml_collections.ConfigDict({**RUN.defaults(), **groups}).lock()


def check(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """The config itself, if every field is known, of its type and in its range, and the fields fit each other.

    The same holds for what `fleet.members` sets.

    Raises:
      UserError: naming the first field that is not, what it holds and what it may hold.
    """
    given = flatten(config.to_dict())
    for field in given:
        if field not in FIELDS:
            raise UserError(f"The config sets {field}, which does not exist{nearest(field, FIELDS)}")
    for name, field in FIELDS.items():
        if name not in given:
            raise UserError(f"The config lacks {name}: start from infoprompt_jax.settings.defaults().")
        field.check(name, given[name])
    for fields in config.fleet.members:
        check_member(fields)
    check_fit(config)
    return config


def check_member(fields: Mapping[str, Any]) -> None:
    """Raises UserError unless a member of a fleet may set these fields, and its `name`, to these values."""
    for field, value in fields.items():
        if field == "name":
            member_names.check(value)
        elif not (field in FIELDS and FIELDS[field].member):
            allowed = ", ".join(name for name, known in FIELDS.items() if known.member)
            hint = "which all members share" if field in FIELDS else "which does not exist"
            raise UserError(f"fleet.members sets {shortened(field)}, {hint}: a member may set {allowed}.")
        else:
            FIELDS[field].check(f"fleet.members: {field}", value)


def check_fit(config: ml_collections.ConfigDict) -> None:
    """Raises UserError unless the fields, each in its range, fit each other."""
    length, train, terms = config.prompt.length, config.train, config.infoprompt
    if length > config.data.max_input_length:
        raise UserError(
            f"prompt.length={length} is longer than the longest input, data.max_input_length="
            f"{config.data.max_input_length}: choose a shorter prompt."
        )
    if config.job == "train" and length == 0:
        raise UserError("prompt.length=0 leaves nothing to train: choose 1 or more, or job=evaluate.")
    if train.batch_size % train.accumulate:
        raise UserError(
            f"train.batch_size={train.batch_size} does not divide into train.accumulate={train.accumulate} "
            "micro-batches: choose a multiple."
        )
    if length and train.task_loss == "verbalizer" and config.scoring.normalize != "none":
        raise UserError(
            f"scoring.normalize={config.scoring.normalize!r} divides log-probabilities, but train.task_loss="
            "'verbalizer' ranks by the scores of a trained head: set scoring.normalize='none'."
        )
    check_terms(config)
    if terms.variational and terms.representation == "mean_encoder" and train.task_loss != "verbalizer":
        raise UserError(
            "infoprompt.variational reads the decoder's state unless train.task_loss='verbalizer': set "
            "infoprompt.representation='decoder'."
        )


def check_terms(config: ml_collections.ConfigDict) -> None:
    """Raises UserError unless the fields of the information terms fit each other."""
    terms = config.infoprompt
    if terms.variational and terms.negatives == "unprompted":
        raise UserError(
            "infoprompt.negatives='unprompted' compares representations that infoprompt.variational has changed with "
            "some that it has not: choose negatives='posterior'."
        )
    if terms.noise == "relative" and terms.negatives == "posterior" and not terms.cache_features:
        raise UserError(
            "infoprompt.noise='relative' measures the spread of cached features: set infoprompt.cache_features=True."
        )
    if terms.head_steps > config.train.steps:
        raise UserError(
            f"infoprompt.head_steps={terms.head_steps} reads more batches than there are in train.steps="
            f"{config.train.steps}: choose fewer."
        )
    if terms.head_steps and terms.head == "conditional":
        raise UserError(
            f"infoprompt.head_steps={terms.head_steps} starts from the prompt alone, but infoprompt.head='conditional' "
            "reads the prompted representation: choose head='answer', or head_steps=0."
        )


def for_job(config: ml_collections.ConfigDict, job: str) -> ml_collections.ConfigDict:
    """A checked copy of the config that runs this job, for the job's function that is called from Python.

    Raises:
      UserError: as `check`.
    """
    made = config.copy_and_resolve_references()
    made.job = job
    return check(made)


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} to {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {prefix + key: value}
    return flat


def nearest(field: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown field."""
    if field in RENAMED:
        return f": it is called {RENAMED[field]} now."
    close = difflib.get_close_matches(field, list(known), n=1)
    return f": did you mean {close[0]}?" if close else "; docs/configuration.md lists all fields."


def page() -> str:
    """The text of docs/configuration.md."""
    introduction = """\
# Configuration

Written by `python -m infoprompt_jax.settings > docs/configuration.md` from the declarations in
[`run_fields.py`](../infoprompt_jax/run_fields.py) and [`recipe_fields.py`](../infoprompt_jax/recipe_fields.py).

A file in `configs/` sets fields, `config.train.steps = 4000`; the command line overrides them,
`--config.train.steps=100`. An unknown field or a value out of range ends the command with one sentence. The last column
names who else may set a field: members of a fleet, each for itself (`fleet.members`), and runs that are resumed. A
longer run is a run, finished or not, that goes on with a larger number, or with a value where it had none
([training](training.md#longer-runs)). All other fields must have the run's own values.

The configs come with the package. `--config=configs/rte.py` is the working directory's own file; where there is none,
it is the package's, and the first line of the log has its path. `--help` lists them.
"""
    return "\n".join([introduction, *(section.page() for section in SECTIONS)])


if __name__ == "__main__":
    print(page(), end="")
