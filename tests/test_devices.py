"""Flags of XLA and of the compiler for TPUs."""

from __future__ import annotations

import pytest

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
    ],
)
def test_simulated_devices_keep_one_order_of_collectives(before: dict[str, str], after: dict[str, str]) -> None:
    environment = dict(before)
    order_collectives(environment)
    assert environment == before | after


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
