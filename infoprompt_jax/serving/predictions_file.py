"""`predictions.jsonl` while it is written: chunk by chunk, so that a stopped job goes on where it was.

Lines go to `.predictions.jsonl`. After each chunk `progress.json` records how many rows and bytes count, and what the
predictions are made from. The file gets its name when it is complete.
"""

from __future__ import annotations

import json
import logging
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from infoprompt_jax import files, hosts
from infoprompt_jax.errors import UserError

NAME, PROGRESS = "predictions.jsonl", "progress.json"

log = logging.getLogger(__name__)


class PredictionsFile:
    """The open file; `rows` counts the rows whose predictions it holds. Of several processes the first one has it.

    Args:
      directory: of the file; it must be there.
      made_by: fingerprints of what the predictions are made from.

    Raises:
      UserError: the directory holds predictions that are made from something else.
    """

    def __init__(self, directory: pathlib.Path, made_by: Mapping[str, str]) -> None:
        self.directory, self.made_by = directory, dict(made_by)
        self.rows, self.complete, self._file = 0, False, None
        self.rows, self.complete = hosts.decided(self._begin)

    def _begin(self) -> tuple[int, bool]:
        """Opens the file; how many rows it holds, and whether it is complete."""
        progress = read_progress(self.directory)
        check_made_by(self.directory, progress.get("made_by", self.made_by), self.made_by)
        self.rows, complete = int(progress.get("rows", 0)), (self.directory / NAME).exists()
        if not complete:
            self._file = files.Growing(self.directory / f".{NAME}")
            self._go_on(int(progress.get("bytes", 0)))
        return self.rows, complete

    def _go_on(self, size: int) -> None:
        """Cuts the file back to the bytes that count; where it lacks some, the predictions start again."""
        assert self._file is not None, "the file is complete"
        if self._file.size() < size:
            log.warning("%s was cut or lost: the predictions start again.", self.directory / f".{NAME}")
            self.rows = size = 0
        self._file.truncate(size)  # a later line belongs to a chunk that was cut off
        self._record()

    def append(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Writes a chunk of lines; when this returns, they are on disk and count.

        In a bucket, where the whole file is uploaded, they may wait until it has grown by a tenth, or is closed.
        """
        assert not self.complete, "the file is complete"
        if self._file is not None:  # None: the first process has it
            for line in lines:
                text = json.dumps(files.strict(line), ensure_ascii=False, allow_nan=False)
                self._file.write(text.encode("utf-8", "backslashreplace") + b"\n")
        self.rows += len(lines)
        if self._file and self._file.is_due():
            self._record()

    def finish(self) -> None:
        """Gives the file its name."""
        if self._file:
            self.close()
            (self.directory / f".{NAME}").rename(self.directory / NAME)
            self._file = None
        self.complete = True

    def close(self) -> None:
        """Records what was written; a job that was stopped goes on from there."""
        if self._file:
            self._record()
            self._file.close()

    def _record(self) -> None:
        assert self._file is not None
        self._file.sync()
        progress = {"rows": self.rows, "bytes": self._file.size(), "made_by": self.made_by}
        files.write_json(self.directory / PROGRESS, progress)


def read_progress(directory: pathlib.Path) -> dict[str, Any]:
    """The content of `progress.json`; {} where there is none."""
    try:
        return dict(json.loads((directory / PROGRESS).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError) as error:
        raise UserError(f"{directory / PROGRESS} is not valid JSON ({error}): choose another --workdir.") from error


def check_made_by(directory: pathlib.Path, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raises UserError if the fingerprints that predictions were made from are not today's."""
    for what, fingerprint in now.items():
        if before.get(what) != fingerprint:
            raise UserError(
                f"The workdir {directory} holds predictions made from other {what} (fingerprint {before.get(what)}, "
                f"now {fingerprint}): choose another --workdir."
            )


def read(directory: pathlib.Path) -> Iterator[dict[str, Any]]:
    """The lines of the complete file."""
    with (directory / NAME).open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)
