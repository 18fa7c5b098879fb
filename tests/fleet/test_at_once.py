"""How many members compute together, and how well their memory is estimated from shapes."""

from __future__ import annotations

import pathlib

import jax
import pytest
import tiny
import tiny_runs

from infoprompt_jax import memory
from infoprompt_jax.fleet.at_once import StepShape, step_bytes, together
from infoprompt_jax.fleet.fleet import member_keys
from infoprompt_jax.t5 import partition
from infoprompt_jax.training import experiment

PLAIN = {"head_term": False, "representation_term": False}


@pytest.mark.parametrize(
    "members,each,memory,devices,expected",
    [
        (512, 30, 4 * 512 * 30, 1, 512),
        (512, 30, 4 * 511 * 30, 1, 256),
        (12, 30, 4 * 5 * 30, 1, 4),
        (7, 30, 4 * 6 * 30, 1, 1),
        (8, 30, 1, 1, 1),
        (8, 30, None, 1, 8),
        (16, 30, 4 * 2 * 30, 4, 8),
        (16, 30, 1, 4, 4),
        (6, 30, 1, 4, 6),  # does not divide: rows are split
    ],
)
def test_as_many_as_fit_and_divide(members: int, each: int, memory: int | None, devices: int, expected: int) -> None:
    assert together(members, each, memory, devices) == expected


@pytest.mark.parametrize(
    "remat", ["dots", *(pytest.param(remat, marks=pytest.mark.slow) for remat in ("none", "full"))]
)
def test_the_estimate_is_near_what_xla_counts(remat: str) -> None:
    members, rows, inputs = 2, 8, 192
    model = tiny.backbone(remat=remat)
    program, batch = tiny.fleet(model, **PLAIN), tiny.batch(members, rows, length=inputs)
    state = tiny.start(program, model, [0, 1])
    hyper, keys = jax.device_put((tiny.hyper({}, {}), member_keys([0, 1])), program.member_sharding)
    lowered = program.step.lower(state, model.frozen, program.place(batch), hyper, keys)
    counted = lowered.compile().memory_analysis().temp_size_in_bytes / members
    shape = StepShape(rows, batch["inputs"].shape[-1] + tiny.P, batch["targets"].shape[-1])
    assert 0.6 * counted < step_bytes(model.config, shape) < 1.6 * counted


def test_a_run_computes_as_many_members_together_as_memory_holds(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_runs.config(tmp_path, fleet__seeds=(0, 1, 2, 3), fleet__over="rows", train__eval_batch_size=64)
    model = tiny.backbone()  # one CPU, on which predictions are made for few members whatever a run's steps allow
    assert experiment.build(config, model).fleet.at_once == 4  # of this machine's memory
    each = step_bytes(model.config, StepShape(8, 64 + 4, 8))
    monkeypatch.setattr(memory, "per_device", lambda _: 4 * 3 * each)
    assert experiment.build(config, model).fleet.at_once == 2
    splitting = tiny.backbone(partition.make_mesh(2, devices=jax.devices()[:2]))
    assert experiment.build(config, splitting).fleet.at_once == 1  # 32 rows each in an evaluation, too many for two
    config.train.accumulate = 2  # half the rows at once
    assert experiment.build(config, model).fleet.at_once == 4
    config.fleet.at_once = 1
    assert experiment.build(config, model).fleet.at_once == 1
