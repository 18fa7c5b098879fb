"""The generated world's counterparts of real data sets, for `task.counterpart` where `data.dir` lacks the real one.

A counterpart asks for the same kind of answer (docs/nano.md), so that a shipped config runs without a network.
"""

from __future__ import annotations

import logging
from typing import Any

import ml_collections

from infoprompt_jax.data import local_files
from infoprompt_jax.errors import UserError

log = logging.getLogger(__name__)


def _generated(name: str, template: str = "all", **inline: str) -> dict[str, Any]:
    """The fields of `task` for a data set of the generated world, none of which is left to the real one."""
    own = {f"task.{field}": inline.get(field, "") for field in ("input", "target", "answer_choices", "templates_dir")}
    return {"task.name": f"nano/{name}", "task.template": template, **own}


def _reworded(name: str, text: str, choices: str) -> dict[str, Any]:
    """A data set of the backbone's pretraining, without its question or with other answers: there is more to learn."""
    return _generated(name, input=text, target="{{ answer_choices[label] }}", answer_choices=choices)


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
    """What `counterpart` gives, and a line in the log if that is another data set. Raises as it does."""
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
    """The config, its data set replaced by the counterpart if `task.counterpart` and `data.dir` lacks the data set.

    Raises:
      UserError: the data set has no counterpart, `data.dir` is no folder, or the config has what a counterpart cannot
        take over: hard prompts of its own, or members with other tasks.
    """
    task, folder = config.task, config.data.dir
    if not task.counterpart:
        return config
    if folder:
        local_files.check_folder(folder)
    names = [name.strip() for name in task.name.split(",")]
    known = {fields["task.name"] for fields in COUNTERPARTS.values()}
    missing = [name for name in names if name not in known and not local_files.holds(folder, name)]
    if not missing:
        return config
    if len(names) > 1 or names[0] not in COUNTERPARTS:
        raise UserError(
            f"data.dir ({folder or 'empty'}) has no files of {', '.join(missing)}, and the generated world has "
            f"counterparts of single data sets alone, {', '.join(COUNTERPARTS)}: set data.dir to a folder with the "
            "files."
        )
    own = [f"task.{field}" for field in ("input", "target", "answer_choices", "templates_dir") if task[field]]
    own += [
        f"fleet.members' {field}" for member in config.fleet.members for field in member if field.startswith("task.")
    ]
    resolved = config.copy_and_resolve_references()
    resolved.update_from_flattened_dict({**COUNTERPARTS[names[0]], "data.dir": ""})
    if own:
        raise UserError(
            f"data.dir ({folder or 'empty'}) has no files of {names[0]}, and its counterpart {resolved.task.name} "
            f"cannot take {own[0]}: leave it out, or set data.dir to a folder with the files."
        )
    return resolved
