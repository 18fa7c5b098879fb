"""Tiny data sets that TFDS itself writes and reads.

TFDS takes one builder of a name in a process, so that these are classes of a module, made once. `Winogrande` writes a
few rows for TFDS's own class to read; it is not registered, because that one is.
"""

from __future__ import annotations

import pathlib
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.text import winogrande

TEXTS = ("good, really", "bad ||| worse", 'it said "no"', "007")
ROWS = [{"text": text, "label": label, "words": text.split()} for text, label in zip(TEXTS, (1, 0, 0, 1), strict=True)]


class TinyReviews(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        columns = {
            "text": tfds.features.Text(),
            "label": tfds.features.ClassLabel(names=["neg", "pos"]),
            "words": tfds.features.Sequence(tfds.features.Text()),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(columns))

    def _split_generators(self, manager: Any) -> dict[str, Any]:
        return {"train": self._generate_examples(), "test": self._generate_examples(-1)}

    def _generate_examples(self, label: int | None = None) -> Any:
        for index, row in enumerate(ROWS):
            yield index, row if label is None else row | {"label": label}


class Winogrande(winogrande.Winogrande, skip_registration=True):
    def _split_generators(self, manager: Any) -> dict[str, Any]:
        return {"train_xl": self._generate_examples()}

    def _generate_examples(self) -> Any:
        for index in range(3):
            yield index, {"sentence": f"{index} _", "option1": "a", "option2": "b", "label": index % 2}


def prepare(folder: pathlib.Path) -> None:
    for builder in (TinyReviews, Winogrande):
        builder(data_dir=folder).download_and_prepare()
