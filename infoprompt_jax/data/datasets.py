"""A data set of a collection, such as P3's: its name there, where its rows are, and which templates belong to it."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Dataset:
    """`task` and `split` name it for `config.task`; `tfds` is both where TFDS is read."""

    name: str
    task: str
    split: str
    templates: tuple[str, ...] = ()  # by name; () = those that `task.template` selects
    tfds: tuple[str, str] | None = None  # None: TFDS does not have it with the columns that the templates read
    beyond_t0: tuple[str, ...] = ()  # those of the templates that T0 is not evaluated with
    also: tuple[str, ...] = ()  # other names of the same rows, or of a part of them, for `task.name`

    @property
    def origin(self) -> str:
        """Where its rows can come from."""
        return "TFDS or files" if self.tfds else "files"

    def place(self, folder: str) -> tuple[str, str]:
        """Its task and split as local files name them, or as TFDS does where there is no folder of files."""
        return self.tfds if self.tfds and not folder else (self.task, self.split)
