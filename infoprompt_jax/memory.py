"""Memory: what a program needs, reported before it takes it, and what a device has.

The compiler knows what a program needs besides its arguments. `run` compares that with what is free, the first time
that a program sees arguments of a shape: what needs more is reported, and what needs more than there is at all is
refused with the fields to change. Nothing is compiled twice for it. On a CPU a program takes the host's memory, and
the operating system kills a process that takes too much, without a word.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pathlib
import weakref
from collections.abc import Hashable, Iterator
from typing import Any

import jax
from jax.core import Tracer

from infoprompt_jax.errors import UserError

WORTH_A_LINE = 2**30  # bytes that are reported even where they are free
GROUP = pathlib.Path("/sys/fs/cgroup")  # of a container, which may have less than the host

log = logging.getLogger(__name__)

_seen: weakref.WeakKeyDictionary[Any, set[Hashable]] = weakref.WeakKeyDictionary()  # by program


def run(program: Any, arguments: tuple[Any, ...], shapes: Hashable, what: str, remedy: str) -> Any:
    """`program(*arguments)`, after a check of its memory if these shapes are new to it.

    Args:
      program: of `jax.jit`.
      shapes: what the program is compiled for, beside what does not change while it lives.
      what: names the program, as the subject of a sentence.
      remedy: what to do about too much memory.

    Raises:
      UserError: it needs more memory than there is.
    """
    with exhausted(what, remedy):
        if shapes not in _seen.setdefault(program, set()) and _is_compiled(program, arguments):
            check(program.lower(*arguments).compile(), what, remedy)  # the call finds what this compiled
            _seen[program].add(shapes)
        return program(*arguments)


def _is_compiled(program: Any, arguments: tuple[Any, ...]) -> bool:
    """Whether the call compiles the program: inside another one it only becomes a part of that."""
    return hasattr(program, "lower") and not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(arguments))


def check(compiled: Any, what: str, remedy: str) -> None:
    """Reports what a compiled program needs besides its arguments. Raises UserError if no device could give it."""
    analysis = compiled.memory_analysis()
    placed = {device for sharding in jax.tree.leaves(compiled.input_shardings) for device in sharding.device_set}
    devices = sorted(placed & {*jax.local_devices()}, key=lambda device: device.id)
    if analysis is None or not devices:
        return
    device = devices[0]
    needed = analysis.temp_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    needed *= len(devices) if device.platform == "cpu" else 1  # they share the host's memory
    most, available = total(device, swap=True), free(device)
    if most is not None and needed > most and jax.process_count() == 1:
        raise UserError(f"{what} needs {needed / 1e9:.1f} GB of memory, but there are {most / 1e9:.1f} GB: {remedy}.")
    if available is not None and needed > available:
        log.warning(
            "%s needs %.1f GB of memory, but %.1f GB are free. If it fails or the system slows down: %s.",
            what,
            needed / 1e9,
            available / 1e9,
            remedy,
        )
    elif needed > WORTH_A_LINE:
        log.info("%s needs %.1f GB of memory.", what, needed / 1e9)


@contextlib.contextmanager
def exhausted(what: str, remedy: str) -> Iterator[None]:
    """Turns XLA's refusal for want of memory into a UserError."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise UserError(f"{what} needs more memory than the device has left: {remedy}.") from error


def total(device: Any, swap: bool = False) -> int | None:
    """The bytes of a device's memory, of a CPU the host's, with its swap space if requested; None if unknown."""
    if (stats := device.memory_stats()) and "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    if device.platform != "cpu" or not hasattr(os, "sysconf"):
        return None
    host, facts = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), _host()
    return min(host, _group("memory.max") or host) + (facts.get("SwapTotal", 0) if swap else 0)


def free(device: Any) -> int | None:
    """The bytes of a device's memory that are free, of a CPU the host's; None if unknown."""
    if (stats := device.memory_stats()) and "bytes_limit" in stats:
        return int(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    available = _host().get("MemAvailable") if device.platform == "cpu" else None
    limit, used = _group("memory.max"), _group("memory.current")
    if available is None or limit is None or used is None:
        return available
    return min(available, limit - used + (_group("memory.stat", "inactive_file") or 0))


def per_device(device: Any) -> int | None:
    """`total`, shared out over the devices that a CPU simulates."""
    whole = total(device)
    return None if whole is None else whole // (jax.local_device_count() if device.platform == "cpu" else 1)


def _host() -> dict[str, int]:
    """The bytes of /proc/meminfo; {} where there is none."""
    try:
        lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return {}
    return {name: 1024 * int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}


def _group(name: str, line: str = "") -> int | None:
    """A number of the container's control group, from a file or a line of it; None where there is none, or no limit."""
    try:
        text = (GROUP / name).read_text()
    except OSError:
        return None
    words = [part.split() for part in text.splitlines()]
    number = next((part[-1] for part in words if part and (not line or part[0] == line)), "")
    return int(number) if number.isdigit() else None
