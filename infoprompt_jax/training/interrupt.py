"""How a run reacts to SIGTERM and Ctrl-C: it saves and stops at the next step or batch; the same command resumes it.

Of a run on several hosts one process that receives the signal is enough: all stop at the same point (`watch`).
"""

from __future__ import annotations

import signal
from typing import ClassVar

from infoprompt_jax import watch


class Interrupt:
    """A context in which the first SIGTERM or Ctrl-C requests a stop; a second one ends the process at once.

    Contexts may be nested, as when a job trains several fleets. A request reaches all of them, because the inner one
    may end before it has acted on it.
    """

    entered: ClassVar[list[Interrupt]] = []  # the outermost first
    signalled = False  # whether this process received a signal

    def requested(self) -> bool:
        """Whether the run stops here; all its processes call this in the same places, and get the same answer."""
        return watch.stops(self.signalled)

    def __enter__(self) -> Interrupt:
        self.signalled = any(outer.signalled for outer in self.entered)
        self.entered.append(self)
        self.previous = {number: signal.signal(number, self._request) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        self.entered.pop()
        for number, handler in self.previous.items():
            signal.signal(number, signal.SIG_DFL if self.signalled and self.entered else handler)
        for outer in self.entered:
            outer.signalled |= self.signalled

    def _request(self, number: int, _: object) -> None:
        self.signalled = True
        signal.signal(number, signal.SIG_DFL)
