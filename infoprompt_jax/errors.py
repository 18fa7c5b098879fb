"""The exceptions a user is meant to read."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can fix.

    Its text is one sentence: what was seen, what was expected, which config field to change. `main` prints it
    without a traceback and exits with status 2; nothing is written after it is raised.
    """


class OfflineError(UserError):
    """Something has to be downloaded and there is no network; `main` adds a command that runs without one."""
