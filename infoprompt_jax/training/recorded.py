"""What a saved prompt records of its run, so that nothing of it is typed again where the prompt is used.

`prompt.json` holds, beside what the prompt is, the config fields in RECORDED and the templates with their answer
choices and metrics. `prompt_config.py` puts them into the config of a job.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import ml_collections

from infoprompt_jax import metric_names
from infoprompt_jax.data.registered_tasks import is_registered
from infoprompt_jax.data.selection import find_tasks, folder_of, metric_of
from infoprompt_jax.data.tasks import Task
from infoprompt_jax.data.templates import Template
from infoprompt_jax.errors import UserError
from infoprompt_jax.fleet.members import Member
from infoprompt_jax.prompts import formats, saved
from infoprompt_jax.prompts.prompts import INITIALIZERS
from infoprompt_jax.prompts.saved import Prompt

FIELD, FIELDS = "prompt.init", "fields"  # of the config, and of prompt.json
VERBALIZER = "verbalizer/value"  # a tensor of a prompt, [C, D]
USES = ("evaluate", "predict")  # the jobs that use a saved prompt as it is
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
    """The entries of `prompt.json` that `recorded_fields` and `recorded_tasks` read.

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
    fields = {field: value_of(config, field) for field in RECORDED}
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
    """The config fields in RECORDED that a prompt was trained with; {} where it records none, or something else.

    A verbalizer's scores are never divided, whatever a former version recorded.
    """
    fields = prompt.metadata.get(FIELDS)
    if not isinstance(fields, Mapping):
        return {}
    undivided = {"scoring.normalize": "none"} if VERBALIZER in prompt.tensors else {}
    return {field: fields[field] for field in RECORDED if field in fields} | undivided


def tasks(config: ml_collections.ConfigDict) -> tuple[Task, ...]:
    """The tasks of a config: those that it selects, or for `task.template=""` those of the prompt in `prompt.init`.

    These are measured as the prompt records, unless the config has a `task.metric`.

    Raises:
      UserError: as `find_tasks` does, or the prompt records no templates, or a metric that nothing registers.
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
    if config.task.metric:
        recorded = tuple(replace(task, metric=metric_of(config, task.name, task.template)) for task in recorded)
    if unknown := [task.metric for task in recorded if task.metric not in metric_names.NAMES]:
        raise UserError(
            f"prompt.init: {path!r} records the metric {unknown[0]!r}, which nothing registers: give the config file "
            "that does, or set task.metric to another one."
        )
    return recorded


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
    if VERBALIZER in prompt.tensors and others and tuple(choices) not in known:
        raise UserError(
            f"prompt.init: {path!r} has a verbalizer that was trained for {' ||| '.join(others[0])}, in this order, "
            f"but the answer choices are {' ||| '.join(choices)}: write them in its order, and change task.target."
        )


def prompts_fingerprint(members: Sequence[Member]) -> dict[str, str]:
    """`prompts`: of the saved prompts that members start from, and what was trained with them; {} without any."""
    paths = [path for member in members if (path := member.config.prompt.init) not in INITIALIZERS]
    digests = [_digest(saved.load_prompt(path, FIELD)) for path in paths]
    return {"prompts": hashlib.sha256("".join(digests).encode()).hexdigest()[:16]} if digests else {}


def _digest(prompt: Prompt) -> str:
    tensors = {formats.VALUE: prompt.value_PD, **prompt.tensors}
    return "".join(f"{name} {saved.digest(tensors[name])}\n" for name in sorted(tensors))


def value_of(config: ml_collections.ConfigDict, field: str) -> Any:
    """The value of a field such as `prompt.init`."""
    section, _, name = field.partition(".")
    return config[section][name]
