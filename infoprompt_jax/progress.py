"""What a job shows while it works: a bar on a terminal, elsewhere a line in the log from time to time.

Lines follow the clock and not the steps: the first at once or after ten seconds, then one every ten seconds, in long
runs one every five minutes.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO, TypeVar

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from infoprompt_jax import watch

Item = TypeVar("Item")
Clock = Callable[[], float]  # seconds since any moment

LEAST, MOST = 10.0, 300.0  # seconds between two lines
UNITS = {"s": 1, "min": 60, "h": 3600}  # in seconds
SHARE = 1 / 30  # of the time that has passed, within these limits

log = logging.getLogger(__name__)


class Rhythm:
    """When the next line is due: `first` seconds after the start, then at growing intervals."""

    def __init__(self, first: float = LEAST, now: Clock = time.monotonic) -> None:
        self.now, self.started = now, now()
        self.next = self.started + first

    def due(self) -> bool:
        """Whether it is time; then the next one is planned."""
        now = self.now()
        if now < self.next:
            return False
        self.next = now + min(max(LEAST, SHARE * (now - self.started)), MOST)
        return True


def pace(count: float, seconds: float, what: str) -> str:
    """`1,380 rows/s`; two digits below ten, and below one a second `24 rows/min`, then `24 rows/h`."""
    each = count / max(seconds, 1e-9)
    unit = next((unit for unit, size in UNITS.items() if each * size >= 1), "h")
    rate = each * UNITS[unit]
    return f"{rate:,.0f} {what}/{unit}" if rate >= 9.95 else f"{rate:.2g} {what}/{unit}"


def watched(items: Iterable[Item], what: str, total: int | None = None, now: Clock = time.monotonic) -> Iterator[Item]:
    """The items; if they take more than ten seconds, the log reports from time to time how many are done.

    Args:
      what: names the work and the items, as in `Evaluation, batches: 12 of 40 done.`
      total: the number of items, if it is known.
    """
    rhythm = Rhythm(now=now)
    for done, item in enumerate(items):
        if rhythm.due():
            log.info("%s: %d%s done.", what, done, f" of {total}" if total else "")
        yield item


class Progress:
    """The steps of a training loop, as a context. `report` takes each step's loss once that is known.

    On a terminal it is a bar, and log lines appear above it. Elsewhere it is the first step and then what the rhythm
    allows: `step 40/160: loss 0.9812, 812 examples/s, 0:01:10 left, evaluation in 10 steps`.
    """

    def __init__(
        self,
        start: int,
        steps: int,
        examples: int,
        eval_every: int = 0,
        compiled: Clock = lambda: 0.0,
        stream: TextIO | None = None,
        now: Clock = time.monotonic,
    ) -> None:
        """`examples` is the number of rows a step, and `compiled()` the seconds that compilation has taken so far."""
        self.start, self.steps, self.examples, self.eval_every = start, steps, examples, eval_every
        self.working = lambda: now() - compiled()  # the clock without compilation
        self.stream, self.now = stream or sys.stderr, now
        self.first: tuple[int, float] | None = None  # the first step that was reported, and when
        self.paused = 0.0  # seconds of evaluations since then

    def __enter__(self) -> Progress:
        self.shown = contextlib.ExitStack()
        if self.stream.isatty():
            self.shown.enter_context(logging_redirect_tqdm())
        quiet = None if watch.reports() else True  # None: unless it is a terminal
        bar = tqdm(
            initial=self.start, total=self.steps, disable=quiet, file=self.stream, unit="step", dynamic_ncols=True
        )
        self.bar, self.rhythm = self.shown.enter_context(bar), Rhythm(first=0.0, now=self.now)
        return self

    def __exit__(self, *_: object) -> None:
        self.shown.close()

    def begin(self) -> None:
        """Before the first step, which compiles."""
        self.begun = self.now()
        log.info("Compiling the training step.")

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """The time of the block counts for the time that is left, and not for the speed of a step."""
        since = self.working()
        yield
        self.paused += self.working() - since

    def report(self, step: int, loss: float, mfu: float | None = None) -> None:
        """Shows a step that is done, or not, as is due; `loss` in nats, `mfu` the share of the chips' peak."""
        facts = [f"loss {loss:.4f}", *self._speed(step), *([] if mfu is None else [f"MFU {mfu:.1%}"])]
        if not self.bar.disable:
            self.bar.set_postfix_str(", ".join([*facts, *self._next(step)]), refresh=False)
            self.bar.update(step - self.bar.n)
        elif self.rhythm.due():
            log.info("step %d/%d: %s", step, self.steps, ", ".join([*facts, *self._left(step), *self._next(step)]))

    def _speed(self, step: int) -> list[str]:
        if self.first is None:
            self.first, self.paused = (step, self.working()), 0.0
            return [f"{self.now() - self.begun:.0f} s with compilation"]
        first, since = self.first
        return [pace(self.examples * (step - first), self.working() - since - self.paused, "examples")]

    def _left(self, step: int) -> list[str]:
        first, since = self.first or (step, 0.0)
        if step == first:
            return []
        seconds = (self.working() - since) / (step - first) * (self.steps - step)
        return [f"{datetime.timedelta(seconds=round(seconds))} left"]

    def _next(self, step: int) -> list[str]:
        if not self.eval_every:
            return []
        steps = min(-step % self.eval_every, self.steps - step)
        return [f"evaluation in {steps} step{'s' * (steps != 1)}" if steps else "evaluation next"]
