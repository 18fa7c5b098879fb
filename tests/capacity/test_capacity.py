"""A run's programs are compiled for a TPU slice that is not there; a mistake in the command is one sentence."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import pytest

from bench import synthetic
from infoprompt_jax.capacity import __main__ as command
from infoprompt_jax.capacity.case import Case, chosen_mesh
from infoprompt_jax.capacity.programs import model_config, weight_bytes
from infoprompt_jax.t5.published import PUBLISHED, SHAPES

SMALL = ("--model=nano", "--input=32", "--target=8", "--prompt=4", "--json")
V5E = 15.75 * 2**30


@pytest.fixture(scope="session")
def libtpu() -> str:
    """The folder of the compiler for TPUs, beside the environment: see the Makefile."""
    folder = pathlib.Path(sys.prefix) / "tpu"
    if not (folder / "libtpu").is_dir():
        pytest.skip(f"the compiler for TPUs is not in {folder}: make test installs it there")
    return str(folder)


def answered(libtpu: str, *arguments: str) -> dict[str, Any]:
    """The record that the command prints, in a process of its own: a test's JAX has other devices."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"} | {"PYTHONPATH": libtpu}
    ran = subprocess.run(
        [sys.executable, "-m", "infoprompt_jax.capacity", *SMALL, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        cwd=pathlib.Path(__file__).parents[2],
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_a_tiny_model_is_compiled_for_a_slice(libtpu: str) -> None:
    record = answered(libtpu, "--topology=v5e:2x2", "--mesh=2,2,1", "--batch=8")
    assert record["fits"] and record["memory"] == V5E and record["devices"] == 4
    assert record["needed"] == sum(record[part] for part in ("arguments", "outputs", "temporaries", "code"))
    assert record["weights"] < record["arguments"] < record["needed"]
    along = {(one["kind"], one["along"]) for one in record["collectives"]}
    assert ("all-gather", "fsdp") in along  # of weights
    assert not any("model" in axis for _, axis in along)
    assert record["step_seconds"] >= record["bounds"]["links"] > 0


def test_a_batch_that_does_not_fit_is_refused_by_the_compiler(libtpu: str) -> None:
    record = answered(libtpu, "--topology=v5e:1x1", "--batch=4194304", "--job=score")
    assert not record["fits"] and record["needed"] > V5E
    assert record["message"].startswith("RESOURCE_EXHAUSTED")


@pytest.mark.parametrize(
    ("argument", "seen"),
    [
        ("--topology=v5x:4x4", "v5x:4x4"),
        ("--mesh=4,1", "--mesh=4,1"),
        ("--config.train.stepps=3", "did you mean train.steps"),
        ("--config.train.steps=many", "train.steps"),
        ("--bath=3", "--bath=3"),
        ("--slices=0", "--slices=0"),
        ("--choices=0", "--choices=0"),
        ("--out=record", "end in .json"),
    ],
)
def test_a_mistake_is_one_sentence(argument: str, seen: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        command.main([*SMALL, argument])
    printed = capsys.readouterr().err
    assert stop.value.code == 2 and printed.startswith("error:") and seen in printed
    assert printed.count("\n") == 1


def test_ctrl_c_is_one_sentence(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("infoprompt_jax.capacity.case.answer", interrupted)
    with pytest.raises(SystemExit) as end:
        command.main(["--model=nano"])
    assert end.value.code == 143
    assert capsys.readouterr().err == "Stopped; nothing is saved, and the same command starts again.\n"


def test_published_shapes_are_those_that_are_measured() -> None:
    assert set(PUBLISHED.values()) == set(SHAPES)
    for name, shape in synthetic.SHAPES.items():
        assert name == "toy" or SHAPES[name] == shape
    sizes = model_config(Case("google/t5-xxl-lm-adapt", "v5e:1x1").config(1))
    assert weight_bytes(sizes) == pytest.approx(2 * 11.135e9, rel=1e-3)


@pytest.mark.parametrize(
    ("model", "batch", "devices", "mesh"),
    [
        ("base", 0, 1, (1, 1, 1)),
        ("base", 32, 16, (16, 1, 1)),
        ("xxl", 64, 16, (4, 4, 1)),
        ("xxl", 0, 2, (1, 2, 1)),  # the weights do not leave enough: as many devices as there are
        ("xxl", 8, 16, (4, 2, 2)),  # more devices than rows
    ],
)
def test_a_mesh_is_chosen_by_the_weights(model: str, batch: int, devices: int, mesh: tuple[int, int, int]) -> None:
    case = Case(f"google/t5-{model}-lm-adapt", "v5e:4x4", batch=batch)
    assert chosen_mesh(case, devices, round(V5E)) == mesh
