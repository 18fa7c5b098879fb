"""What a Source Prompt Library holds besides its arrays: `manifest.json` and `segments.jsonl`, written and read.

`segments.jsonl` has a line for each segment: its file, size and SHA-256 sum, and the entries of its prompts. Lines are
only appended. `manifest.json` holds the models, how many bytes of `segments.jsonl` count, and a checksum of both. It is
replaced last, so an append is there whole or not at all, and costs the same however long the library is. What follows
the bytes that count is of an interrupted append. In format 1, `manifest.json` lists all segments and entries.

A checksum shows damage, but not who made the file: everything is checked, even where the checksum is right.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from infoprompt_jax import checksums, files, foreign
from infoprompt_jax.rospr.library_files import (
    REMEDY,
    SEGMENT,
    SIMILARITIES,
    Entry,
    Journal,
    Manifest,
    Model,
    Segment,
    refusal,
)

FORMAT = 2
MANIFEST, JOURNAL = "manifest.json", "segments.jsonl"
LARGEST = 2**48  # of whole numbers
LISTS = ("choices", "metrics")  # the fields of an entry that are no texts
SHA256 = re.compile("[0-9a-f]{64}")
KINDS = {str: "a text", int: f"a whole number from 1 to {LARGEST}", dict: "an object", list: "a list"}

Kind = TypeVar("Kind", str, int, dict, list)


def write(directory: pathlib.Path, manifest: Manifest) -> tuple[Manifest, str]:
    """Writes both files of a library, whose segments must be on disk. Returns what `read` would."""
    starts = [0]
    for segment in manifest.segments:
        starts.append(starts[-1] + segment.prompts)
    parts = zip(manifest.segments, starts[:-1], starts[1:], strict=True)
    lines = [_line(segment, manifest.entries[first:last]) for segment, first, last in parts]
    with files.whole(directory / JOURNAL) as partial:
        partial.write_bytes(b"".join(lines))
    return _write_head(directory, dataclasses.replace(manifest, journal=_journal(Journal(), lines)))


def append(
    directory: pathlib.Path, manifest: Manifest, segment: Segment, entries: Sequence[Entry], field: str
) -> tuple[Manifest, str]:
    """Adds a segment, which must be on disk; returns what `read` would. The caller holds the library's lock.

    Raises UserError where `segments.jsonl` is shorter than the manifest says.
    """
    longer = dataclasses.replace(
        manifest, segments=(*manifest.segments, segment), entries=(*manifest.entries, *entries)
    )
    if manifest.journal is None:  # of format 1
        return write(directory, longer)
    line = _line(segment, entries)
    with contextlib.closing(files.Growing(directory / JOURNAL)) as journal:
        if journal.size() < manifest.journal.size:
            raise refusal(directory, field, f"has {journal.size()} bytes in {JOURNAL}, not {manifest.journal.size}")
        journal.truncate(manifest.journal.size)
        journal.write(line)
        journal.sync()
    return _write_head(directory, dataclasses.replace(longer, journal=_journal(manifest.journal, [line])))


def _line(segment: Segment, entries: Sequence[Entry]) -> bytes:
    line = {"segment": dataclasses.asdict(segment), "entries": [dataclasses.asdict(entry) for entry in entries]}
    return json.dumps(line, allow_nan=False).encode() + b"\n"


def _journal(journal: Journal, lines: Sequence[bytes]) -> Journal:
    """The journal with further lines; each one's checksum is over the one before and the line."""
    for line in lines:
        journal = Journal(journal.size + len(line), hashlib.sha256(journal.checksum.encode() + line).hexdigest())
    return journal


def _write_head(directory: pathlib.Path, manifest: Manifest) -> tuple[Manifest, str]:
    facts = dataclasses.asdict(dataclasses.replace(manifest, segments=(), entries=()))
    library = {name: facts[name] for name in ("retriever", "backbone", "prompt_length", "similarity", "journal")}
    checksums.write_json(directory / MANIFEST, {"format": FORMAT, "library": library})
    return manifest, digest(directory)


def digest(directory: pathlib.Path) -> str:
    """The SHA-256 sum of `manifest.json`, which changes when anything in the library does; "" if it is not there."""
    try:
        return hashlib.sha256((directory / MANIFEST).read_bytes()).hexdigest()
    except OSError:
        return ""


def read(directory: pathlib.Path, field: str) -> tuple[Manifest, str]:
    """The manifest and the `digest` of its file. Raises UserError unless everything is as a library has it."""
    if not directory.exists():
        raise refusal(directory, field, "does not exist")
    if not (directory / MANIFEST).exists() and (directory / "library" / MANIFEST).exists():
        raise refusal(directory, field, f"is the folder of a run: set {field} to its folder 'library'")
    with foreign.reading(f"{field}: {MANIFEST} of the source prompt library {str(directory)!r}", REMEDY):
        text = foreign.regular(directory / MANIFEST).read_bytes()
        content = _is(dict, json.loads(text), "the content")
        if checksums.KEY not in content:
            raise ValueError("it has no checksum")
        content = checksums.opened(content, f"{field}: {str(directory / MANIFEST)!r}", REMEDY)
        if _is(int, content["format"], "format") > FORMAT:
            raise ValueError(f"its format is {content['format']}, but 1 or {FORMAT} was expected")
        library = _is(dict, content["library"], "library")
        lines = _listed(library) if content["format"] == 1 else _lines(directory, _journal_of(library["journal"]))
        manifest = _manifest(library, [(_segment(segment), entries) for segment, entries in lines])
    return manifest, hashlib.sha256(text).hexdigest()


def _listed(library: dict[str, Any]) -> Iterator[tuple[Any, list[Entry]]]:
    """The segments of format 1, each with its entries."""
    entries = [read_entry(entry) for entry in _is(list, library["entries"], "entries")]
    for number, segment in enumerate(_is(list, library["segments"], "segments"), 1):
        count = _segment(segment).prompts if number < len(library["segments"]) else len(entries)
        yield segment, entries[:count]
        entries = entries[count:]


def _lines(directory: pathlib.Path, journal: Journal) -> Iterator[tuple[Any, list[Entry]]]:
    """The segments of `segments.jsonl`, each with its entries."""
    content = foreign.regular(directory / JOURNAL).read_bytes()[: journal.size]
    if len(content) < journal.size:
        raise ValueError(f"{JOURNAL} has {len(content)} bytes, not {journal.size}")
    lines = content.splitlines(keepends=True)
    if _journal(Journal(), lines) != journal:
        raise ValueError(f"{JOURNAL} is not what was written, as its checksum differs")
    for line in map(json.loads, lines):
        yield line["segment"], [read_entry(entry) for entry in _is(list, line["entries"], "entries")]


def _manifest(library: dict[str, Any], lines: Sequence[tuple[Segment, list[Entry]]]) -> Manifest:
    segments, entries = [segment for segment, _ in lines], [entry for _, part in lines for entry in part]
    for names, what in (([s.file for s in segments], "segment"), ([e.name for e in entries], "source prompt")):
        if len(set(names)) < len(names):
            twice = next(name for number, name in enumerate(names) if name in names[:number])
            raise ValueError(f"the {what} {twice!r:.80} is listed twice")
    if not lines:
        raise ValueError("it lists no source prompts")
    for segment, part in lines:
        if len(part) != segment.prompts:
            raise ValueError(f"{segment.file} has {segment.prompts} prompts, but {len(part)} entries are listed")
    if library["similarity"] not in SIMILARITIES:
        raise ValueError(f"similarity is {library['similarity']!r:.80}, not one of {', '.join(SIMILARITIES)}")
    return Manifest(
        _model(library["retriever"], "retriever"),
        _model(library["backbone"], "backbone"),
        _is(int, library["prompt_length"], "prompt_length"),
        library["similarity"],
        tuple(segments),
        tuple(entries),
        _journal_of(library["journal"]) if "journal" in library else None,
    )


def _is(kind: type[Kind], value: Any, what: str) -> Kind:
    """The value, if it is of that kind; numbers are positive and not huge. Raises ValueError."""
    if type(value) is not kind or (isinstance(value, int) and not 1 <= value <= LARGEST):
        raise ValueError(f"{what} is {repr(value)[:40]}, but {KINDS[kind]} was expected")
    return value


def _model(model: Any, what: str) -> Model:
    model = _is(dict, model, what)
    texts = {name: _is(str, model[name], f"{what}.{name}") for name in ("name", "fingerprint")}
    return Model(**texts, width=_is(int, model["width"], f"{what}.width"))


def _journal_of(journal: dict[str, Any]) -> Journal:
    return Journal(_is(int, journal["size"], "journal.size"), _is(str, journal["checksum"], "journal.checksum"))


def _segment(segment: Any) -> Segment:
    segment = _is(dict, segment, "a segment")
    numbers = {name: _is(int, segment[name], f"a segment's {name}") for name in ("size", "keys", "prompts")}
    made = Segment(_is(str, segment["file"], "a file"), sha256=_is(str, segment["sha256"], "sha256"), **numbers)
    if not SEGMENT.fullmatch(made.file):
        raise ValueError(f"{made.file!r:.80} is no segment's file")
    if not SHA256.fullmatch(made.sha256):
        raise ValueError(f"{made.sha256!r:.80} is no SHA-256 sum")
    return made


def read_entry(entry: Any) -> Entry:
    """The facts on a source prompt from their JSON. Raises ValueError for other names or kinds than an entry has."""
    if unknown := _is(dict, entry, "an entry").keys() - {field.name for field in dataclasses.fields(Entry)}:
        raise ValueError(f"an entry has {sorted(unknown)[0]!r:.40}, which is unknown")
    texts = {name: _is(str, value, f"an entry's {name}") for name, value in entry.items() if name not in LISTS}
    choices = tuple(_is(str, one, "a choice") for one in _is(list, entry.get("choices", []), "choices"))
    metrics = _is(dict, entry.get("metrics", {}), "metrics")
    for name, value in metrics.items():
        if type(value) not in (int, float) or not math.isfinite(value):
            raise ValueError(f"the metric {name!r:.40} is {repr(value)[:40]}, but a finite number was expected")
    return Entry(**{"name": entry["name"], **texts}, choices=choices, metrics=metrics)
