"""The files of a Source Prompt Library.

A directory holds one segment for each time that prompts were added, and the manifest, which lists them
(`library_manifest`). A segment is a safetensors file with `keys` [K, R], `owners` [K] (numbered within the segment),
`prompts` [M, P, D] and the instances' texts, joined as UTF-8, with their offsets. A segment never changes. Segments
that the manifest does not list are ignored: an interrupted write leaves the library as it was.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import re
from collections.abc import Iterable, Sequence

import numpy as np

from infoprompt_jax import foreign
from infoprompt_jax.errors import UserError
from infoprompt_jax.files import whole

SIMILARITIES = ("inner_product", "cosine")  # the first is the default
SEGMENT = re.compile(r"segment-\d{5,9}\.safetensors", re.ASCII)
MAPPED_BYTES = 2**20  # larger segments are memory-mapped; smaller ones are read, as a map holds a file open
REMEDY = "make the library again, or use another copy of it"
DTYPES = {"keys": "F32", "owners": "I32", "prompts": "F32", "text_bytes": "U8", "text_offsets": "I64"}
NUMPY_DTYPES = {"F32": "<f4", "I32": "<i4", "U8": "u1", "I64": "<i8"}


@dataclasses.dataclass(frozen=True)
class Model:
    """A T5 as libraries record it; two are equal if the fingerprints of their weights and their widths are."""

    name: str = dataclasses.field(compare=False)
    fingerprint: str
    width: int

    def __str__(self) -> str:
        return f"{self.name} (fingerprint {self.fingerprint}, width {self.width})"


@dataclasses.dataclass(frozen=True)
class Entry:
    """The facts on a source prompt. Names are unique in a library; all else may be empty.

    `dataset` is what keeps a prompt from the evaluation of its own data set.
    """

    name: str
    dataset: str = ""
    template: str = ""
    family: str = ""  # of tasks: natural language inference, ...
    answer_format: str = ""  # what the choices look like: yes/no, options in the text, ...
    choices: tuple[str, ...] = ()
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Segment:
    """One file of the library, as the manifest lists it."""

    file: str
    size: int  # bytes
    sha256: str
    keys: int
    prompts: int


@dataclasses.dataclass(frozen=True)
class Journal:
    """What of the list of segments counts: its first bytes, and a checksum over their lines."""

    size: int = 0
    checksum: str = ""


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Everything in a library except its arrays. Entries are in the order of the segments' prompts."""

    retriever: Model
    backbone: Model  # of the prompts
    prompt_length: int
    similarity: str
    segments: tuple[Segment, ...] = ()
    entries: tuple[Entry, ...] = ()
    journal: Journal | None = None  # None: of format 1, or not written yet


def refusal(path: pathlib.Path, field: str, why: str) -> UserError:
    """The error for a library that cannot be used: `field` names the setting, `why` continues the sentence."""
    return UserError(f"{field}: the source prompt library {str(path)!r} {why}.")


def write_segment(
    directory: pathlib.Path, number: int, tensors: dict[str, np.ndarray], texts: Sequence[str] = ()
) -> Segment:
    """Writes keys, owners, prompts and one text for each key as segment `number`, and waits until it is on disk."""
    from safetensors.numpy import save_file

    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    tensors = tensors | {
        "text_bytes": np.frombuffer(b"".join(encoded), np.uint8),
        "text_offsets": np.cumsum([0, *map(len, encoded)], dtype=np.int64),
    }
    path = directory / segment_name(number)
    with whole(path) as partial:
        save_file({n: np.ascontiguousarray(t, NUMPY_DTYPES[DTYPES[n]]) for n, t in tensors.items()}, partial)
        size, digest = partial.stat().st_size, sha256(partial)
    return Segment(path.name, size, digest, len(tensors["keys"]), len(tensors["prompts"]))


def segment_name(number: int) -> str:
    """The file of segment `number`, counted from 0."""
    return f"segment-{number:05d}.safetensors"


def sha256(path: pathlib.Path) -> str:
    """The SHA-256 sum of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def open_segments(directory: pathlib.Path, manifest: Manifest, field: str) -> list[dict[str, np.ndarray]]:
    """Each segment's tensors. Raises UserError unless sizes, types and shapes match the manifest."""
    return [open_segment(directory, manifest, segment, field) for segment in manifest.segments]


def open_segment(directory: pathlib.Path, manifest: Manifest, segment: Segment, field: str) -> dict[str, np.ndarray]:
    """One of the manifest's segments, as `open_segments` has it."""
    path = directory / segment.file
    if not path.is_file():
        raise refusal(directory, field, f"lacks the file {segment.file}")
    if path.stat().st_size != segment.size:
        raise refusal(directory, field, f"has {path.stat().st_size} bytes in {segment.file}, not {segment.size}")
    with foreign.reading(f"{field}: {segment.file} of the source prompt library {str(directory)!r}", REMEDY):
        tensors = map_tensors(path)
    shapes = {
        "keys": (segment.keys, manifest.retriever.width),
        "owners": (segment.keys,),
        "prompts": (segment.prompts, manifest.prompt_length, manifest.backbone.width),
        "text_offsets": (segment.keys + 1,),
    }
    if any(tensors[name].shape != shape for name, shape in shapes.items()):
        read = ", ".join(f"{name} {list(tensors[name].shape)}" for name in shapes)
        raise refusal(directory, field, f"holds other shapes in {segment.file} than its manifest says: {read}")
    return tensors


def map_tensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    """A safetensors file's arrays, as memory maps where it is large; the package safetensors only reads copies.

    Raises whatever a file leads to that is not what `write_segment` writes.
    """
    is_large = path.stat().st_size > MAPPED_BYTES
    file = np.memmap(path, np.uint8, "r") if is_large else np.frombuffer(path.read_bytes(), np.uint8)
    start = 8 + int.from_bytes(file[:8].tobytes(), "little")
    header = json.loads(file[8:start].tobytes())
    places = sorted(tuple(header[name]["data_offsets"]) for name in DTYPES)
    if [place for ends in places for place in ends][1:-1] != [e for _, end in places[:-1] for e in (end, end)]:
        raise ValueError("tensors overlap or leave gaps")
    tensors = {}
    for name, dtype in DTYPES.items():
        if header[name]["dtype"] != dtype:
            raise TypeError(f"{name} is {header[name]['dtype']}, not {dtype}")
        first, last = header[name]["data_offsets"]
        tensors[name] = file[start + first : start + last].view(NUMPY_DTYPES[dtype]).reshape(header[name]["shape"])
    return tensors


def check_contents(
    directory: pathlib.Path, manifest: Manifest, segments: Iterable[dict[str, np.ndarray]], field: str
) -> None:
    """Reads every segment. Raises UserError unless checksums match and values are finite, with an owner each."""
    for segment, tensors in zip(manifest.segments, segments, strict=True):
        if sha256(directory / segment.file) != segment.sha256:
            raise refusal(directory, field, f"holds a damaged {segment.file}: its SHA-256 sum differs")
        for name in ("keys", "prompts"):
            if not np.isfinite(tensors[name]).all():
                raise refusal(directory, field, f"holds NaN or infinity among the {name} of {segment.file}")
        owners = tensors["owners"]
        if not np.array_equal(np.unique(owners), np.arange(segment.prompts)):
            raise refusal(directory, field, f"holds keys in {segment.file} whose owners are not its prompts")
        offsets = tensors["text_offsets"]
        if offsets[0] or offsets[-1] != len(tensors["text_bytes"]) or (np.diff(offsets) < 0).any():
            raise refusal(directory, field, f"holds texts in {segment.file} that do not follow one another")
