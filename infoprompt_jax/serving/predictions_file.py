"""`predictions.jsonl` while it is written: chunk by chunk, so that a stopped job goes on where it was.

Lines go to `.predictions.jsonl`. After each chunk `progress.json` records how many rows and bytes count, the bytes'
checksum, and what the predictions are made from. The file gets its name when it is complete. Where the bytes are not
those that were written, or `progress.json` is lost or damaged, the predictions start again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from infoprompt_jax import checksums, files, hosts
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
        self._size, self._digest = 0, hashlib.sha256()  # of the lines that count
        self.rows, self.complete = hosts.decided(self._begin)

    def _begin(self) -> tuple[int, bool]:
        """Opens the file; how many rows it holds, and whether it is complete."""
        progress = read_progress(self.directory)
        check_made_by(self.directory, progress.get("made_by", self.made_by), self.made_by)
        self.rows = int(progress.get("rows", 0))
        if progress and is_complete(self.directory):
            return self.rows, True
        (self.directory / NAME).unlink(missing_ok=True)
        self._file = files.Growing(self.directory / f".{NAME}")
        self._go_on(int(progress.get("bytes", 0)), progress.get("sha256"))
        return self.rows, False

    def _go_on(self, size: int, digest: str | None) -> None:
        """Cuts the file back to the bytes that count; where they are not as written, the predictions start again."""
        assert self._file is not None, "the file is complete"
        there = self._file.digest(size)
        if there is None or digest not in (None, there.hexdigest()):
            log.warning("%s was cut, lost or changed: the predictions start again.", self.directory / f".{NAME}")
            self.rows, size, there = 0, 0, hashlib.sha256()
        self._digest, self._size = there, size
        self._file.truncate(size)  # a later line belongs to a chunk that was cut off
        self._record()

    def append(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Writes a chunk of lines; when this returns, they are on disk and count.

        In a bucket, where the whole file is uploaded, they may wait until it has grown by a tenth, or is closed.
        """
        assert not self.complete, "the file is complete"
        if self._file is not None:  # None: the first process has it
            chunk = b"".join(map(_encoded, lines))
            self._file.write(chunk)  # a full disk takes a part, which does not count
            self._digest.update(chunk)
            self._size += len(chunk)
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
        counted = {"rows": self.rows, "bytes": self._size, "sha256": self._digest.hexdigest()}
        progress = counted | {"made_by": self.made_by}
        checksums.write_json(self.directory / PROGRESS, progress)


def _encoded(line: Mapping[str, Any]) -> bytes:
    text = json.dumps(files.strict(line), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace") + b"\n"


def read_progress(directory: pathlib.Path) -> dict[str, Any]:
    """The content of `progress.json`; {} where there is none, or with a warning where it is damaged."""
    path = directory / PROGRESS
    try:
        return checksums.read_json(path, "the predictions start again") if path.exists() else {}
    except checksums.DamagedError as error:
        log.warning("%s", error)
        return {}


def is_complete(directory: pathlib.Path) -> bool:
    """Whether the complete file is there, as it was written."""
    path = directory / NAME
    if not path.exists():
        return False
    if (digest := read_progress(directory).get("sha256")) in (None, checksums.of_file(path)):
        return True
    log.warning("%s is not what was written (its checksum is not %.8s...): the predictions start again.", path, digest)
    return False


def check_made_by(directory: pathlib.Path, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raises UserError if the fingerprints that predictions were made from are not today's."""
    for what, fingerprint in now.items():
        if before.get(what, fingerprint) != fingerprint:  # former versions lack some
            raise UserError(
                f"The workdir {directory} holds predictions made from other {what} (fingerprint {before.get(what)}, "
                f"now {fingerprint}): choose another --workdir."
            )


def read(directory: pathlib.Path) -> Iterator[dict[str, Any]]:
    """The lines of the complete file."""
    with (directory / NAME).open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)
