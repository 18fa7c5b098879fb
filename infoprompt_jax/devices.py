"""Environment variables of XLA and TensorFlow; for use before either is imported."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

SIMULATED = "--xla_force_host_platform_device_count"
SCHEDULER = "--xla_cpu_enable_concurrency_optimized_scheduler"


def quiet_tensorflow(environment: MutableMapping[str, str] = os.environ) -> None:
    """Hides TensorFlow's information and warning messages, unless the user chose a level."""
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def order_collectives(environment: MutableMapping[str, str] = os.environ) -> None:
    """Adds a flag to XLA_FLAGS where that asks for simulated CPU devices; other settings stay as they are.

    Simulated devices wait for each other inside collectives. XLA's default CPU scheduler lets each device take
    independent collectives in another order, which is a deadlock; the other scheduler keeps one order. `main` calls
    this function. A program that uses the package as a library calls it before its first use of JAX's devices.
    """
    flags = environment.get("XLA_FLAGS", "")
    if SIMULATED in flags and SCHEDULER not in flags:
        environment["XLA_FLAGS"] = f"{flags} {SCHEDULER}=false"
