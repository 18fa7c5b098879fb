"""The config of a job that uses a saved prompt, with what the prompt records.

A field that the command line sets counts first, then the prompt's record, then the config file. `task.template=""`
stands for the templates that the prompt records:

| job | task.name | templates |
|---|---|---|
| any | any, and fields of a template are set on the command line | those |
| predict | not set on the command line | the prompt's |
| both | data sets that the prompt was trained on, or "" | the prompt's, of these data sets |
| both | another data set | the config's |

The recorded templates have the recorded metric, unless the command line sets `task.metric`.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Collection, Sequence

import ml_collections

from infoprompt_jax import files, settings
from infoprompt_jax.errors import UserError
from infoprompt_jax.fleet.members import Member
from infoprompt_jax.prompts import hub, saved
from infoprompt_jax.prompts.prompts import INITIALIZERS
from infoprompt_jax.prompts.saved import Prompt
from infoprompt_jax.training.recorded import (
    FIELD,
    FIELDS,
    SHARED,
    USES,
    check_length,
    recorded_fields,
    recorded_tasks,
    value_of,
)

TEMPLATES = ("task.template", "task.templates_dir", "task.input", "task.target", "task.answer_choices")

BACKBONE = "backbone.name"
METRIC = "task.metric"  # "" = as recorded, with the recorded templates

log = logging.getLogger(__name__)


def completed(config: ml_collections.ConfigDict, typed: Collection[str] = ()) -> ml_collections.ConfigDict:
    """The config of a job that uses a saved prompt, with what the prompt records; any other config as it is.

    The prompt's length and the fields in RECORDED come from the prompt. So do the templates, unless the config of an
    evaluation names another data set.

    Args:
      typed: fields that the command line sets, which keep their values.

    Raises:
      UserError: `prompt.init` holds no prompt, a damaged one, one of another length than typed, or prompts that record
        different values of a field in SHARED.
    """
    if config.job not in USES or config.prompt.init in INITIALIZERS:
        return config
    path = prompt_path(config)
    prompt = saved.load_prompt(path, FIELD)
    if "prompt.length" in typed and config.prompt.length and not config.prompt.by:
        check_length(prompt, path, config.prompt.length)
    if len(paths := saved.listed(config.prompt.init)) > 1:
        check_alike(list(map(str, paths)), typed)
    fields = _backbone(config, prompt, path, typed) | recorded_fields(prompt) | {"prompt.length": len(prompt.value_PD)}
    fields |= _templates(config, prompt, typed)
    config = config.copy_and_resolve_references()
    if config.job == "predict" and not config.prompt.by:
        config.prompt.init = path
    changed = {f: value for f, value in fields.items() if f not in typed and value_of(config, f) != value}
    try:
        config.update_from_flattened_dict(changed)
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(f"prompt.init: {path!r} records {FIELDS} that cannot be read ({error}).") from error
    if changed:
        emptied = [f for f in (*TEMPLATES, METRIC) if changed.get(f) == ""]  # which stand for what the prompt records
        logged = [f"{field}={json.dumps(value)}" for field, value in changed.items() if field not in emptied]
        log.info("From prompt.init: %s", ", ".join(logged + ["the templates"] * bool(emptied)))
    return config


def _backbone(config: ml_collections.ConfigDict, prompt: Prompt, path: str, typed: Collection[str]) -> dict[str, str]:
    """The backbone that a prompt without a record names, as PEFT's adapters do, where the config has the default.

    No fingerprint tells whether another one of its width is the right one.
    """
    named, ours = _named_backbone(prompt), config.backbone.name
    if FIELDS in prompt.metadata or ours in named.values():
        return {}
    if ours == settings.FIELDS[BACKBONE].default and BACKBONE not in typed:
        return named
    for other in named.values():
        log.warning("prompt.init: %r was trained on %s, and is used with backbone.name=%s.", path, other, ours)
    return {}


def _named_backbone(prompt: Prompt) -> dict[str, str]:
    """The field with the backbone that a prompt's metadata name; {} where they name none."""
    named = prompt.metadata.get("backbone")
    return {BACKBONE: named} if isinstance(named, str) and named else {}


def _templates(config: ml_collections.ConfigDict, prompt: Prompt, typed: Collection[str]) -> dict[str, str]:
    """The fields that select the recorded templates; {} where the config's stand."""
    known = recorded_tasks(prompt, config.prompt.init)
    datasets = list(dict.fromkeys(task.name for task in known))
    named = [name.strip() for name in config.task.name.split(",") if name.strip()]
    if config.job == "predict" and "task.name" not in typed:
        named = []  # the config file names the data set of its rows, which are not read
    if (fields := [f for f in TEMPLATES if f in typed]) and not named and not config.task.input:
        raise UserError(
            f"{fields[0]} is set, but neither task.input nor task.name: set task.input for a template of your own, "
            "task.name for one of a data set, or neither for the templates that prompt.init records."
        )
    if not set(TEMPLATES) & set(typed) and datasets and set(named) <= set(datasets):
        another = config.prompt.by or any(task.metric != config.task.metric for task in known)
        return dict.fromkeys((*TEMPLATES, *[METRIC] * bool(another)), "") | {"task.name": ",".join(named or datasets)}
    return {} if config.task.template or config.task.input or not named else {"task.template": "all"}


def prompt_path(config: ml_collections.ConfigDict) -> str:
    """The saved prompt that `prompt.init` names: a path or a hub id; of a directory of prompts, the first one.

    Raises:
      UserError: there is none; or the job needs one prompt, and the directory has several.
    """
    path = config.prompt.init
    places = [str(place) for place in saved.listed(path)]
    if not places and not hub.is_identifier(path):
        raise UserError(f"prompt.init={path!r} is not the path of a saved prompt, such as runs/rte/prompts/run.")
    if len(places) > 1 and config.job == "predict" and not config.prompt.by:
        raise UserError(
            f"prompt.init={path!r} holds several prompts: set prompt.init to one of {', '.join(places)}, or prompt.by "
            "to the column that names each row's."
        )
    return places[0] if places else path


def check_alike(paths: Sequence[str], typed: Collection[str]) -> None:
    """Raises UserError where prompts record different values of a field that one job has for all of them."""
    loaded = {path: saved.load_prompt(path, FIELD) for path in paths}
    records = {path: _named_backbone(prompt) | recorded_fields(prompt) for path, prompt in loaded.items()}
    for field in SHARED:
        values = {json.dumps(record[field]): path for path, record in records.items() if field in record}
        if len(values) > 1 and field not in typed:
            differing = " and ".join(f"{value} ({path})" for value, path in list(values.items())[:2])
            raise UserError(
                f"The prompts in prompt.init record different {field}, {differing}: set {field} for all of them, or "
                "use those of one value at a time."
            )


def is_untrained(config: ml_collections.ConfigDict) -> bool:
    """Whether the config's prompt is a new one."""
    return bool(config.prompt.length) and config.prompt.init in INITIALIZERS


def check_trained(config: ml_collections.ConfigDict) -> None:
    """Raises UserError where a job that uses a prompt as it is would take an untrained one."""
    if config.job in USES and is_untrained(config):
        raise UserError(
            f"job={config.job} would use an untrained prompt, prompt.init={config.prompt.init!r}: set prompt.init to a "
            "saved prompt, such as runs/rte/prompts/run, or prompt.length=0 to use the backbone alone."
        )


def with_prompt_of(member: Member) -> Member:
    """The member of an evaluation; where `prompt.init` is a run's directory of prompts, with the prompt of its name.

    Raises UserError where the member's prompt is not trained, or not in the directory.
    """
    check_trained(member.config)
    directory = files.path(member.config.prompt.init)
    names = [place.name for place in saved.listed(directory) if place != directory]
    if member.config.job != "evaluate" or not names:
        return member
    if member.name not in names:
        raise UserError(
            f"prompt.init={member.config.prompt.init!r} holds the prompts {', '.join(names)}, but none of the member "
            f"{member.name!r}: set prompt.init to one of them, or fleet to the members of their run."
        )
    config = member.config.copy_and_resolve_references()
    config.prompt.init = str(directory / member.name)
    return dataclasses.replace(member, config=config)
