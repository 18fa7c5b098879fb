"""The config of the claims' runs: every run of the experiment is a valid fleet, and differs as its name states."""

from __future__ import annotations

import pathlib

import pytest

from experiments.claims import CONFIG, RUNS
from infoprompt_jax.command_line import read_config
from infoprompt_jax.errors import UserError
from infoprompt_jax.fleet.members import Member, expand


def members(chosen: str) -> dict[str, Member]:
    return {member.name: member for member in expand(read_config(f"{CONFIG}:{chosen}"))}


@pytest.mark.parametrize("run", RUNS)
def test_every_run_is_a_fleet_of_one_task(run: str) -> None:
    found = members(RUNS[run].format(workdir="runs/claims")).values()
    assert len({member.config.task.name for member in found}) == 1 and len(found) >= 20


def test_the_default_is_four_presets_of_twenty_seeds() -> None:
    names = {f"{preset}-seed{seed}" for preset in ("plain", "head", "representation", "both") for seed in range(20)}
    assert members("entailment,256").keys() == names


def test_the_head_term_is_tried_alone() -> None:
    found = [member.config.infoprompt for member in members("inference,256,head").values()]
    assert len(found) == 60 and {info.beta for info in found} == {0.0}
    assert sorted({round(info.gamma, 4) for info in found}) == [0.03, 0.3, 1.0]


def test_gentle_weights_are_a_tenth_and_a_hundredth() -> None:
    found = {name: member.config.infoprompt for name, member in members("causes,256,gentle").items()}
    assert len(found) == 120 and {info.estimator for info in found.values()} == {"nwj", "dv", "smile"}
    info = found["dv-x0.01-both-seed19"]
    assert (info.gamma, info.beta) == pytest.approx((0.001, 0.002))


def test_a_probe_starts_from_the_prompts_of_a_run_and_keeps_them(tmp_path: pathlib.Path) -> None:
    found = members(f"pronouns,256,probe={tmp_path}")
    assert len(found) == 40 and {member.config.train.learning_rate for member in found.values()} == {0.0}
    assert all(member.config.prompt.init == f"{tmp_path}/prompts/{name}" for name, member in found.items())


def test_the_released_recipe_is_that_of_its_config() -> None:
    released = read_config(f"{CONFIG.parents[1]}/configs/released_code.py")
    config = read_config(f"{CONFIG}:causes,256,released_code")
    assert (config.infoprompt, config.prompt) == (released.infoprompt, released.prompt)
    assert (config.train.optimizer, config.train.steps) == ("adamw", 320)


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(UserError, match=r"no variant 'nope': choose from pair, .*, probe=RUN\.$"):
        read_config(f"{CONFIG}:causes,256,nope")
