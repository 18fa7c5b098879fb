"""Checkpoints hold only the trainables, restore on other devices, and refuse what is not theirs."""

from __future__ import annotations

import pathlib
import shutil
from typing import Any

import jax
import numpy as np
import pytest
import tiny

from infoprompt_jax.errors import UserError
from infoprompt_jax.t5 import partition
from infoprompt_jax.training.checkpoints import Checkpoints

POSITION = {"step": 3, "backbone": "a", "data": "b"}


def state_on(mesh: jax.sharding.Mesh, fill: float, **fields: object) -> tiny.FleetState:
    model = tiny.backbone(mesh)
    state = tiny.start(tiny.fleet(model, **fields), model, [0, 1])
    return jax.tree.map(lambda x: jax.device_put(np.full(x.shape, fill, x.dtype), x.sharding), state)


@pytest.mark.parametrize(("saved", "restored"), [(8, 1), (1, 8)])
def test_saved_on_some_devices_restored_on_others(tmp_path: pathlib.Path, saved: int, restored: int) -> None:
    meshes = {1: tiny.one_device(), 8: partition.make_mesh()}
    Checkpoints(tmp_path).save(3, state_on(meshes[saved], 7.0), POSITION)
    found = Checkpoints(tmp_path).restore(state_on(meshes[restored], 0.0), POSITION)
    assert found is not None and found[1].items() >= POSITION.items()
    for leaf in jax.tree.leaves(found[0]):
        assert len(leaf.sharding.device_set) == restored
        np.testing.assert_array_equal(np.asarray(leaf), np.asarray(7.0).astype(leaf.dtype))


def test_a_checkpoint_is_small(tmp_path: pathlib.Path) -> None:
    state = state_on(tiny.one_device(), 1.0, head_term=False, representation_term=False)
    Checkpoints(tmp_path).save(1, state, POSITION)
    size = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert size < 100_000, "the backbone has 200,000 weights and must not be in it"


def test_nothing_to_restore_is_none(tmp_path: pathlib.Path) -> None:
    assert Checkpoints(tmp_path).restore(state_on(tiny.one_device(), 0.0), POSITION) is None


def test_another_runs_checkpoint_is_refused(tmp_path: pathlib.Path) -> None:
    state = state_on(tiny.one_device(), 1.0)
    Checkpoints(tmp_path).save(3, state, POSITION)
    with pytest.raises(UserError, match=r"made with data 'b', this run has 'c': .* templates of task\.train_split"):
        Checkpoints(tmp_path).restore(state, {**POSITION, "data": "c"})
    newer = {**POSITION, "evaluation_data": "e"}  # which this one, being older, does not name
    assert Checkpoints(tmp_path).restore(state, newer) is not None
    with pytest.raises(UserError, match="cannot be restored into this run"):
        Checkpoints(tmp_path).restore(state_on(tiny.one_device(), 0.0, critic="bilinear"), POSITION)


def test_a_damaged_checkpoint_is_refused(tmp_path: pathlib.Path) -> None:
    state = state_on(tiny.one_device(), 1.0)
    Checkpoints(tmp_path).save(3, state, POSITION)
    shutil.rmtree(next(tmp_path.rglob("state")) / "d", ignore_errors=True)
    for path in next(tmp_path.rglob("state")).rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:10])
    with pytest.raises(UserError, match=r"step 3 .* cannot be restored"):
        Checkpoints(tmp_path).restore(state, POSITION)


def test_the_last_two_are_kept(tmp_path: pathlib.Path) -> None:
    checkpoints, state = Checkpoints(tmp_path), state_on(tiny.one_device(), 1.0)
    for step in (1, 2, 2, 3):
        checkpoints.save(step, state, {**POSITION, "step": step})
    assert sorted(checkpoints.manager.all_steps()) == [2, 3]


def damage(tmp_path: pathlib.Path, step: int, how: str) -> None:
    """Of a checkpoint: a byte of a value or of the position, an empty file, or the state that another step saved."""
    place = tmp_path / str(step)
    if how == "other":
        shutil.rmtree(place / "state")
        shutil.copytree(tmp_path / "2" / "state", place / "state")
        return
    part = place / ("position" if how == "position" else "state")
    for file in (file for file in part.rglob("*") if file.is_file()):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 16
        file.write_bytes(b"" if how == "empty" else content)


@pytest.mark.parametrize("how", ["state", "position", "empty", "other"])
def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(
    tmp_path: pathlib.Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    state = state_on(tiny.one_device(), 1.0)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(2, state, POSITION | {"step": 2})
    checkpoints.save(3, state_on(tiny.one_device(), 2.0), POSITION)
    damage(tmp_path, 3, how)
    restored = Checkpoints(tmp_path).restore(state, POSITION)
    assert restored is not None and restored[1]["step"] == 2
    assert "The run goes on from the checkpoint of step 2." in caplog.text
    assert checkpoints.directory.joinpath("2").is_dir() and not checkpoints.directory.joinpath("3").exists()
    damage(tmp_path, 2, "state")
    with pytest.raises(UserError, match=r"step 2 in .*, and no earlier one can: choose .* or delete ") as caught:
        Checkpoints(tmp_path).restore(state, POSITION)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_whose_log_is_lost_is_not_resumed(tmp_path: pathlib.Path) -> None:
    state = state_on(tiny.one_device(), 1.0)
    Checkpoints(tmp_path).save(3, state, POSITION | {"log": {"bytes": 3}})

    def check(position: dict[str, Any]) -> None:
        raise UserError(f"metrics.jsonl lacks some of its {position['log']['bytes']} bytes.")

    with pytest.raises(
        UserError, match=r"cannot be restored into this run \(metrics.jsonl lacks some of its 3 bytes\)"
    ):
        Checkpoints(tmp_path).restore(state, POSITION, check)
