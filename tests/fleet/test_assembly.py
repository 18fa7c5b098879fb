"""From a config to a fleet: which parts its program holds."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import tiny

from infoprompt_jax import settings, variants
from infoprompt_jax.errors import UserError
from infoprompt_jax.fleet.assembly import Assembly, assemble
from infoprompt_jax.fleet.members import expand
from infoprompt_jax.t5 import partition
from infoprompt_jax.training.experiment import check_members


@pytest.fixture(scope="module")
def model() -> tiny.Backbone:
    return tiny.backbone()


def assembled(model: tiny.Backbone, **fields: Any) -> Assembly:
    config = variants.apply(settings.defaults(), "infoprompt")
    config.update_from_flattened_dict({name.replace("__", "."): value for name, value in fields.items()})
    return assemble(config, expand(config), model)


def test_a_term_that_no_member_weighs_is_not_in_the_program(model: tiny.Backbone) -> None:
    terms = {
        preset: (objective.head_term, objective.representation_term)
        for preset in ("both", "head", "representation", "plain")
        for objective in [assembled(model, fleet__presets=(preset,)).fleet.objective]
    }
    assert terms == {
        "both": (True, True),
        "head": (True, False),
        "representation": (False, True),
        "plain": (False, False),
    }
    objective = assembled(model, fleet__presets=("plain", "head", "representation")).fleet.objective
    assert objective.head_term and objective.representation_term


def test_the_program_holds_the_members_estimators_once(model: tiny.Backbone) -> None:
    members = tuple({"name": name, "infoprompt.estimator": name.rstrip("2")} for name in ("nwj", "js", "nwj2"))
    fleet, hyper, keys = assembled(model, fleet__members=members)
    assert fleet.objective.estimators == ("nwj", "js")
    assert hyper.estimator.tolist() == [0, 1, 0] and keys.shape == (3,)


def test_defaults_that_depend_on_other_fields(model: tiny.Backbone) -> None:
    """The random backbone's head is not tied to its embeddings."""
    objective = assembled(model, train__batch_size=6).fleet.objective
    assert (objective.critic, objective.negatives_per_example) == ("bilinear", 24)
    objective = assembled(model, infoprompt__critic="dot", infoprompt__negatives_per_example=5).fleet.objective
    assert (objective.critic, objective.negatives_per_example) == ("dot", 5)


@pytest.mark.parametrize(("negatives", "kind"), [("in_batch", "static"), ("shuffled", "instance")])
def test_a_batch_without_other_rows_has_no_negatives_of_its_own(
    model: tiny.Backbone, negatives: str, kind: str
) -> None:
    alone = {"train__batch_size": 4, "train__accumulate": 4, "infoprompt__negatives": negatives, "prompt__kind": kind}
    alone |= {"infoprompt__beta": 0.2}
    with pytest.raises(UserError, match=r"train\.batch_size=4 with train\.accumulate=4 leaves one row each"):
        assembled(model, **alone)
    assembled(model, **alone | {"infoprompt__beta": 0.0})


def test_fleets_of_equal_configs_share_their_compiled_programs(model: tiny.Backbone) -> None:
    """Seeds and learning rates are data of a program; the number of steps is a part of it."""
    first, same = assembled(model), assembled(tiny.backbone(), seed=5, train__learning_rate=0.1)
    assert same.fleet is first.fleet
    for other in (assembled(model, train__steps=7), assembled(model, train__clip_norm=0.5)):
        assert other.fleet is not first.fleet


@pytest.mark.parametrize(
    ("members", "fields", "problem"),
    [
        (8, {}, None),
        (8, {"accumulate": 2}, None),
        (8, {"accumulate": 3}, "train.batch_size=4 does not divide into 3 "),
        (7, {}, "train.batch_size=4 does not divide into 8 "),  # these share out the rows
        (8, {"eval_batch_size": 4}, "train.eval_batch_size=4 does not divide into 8 "),
    ],
)
def test_a_batch_is_smaller_than_the_mesh_where_members_are_split(
    members: int, fields: dict[str, int], problem: str | None
) -> None:
    config = settings.defaults()
    config.train.update({"batch_size": 4, "eval_batch_size": 8} | fields)
    with pytest.raises(UserError, match=problem) if problem else contextlib.nullcontext():
        check_members(config, members, partition.make_mesh())
    config.job, evaluated = "evaluate", problem if problem and "eval" in problem else None  # it takes no step
    with pytest.raises(UserError, match=evaluated) if evaluated else contextlib.nullcontext():
        check_members(config, members, partition.make_mesh())
