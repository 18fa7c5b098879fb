"""Repeated timing of work that a device does asynchronously."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

LEAST, MOST = 5, 20  # repetitions


def repeated(step: Callable[[], Any], wait: Callable[[], Any], seconds: float) -> dict[str, Any]:
    """The seconds of one step in each repetition; `step` starts work on the device and `wait` waits for its end.

    A repetition has as many steps as take a tenth of a second, because a run does not wait after each step either. Two
    uncounted steps come first.
    """
    for _ in range(2):
        since = time.perf_counter()
        step()
        wait()
        once = time.perf_counter() - since
    steps = max(1, math.ceil(0.1 / once)) if seconds else 1
    repetitions = min(MOST, max(LEAST, int(seconds / (once * steps))))
    times = []
    for _ in range(repetitions):
        since = time.perf_counter()
        for _ in range(steps):
            step()
        wait()
        times.append((time.perf_counter() - since) / steps)
    return {"seconds": times, "steps_a_repetition": steps}
