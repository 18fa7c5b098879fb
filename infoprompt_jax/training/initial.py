"""The first values of a member: a fresh prompt, or a saved prompt with everything that was trained with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

from infoprompt_jax import files, foreign
from infoprompt_jax.data.tasks import Task
from infoprompt_jax.errors import UserError
from infoprompt_jax.fields import shortened
from infoprompt_jax.fleet.members import Member
from infoprompt_jax.infoprompt import streams
from infoprompt_jax.infoprompt.objective import Objective
from infoprompt_jax.infoprompt.trainable import Part, Trainable
from infoprompt_jax.prompts import hub, prompts, saved
from infoprompt_jax.prompts.saved import Prompt
from infoprompt_jax.t5.backbone import Backbone
from infoprompt_jax.training import recorded

# The parts that may be saved with a prompt, and the fields that must have the values it was trained with.
SAVED_WITH = {
    "generator": "prompt.kind='instance' and prompt.bottleneck",
    "verbalizer": "train.task_loss='verbalizer' and task.name",
    "posterior": "infoprompt.variational=True and infoprompt.latent",
}


def initial_trainable(
    member: Member, tasks: Sequence[Task], backbone: Backbone, objective: Objective, choices: int, key: jax.Array
) -> Trainable:
    """One member's trainable tree before its first step.

    Args:
      member: its config names the initialiser or the saved prompt.
      tasks: the member's; the first one's label words are used.
      backbone: whose embeddings and head the values come from.
      objective: which parts there are.
      choices: C, rows of a verbalizer.
      key: the member's.

    Raises:
      UserError: the initialiser does not fit the task, or the saved prompt does not fit the config.
    """
    value_key, rest_key = jax.random.split(jax.random.fold_in(key, streams.INIT))
    settings, tokenizer = member.config.prompt, backbone.tokenizer
    labels = tasks[0].choices or ()
    verbalizer = verbalizer_rows(labels, choices, backbone) if objective.task_loss == "verbalizer" else None
    if settings.init not in prompts.INITIALIZERS:
        prompt = saved_prompt(settings.init, settings.length, backbone)
        if member.config.job == "evaluate":
            for task in tasks:
                recorded.check_order(prompt, task.choices or (), settings.init)
        trainable = objective.init(prompt.value_PD, rest_key, verbalizer)
        trainable = with_saved_parts(trainable, prompt, settings.init, untrained=member.config.job == "train")
        check_representation(prompt, settings.init, objective.representation)
        return trainable
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
    """Loads a saved prompt; raises UserError if it does not fit this backbone or `prompt.length`."""
    with foreign.reading(f"prompt.init={shortened(path)}", "correct the path"):
        is_there = files.path(path).exists()
    if not is_there and not hub.is_identifier(path):
        known = ", ".join(prompts.INITIALIZERS)
        raise UserError(f"prompt.init={shortened(path)} is neither one of {known} nor the path of a saved prompt.")
    prompt = saved.load_prompt(path, "prompt.init")
    saved.check_prompt(prompt, backbone.config.d_model, backbone.fingerprint, "prompt.init")
    recorded.check_length(prompt, path, length)
    return prompt


def with_saved_parts(trainable: Trainable, prompt: Prompt, path: str, untrained: bool) -> Trainable:
    """`trainable` with everything that was trained with a saved prompt.

    `untrained`: whether parts that were not saved with it may keep their first values. Raises UserError where they may
    not, and where a saved part does not fit.
    """
    parts = cast(dict[str, Part], dict(trainable))
    for name, array in prompt.tensors.items():
        part, _, leaf = name.partition("/")
        first = parts.get(part, {}).get(leaf)
        if part == "verbalizer" and first is not None and array.ndim == 2:
            array = filled_up(array, np.asarray(first))
        if first is None or first.shape != array.shape:
            here = "none" if first is None else f"one of shape {list(first.shape)}"
            raise UserError(
                f"prompt.init: {path!r} holds a {name} of shape {list(array.shape)}, this run has {here}: set "
                f"{SAVED_WITH.get(part, 'prompt.init')} as when it was trained."
            )
        parts[part] = parts[part] | {leaf: jnp.asarray(array)}
    for part in ("generator", "posterior"):  # a verbalizer starts from the label words, and so predicts untrained
        if part in parts and not untrained and not any(name.startswith(part) for name in prompt.tensors):
            raise UserError(
                f"prompt.init: {path!r} was trained without a {part}, and job=evaluate does not train one: change "
                f"{SAVED_WITH[part].split()[0]}."
            )
    return cast(Trainable, parts)


def check_representation(prompt: Prompt, path: str, representation: str) -> None:
    """Raises UserError where what was trained with a prompt reads another Z than this run's: its shapes do not tell."""
    trained = prompt.metadata.get("representation", representation)
    if prompt.tensors and trained != representation:
        raise UserError(
            f"prompt.init: what {path!r} holds beside its prompt was trained with infoprompt.representation="
            f"{trained!r}, this run has {representation!r}: set it as when it was trained."
        )


def filled_up(verbalizer_CD: np.ndarray, first_CD: np.ndarray) -> np.ndarray:
    """The rows of its own choices, and as many of zeros as this run's has: these are for other members' choices."""
    own, needed = (np.flatnonzero(rows.any(axis=1)).max(initial=-1) + 1 for rows in (verbalizer_CD, first_CD))
    return np.pad(verbalizer_CD[:own], ((0, len(first_CD) - own if own == needed else 0), (0, 0)))


def verbalizer_rows(labels: Sequence[str], choices: int, backbone: Backbone) -> np.ndarray:
    """The mean LM-head row of each label word's tokens, [C, D]; zero rows if other tasks have more labels."""
    rows = [np.asarray(backbone.head_rows(ids)).mean(axis=0) for ids in backbone.tokenizer.encode(labels)]
    return np.pad(np.stack(rows), ((0, choices - len(rows)), (0, 0)))
