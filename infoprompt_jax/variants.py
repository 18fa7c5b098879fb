"""The variants that the shipped configs of tasks share, `--config=configs/rte.py:NAME,NAME`.

`nano` needs no network: it trains on the embedded backbone, with real rows where `data.dir` holds them, else with the
data set of the generated world that asks for the same kind of answer (docs/nano.md).
"""

from __future__ import annotations

import logging
from typing import Any

import ml_collections

from infoprompt_jax import sources
from infoprompt_jax.errors import UserError

log = logging.getLogger(__name__)


def _few_shot(shots: int) -> dict[str, Any]:
    return {"task.shots": shots, "prompt.length": 20, "train.steps": 1000, "train.eval_every": 100}


def _large(size: str) -> dict[str, Any]:
    return {
        "backbone.name": f"google/t5-{size}-lm-adapt",
        "backbone.dtype": "bfloat16",
        "train.accumulate": 4,
        "train.eval_batch_size": 16,
    }


VARIANTS: dict[str, dict[str, Any]] = {
    "3b": _large("xl"),
    "11b": _large("xxl"),
    "64": _few_shot(64),
    "256": _few_shot(256),
    "nano": {
        "backbone.name": "nano",
        "backbone.remat": "none",
        "backbone.unroll": 4,
        "data.max_input_length": 256,
        "data.buckets": (32, 64, 128, 256),
        "task.counterpart": True,
        "task.eval_limit": 256,
        "prompt.length": 8,
        "train.steps": 200,
        "train.batch_size": 8,
        "train.eval_every": 20,
        "train.references": True,
    },
    "smoke": {
        "prompt.length": 8,
        "train.steps": 4,
        "train.batch_size": 8,
        "train.eval_every": 2,
        "train.log_every": 1,
        "train.save_every": 2,
        "task.eval_limit": 16,
    },
}


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


def apply(config: ml_collections.ConfigDict, names: str) -> ml_collections.ConfigDict:
    """The config with the fields of these variants, separated by commas; of one field, the last that sets it counts.

    Raises:
      UserError: an unknown name, or two backbones.
    """
    chosen = [name for name in names.split(",") if name]
    for name in chosen:
        if name not in VARIANTS:
            raise UserError(f"The config has no variant {name!r}: choose from {', '.join(VARIANTS)}.")
        config.update_from_flattened_dict(VARIANTS[name])
    backbones = [name for name in chosen if "backbone.name" in VARIANTS[name]]
    if len(set(backbones)) > 1:
        raise UserError(f"The variants {' and '.join(backbones)} each set backbone.name: choose one of them.")
    return config


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
        sources.check_folder(folder)
    names = [name.strip() for name in task.name.split(",")]
    known = {fields["task.name"] for fields in COUNTERPARTS.values()}
    missing = [name for name in names if name not in known and not sources.holds(folder, name)]
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
