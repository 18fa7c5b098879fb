"""Source prompts on their way into a library: the checks, and the segment that holds them (see `library_files`)."""

from __future__ import annotations

import collections
import dataclasses
import json
import pathlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from infoprompt_jax import files
from infoprompt_jax.errors import UserError
from infoprompt_jax.prompts.saved import ANSWERING, Prompt, check_prompt
from infoprompt_jax.rospr.library_files import Entry, Manifest, Segment, refusal, write_segment
from infoprompt_jax.rospr.library_manifest import read_entry

LARGEST = float(np.finfo(np.float32).max)


@dataclasses.dataclass(frozen=True, eq=False)
class SourcePrompt:
    """A prompt for `PromptLibrary.append`: its facts, and keys [n, R] of n of its training instances.

    `encode_keys` makes the keys, with the library's retriever. `texts` are those instances, or none; pages show them.
    """

    entry: Entry
    prompt: Prompt
    keys_NR: np.ndarray
    texts: Sequence[str] = ()


def listed(sources: Sequence[SourcePrompt]) -> Sequence[SourcePrompt]:
    """The sources. Raises UserError for one alone, or another thing among them."""
    if isinstance(sources, SourcePrompt):
        raise UserError("sources is one source prompt, but a list was expected: write [source].")
    if wrong := [source for source in sources if not isinstance(source, SourcePrompt)]:
        raise UserError(f"sources holds {wrong[0]!r:.80}, but an ip.SourcePrompt was expected.")
    return sources


def write_sources(directory: pathlib.Path, number: int, sources: Sequence[SourcePrompt]) -> Segment:
    """Writes the sources, as `check_sources` returns them, as segment `number`."""
    tensors = {
        "keys": np.concatenate([source.keys_NR for source in sources]),
        "owners": np.repeat(np.arange(len(sources)), [len(source.keys_NR) for source in sources]),
        "prompts": np.stack([source.prompt.value_PD for source in sources]),
    }
    texts = [text for source in sources for text in source.texts or [""] * len(source.keys_NR)]
    return write_segment(directory, number, tensors, texts)


def check_sources(
    path: pathlib.Path, manifest: Manifest, sources: Sequence[SourcePrompt], field: str
) -> list[SourcePrompt]:
    """The sources as a library stores them: in float32, with entries that are read back as they are.

    Raises UserError unless all fit the library's manifest: what passes here can be read again.
    """
    if not sources:
        raise refusal(path, field, "was given 0 source prompts to hold: at least one was expected")
    check_names(path, [entry.name for entry in manifest.entries] + [s.entry.name for s in sources], field)
    stored = []
    for source in sources:
        check_prompt(source.prompt, manifest.backbone.width, manifest.backbone.fingerprint, field)
        try:
            stored.append(_stored(manifest, source))
        except ValueError as error:
            raise refusal(path, field, f"cannot take the source prompt {source.entry.name!r}: {error}") from error
    return stored


def _stored(manifest: Manifest, source: SourcePrompt) -> SourcePrompt:
    """The source as it is stored. Raises ValueError where it does not fit a library."""
    if source.prompt.kind != "static":
        raise ValueError("it is instance-conditioned, but a library holds one matrix for each prompt")
    for part, what in ANSWERING.items():
        if any(name.startswith(part) for name in source.prompt.tensors):
            raise ValueError(
                f"it was trained with a {what}, without which it answers wrongly, and a library holds its matrix alone"
            )
    keys_NR = float32(source.keys_NR, "its keys hold")
    value_PD = float32(source.prompt.value_PD, "its prompt holds")
    width, length = manifest.retriever.width, manifest.prompt_length
    if len(value_PD) != length:
        raise ValueError(f"its length is {len(value_PD)}, the library's prompts have {length}")
    if keys_NR.ndim != 2 or not len(keys_NR) or keys_NR.shape[1] != width:
        raise ValueError(f"its keys have the shape {list(keys_NR.shape)}, but [n, {width}] was expected")
    if source.texts and len(source.texts) != len(keys_NR):
        raise ValueError(f"it comes with {len(source.texts)} texts for {len(keys_NR)} keys")
    if not all(isinstance(text, str) for text in source.texts):
        raise ValueError("one of its texts is no text")
    norms = np.linalg.norm(keys_NR.astype(np.float64), axis=1)
    if manifest.similarity == "cosine" and not norms.all():
        raise ValueError(f"its key {int(norms.argmin())} is zero in float32, and zero has no cosine")
    if manifest.similarity != "cosine" and norms.max() ** 2 > LARGEST:
        raise ValueError(f"its key {int(norms.argmax())} is so long that inner products overflow float32: scale down")
    return dataclasses.replace(
        source,
        entry=read_entry(json.loads(json.dumps(dataclasses.asdict(source.entry), default=files.strict))),
        prompt=dataclasses.replace(source.prompt, value_PD=value_PD),
        keys_NR=keys_NR,
    )


def float32(values: ArrayLike, what: str) -> np.ndarray:
    """The values in the type they are stored in. Raises ValueError where they are not finite in it."""
    values = np.asarray(values)
    if np.issubdtype(values.dtype, np.complexfloating) or values.dtype.kind in "OSUMm":
        raise ValueError(f"{what} {values.dtype}, but real numbers were expected")
    with np.errstate(over="ignore"):
        stored = values.astype(np.float32)
    if not np.isfinite(stored).all():
        raise ValueError(f"{what} NaN or infinity, or numbers beyond float32, the type that a library has")
    return stored


def check_names(path: pathlib.Path, names: Sequence[str], field: str) -> None:
    """Raises UserError where two source prompts have the same name."""
    if len(set(names)) < len(names):
        twice = next(name for name, count in collections.Counter(names).items() if count > 1)
        raise refusal(path, field, f"would hold two source prompts named {twice!r}: give them different names")
