"""What the benchmarks' tests measure: subjects and cases that another process imports by name."""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

import bench.ours  # noqa: F401 (the processes that measure must do without TensorFlow although they import this)
from bench.device.cases import Case
from bench.turns import Work

CPU = {"device": "cpu", "devices": 1, "platform": "cpu"}


def counting(name: str) -> Work:
    """A subject that notes how often it ran, and what its process had imported."""
    calls: list[str] = []
    facts = {"examples": 1, "tokens": 1, "padding_share": 0.0, "model_flops": 1.0}
    return Work(lambda: calls.append(name), facts, lambda: {"calls": len(calls), "modules": sorted(sys.modules)})


def variable(name: str) -> Work:
    value = os.environ.get(name, "")
    return Work(lambda: None, {"examples": 1, "model_flops": 1.0, "value": value}, dict)


def missing() -> Work:
    raise ModuleNotFoundError("No module named 'absent'", name="absent")


def fine(case: Case) -> dict[str, Any]:
    return {"seconds": [2.0, 1.0, 4.0], "compile_seconds": 3.0, **CPU}


def failing(case: Case) -> dict[str, Any]:
    raise ValueError("two\nlines")


def exhausted(case: Case) -> dict[str, Any]:
    raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 90 GiB.")


def dying(case: Case) -> dict[str, Any]:
    os._exit(3)


def hanging(case: Case) -> dict[str, Any]:
    threading.Event().wait()
    return {}
