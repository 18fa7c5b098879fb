"""Tasks and mixtures that other code has registered with seqio: `task.name=seqio:<name>`.

`task.module` is the Python module that registers them; it is imported first. Their examples are text already, so that
each becomes a row of the columns `inputs`, `targets`, `choices` and `label`, and the template only repeats it. The
tasks of a mixture are drawn at the mixture's own rates. seqio itself is imported by `seqio_registry.py`.
"""

from __future__ import annotations

import ml_collections

from infoprompt_jax.data.tasks import Task
from infoprompt_jax.data.templates import Template
from infoprompt_jax.errors import UserError

PREFIX = "seqio:"
TEMPLATE = "registered"
TEXT = "{{ inputs }} ||| {{ targets }}"
RANKED = Template(TEMPLATE, "seqio-ranked", TEXT, "{{ choices | join('|||') }}", origin="seqio")
FREE = Template(TEMPLATE, "seqio-free", TEXT, origin="seqio")
FIELDS = ("input", "target", "answer_choices", "templates_dir")  # of `task`: what a registered task has itself


def is_registered(dataset: str) -> bool:
    """Whether a name in `task.name` is that of a registered task or mixture."""
    return dataset.startswith(PREFIX)


def registered_tasks(config: ml_collections.ConfigDict, dataset: str) -> list[Task]:
    """The task of that name, or those of the mixture, without their metrics.

    Raises:
      UserError: `task.module` cannot be imported, seqio has nothing of that name or cannot read it, the config sets
        templates, or it lists a mixture, which has rates of its own, beside other data sets.
    """
    from infoprompt_jax.data import seqio_registry

    task = config.task
    if fields := [f"task.{field}" for field in FIELDS if task[field]]:
        raise UserError(f"{fields[0]} is set, but {dataset} is text already, without a template: leave it empty.")
    if task.template not in ("all", TEMPLATE):
        raise UserError(f"task.template={task.template!r} is set, but {dataset} has no templates: leave it as 'all'.")
    rates = seqio_registry.rates(dataset.removeprefix(PREFIX), task.module)
    if any(rate is not None for rate in rates.values()) and "," in task.name.strip(", "):
        raise UserError(
            f"task.name={task.name!r} lists the mixture {dataset}, which has rates of its own, beside other data sets: "
            "list its tasks, or register one mixture of all."
        )
    return [
        Task(
            PREFIX + name,
            RANKED if seqio_registry.has_choices(name, task.module) else FREE,
            metric="",
            module=task.module,
            rate=rate,
        )
        for name, rate in rates.items()
    ]
