"""Repeated timing of work that a device does behind the program's back."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

LEAST, MOST = 5, 20  # repetitions


def repeated(step: Callable[[], Any], wait: Callable[[], Any], seconds: float) -> dict[str, Any]:
    """Seconds of one step in each of some repetitions; `step` hands work to the device and `wait` waits for all of it.

    A repetition is as many steps in a row as take a tenth of a second, for a run does not wait after each step either.
    Two steps that are not counted come first.
    """
    for _ in range(2):
        since = time.perf_counter()
        step()
        wait()
        once = time.perf_counter() - since
    steps = max(1, math.ceil(0.1 / once)) if seconds else 1
    repetitions = min(MOST, max(LEAST, int(seconds / (once * steps))))
    found = []
    for _ in range(repetitions):
        since = time.perf_counter()
        for _ in range(steps):
            step()
        wait()
        found.append((time.perf_counter() - since) / steps)
    return {"seconds": found, "steps_a_repetition": steps}
