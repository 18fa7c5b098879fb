"""How a job ends before its time: the exceptions that `main` turns into one sentence and an exit status."""

from __future__ import annotations


class UserError(Exception):
    """A mistake that the user can correct; exit status 2.

    Its text is one sentence: what was seen, what was expected, which config field to change. It is printed without a
    traceback, and nothing is written after it is raised.
    """


class OfflineError(UserError):
    """A download is needed and there is no network; `main` adds a command that runs without one."""


class Stopped(Exception):  # noqa: N818
    """SIGTERM or Ctrl-C stopped the job after it saved; exit status 143. The same command resumes it."""
