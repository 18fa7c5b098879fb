"""What a saved prompt records of its run, so that nothing of it is typed again where the prompt is used.

`prompt.json` holds, beside what the prompt is, the config fields in RECORDED and the templates with their answer
choices and metrics. `completed` puts them into the config of the jobs that use a prompt: a field that the command line
sets counts first, then the prompt's record, then the config file. `task.template=""` stands for the recorded templates.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import ml_collections

from infoprompt_jax.data.registered_tasks import is_registered
from infoprompt_jax.data.selection import find_tasks, folder_of
from infoprompt_jax.data.tasks import Task
from infoprompt_jax.data.templates import Template
from infoprompt_jax.errors import UserError
from infoprompt_jax.fleet.members import Member
from infoprompt_jax.prompts import hub, saved
from infoprompt_jax.prompts.prompts import INITIALIZERS
from infoprompt_jax.prompts.saved import Prompt

FIELD, FIELDS = "prompt.init", "fields"  # of the config, and of prompt.json
USES = ("evaluate", "predict")  # the jobs that use a saved prompt as it is
TEMPLATES = ("task.template", "task.templates_dir", "task.input", "task.target", "task.answer_choices")
# The fields that predictions with the prompt depend on. SHARED: those that one job has for all of its prompts.
SHARED = (
    "backbone.name",
    "backbone.revision",
    "backbone.tokenizer",
    "backbone.takes_eos",
    "data.max_input_length",
    "data.max_target_length",
    "scoring.normalize",
    "scoring.max_length",
)
RECORDED = (
    *SHARED,
    "prompt.kind",
    "prompt.bottleneck",
    "train.task_loss",
    "infoprompt.representation",
    "infoprompt.variational",
    "infoprompt.latent",
)

log = logging.getLogger(__name__)


def record(config: ml_collections.ConfigDict, tasks: Sequence[Task]) -> dict[str, Any]:
    """The entries of `prompt.json` that `completed` and `recorded_tasks` read.

    Args:
      config: of the prompt's member.
      tasks: that the prompt was trained on.
    """
    templates = [
        {
            "dataset": task.name,
            "name": task.template.name,
            "id": task.template.id,
            "jinja": task.template.jinja,
            "answer_choices": task.template.answer_choices,
            "metric": task.metric,
        }
        for task in tasks
    ]
    fields = {field: _get(config, field) for field in RECORDED}
    return {"templates": templates, "metric": config.task.metric or tasks[0].metric, FIELDS: fields}


def recorded_tasks(prompt: Prompt, path: str, config: ml_collections.ConfigDict | None = None) -> tuple[Task, ...]:
    """The tasks that a saved prompt was trained on, each with its template; () where it records none.

    Args:
      path: of the prompt, for messages.
      config: names where their rows are, and the module of registered ones: a file never names code that is imported.
        None for rows from elsewhere.

    Raises:
      UserError: the record is damaged, or a template is not valid.
    """
    entries = prompt.metadata.get("templates", [])
    if not isinstance(entries, list) or not all(map(_is_template, entries)):
        raise UserError(f"prompt.init: {path!r} holds templates in its prompt.json that cannot be read.")
    if len({(entry["dataset"], entry["name"]) for entry in entries}) < len(entries):
        raise UserError(
            f"prompt.init: {path!r} holds two templates of one name in its prompt.json: rename one of them."
        )
    return tuple(
        Task(
            entry["dataset"],
            Template(entry["name"], entry["id"], entry["jinja"], entry["answer_choices"], origin=path),
            entry["metric"],
            folder_of(config.data, entry["dataset"]) if config else "",
            config.data.tfds_dir if config else "",
            module=config.task.module if config and is_registered(entry["dataset"]) else "",
        )
        for entry in entries
    )


def _is_template(entry: Any) -> bool:
    """Whether an entry of `prompt.json` is a template, as `record` writes it."""
    keys = ("dataset", "name", "id", "jinja", "answer_choices", "metric")
    return isinstance(entry, Mapping) and all(isinstance(entry.get(key), str) for key in keys)


def recorded_fields(prompt: Prompt) -> dict[str, Any]:
    """The config fields in RECORDED that a prompt was trained with; {} where it records none, or something else."""
    fields = prompt.metadata.get(FIELDS)
    return {field: fields[field] for field in RECORDED if field in fields} if isinstance(fields, Mapping) else {}


def tasks(config: ml_collections.ConfigDict) -> tuple[Task, ...]:
    """The tasks of a config: those that it selects, or for `task.template=""` those of the prompt in `prompt.init`.

    Raises:
      UserError: as `find_tasks` does, or the prompt records no templates.
    """
    path = config.prompt.init
    if config.job not in USES or config.task.template or config.task.input or path in INITIALIZERS:
        return find_tasks(config)
    named = [name.strip() for name in config.task.name.split(",")]
    recorded = recorded_tasks(saved.load_prompt(path, FIELD), path, None if config.job == "predict" else config)
    recorded = tuple(task for task in recorded if task.name in named) if config.task.name else recorded
    if not recorded:
        raise UserError(
            f"prompt.init: {path!r} records no template: set task.template, or task.input and task.answer_choices."
        )
    return recorded


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
    fields = recorded_fields(prompt) | {"prompt.length": len(prompt.value_PD)} | _templates(config, prompt, typed)
    config = config.copy_and_resolve_references()
    if config.job == "predict" and not config.prompt.by:
        config.prompt.init = path
    changed = {f: value for f, value in fields.items() if f not in typed and _get(config, f) != value}
    try:
        config.update_from_flattened_dict(changed)
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(f"prompt.init: {path!r} records {FIELDS} that cannot be read ({error}).") from error
    if changed:
        emptied = [field for field in TEMPLATES if changed.get(field) == ""]  # which stand for the recorded templates
        logged = [f"{field}={json.dumps(value)}" for field, value in changed.items() if field not in emptied]
        log.info("From prompt.init: %s", ", ".join(logged + ["the templates"] * bool(emptied)))
    return config


def _templates(config: ml_collections.ConfigDict, prompt: Prompt, typed: Collection[str]) -> dict[str, str]:
    """The fields that select the recorded templates; {} where the config's stand."""
    datasets = list(dict.fromkeys(task.name for task in recorded_tasks(prompt, config.prompt.init)))
    named = [name.strip() for name in config.task.name.split(",") if name.strip()]
    if config.job == "predict" and "task.name" not in typed:
        named = []  # the config file names the data set of its rows, which are not read
    if (fields := [f for f in TEMPLATES if f in typed]) and not named and not config.task.input:
        raise UserError(
            f"{fields[0]} is set, but neither task.input nor task.name: set task.input for a template of your own, "
            "task.name for one of a data set, or neither for the templates that prompt.init records."
        )
    if not set(TEMPLATES) & set(typed) and datasets and set(named) <= set(datasets):
        return dict.fromkeys(TEMPLATES, "") | {"task.name": ",".join(named or datasets)}
    return {} if config.task.template or config.task.input or not named else {"task.template": "all"}


def check_length(prompt: Prompt, path: str, length: int) -> None:
    """Raises UserError unless a saved prompt has the length of the config."""
    if length != len(prompt.value_PD):
        without = "" if length else ", or for the backbone alone prompt.init=vocabulary"
        raise UserError(
            f"The prompt in {path!r} has {len(prompt.value_PD)} tokens, the config {length}: set "
            f"prompt.length={len(prompt.value_PD)}{without}."
        )


def check_order(prompt: Prompt, choices: Sequence[str], path: str) -> None:
    """Raises UserError where a verbalizer was trained for the same answer choices in another order.

    Its rows are numbered, so that each would count for another answer. Other words for the same classes may be meant.
    """
    known = [task.choices for task in recorded_tasks(prompt, path) if task.choices]
    others = [listed for listed in known if set(listed) == set(choices)]
    if "verbalizer/value" in prompt.tensors and others and tuple(choices) not in known:
        raise UserError(
            f"prompt.init: {path!r} has a verbalizer that was trained for {' ||| '.join(others[0])}, in this order, "
            f"but the answer choices are {' ||| '.join(choices)}: write them in its order, and change task.target."
        )


def check_alike(paths: Sequence[str], typed: Collection[str]) -> None:
    """Raises UserError where prompts record different values of a field that one job has for all of them."""
    records = {path: recorded_fields(saved.load_prompt(path, FIELD)) for path in paths}
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
    directory = pathlib.Path(member.config.prompt.init).expanduser()
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


def prompts_fingerprint(members: Sequence[Member]) -> dict[str, str]:
    """`prompts`: of the saved prompts that members start from, and what was trained with them; {} without any."""
    paths = [path for member in members if (path := member.config.prompt.init) not in INITIALIZERS]
    digests = [_digest(saved.load_prompt(path, FIELD)) for path in paths]
    return {"prompts": hashlib.sha256("".join(digests).encode()).hexdigest()[:16]} if digests else {}


def _digest(prompt: Prompt) -> str:
    tensors = {saved.VALUE: prompt.value_PD, **prompt.tensors}
    return "".join(f"{name} {saved.digest(tensors[name])}\n" for name in sorted(tensors))


def prompt_path(config: ml_collections.ConfigDict) -> str:
    """The saved prompt that `prompt.init` names: a path or a hub id; of a directory of prompts, the first one.

    Raises:
      UserError: there is none; or the job needs one prompt, and the directory has several.
    """
    path = config.prompt.init
    places = [str(place) for place in saved.listed(path)]
    if not places and not hub.is_identifier(path):
        known = ", ".join(INITIALIZERS)
        raise UserError(f"prompt.init={path!r} is neither one of {known} nor the path of a saved prompt.")
    if len(places) > 1 and config.job == "predict" and not config.prompt.by:
        raise UserError(
            f"prompt.init={path!r} holds several prompts: set prompt.init to one of {', '.join(places)}, or prompt.by "
            "to the column that names each row's."
        )
    return places[0] if places else path


def _get(config: ml_collections.ConfigDict, field: str) -> Any:
    section, _, name = field.partition(".")
    return config[section][name]
