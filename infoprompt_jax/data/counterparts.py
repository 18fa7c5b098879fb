"""The generated world's counterparts of real data sets, which take their place if `data.dir` lacks them.

A counterpart asks for the same kind of answer (docs/nano.md), so that a shipped config runs without a network. The
field `task.counterpart` switches this on.
"""

from __future__ import annotations

import logging
from typing import Any

import ml_collections

from infoprompt_jax.data import local_files
from infoprompt_jax.data.registered_tasks import is_registered
from infoprompt_jax.errors import UserError

log = logging.getLogger(__name__)


def _generated(name: str, template: str = "all", **inline: str) -> dict[str, Any]:
    """The fields of `task` for a generated data set; all those that a real data set's config may have set."""
    fields = {f"task.{field}": inline.get(field, "") for field in TEMPLATE_FIELDS}
    return {"task.name": f"nano/{name}", "task.template": template, **fields}


def _reworded(name: str, text: str, choices: str) -> dict[str, Any]:
    """A data set of the backbone's pretraining without its question or with other answers: a prompt can still learn."""
    return _generated(name, input=text, target="{{ answer_choices[label] }}", answer_choices=choices)


TEMPLATE_FIELDS = ("input", "target", "answer_choices", "templates_dir")
RELATIONS = "whole ||| container ||| cause ||| maker ||| place ||| group"

# By data set: the fields of `task` that name its counterpart in the generated world.
COUNTERPARTS: dict[str, dict[str, Any]] = {
    "super_glue/rte": _generated("entailment", "follows"),
    "super_glue/cb": {**_generated("inference", "yes maybe no"), "task.metric": "macro_f1"},
    "glue/sst2": _reworded("films", "{{ text }}", "stay away ||| go and see"),
    "glue/mrpc": _reworded("rewordings", "{{ sentence1 }} / {{ sentence2 }}", "wrong ||| right"),
    "glue/cola": {**_reworded("grammar", "{{ sentence }}", "broken ||| well"), "task.metric": "matthews"},
    "sem_eval_2010_task_8": {
        **_reworded("relations", "{{ sentence }} {{ entity1 }} / {{ entity2 }}", RELATIONS),
        "task.train_split": "train",
        "task.eval_split": "validation",
        "task.test_split": "test[:256]",
    },
}


def resolve(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """What `counterpart` returns; another data set is logged. Raises as it does."""
    resolved = counterpart(config)
    if resolved is not config:
        log.info(
            "%s is not in data.dir: the generated world's %s takes its place, with task.template=%r.",
            config.task.name,
            resolved.task.name,
            resolved.task.template,
        )
    return resolved


def counterpart(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """The config; with its counterpart as the data set if `task.counterpart` is set and `data.dir` lacks the data set.

    Raises:
      UserError: the data set has no counterpart, `data.dir` is not a folder, or the config has fields that fit the real
        data set only: templates, or members with other tasks.
    """
    task, folder = config.task, config.data.dir
    if not task.counterpart:
        return config
    if folder:
        local_files.check_folder(folder)
    names = [name.strip() for name in task.name.split(",")]
    known = {fields["task.name"] for fields in COUNTERPARTS.values()}
    elsewhere = [name for name in names if name not in known and not is_registered(name)]
    missing = [name for name in elsewhere if not local_files.holds(folder, name)]
    if not missing:
        return config
    if folder and missing[0] not in COUNTERPARTS:
        local_files.find_files(folder, missing[0])  # raises, and names what the folder holds
    if len(names) > 1 or names[0] not in COUNTERPARTS:
        raise UserError(
            f"data.dir ({folder or 'empty'}) has no files of {', '.join(missing)}, and the generated world has "
            f"counterparts of single data sets only, {', '.join(COUNTERPARTS)}: set data.dir to a folder with the "
            "files."
        )
    unfit = [f"task.{field}" for field in TEMPLATE_FIELDS if task[field]]
    unfit += [
        f"fleet.members' {field}" for member in config.fleet.members for field in member if field.startswith("task.")
    ]
    resolved = config.copy_and_resolve_references()
    resolved.update_from_flattened_dict({**COUNTERPARTS[names[0]], "data.dir": ""})
    if unfit:
        raise UserError(
            f"data.dir ({folder or 'empty'}) has no files of {names[0]}, and its counterpart {resolved.task.name} "
            f"cannot take {unfit[0]}: leave it out, or set data.dir to a folder with the files."
        )
    return resolved
