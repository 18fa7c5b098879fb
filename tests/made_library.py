"""A small Source Prompt Library with keys of whole numbers, for the tests of its parts."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
import tiny

from infoprompt_jax import checksums
from infoprompt_jax.prompts.saved import Prompt
from infoprompt_jax.rospr import library_manifest
from infoprompt_jax.rospr.library import PromptLibrary
from infoprompt_jax.rospr.library_files import Entry, Model
from infoprompt_jax.rospr.library_sources import SourcePrompt

R, P, D = 6, 3, 4
RETRIEVER, BACKBONE = Model("retriever", "0a", R), Model("backbone", "0b", D)


def source(number: int, count: int = 5, **fields: Any) -> SourcePrompt:
    """Keys of small whole numbers: their products are exact, so that equal scores are equal in every implementation."""
    random = np.random.default_rng(number)
    made = SourcePrompt(
        Entry(f"prompt {number}", "data", "template", "family", "yes/no", ("Yes", "No"), {"accuracy": 0.5}),
        Prompt(random.standard_normal((P, D)).astype(np.float32), {"backbone": "backbone", "fingerprint": "0b"}),
        random.integers(-2, 3, (count, R)).astype(np.float32),
        [f"instance {number}.{i} ø\ud800" for i in range(count)],
    )
    return dataclasses.replace(made, **fields)


SOURCES = [source(number, 3 + number) for number in range(5)]
KEYS = np.concatenate([s.keys_NR for s in SOURCES])
OWNERS = np.repeat(range(5), [len(s.keys_NR) for s in SOURCES])


def make(path: pathlib.Path, sources: list[SourcePrompt] = SOURCES, **fields: Any) -> PromptLibrary:
    return PromptLibrary.create(path, RETRIEVER, BACKBONE, sources, mesh=tiny.one_device(), **fields)


def as_format_1(path: pathlib.Path) -> None:
    """Writes a library's manifest as version 1 of the format has it: everything in one file."""
    manifest, _ = library_manifest.read(path, "path")
    library = dataclasses.asdict(manifest)
    del library["journal"]
    content = {"format": 1, "library": json.loads(json.dumps(library))}
    checksums.write_json(path / library_manifest.MANIFEST, content)
    (path / library_manifest.JOURNAL).unlink()


def same(actual: PromptLibrary, expected: PromptLibrary) -> None:
    assert actual.entries == expected.entries and actual.listing() == expected.listing()
    for name in ("keys_KR", "owners_K", "prompts_MPD"):
        np.testing.assert_array_equal(getattr(actual, name), getattr(expected, name), err_msg=name)
    assert [actual.text(k) for k in range(len(actual.owners_K))] == [
        expected.text(k) for k in range(len(actual.owners_K))
    ]
    queries = np.random.default_rng(0).standard_normal((4, R))
    np.testing.assert_array_equal(actual.search(queries).keys_QN, expected.search(queries).keys_QN)


def stable(queries_QR: np.ndarray, keys_KR: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """The same search in float64: scores and numbers, of equal scores the lower number first."""
    scores = queries_QR.astype(np.float64) @ keys_KR.astype(np.float64).T
    numbers = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return np.take_along_axis(scores, numbers, axis=1), numbers
