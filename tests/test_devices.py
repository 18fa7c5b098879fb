"""Flags of XLA and of the compiler for TPUs."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest
import tiny_runs

from infoprompt_jax.devices import STACKS, deepen_stacks, order_collectives

SIMULATED = "--xla_force_host_platform_device_count=2"
ONE_ORDER = "--xla_cpu_enable_concurrency_optimized_scheduler=false"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"XLA_FLAGS": SIMULATED}, {"XLA_FLAGS": f"{SIMULATED} {ONE_ORDER}", "NPROC": "16"}),
        ({"XLA_FLAGS": f"{SIMULATED} {ONE_ORDER[:-5]}true"}, {"NPROC": "16"}),
        ({"XLA_FLAGS": f"{SIMULATED} {ONE_ORDER}", "NPROC": "5"}, {}),
        ({"XLA_FLAGS": "--xla_dump_to=d"}, {}),
        ({"JAX_NUM_CPU_DEVICES": "2"}, {"XLA_FLAGS": ONE_ORDER, "NPROC": "16"}),
        ({"JAX_NUM_CPU_DEVICES": "1"}, {}),
        ({"JAX_NUM_CPU_DEVICES": "some"}, {}),
    ],
)
def test_simulated_devices_keep_one_order_of_collectives(before: dict[str, str], after: dict[str, str]) -> None:
    environment = dict(before)
    order_collectives(environment)
    assert environment == before | after


MESH = "from infoprompt_jax.t5 import partition; print(len(partition.make_mesh().devices.flat))"
CONFIG = "import jax; jax.config.update('jax_num_cpu_devices', 2); "


@pytest.mark.parametrize(
    ("before", "code", "warns"),
    [
        pytest.param({"JAX_NUM_CPU_DEVICES": "2"}, "", False, marks=pytest.mark.slow),
        ({}, CONFIG, False),
        ({}, f"{CONFIG} jax.devices(); ", True),
        pytest.param(
            {"XLA_FLAGS": ONE_ORDER, "NPROC": "16"}, f"{CONFIG} jax.devices(); ", False, marks=pytest.mark.slow
        ),
    ],
)
def test_a_mesh_orders_collectives_however_devices_are_simulated(
    before: dict[str, str], code: str, warns: bool
) -> None:
    """Of XLA's own settings, which a program can no longer make once JAX has its devices."""
    environment = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "NPROC")} | before
    shown = "; import os; print(os.environ.get('XLA_FLAGS'), os.environ.get('NPROC'))"
    ran = subprocess.run(
        [sys.executable, "-c", code + MESH + shown], env=environment, capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == ["2", "None", "None"] if warns else ["2", ONE_ORDER, "16"]
    assert ("JAX already runs 2 simulated CPU devices" in ran.stderr) == warns


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [(8, 1, 1), (2, 2, 2)])
def test_bfloat16_with_both_terms_of_a_bilinear_critic_ends(mesh: tuple[int, ...], tmp_path: pathlib.Path) -> None:
    """Many independent collectives a step: with XLA's other scheduler, devices may wait for each other for ever."""
    fields = {"backbone__dtype": "bfloat16", "infoprompt__critic": "bilinear", "infoprompt__estimator": "nwj"}
    split = dict(zip(("mesh__data", "mesh__fsdp", "mesh__model"), mesh, strict=True))
    (tmp_path / "config.json").write_text(tiny_runs.config(tmp_path, **fields, **split).to_json())
    environment = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "NPROC")}
    script = pathlib.Path(tiny_runs.__file__)
    ran = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "config.json"), str(tmp_path / "run"), "step", "-1"],
        env=environment | {"JAX_NUM_CPU_DEVICES": "8", "PYTHONPATH": str(script.parents[1])},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["members"][0]["steps"] == tiny_runs.STEPS


def test_without_flags_nothing_is_set() -> None:
    environment: dict[str, str] = {}
    order_collectives(environment)
    assert environment == {}


@pytest.mark.parametrize(
    ("before", "after"),
    [("", f"{STACKS}=4194304"), ("--a=1", f"--a=1 {STACKS}=4194304"), (f"{STACKS}=8", f"{STACKS}=8")],
)
def test_the_compiler_for_tpus_gets_deeper_stacks(before: str, after: str) -> None:
    environment = {"LIBTPU_INIT_ARGS": before}
    deepen_stacks(environment)
    assert environment == {"LIBTPU_INIT_ARGS": after}
