"""What a config selects: the tasks, each a data set that `task.name` lists with a template of `task.template`."""

from __future__ import annotations

import uuid

import ml_collections

from infoprompt_jax.data import bigbench
from infoprompt_jax.data.local_files import find_files
from infoprompt_jax.data.tasks import Task
from infoprompt_jax.data.templates import SEPARATOR, Template, choose, load_templates
from infoprompt_jax.errors import UserError
from infoprompt_jax.nano import world

# What picks the best prompt where it is not accuracy (answer choices) or exact match (free text).
METRICS = {
    "glue/cola": "matthews",
    "super_glue/cb": "macro_f1",
    "sem_eval_2010_task_8": "macro_f1",
}


def find_tasks(config: ml_collections.ConfigDict) -> tuple[Task, ...]:
    """The tasks that `config.task` names: each of its data sets with each of the hard prompts asked for.

    Raises UserError for an unknown data set in `data.dir` (TFDS is asked once examples are read) or hard prompt, and
    for a data set to train on that is there to evaluate on.
    """
    names = [name.strip() for name in config.task.name.split(",") if name.strip()]
    if not names:
        raise UserError("task.name is empty; give it a data set such as super_glue/rte.")
    for name in names:
        if config.job == "train" and bigbench.is_task(name):
            raise bigbench.evaluation_only(name)
    folders = {name: _folder(config.data, name) for name in names}
    for name, folder in folders.items():
        if folder:
            find_files(folder, name)
    return tuple(
        Task(name, prompt, _metric(config, name, prompt), folder, config.data.tfds_dir)
        for name, folder in folders.items()
        for prompt in _prompts(config, name)
    )


def _folder(data: ml_collections.ConfigDict, name: str) -> str:
    """Where the files of a data set are: `data.dir`, or those of the generated world; "" = TFDS."""
    return str(world.folder(data.cache_dir, name)) if name.startswith(world.PREFIX) and not data.dir else data.dir


def _metric(config: ml_collections.ConfigDict, name: str, prompt: Template) -> str:
    free = not prompt.answer_choices
    metric = config.task.metric or ("exact_match" if free else METRICS.get(name, "accuracy"))
    if free != (metric == "exact_match"):
        has = "free text as its answer" if free else "answer choices"
        raise UserError(f"task.metric={metric!r} does not fit {name}, {prompt}, which has {has}: leave it empty.")
    return metric


def _prompts(config: ml_collections.ConfigDict, name: str) -> list[Template]:
    task = config.task
    if not (task.input or task.target):
        if task.answer_choices:
            raise UserError(
                f"task.answer_choices={task.answer_choices!r} belongs to task.input and task.target, which are empty: "
                "set these too, or leave it to the templates."
            )
        return choose(load_templates(task.templates_dir, name), task.template)
    if not (task.input and task.target):
        raise UserError("Only one of task.input and task.target is set; own data needs both, such as {{ text }}.")
    if task.templates_dir:
        raise UserError(
            f"task.input and task.templates_dir={task.templates_dir!r} are both set, but hard prompts come from "
            "one of them: leave task.templates_dir empty, or task.input, task.target and task.answer_choices "
            "(as configs/own_data.py:templates does)."
        )
    jinja = f"{task.input} {SEPARATOR} {task.target}"
    identity = str(uuid.uuid5(uuid.NAMESPACE_OID, jinja + SEPARATOR + task.answer_choices))
    template = Template(f"inline {identity[:6]}", identity, jinja, task.answer_choices)
    if template.repeated:
        raise UserError(
            f"task.answer_choices={task.answer_choices!r} lists {template.repeated[0]!r} more than once: write each "
            "answer once; task.target may give it for several labels."
        )
    return [template]
