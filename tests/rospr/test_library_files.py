"""A library's files against damage."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from made_library import KEYS, OWNERS, D, P, as_format_1, make, same, source
from safetensors.numpy import load_file, save_file

from infoprompt_jax import checksums
from infoprompt_jax.errors import UserError
from infoprompt_jax.rospr import library_files
from infoprompt_jax.rospr.library import PromptLibrary

SEGMENT, MANIFEST, JOURNAL = "segment-00000.safetensors", "manifest.json", "segments.jsonl"


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
        checksums.write_json(path / MANIFEST, content)

    return write


def listed(change: Callable[[list], Any]) -> Callable[[pathlib.Path], None]:
    """A list of segments that says something else, and a manifest with its checksum."""

    def write(path: pathlib.Path) -> None:
        lines = [json.loads(line) for line in (path / JOURNAL).read_text().splitlines()]
        change(lines)
        encoded, chain = [json.dumps(line).encode() + b"\n" for line in lines], ""
        for line in encoded:
            chain = hashlib.sha256(chain.encode() + line).hexdigest()
        (path / JOURNAL).write_bytes(b"".join(encoded))
        journal = {"size": sum(map(len, encoded)), "checksum": chain}
        restated(lambda content: content["library"].update(journal=journal))(path)

    return write


def of_format_1(change: Callable[[dict], Any]) -> Callable[[pathlib.Path], None]:
    """A manifest of version 1 that says something else in its `library`."""

    def write(path: pathlib.Path) -> None:
        as_format_1(path)
        restated(lambda content: change(content["library"]))(path)

    return write


def replaced(**tensors: np.ndarray) -> Callable[[pathlib.Path], None]:
    """A segment with other tensors, and a manifest that owns to it."""

    def write(path: pathlib.Path) -> None:
        file = path / SEGMENT
        save_file({**load_file(file), **tensors}, file)
        facts = {"size": file.stat().st_size, "sha256": library_files.sha256(file)}
        listed(lambda lines: lines[0]["segment"].update(facts))(path)

    return write


DAMAGED: dict[str, tuple[Callable[[pathlib.Path], Any], str]] = {
    "cut segment": (cut(SEGMENT, 4), "bytes in segment-00000.safetensors, not"),
    "cut manifest": (cut(MANIFEST, 4), "manifest.json of .* cannot be read"),
    "empty manifest": (lambda path: (path / MANIFEST).write_text("[]"), "manifest.json of .* cannot be read"),
    "no manifest": (lambda path: (path / MANIFEST).unlink(), "manifest.json of .* cannot be read"),
    "no segment": (lambda path: (path / SEGMENT).unlink(), "lacks the file segment-00000.safetensors"),
    "manifest": (flipped(MANIFEST, 200), r"manifest.json .* cannot be read|its checksum differs"),
    "format": (restated(lambda content: content.update(format=3)), "its format is 3, but 1 or 2 was expected"),
    "format's kind": (restated(lambda content: content.update(format=[2])), r"format is \[2\], but"),
    "other fields": (restated(lambda content: content["library"].pop("retriever")), "it lacks 'retriever'"),
    "similarity": (restated(lambda content: content["library"].update(similarity="dot")), "similarity is 'dot', not"),
    "a width of another kind": (
        restated(lambda content: content["library"]["retriever"].update(width=True)),
        "width is True, but a whole number",
    ),
    "a huge width": (restated(lambda c: c["library"]["backbone"].update(width=10**30)), "but a whole number from 1"),
    "a huge size": (restated(lambda c: c["library"]["journal"].update(size=2**40)), "segments.jsonl has .* bytes, not"),
    "digits": (
        lambda path: (path / MANIFEST).write_text('{"format": ' + "9" * 5000 + "}"),
        "manifest.json of .* cannot be read",
    ),
    "nesting": (
        lambda path: (path / MANIFEST).write_text("[" * 100_000 + "]" * 100_000),
        "manifest.json of .* cannot be read",
    ),
    "nesting in the list": (
        listed(lambda lines: lines[0].update(segment=functools.reduce(lambda deep, _: [deep], range(900), 1))),
        r"a segment is \[\[",
    ),
    "cut list": (cut(JOURNAL, 1), "segments.jsonl has .* bytes, not"),
    "no list": (lambda path: (path / JOURNAL).unlink(), "cannot be read: No such file"),
    "list": (flipped(JOURNAL, 200), "segments.jsonl is not what was written"),
    "an empty list": (listed(list.clear), "journal.size is 0"),
    "a segment twice": (listed(lambda lines: lines.append(lines[0])), "segment 'segment-00000.*' is listed twice"),
    "an entry twice": (listed(lambda lines: lines[0]["entries"].append(lines[0]["entries"][0])), "is listed twice"),
    "an entry too many": (
        listed(lambda lines: lines[0]["entries"].append({"name": "x"})),
        "has 5 prompts, but 6 entries are listed",
    ),
    "an unknown fact": (listed(lambda lines: lines[0]["entries"][0].update(x=1)), "an entry has 'x', which is unknown"),
    "a metric": (
        listed(lambda lines: lines[0]["entries"][0]["metrics"].update(accuracy=float("nan"))),
        "the metric 'accuracy' is nan",
    ),
    "a name's kind": (listed(lambda lines: lines[0]["entries"][0].update(name=["x"])), "an entry's name is"),
    "no name": (listed(lambda lines: lines[0]["entries"][0].pop("name")), "it lacks 'name'"),
    "entries' kind": (listed(lambda lines: lines[0].update(entries={"name": "x"})), "entries is .*, but a list"),
    "elsewhere": (
        listed(lambda lines: lines[0]["segment"].update(file="../library/" + SEGMENT)),
        r"'\.\./library/.*' is no segment's file",
    ),
    "format 1, similarity": (of_format_1(lambda library: library.update(similarity=["cosine"])), "similarity is"),
    "format 1, a segment twice": (
        of_format_1(lambda library: library.update(segments=2 * library["segments"])),
        "segment 'segment-00000.*' is listed twice",
    ),
    "format 1, all twice": (
        of_format_1(lambda library: library.update({name: 2 * library[name] for name in ("segments", "entries")})),
        "is listed twice",
    ),
    "format 1, entries twice": (of_format_1(lambda library: library.update(entries=2 * library["entries"])), "twice"),
    "format 1, an entry less": (of_format_1(lambda library: library["entries"].pop()), "has 5 prompts, but 4 entries"),
    "format 1, kinds": (of_format_1(lambda library: library.update(entries=3)), "entries is 3, but a list"),
    "retriever width": (
        restated(lambda content: content["library"]["retriever"].update(width=5)),
        r"other shapes in .*: keys \[25, 6\]",
    ),
    "length of a name": (flipped(SEGMENT, 0), "segment-00000.safetensors of .* cannot be read"),
    "type": (replaced(owners=OWNERS.astype(np.int64)), "segment-00000.safetensors of .* cannot be read"),
}
UNSEEN_AT_A_GLANCE: dict[str, tuple[Callable[[pathlib.Path], Any], str]] = {
    "last byte": (flipped(SEGMENT, -1), "damaged segment-00000.safetensors: its SHA-256 sum differs"),
    "a byte in the middle": (flipped(SEGMENT, 900), "its SHA-256 sum differs"),
    "keys": (replaced(keys=np.where(KEYS > 1, np.nan, KEYS)), "NaN or infinity among the keys"),
    "prompts": (replaced(prompts=np.full((5, P, D), np.inf, np.float32)), "NaN or infinity among the prompts"),
    "texts": (replaced(text_offsets=np.arange(26)[::-1].copy()), "texts in .* that do not follow one another"),
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
    with pytest.raises(UserError, match=r"manifest\.json of .* cannot be read: No such file"):
        PromptLibrary.load(path / "half")


def test_what_an_interrupted_append_left_is_ignored(path: pathlib.Path) -> None:
    before = PromptLibrary.load(path)
    with (path / JOURNAL).open("ab") as file:
        file.write(b'{"segment": {"file": "segm')
    left = PromptLibrary.load(path)
    same(left, before)
    left.append(left.manifest.retriever, [source(9)])
    assert len(PromptLibrary.load(path)) == 6


def test_tensors_that_share_bytes_are_refused(path: pathlib.Path) -> None:
    file = path / SEGMENT
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["prompts"]["data_offsets"] = [0, 4 * 5 * P * D]
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    facts = {"size": file.stat().st_size, "sha256": library_files.sha256(file)}
    listed(lambda lines: lines[0]["segment"].update(facts))(path)
    with pytest.raises(UserError, match=r"segment-00000\.safetensors of .* cannot be read"):
        PromptLibrary.load(path, verify=False)
