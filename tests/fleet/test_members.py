"""From a config to a fleet's members: which there are, what each sets for itself, and what it may not."""

from __future__ import annotations

from typing import Any

import ml_collections
import numpy as np
import pytest

from infoprompt_jax import settings, variants
from infoprompt_jax.errors import UserError
from infoprompt_jax.fleet.members import PRESETS, expand, hyper_parameters
from infoprompt_jax.infoprompt.hyper import Hyper


def config(**fleet: Any) -> ml_collections.ConfigDict:
    made = variants.apply(settings.defaults(), "infoprompt")
    made.fleet.update(**fleet)
    return settings.check(made)


def test_a_run_without_a_fleet_is_one_member() -> None:
    (member,) = expand(config())
    assert member.name == "run" and member.config == config()
    assert [m.name for m in expand(config(presets=()))] == ["run"]


def test_members_are_the_product_in_order() -> None:
    members = expand(config(seeds=(3, 4), presets=("both", "plain"), members=({"name": "a"}, {"name": "b"})))
    names = [f"{name}-{preset}-seed{seed}" for name in "ab" for preset in ("both", "plain") for seed in (3, 4)]
    assert [member.name for member in members] == names
    assert [member.config.seed for member in members] == [3, 4] * 4
    assert [m.name for m in expand(config(seeds=(3, 4)))] == ["run-seed3", "run-seed4"]
    assert [m.name for m in expand(config(presets=("run", "head")))] == ["run", "head"]


def test_presets_differ_in_the_terms_alone() -> None:
    """The paired comparison: same seed, so the same initial prompt, data order and noise."""
    members = expand(config(seeds=(5,), presets=tuple(PRESETS)))
    weights = [(m.config.infoprompt.gamma, m.config.infoprompt.beta, m.config.infoprompt.kappa) for m in members]
    assert weights == [(0.1, 0.2, 0.1), (0.1, 0.2, 0.1), (0.0, 0.0, 0.0), (0.1, 0.0, 0.1), (0.0, 0.2, 0.1)]
    rest = [settings.flatten(member.config.to_dict()) for member in members]
    for fields in rest:
        for term in ("gamma", "beta", "kappa"):
            del fields[f"infoprompt.{term}"]
    assert all(fields == rest[0] for fields in rest)


def test_a_preset_keeps_its_terms_off_for_members_with_weights() -> None:
    """Else `x5-plain` would train with the terms."""
    fields = {"name": "x5", "infoprompt.gamma": 0.5, "infoprompt.beta": 1.0}
    members = expand(config(members=(fields,), presets=("plain", "head", "representation", "both")))
    weights = {m.name: (m.config.infoprompt.gamma, m.config.infoprompt.beta) for m in members}
    assert weights == {
        "x5-plain": (0.0, 0.0),
        "x5-head": (0.5, 0.0),
        "x5-representation": (0.0, 1.0),
        "x5-both": (0.5, 1.0),
    }


@pytest.mark.parametrize(
    ("preset", "weights", "problem"),
    [
        ("both", {"gamma": 0.0, "beta": 0.0}, r"'both', but infoprompt\.gamma=0 and infoprompt\.beta=0: set weights"),
        ("both", {"beta": 0.0}, r"'both', but infoprompt\.beta=0: set weights"),
        ("head", {"gamma": 0.0}, r"'head', but infoprompt\.gamma=0: set"),
        ("representation", {"beta": 0.0}, r"'representation', but infoprompt\.beta=0: set"),
        ("head", {"gamma": 0.0, "beta": 0.0, "head": "answer", "head_steps": 5}, ""),
        ("plain", {"gamma": 0.0, "beta": 0.0}, ""),
        ("run", {"gamma": 0.0, "beta": 0.0}, ""),
    ],
)
def test_a_preset_without_a_weight_for_its_terms_is_refused(preset: str, weights: dict[str, Any], problem: str) -> None:
    """It would be plain prompt tuning under another name."""
    made = config(presets=(preset,))
    made.infoprompt.update(**weights)
    if not problem:
        assert len(expand(made)) == 1
        return
    with pytest.raises(UserError, match=problem):
        expand(made)


def test_members_set_their_own_fields() -> None:
    fields = ({"name": "a", "task.name": "glue/sst2", "train.learning_rate": 1}, {"name": "b", "seed": 7})
    a, b = expand(config(members=fields))
    assert (a.config.task.name, a.config.train.learning_rate, a.config.seed) == ("glue/sst2", 1.0, 0)
    assert (b.config.task.name, b.config.train.learning_rate, b.config.seed) == ("super_glue/rte", 0.3, 7)
    (named,) = expand(config(members=({"name": "a", "seed": 9},), seeds=(3,)))
    assert (named.name, named.config.seed) == ("a-seed3", 3)


def test_a_template_of_a_members_own_takes_the_place_of_the_files() -> None:
    fields = {"name": "a", "task.input": "{{ x }}", "task.target": "{{ y }}"}
    made = config(members=(fields, {"name": "b"}))
    made.task.templates_dir = "T"
    assert [member.config.task.templates_dir for member in expand(made)] == ["", "T"]


@pytest.mark.parametrize(
    ("fleet", "sentence"),
    [
        (
            {"presets": ("nope",)},
            r"fleet.presets=.'nope',. is not supported: choose one of run, both, plain, head, representation",
        ),
        ({"seeds": (1, 1)}, r"fleet\.seeds=\(1, 1\) has 1 more than once: leave it once"),
        (
            {"members": ({"name": "a"}, {"name": "A"})},
            "both named 'a' and 'A', which some file systems do not tell apart",
        ),
        ({"members": ({"seed": 1}, {"seed": 2})}, "Two members are both named 'run': give each its name"),
        ({"members": ({"prompt.length": 3},)}, "sets 'prompt.length', which all members share: a member may set seed"),
        ({"members": ({"nope": 3},)}, "sets 'nope', which does not exist: a member may set seed"),
        (
            {"members": ({"train.learning_rate": "fast"},)},
            "fleet.members: train.learning_rate='fast' is of type str: float was expected",
        ),
        ({"members": ({"train.schedule": "nope"},)}, "train.schedule='nope' is not supported: choose one of constant"),
        ({"members": ({"infoprompt.beta": float("nan")},)}, "infoprompt.beta=nan"),
        ({"members": ({"infoprompt.beta": -0.2},)}, "infoprompt.beta=-0.2 is out of range: it must be 0 to 1,000,000"),
        ({"members": ({"infoprompt.gamma": -0.1},)}, "infoprompt.gamma=-0.1 is out of range"),
        ({"members": ({"infoprompt.kappa": -1.0},)}, "infoprompt.kappa=-1.0 is out of range"),
        ({"members": ({"name": "a/b"},)}, "the name 'a/b': choose one that can be a directory's name"),
        ({"members": ({"name": "../b"},)}, r"the name '\.\./b'"),
        ({"seeds": (-1,)}, r"fleet.seeds=\(-1,\) is out of range: it must be 0 to 4,294,967,295"),
        ({"seeds": (2**32,)}, r"seeds=\(4294967296,\) is out of range"),
    ],
)
def test_refusals(fleet: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        expand(config(**fleet))


def test_hyper_parameters_are_columns() -> None:
    fields = (
        {"name": "a", "train.schedule": "cosine"},
        {"name": "b", "infoprompt.estimator": "nwj", "train.warmup": 0.5},
    )
    members = expand(config(members=fields))
    hyper = hyper_parameters(members, ("infonce", "nwj"))
    assert hyper.schedule.tolist() == [2, 0] and hyper.estimator.tolist() == [0, 1]
    np.testing.assert_array_equal(hyper.warmup, np.float32([0.0, 0.5]))
    np.testing.assert_array_equal(hyper.learning_rate, np.float32([0.3, 0.3]))
    assert {array.shape for array in hyper} == {(2,)}


def test_each_hyper_parameter_is_its_own_field() -> None:
    made = config()
    made.infoprompt.update(beta=1.0, gamma=2.0, kappa=3.0, decay=0.25, temperature=0.75, head_steps=7)
    made.train.update(learning_rate=5.0, critic_learning_rate=6.0, warmup=0.5)
    hyper = hyper_parameters(expand(made), ("infonce",))
    expected = Hyper(1, 2, 3, 0.25, 0.75, 7, 5, 6, 0.5, schedule=0, estimator=0)
    assert Hyper(*(values.item() for values in hyper)) == expected
