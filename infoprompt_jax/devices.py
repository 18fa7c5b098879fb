"""Environment variables of XLA and TensorFlow; for use before either is imported."""

from __future__ import annotations

import os
import re
from collections.abc import MutableMapping

SIMULATED = "--xla_force_host_platform_device_count"
THREADS = "NPROC"  # XLA's CPU client makes as many threads
STACKS = "--fibers_default_thread_stack_size"
SCHEDULER = "--xla_cpu_enable_concurrency_optimized_scheduler"


def quiet_tensorflow(environment: MutableMapping[str, str] = os.environ) -> None:
    """Hides TensorFlow's information and warning messages, unless the user chose a level."""
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def order_collectives(environment: MutableMapping[str, str] = os.environ) -> None:
    """Keeps simulated CPU devices from deadlocks, where XLA_FLAGS asks for them; other settings stay as they are.

    Simulated devices wait for each other inside collectives. XLA's default CPU scheduler lets each device take
    independent collectives in another order, which is a deadlock; the other scheduler keeps one order. A device also
    waits in several collectives at a time, a thread in each, and XLA has one thread a device: they get eight. `main`
    calls this function. A program that uses the package as a library calls it before its first use of JAX's devices.
    """
    flags = environment.get("XLA_FLAGS", "")
    if count := re.search(rf"{SIMULATED}=(\d+)", flags):
        environment.setdefault(THREADS, str(8 * int(count[1])))
        if SCHEDULER not in flags:
            environment["XLA_FLAGS"] = f"{flags} {SCHEDULER}=false"


def deepen_stacks(environment: MutableMapping[str, str] = os.environ) -> None:
    """Gives the threads of the compiler for TPUs stacks of 4 MiB, unless the user chose a size; nothing elsewhere.

    libtpu 0.0.42 overflows its own stacks, and ends the process, while it compiles an XXL with int8 weights.
    """
    flags = environment.get("LIBTPU_INIT_ARGS", "")
    if STACKS not in flags:
        environment["LIBTPU_INIT_ARGS"] = f"{flags} {STACKS}={2**22}".strip()


def describe_only(environment: MutableMapping[str, str] = os.environ) -> None:
    """Has JAX run on the CPU, and libtpu compile for TPUs that are not there, without looking for one.

    Without a name for the host's chips libtpu asks the cloud's metadata server, and warns.
    """
    environment["JAX_PLATFORMS"] = "cpu"
    environment["TPU_SKIP_MDS_QUERY"] = environment["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"
    environment.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-1")
    environment.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    deepen_stacks(environment)
