"""Flags of XLA and of the compiler for TPUs."""

from __future__ import annotations

import pytest

from infoprompt_jax.devices import STACKS, deepen_stacks, order_collectives

SIMULATED = "--xla_force_host_platform_device_count=2"
ONE_ORDER = "--xla_cpu_enable_concurrency_optimized_scheduler=false"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (SIMULATED, f"{SIMULATED} {ONE_ORDER}"),
        (f"{SIMULATED} {ONE_ORDER[:-5]}true", f"{SIMULATED} {ONE_ORDER[:-5]}true"),
        ("--xla_dump_to=d", "--xla_dump_to=d"),
    ],
)
def test_simulated_devices_keep_one_order_of_collectives(before: str, after: str) -> None:
    environment = {"XLA_FLAGS": before}
    order_collectives(environment)
    assert environment == {"XLA_FLAGS": after}


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
