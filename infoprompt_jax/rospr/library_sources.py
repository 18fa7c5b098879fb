"""Source prompts on their way into a library: the checks, and the segment that holds them (see `library_files`)."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from infoprompt_jax.prompts.saved import Prompt, check_prompt
from infoprompt_jax.rospr.library_files import Entry, Manifest, refusal, write_segment


@dataclasses.dataclass(frozen=True, eq=False)
class SourcePrompt:
    """A prompt for a library, keys [n, R] of n of its training instances, and their texts (or none)."""

    entry: Entry
    prompt: Prompt
    keys_NR: np.ndarray
    texts: Sequence[str] = ()


def add_segment(directory: pathlib.Path, manifest: Manifest, sources: Sequence[SourcePrompt]) -> Manifest:
    """Writes the sources as one more segment; returns the manifest that lists it."""
    owners = np.repeat(np.arange(len(sources)), [len(source.keys_NR) for source in sources])
    tensors = {
        "keys": np.concatenate([source.keys_NR for source in sources]),
        "owners": owners,
        "prompts": np.stack([source.prompt.value_PD for source in sources]),
    }
    texts = [text for source in sources for text in source.texts or [""] * len(source.keys_NR)]
    segment = write_segment(directory, len(manifest.segments), tensors, texts)
    entries = (*manifest.entries, *(source.entry for source in sources))
    return dataclasses.replace(manifest, segments=(*manifest.segments, segment), entries=entries)


def check_sources(path: pathlib.Path, manifest: Manifest, sources: Sequence[SourcePrompt], field: str) -> None:
    """Raises UserError unless all sources fit the library's manifest."""
    if not sources:
        raise refusal(path, field, "was given 0 source prompts to hold: at least one was expected")
    check_names(path, [entry.name for entry in manifest.entries] + [s.entry.name for s in sources], field)
    for source in sources:
        check_prompt(source.prompt, manifest.backbone.width, manifest.backbone.fingerprint, field)
        wrong = _misfit(manifest, source)
        if wrong:
            raise refusal(path, field, f"cannot take the source prompt {source.entry.name!r}: {wrong}")


def _misfit(manifest: Manifest, source: SourcePrompt) -> str:
    """Why a source does not fit a library; "" if it does."""
    width, count = manifest.retriever.width, len(source.keys_NR)
    if source.prompt.kind != "static":
        return "it is instance-conditioned, but a library holds one matrix for each prompt"
    if len(source.prompt.value_PD) != manifest.prompt_length:
        return f"its length is {len(source.prompt.value_PD)}, the library's prompts have {manifest.prompt_length}"
    if source.keys_NR.ndim != 2 or not count or source.keys_NR.shape[1] != width:
        return f"its keys have the shape {list(source.keys_NR.shape)}, but [n, {width}] was expected"
    if source.texts and len(source.texts) != count:
        return f"it comes with {len(source.texts)} texts for {count} keys"
    numbers = source.keys_NR, source.prompt.value_PD, list(source.entry.metrics.values())
    if not all(np.isfinite(values).all() for values in numbers):
        return "it holds NaN or infinity"
    return ""


def check_names(path: pathlib.Path, names: Sequence[str], field: str) -> None:
    """Raises UserError where two source prompts have the same name."""
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise refusal(path, field, f"would hold two source prompts named {twice[0]!r}: give them different names")
