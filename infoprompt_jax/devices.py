"""Environment variables of XLA and TensorFlow; they count until JAX makes its devices, or TensorFlow is imported."""

from __future__ import annotations

import functools
import logging
import os
import re
import sys
from collections.abc import MutableMapping

SIMULATED = "--xla_force_host_platform_device_count"
THREADS = "NPROC"  # XLA's CPU client makes as many threads
COUNT = "JAX_NUM_CPU_DEVICES"
STACKS = "--fibers_default_thread_stack_size"
SCHEDULER = "--xla_cpu_enable_concurrency_optimized_scheduler"

log = logging.getLogger(__name__)


def quiet_tensorflow(environment: MutableMapping[str, str] = os.environ) -> None:
    """Hides TensorFlow's information and warning messages, unless the user chose a level."""
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def simulated(environment: MutableMapping[str, str] = os.environ) -> int:
    """The number of CPU devices that JAX is to simulate; 0 where nobody asks for any.

    JAX has three ways: a flag of XLA, JAX_NUM_CPU_DEVICES, and `jax.config` of a program that has imported it.
    """
    requested = re.findall(rf"{SIMULATED}=(\d+)", environment.get("XLA_FLAGS", ""))[-1:]
    requested.append(environment.get(COUNT, ""))
    if jax := sys.modules.get("jax"):
        requested.append(str(jax.config.jax_num_cpu_devices))
    return max((int(count) for count in requested if count.isdecimal()), default=0)


def order_collectives(environment: MutableMapping[str, str] = os.environ) -> None:
    """Keeps simulated CPU devices from deadlocks, where there are to be any; other settings stay as they are.

    Simulated devices wait for each other inside collectives. XLA's default CPU scheduler lets each device take
    independent collectives in another order, which is a deadlock; the other scheduler keeps one order. A device also
    waits in several collectives at a time, a thread in each, and XLA has one thread a device: they get eight. The
    command calls this function, and `before_use` does for programs that use the package as a library.
    """
    count, flags = simulated(environment), environment.get("XLA_FLAGS", "")
    if count > 1:
        environment.setdefault(THREADS, str(8 * count))
        if SCHEDULER not in flags:
            environment["XLA_FLAGS"] = f"{flags} {SCHEDULER}=false".strip()


def before_use() -> None:
    """Calls `order_collectives` before JAX makes its devices; where it has made them without, a warning is logged."""
    from jax._src import xla_bridge  # JAX has no public name for it

    if not xla_bridge.backends_are_initialized():
        order_collectives()
    elif SCHEDULER not in os.environ.get("XLA_FLAGS", "") or THREADS not in os.environ:
        _warn_of_deadlocks()


@functools.cache
def _warn_of_deadlocks() -> None:
    import jax

    count = jax.local_device_count()
    if jax.default_backend() == "cpu" and count > 1:
        log.warning(
            "JAX already runs %d simulated CPU devices, which can wait for each other for ever: load a backbone before "
            "other uses of JAX's devices, or start the program with XLA_FLAGS=%s=false and %s=%d.",
            count,
            SCHEDULER,
            THREADS,
            8 * count,
        )


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
