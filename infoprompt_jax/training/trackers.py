"""Where a run's records go besides metrics.jsonl: TensorBoard's event files, or an experiment tracker.

A tracker gets every record that metrics.jsonl gets. It is an optional package. One that cannot start is an error; one
that fails later ends its own log and not the training, because metrics.jsonl has everything.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import pathlib
import secrets
import sys
from collections.abc import Callable, Mapping

import jax
import ml_collections

from infoprompt_jax.errors import UserError
from infoprompt_jax.files import whole
from infoprompt_jax.settings import flatten
from infoprompt_jax.training.metrics_log import EventFiles, Sink

PROJECT = "infoprompt_jax"
NAME = "tracker.txt"  # in the workdir: the run's name in the tracker, so that a resumed run continues it

log = logging.getLogger(__name__)


class Trackio:
    """A run of Trackio (`pip install trackio`), which keeps a local database and needs no account and no network."""

    def __init__(self, name: str, config: Mapping[str, object]) -> None:
        import trackio  # pyright: ignore[reportMissingImports]  (optional)

        with contextlib.redirect_stdout(sys.stderr):  # standard output is for the table
            self.run = trackio.init(
                PROJECT, name, config=dict(config), resume="allow", embed=False, auto_log_gpu=False, auto_log_cpu=False
            )

    def write(self, step: int, member: str, values: Mapping[str, float]) -> None:
        """As `Sink.write`; the curves are named `<member>/<name>`."""
        self.run.log({f"{member}/{name}": value for name, value in values.items()}, step=step)

    def flush(self) -> None:
        """Nothing: its own thread writes twice a second."""

    def close(self) -> None:
        """Returns when everything is written."""
        with contextlib.redirect_stdout(sys.stderr):
            self.run.finish()


TRACKERS: dict[str, Callable[[str, Mapping[str, object]], Sink]] = {"trackio": Trackio}


class Guarded:
    """A tracker whose failures do not end the training: the first one is logged, and then it gets no more records."""

    def __init__(self, name: str, sink: Sink) -> None:
        self.name, self.sink = name, sink
        self.failed = False

    def write(self, step: int, member: str, values: Mapping[str, float]) -> None:
        """As `Sink.write`."""
        self._try(lambda: self.sink.write(step, member, values))

    def flush(self) -> None:
        """As `Sink.flush`."""
        self._try(self.sink.flush)

    def close(self) -> None:
        """As `Sink.close`."""
        self._try(self.sink.close)

    def _try(self, act: Callable[[], None]) -> None:
        if self.failed:
            return
        try:
            act()
        except Exception as error:  # of a package that this one does not know
            self.failed = True
            log.warning(
                "train.tracker=%r failed (%s); the run goes on without it, and metrics.jsonl has everything.",
                self.name,
                _line(error),
            )


def check(config: ml_collections.ConfigDict) -> None:
    """Raises UserError if the tracker of `train.tracker` is not installed."""
    name = config.train.tracker
    if name and importlib.util.find_spec(name) is None:
        raise UserError(
            f"train.tracker={name!r} needs a package that is not here: pip install {name}, or set it to ''."
        )


def sinks(directory: pathlib.Path, config: ml_collections.ConfigDict) -> list[Sink]:
    """What gets the records of the run in `directory` besides metrics.jsonl. Of several hosts, the first one has them.

    Raises:
      UserError: the tracker cannot start.
    """
    if jax.process_index() != 0:
        return []
    found: list[Sink] = [EventFiles(directory / "tensorboard")] if config.train.tensorboard else []
    if name := config.train.tracker:
        try:
            tracker = TRACKERS[name](run_name(directory), flatten(config.to_dict()))
        except Exception as error:  # of a package that this one does not know
            raise UserError(
                f"train.tracker={name!r} cannot start ({_line(error)}): mend it, or set it to ''."
            ) from error
        found.append(Guarded(name, tracker))
    return found


def run_name(directory: pathlib.Path) -> str:
    """The run's name in trackers: the workdir's, and a part that no other run has. It is kept in the workdir."""
    kept = directory / NAME
    if not kept.exists():
        with whole(kept) as partial:
            partial.write_text(f"{directory.name}-{secrets.token_hex(4)}\n", encoding="utf-8")
    return kept.read_text(encoding="utf-8").strip()


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
