"""The Source Prompt Library of RoSPr: source prompts, each with some of its training instances as keys.

A search returns the keys most similar to a query (arXiv 2210.03029; `keys` makes both), and the source prompts that own
them; `retrieval` makes one prompt of these. Keys are stored without normalisation. Similarity is the inner product or
the cosine, as the library records.

A library is opened as memory maps (`library_files`) and searched exactly (`search`). The first search copies the keys
to the devices. Processes may make, extend and read one library at the same time: each sees it whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import pathlib
import shutil
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh
from numpy.typing import ArrayLike

from infoprompt_jax import files
from infoprompt_jax.errors import UserError
from infoprompt_jax.prompts.saved import Prompt
from infoprompt_jax.rospr import keys, library_files, library_manifest, retrieval
from infoprompt_jax.rospr.library_files import SIMILARITIES, Entry, Manifest, Model, refusal
from infoprompt_jax.rospr.library_sources import (
    SourcePrompt,
    check_names,
    check_sources,
    float32,
    listed,
    write_sources,
)
from infoprompt_jax.rospr.retrieval import Choice, Hits
from infoprompt_jax.rospr.search import Index, comparable
from infoprompt_jax.t5 import partition
from infoprompt_jax.t5.backbone import Backbone

FIELD = "rospr.library"  # of the command; from Python it is an argument


@dataclasses.dataclass(frozen=True, eq=False)
class PromptLibrary:
    """An opened library, from `load`, `create` or `merge`. The arrays of its large files are memory maps."""

    path: pathlib.Path
    copy: pathlib.Path  # where its files are read from: `path`, or a copy of what is there in a bucket
    manifest: Manifest
    digest: str  # SHA-256 of the manifest, which has the checksums of all other files
    segments: list[dict[str, np.ndarray]]
    mesh: Mesh
    field: str = "path"

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over everything in the library."""
        return self.digest[:16]

    @classmethod
    def load(
        cls, path: str | pathlib.Path, mesh: Mesh | None = None, verify: bool = True, field: str = "path"
    ) -> PromptLibrary:
        """Opens a library.

        Args:
          path: its directory.
          mesh: what to search on; None = all devices along `data`.
          verify: also reads every byte, as `verify` does: about a second a GB. It is the default, because a damaged
            key would silently change which prompt is retrieved, and a search reads the keys anyway. False checks only
            the manifest's checksum, and sizes, types and shapes: enough to list a library or read a few prompts.
          field: what errors call the path: the command gives its config field, FIELD.

        Raises:
          UserError: the library does not exist, is incomplete or is damaged.
        """
        path, copy = files.path(path), files.local(path)
        manifest, digest = library_manifest.read(copy, field)
        segments = library_files.open_segments(copy, manifest, field)
        library = cls(path, copy, manifest, digest, segments, mesh or partition.make_mesh(), field)
        if verify:
            library.verify()
        return library

    @classmethod
    def create(
        cls,
        path: str | pathlib.Path,
        retriever: Model | Backbone,
        backbone: Model | Backbone,
        sources: Sequence[SourcePrompt],
        similarity: str = SIMILARITIES[0],
        mesh: Mesh | None = None,
        field: str = "path",
    ) -> PromptLibrary:
        """Writes a new library, whole or not at all.

        Args:
          path: of the new library; it must not exist.
          retriever: the model that encoded the keys, loaded or as a library's `manifest` records it.
          backbone: likewise the model that the prompts were trained on.
          sources: the first one sets the length of all prompts of the library.
          similarity: "inner_product" (the paper's) or "cosine".

        Raises:
          UserError: the path exists, be it that another process has just made it; or a source does not fit (see
            `append`).
        """
        path = files.path(path)
        if similarity not in SIMILARITIES:
            raise UserError(f"similarity={similarity!r} is unknown: choose one of {', '.join(SIMILARITIES)}.")
        _check_absent(path, field)
        sources = listed(sources)
        length = len(sources[0].prompt.value_PD) if sources else 0
        manifest = Manifest(keys.model(retriever), keys.model(backbone), length, similarity)
        sources = check_sources(path, manifest, sources, field)
        with _new(path, field) as partial:
            segment = write_sources(partial, 0, sources)
            entries = tuple(source.entry for source in sources)
            library_manifest.write(partial, dataclasses.replace(manifest, segments=(segment,), entries=entries))
        return cls.load(path, mesh, verify=False, field=field)

    @classmethod
    def merge(
        cls, path: str | pathlib.Path, libraries: Sequence[PromptLibrary], mesh: Mesh | None = None
    ) -> PromptLibrary:
        """Writes a new library with all the prompts of other libraries, in their order.

        Raises:
          UserError: the path exists, be it that another process has just made it; there are no libraries; one is
            damaged or has changed on disk since it was opened; or they differ in retriever, backbone, prompt length or
            similarity, or share a prompt's name.
        """
        if not libraries:
            raise UserError("libraries is empty: give at least one to merge.")
        if wrong := [other for other in libraries if not isinstance(other, PromptLibrary)]:
            raise UserError(f"libraries holds {wrong[0]!r:.80}: open it with PromptLibrary.load.")
        path, first = files.path(path), libraries[0]
        _check_absent(path, first.field)
        for other in libraries[1:]:
            _check_same(first, other)
        entries = tuple(entry for library in libraries for entry in library.manifest.entries)
        check_names(path, [entry.name for entry in entries], first.field)
        for library in libraries:
            library.verify()
        segments = []
        with _new(path, first.field) as partial:
            for library in libraries:
                for segment in library.manifest.segments:
                    name = library_files.segment_name(len(segments))
                    shutil.copyfile(library.copy / segment.file, partial / name)
                    segments.append(dataclasses.replace(segment, file=name))
                library._check_unchanged()
            library_manifest.write(
                partial, dataclasses.replace(first.manifest, segments=tuple(segments), entries=entries)
            )
        return cls.load(path, mesh, verify=False, field=first.field)

    def append(self, retriever: Model | Backbone, sources: Sequence[SourcePrompt]) -> PromptLibrary:
        """Adds source prompts as one more segment; returns the longer library, which shares what this one has opened.

        The segment, a line in the list of segments and a short manifest are written: no more for a long library.
        Appends take turns: each holds the library's lock while it writes (`files.lock`; none on Windows). If two
        processes have opened the same library, the later append is refused, because its view is out of date.

        Args:
          retriever: the model that encoded the keys, loaded or as libraries record it.
          sources: `ip.SourcePrompt`, each with an `ip.Entry`.

        Raises:
          UserError: the keys come from another retriever or have another width, a prompt is for another backbone or has
            another length, a name is there already, something is not finite in float32, a key has no similarity
            (zeros with the cosine, or an inner product beyond float32), or the library has changed on disk since it
            was opened.
        """
        self._check_unchanged()
        retriever = keys.model(retriever)
        if retriever.fingerprint != self.manifest.retriever.fingerprint:
            raise refusal(
                self.path,
                self.field,
                f"has keys of the retriever {self.manifest.retriever}, not of {retriever}",
            )
        sources = check_sources(self.path, self.manifest, listed(sources), self.field)
        with files.lock(self.path, wait=True):
            self._check_unchanged()  # again: another process may just have released the lock
            segment = write_sources(self.path, len(self.manifest.segments), sources)
            entries = [source.entry for source in sources]
            manifest, digest = library_manifest.append(self.path, self.manifest, segment, entries, self.field)
        copy = files.local(self.path)
        segments = [*self.segments, library_files.open_segment(copy, manifest, segment, self.field)]
        return dataclasses.replace(self, copy=copy, manifest=manifest, digest=digest, segments=segments)

    def _check_unchanged(self) -> None:
        if library_manifest.digest(self.path) != self.digest:
            raise refusal(self.path, self.field, "has been changed since it was opened: open it again")

    def verify(self) -> None:
        """Reads all files. Raises UserError unless each is as written and finite, and every key has its prompt."""
        library_files.check_contents(self.copy, self.manifest, self.segments, self.field)

    def __len__(self) -> int:
        """The number of source prompts."""
        return len(self.manifest.entries)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The facts on each source prompt, by its number."""
        return self.manifest.entries

    def listing(self) -> list[dict[str, Any]]:
        """One dict for each source prompt: its number (`owner`), its number of keys, and its entry."""
        counts = np.bincount(self.owners_K, minlength=len(self))
        return [
            {"owner": owner, "keys": int(counts[owner]), **dataclasses.asdict(entry)}
            for owner, entry in enumerate(self.entries)
        ]

    def source(self, owner: int) -> SourcePrompt:
        """A source prompt by its number, with its keys and their texts: as `create` and `append` take it.

        Raises:
          IndexError: there is no prompt with this number.
        """
        numbers = np.flatnonzero(self.owners_K == owner)
        texts = [self.text(int(number)) for number in numbers]
        made_on = {"backbone": self.manifest.backbone.name, "fingerprint": self.manifest.backbone.fingerprint}
        prompt = Prompt(self.prompts(owner), made_on)
        return SourcePrompt(self.entries[owner], prompt, _take([s["keys"] for s in self.segments], numbers), texts)

    @functools.cached_property
    def owners_K(self) -> np.ndarray:  # noqa: N802 (axes are capitals)
        """The number of the source prompt that owns each key, int32 [K]."""
        starts = np.cumsum([0, *(len(segment["prompts"]) for segment in self.segments)])
        parts = [segment["owners"] + first for segment, first in zip(self.segments, starts, strict=False)]
        return np.concatenate(parts).astype(np.int32)

    @property
    def keys_KR(self) -> np.ndarray:  # noqa: N802
        """All keys, float32 [K, R]; a copy unless there is one segment."""
        return self._joined("keys")

    @property
    def prompts_MPD(self) -> np.ndarray:  # noqa: N802
        """All prompts, float32 [M, P, D]; a copy unless there is one segment."""
        return self._joined("prompts")

    def _joined(self, name: str) -> np.ndarray:
        parts = [segment[name] for segment in self.segments]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def prompts(self, owners: ArrayLike) -> np.ndarray:
        """The values [..., P, D] of the prompts with numbers `owners` [...]; only these are read.

        Raises:
          IndexError: there is no prompt with such a number.
        """
        owners = np.asarray(owners)
        values = _take([segment["prompts"] for segment in self.segments], owners.ravel())
        return values.reshape(*owners.shape, *values.shape[1:])

    def text(self, key: int) -> str:
        """The text of a key's instance; empty if the library has no texts.

        Raises:
          IndexError: there is no key with this number.
        """
        if not 0 <= key < self._starts[-1]:
            raise IndexError(f"the library has no key {key}")
        part = int(np.searchsorted(self._starts, key, side="right")) - 1
        segment = self.segments[part]
        first, last = segment["text_offsets"][key - int(self._starts[part]) :][:2]
        return segment["text_bytes"][first:last].tobytes().decode("utf-8", "surrogatepass")

    @functools.cached_property
    def _starts(self) -> np.ndarray:
        """The number of each segment's first key, and at the end the number of all keys."""
        return np.cumsum([0, *(len(segment["keys"]) for segment in self.segments)])

    def search(self, queries_QR: ArrayLike, top: int = 10, approximate: bool = False) -> Hits:
        """The `top` most similar keys of each query, best first; equal scores are ordered by key number.

        Args:
          queries_QR: from `keys.encode_keys`, with the library's retriever.
          top: N.
          approximate: uses `jax.lax.approx_max_k` within each block of keys, which is made for TPUs. On a CPU it equals
            the exact search and is no faster. `bench/search.py` measures its recall.

        Raises:
          UserError: the queries have another width or are not finite, or `top` exceeds the number of keys.
        """
        queries_QR, top = self._queries(queries_QR), retrieval.whole("top", top)
        if not 1 <= top <= len(self.owners_K):
            raise UserError(f"top={top} is not between 1 and {len(self.owners_K)}, the number of the library's keys.")
        scores_QN, keys_QN = self._index.search(queries_QR, top, approximate)
        if not np.isfinite(scores_QN).all():
            raise UserError("Similarities of the queries with the library's keys overflow float32: scale both down.")
        return Hits(scores_QN, self.owners_K[keys_QN], keys_QN)

    def retrieve(
        self,
        queries_QR: ArrayLike,
        top: int = 10,
        interpolate: int = 1,
        approximate: bool = False,
        exclude: Iterable[int] = (),
    ) -> Choice:
        """One prompt for a task, by the votes of its queries: see `retrieval.retrieve` for the arguments.

        Raises:
          UserError: as `search`, or `interpolate` is less than 1.
        """
        return retrieval.retrieve(self, queries_QR, top, interpolate, exclude, approximate)

    def _queries(self, queries_QR: ArrayLike) -> np.ndarray:
        try:
            queries_QR = float32(queries_QR, "The queries hold")
        except ValueError as error:
            raise UserError(f"{error}: make them with encode_keys.") from error
        width = self.manifest.retriever.width
        if queries_QR.ndim != 2 or not len(queries_QR) or queries_QR.shape[1] != width:
            raise UserError(
                f"Queries of shape {list(queries_QR.shape)} do not fit the library: [Q, {width}] was expected, "
                f"from its retriever {self.manifest.retriever}."
            )
        return comparable(queries_QR, self.manifest.similarity)

    @functools.cached_property
    def _index(self) -> Index:
        parts = [segment["keys"] for segment in self.segments]
        width, similarity = self.manifest.retriever.width, self.manifest.similarity
        return Index(lambda rows: comparable(_take(parts, rows), similarity), len(self.owners_K), width, self.mesh)


def _take(parts: Sequence[np.ndarray], rows: np.ndarray) -> np.ndarray:
    """A copy of some rows of the concatenation of arrays."""
    starts = np.cumsum([0, *map(len, parts)])
    if rows.size and not (rows.min() >= 0 and rows.max() < starts[-1]):
        raise IndexError(f"rows {rows.min()} to {rows.max()} were requested, but there are {starts[-1]} rows")
    part_of = np.searchsorted(starts, rows, side="right") - 1
    taken = np.empty((len(rows), *parts[0].shape[1:]), parts[0].dtype)
    order = np.argsort(part_of, kind="stable")  # the rows of one part next to one another
    for here in np.split(order, np.flatnonzero(np.diff(part_of[order])) + 1) if len(rows) else ():
        part = int(part_of[here[0]])
        taken[here] = parts[part][rows[here] - starts[part]]
    return taken


@contextlib.contextmanager
def _new(path: pathlib.Path, field: str) -> Iterator[pathlib.Path]:
    """Yields an empty directory that becomes the library at `path`, unless another process has made that meanwhile."""
    try:
        with files.whole(path, fresh=True) as partial:
            partial.mkdir()
            yield partial
    except FileExistsError as error:
        raise _exists(path, field) from error


def _check_absent(path: pathlib.Path, field: str) -> None:
    if path.exists():
        raise _exists(path, field)


def _exists(path: pathlib.Path, field: str) -> UserError:
    return refusal(path, field, "exists: append to it, or choose another path")


def _check_same(first: PromptLibrary, other: PromptLibrary) -> None:
    """Raises UserError unless the keys and prompts of two libraries can be mixed."""
    pairs = [
        ("retriever", first.manifest.retriever, other.manifest.retriever),
        ("backbone", first.manifest.backbone, other.manifest.backbone),
        ("prompt length", first.manifest.prompt_length, other.manifest.prompt_length),
        ("similarity", first.manifest.similarity, other.manifest.similarity),
    ]
    for what, ours, theirs in pairs:
        if ours != theirs:
            raise refusal(
                other.path, other.field, f"has the {what} {theirs}, but {str(first.path)!r}, to be merged, has {ours}"
            )
