"""A library's files against damage."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from made_library import KEYS, OWNERS, D, P, make
from safetensors.numpy import load_file, save_file

from infoprompt_jax.errors import UserError
from infoprompt_jax.rospr import library_files
from infoprompt_jax.rospr.library import PromptLibrary

SEGMENT, MANIFEST = "segment-00000.safetensors", "manifest.json"


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    make(tmp_path / "library")
    return tmp_path / "library"


def cut(name: str, size: int) -> Callable[[pathlib.Path], None]:
    return lambda path: os.truncate(path / name, (path / name).stat().st_size - size)


def flipped(name: str, place: int) -> Callable[[pathlib.Path], None]:
    def flip(path: pathlib.Path) -> None:
        content = bytearray((path / name).read_bytes())
        content[place] ^= 1
        (path / name).write_bytes(content)

    return flip


def restated(change: Callable[[dict], Any]) -> Callable[[pathlib.Path], None]:
    """A manifest that says something else, with a checksum of its own: made, not damaged."""

    def write(path: pathlib.Path) -> None:
        content = json.loads((path / MANIFEST).read_text())
        del content["checksum"]
        change(content)
        (path / MANIFEST).write_text(json.dumps({"checksum": library_files.checksum(content), **content}))

    return write


def replaced(**tensors: np.ndarray) -> Callable[[pathlib.Path], None]:
    """A segment with other tensors, and a manifest that owns to it."""

    def write(path: pathlib.Path) -> None:
        file = path / SEGMENT
        save_file({**load_file(file), **tensors}, file)
        facts = {"size": file.stat().st_size, "sha256": library_files.sha256(file)}
        restated(lambda content: content["library"]["segments"][0].update(facts))(path)

    return write


DAMAGED: dict[str, tuple[Callable[[pathlib.Path], Any], str]] = {
    "cut segment": (cut(SEGMENT, 4), "bytes in segment-00000.safetensors, not"),
    "cut manifest": (cut(MANIFEST, 4), "lacks a readable manifest.json"),
    "empty manifest": (lambda path: (path / MANIFEST).write_text("[]"), "lacks a readable manifest.json"),
    "no manifest": (lambda path: (path / MANIFEST).unlink(), "lacks a readable manifest.json"),
    "no segment": (lambda path: (path / SEGMENT).unlink(), "lacks the file segment-00000.safetensors"),
    "manifest": (flipped(MANIFEST, 200), r"lacks a readable manifest.json|its checksum differs"),
    "format": (restated(lambda content: content.update(format=2)), "has format 2, but 1 was expected"),
    "other fields": (restated(lambda content: content["library"].pop("retriever")), "without what format 1 has"),
    "elsewhere": (
        restated(lambda content: content["library"]["segments"][0].update(file="../library/" + SEGMENT)),
        r"lacks the file \.\./library",
    ),
    "retriever width": (
        restated(lambda content: content["library"]["retriever"].update(width=5)),
        r"other shapes in .*: keys \[25, 6\]",
    ),
    "length of a name": (flipped(SEGMENT, 0), "cannot be read as safetensors"),
    "type": (replaced(owners=OWNERS.astype(np.int64)), "cannot be read as safetensors"),
}
UNSEEN_AT_A_GLANCE: dict[str, tuple[Callable[[pathlib.Path], Any], str]] = {
    "last byte": (flipped(SEGMENT, -1), "damaged segment-00000.safetensors: its SHA-256 sum differs"),
    "a byte in the middle": (flipped(SEGMENT, 900), "its SHA-256 sum differs"),
    "keys": (replaced(keys=np.where(KEYS > 1, np.nan, KEYS)), "NaN or infinity among the keys"),
    "prompts": (replaced(prompts=np.full((5, P, D), np.inf, np.float32)), "NaN or infinity among the prompts"),
    "owners": (replaced(owners=(OWNERS + 1).astype(np.int32)), "whose owners are not its prompts"),
}


@pytest.mark.parametrize("damage,message", (DAMAGED | UNSEEN_AT_A_GLANCE).values(), ids=DAMAGED | UNSEEN_AT_A_GLANCE)
def test_damage_is_refused_in_one_sentence(damage: Callable, message: str, path: pathlib.Path) -> None:
    damage(path)
    with pytest.raises(UserError, match=message) as caught:
        PromptLibrary.load(path)
    assert str(caught.value).startswith("path: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("damage,message", DAMAGED.values(), ids=DAMAGED)
def test_what_shows_at_a_glance_is_refused_without_reading_all(
    damage: Callable, message: str, path: pathlib.Path
) -> None:
    damage(path)
    with pytest.raises(UserError, match=message):
        PromptLibrary.load(path, verify=False)


@pytest.mark.parametrize("damage,message", UNSEEN_AT_A_GLANCE.values(), ids=UNSEEN_AT_A_GLANCE)
def test_verification_may_wait(damage: Callable, message: str, path: pathlib.Path) -> None:
    damage(path)
    library = PromptLibrary.load(path, verify=False)
    with pytest.raises(UserError, match=message):
        library.verify()


def test_nothing_and_a_half_written_directory_are_refused(path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"field: the source prompt library .* does not exist"):
        PromptLibrary.load(path / "absent", field="field")
    (path / "half").mkdir()
    (path / SEGMENT).rename(path / "half" / SEGMENT)
    with pytest.raises(UserError, match=r"lacks a readable manifest\.json"):
        PromptLibrary.load(path / "half")
