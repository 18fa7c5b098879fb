"""From a config to the members of its fleet.

A member is a name and the run's config with the fields that the member sets for itself: those that are
declared with `member=True`. Members are the product of `fleet.members` (explicit fields), `fleet.presets` (which of
InfoPrompt's terms are on) and `fleet.seeds`. Members that differ only in their preset share initialisation, data order
and noise, so that they can be compared in pairs.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import ml_collections
import numpy as np

from infoprompt_jax import member_names, settings
from infoprompt_jax.errors import UserError
from infoprompt_jax.fleet.optimizers import SCHEDULES
from infoprompt_jax.infoprompt.hyper import Hyper

INFOPROMPT = ("beta", "gamma", "kappa", "decay", "temperature", "head_steps")  # fields of `Hyper` in that section
AS_IT_IS = "run"  # the preset that changes nothing
PRESETS: dict[str, dict[str, float | int]] = {
    AS_IT_IS: {},
    "both": {},
    "plain": {"infoprompt.gamma": 0.0, "infoprompt.beta": 0.0, "infoprompt.kappa": 0.0, "infoprompt.head_steps": 0},
    "head": {"infoprompt.beta": 0.0},
    "representation": {"infoprompt.gamma": 0.0, "infoprompt.head_steps": 0},
}

NEEDED = {"both": ("gamma", "beta"), "head": ("gamma",), "representation": ("beta",)}  # weights that it leaves on


@dataclasses.dataclass(frozen=True)
class Member:
    """`config` is the run's config with this member's fields in it."""

    name: str
    config: ml_collections.ConfigDict


def expand(config: ml_collections.ConfigDict) -> list[Member]:
    """The fleet's members, in a fixed order.

    Raises:
      UserError: a field out of its range, a field that a member cannot set for itself, two members of one name, or a
        preset without a weight for its terms.
    """
    fleet = settings.check(config).fleet
    product = itertools.product(fleet.members or ({},), fleet.presets or (AS_IT_IS,), fleet.seeds or (None,))
    members = [_member(config, dict(fields), preset, seed) for fields, preset, seed in product]
    _check_distinct([member.name for member in members])
    return members


def _member(config: ml_collections.ConfigDict, fields: dict[str, Any], preset: str, seed: int | None) -> Member:
    name = member_names.compose(fields.pop("name", None), preset if preset != AS_IT_IS else None, seed)
    # A preset keeps its terms off, whatever weights a member has: its name says so.
    fields = fields | PRESETS[preset] | ({} if seed is None else {"seed": seed})
    config = _override(config, fields)
    _check_weights(preset, config.infoprompt)
    return Member(name, config)


def _check_weights(preset: str, terms: ml_collections.ConfigDict) -> None:
    weights = {"gamma": terms.gamma or terms.head_steps, "beta": terms.beta}
    if off := [f"infoprompt.{name}=0" for name in NEEDED.get(preset, ()) if not weights[name]]:
        raise UserError(
            f"fleet.presets has {preset!r}, but {' and '.join(off)}: set weights, or use the variant `infoprompt`, "
            "which has gamma=0.1 and beta=0.2."
        )


def _check_distinct(names: list[str]) -> None:
    taken: dict[str, str] = {}
    for name in names:
        member_names.check(name)
        # A file system that does not tell case apart has one directory for both.
        if other := taken.get(name.casefold()):
            same = "" if other == name else f" and {name!r}, which some file systems do not tell apart"
            raise UserError(f"Two members are both named {other!r}{same}: give each its name in fleet.members.")
        taken[name.casefold()] = name


def _override(config: ml_collections.ConfigDict, fields: dict[str, Any]) -> ml_collections.ConfigDict:
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(fields)
    if fields.keys() & {"task.input", "task.target"} and (config.task.input or config.task.target):
        config.task.templates_dir = ""  # it is for the members without a template of their own
    settings.check_fit(config)
    return config


def data_seed(config: ml_collections.ConfigDict, seed: int) -> int:
    """What draws the data of a member with this seed: `data.seed`, which all members share, or else its own."""
    return config.data.seed if config.data.seed >= 0 else seed


def hyper_parameters(members: list[Member], estimators: tuple[str, ...]) -> Hyper[np.ndarray]:
    """The members' hyper-parameters as arrays [M]; `estimators` are those that the objective's program holds."""

    def column(section: str, field: str) -> np.ndarray:
        return np.array([member.config[section][field] for member in members], np.float32)

    return Hyper(
        **{field: column("infoprompt", field) for field in INFOPROMPT},
        **{field: column("train", field) for field in ("learning_rate", "critic_learning_rate", "warmup")},
        schedule=np.array([SCHEDULES.index(m.config.train.schedule) for m in members], np.int32),
        estimator=np.array([estimators.index(m.config.infoprompt.estimator) for m in members], np.int32),
    )
