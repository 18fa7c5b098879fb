"""First values: where a member starts, from an initialiser or from a saved prompt with all that was trained with it."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from infoprompt_jax.data.tasks import Task
from infoprompt_jax.errors import UserError
from infoprompt_jax.fleet.members import Member
from infoprompt_jax.infoprompt import streams
from infoprompt_jax.infoprompt.objective import Objective
from infoprompt_jax.prompts import prompts, saved
from infoprompt_jax.prompts.saved import Prompt
from infoprompt_jax.t5.backbone import Backbone

# What may be saved with a prompt, and the fields that must be as they were when it was trained.
SAVED_WITH = {
    "generator": "prompt.kind='instance' and prompt.bottleneck",
    "verbalizer": "train.task_loss='verbalizer' and task.name",
    "posterior": "infoprompt.variational=True and infoprompt.latent",
}


def initial_trainable(
    member: Member, own_tasks: Sequence[Task], backbone: Backbone, objective: Objective, choices: int, key: jax.Array
) -> Any:
    """One member's trainable tree before its first step."""
    value_key, rest_key = jax.random.split(jax.random.fold_in(key, streams.INIT))
    settings, tokenizer = member.config.prompt, backbone.tokenizer
    labels = own_tasks[0].choices or ()
    verbalizer = verbalizer_rows(labels, choices, backbone) if objective.task_loss == "verbalizer" else None
    if settings.init not in prompts.INITIALIZERS:
        prompt = saved_prompt(settings.init, settings.length, backbone)
        trainable = objective.init(prompt.value_PD, rest_key, verbalizer)
        return restored(trainable, prompt, settings.init, untrained=member.config.job == "train")
    value_PD = prompts.initial_value(
        settings.init,
        settings.length,
        value_key,
        width=backbone.config.d_model,
        embed=backbone.embed,
        encode=tokenizer.encode,
        pieces=tokenizer.pieces[: settings.top_k],
        labels=labels,
        text=settings.text,
    )
    return objective.init(value_PD, rest_key, verbalizer)


def saved_prompt(path: str, length: int, backbone: Backbone) -> Prompt:
    """A saved prompt, checked against this backbone and `prompt.length`."""
    if not pathlib.Path(path).expanduser().exists():
        known = ", ".join(prompts.INITIALIZERS)
        raise UserError(f"prompt.init={path!r} is neither one of {known} nor the path of a saved prompt.")
    prompt = saved.load_prompt(path)
    saved.check_prompt(prompt, backbone.config.d_model, backbone.fingerprint, "prompt.init")
    if len(prompt.value_PD) != length:
        raise UserError(
            f"The prompt in {path!r} has {len(prompt.value_PD)} tokens, the config {length}: "
            f"set prompt.length={len(prompt.value_PD)}."
        )
    return prompt


def restored(trainable: Any, prompt: Prompt, path: str, untrained: bool) -> Any:
    """`trainable` with all that was trained with a saved prompt.

    `untrained` says whether parts that were not saved with it may keep their first values.
    """
    for name, array in prompt.tensors.items():
        group, _, leaf = name.partition("/")
        own = trainable.get(group, {}).get(leaf)
        if own is None or own.shape != array.shape:
            here = "none" if own is None else f"one of shape {list(own.shape)}"
            raise UserError(
                f"prompt.init: {path!r} holds a {name} of shape {list(array.shape)}, this run has {here}: set "
                f"{SAVED_WITH.get(group, 'prompt.init')} as when it was trained."
            )
        trainable[group][leaf] = jnp.asarray(array)
    for group in ("generator", "posterior"):  # a verbalizer starts from the label words, and so predicts untrained
        if group in trainable and not untrained and not any(name.startswith(group) for name in prompt.tensors):
            raise UserError(
                f"prompt.init: {path!r} was trained without a {group}, which job=evaluate would make up: change "
                f"{SAVED_WITH[group].split()[0]}."
            )
    return trainable


def verbalizer_rows(labels: Sequence[str], choices: int, backbone: Backbone) -> np.ndarray:
    """The mean LM-head row of each label word's tokens, [C, D]; zero rows where other tasks have more labels."""
    rows = [np.asarray(backbone.head_rows(ids)).mean(axis=0) for ids in backbone.tokenizer.encode(labels)]
    return np.pad(np.stack(rows), ((0, choices - len(rows)), (0, 0)))
