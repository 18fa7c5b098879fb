"""The warnings and errors that the package logs, for the report of the run that they concern."""

from __future__ import annotations

import logging


class WarningLog(logging.Handler):
    """A context; `messages` holds what the package's loggers log in it as a warning or an error, in order."""

    logger = logging.getLogger("infoprompt_jax")

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps the message."""
        self.messages.append(record.getMessage())

    def __enter__(self) -> WarningLog:
        self.logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.logger.removeHandler(self)
