"""How a run reacts to SIGTERM and Ctrl-C: it saves and stops at the next step; the same command resumes it."""

from __future__ import annotations

import signal
from typing import ClassVar


class Interrupt:
    """A context in which the first SIGTERM or Ctrl-C sets `requested`; a second one ends the process at once.

    Contexts may be nested, as when a job trains several fleets. A request reaches all of them, because the inner one
    may end before it has acted on it.
    """

    entered: ClassVar[list[Interrupt]] = []  # the outermost first
    requested = False

    def __enter__(self) -> Interrupt:
        self.requested = any(outer.requested for outer in self.entered)
        self.entered.append(self)
        self.previous = {number: signal.signal(number, self._request) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        self.entered.pop()
        for number, handler in self.previous.items():
            signal.signal(number, signal.SIG_DFL if self.requested and self.entered else handler)
        for outer in self.entered:
            outer.requested |= self.requested

    def _request(self, number: int, _: object) -> None:
        self.requested = True
        signal.signal(number, signal.SIG_DFL)
