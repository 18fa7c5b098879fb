"""What does not belong in a library is refused and changes nothing."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import numpy as np
import pytest
from made_library import BACKBONE, RETRIEVER, D, P, R, make, source

from infoprompt_jax.errors import UserError
from infoprompt_jax.rospr.library import PromptLibrary
from infoprompt_jax.rospr.library_files import Entry, Model
from infoprompt_jax.rospr.library_sources import SourcePrompt


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    make(tmp_path / "library")
    return tmp_path / "library"


def altered(name: str, **fields: Any) -> SourcePrompt:
    base = source(9)
    if name == "prompt":
        return dataclasses.replace(base, prompt=dataclasses.replace(base.prompt, **fields))
    return dataclasses.replace(base, **fields)


UNFIT: dict[str, tuple[SourcePrompt, str]] = {
    "fingerprint": (altered("prompt", metadata={"fingerprint": "0c"}), "fingerprint 0c, but this backbone's is 0b"),
    "prompt width": (altered("prompt", value_PD=np.zeros((P, 5))), "width 5, but the backbone's is 4"),
    "length": (altered("prompt", value_PD=np.zeros((2, D))), "its length is 2, the library's prompts have 3"),
    "instance": (altered("prompt", tensors={"generator/up": np.zeros(1)}), "instance-conditioned"),
    "verbalizer": (
        altered("prompt", tensors={"verbalizer/vectors": np.zeros((2, D))}),
        "with a verbalizer, without which",
    ),
    "posterior": (altered("prompt", tensors={"posterior/mean": np.zeros((D, D))}), "with a variational bottleneck"),
    "value": (altered("prompt", value_PD=np.full((P, D), np.inf)), "NaN or infinity"),
    "key width": (altered("", keys_NR=np.zeros((5, 7))), r"shape \[5, 7\], but \[n, 6\] was expected"),
    "no keys": (altered("", keys_NR=np.zeros((0, R)), texts=()), r"shape \[0, 6\]"),
    "keys": (altered("", keys_NR=np.full((5, R), np.nan)), "NaN or infinity"),
    "metrics": (altered("", entry=Entry("a", metrics={"accuracy": float("nan")})), "is nan, but a finite number"),
    "texts": (altered("", texts=["one"]), "1 texts for 5 keys"),
    "name": (altered("", entry=Entry("prompt 3")), "two source prompts named 'prompt 3'"),
}


@pytest.mark.parametrize("unfit,message", UNFIT.values(), ids=UNFIT)
def test_unfit_sources_are_refused_and_change_nothing(unfit: SourcePrompt, message: str, path: pathlib.Path) -> None:
    before = sorted((file.name, file.stat().st_mtime_ns) for file in path.iterdir())
    with pytest.raises(UserError, match=message):
        PromptLibrary.load(path).append(RETRIEVER, [source(8), unfit])
    assert sorted((file.name, file.stat().st_mtime_ns) for file in path.iterdir()) == before


def test_mixed_retrievers_and_old_views_are_refused(path: pathlib.Path) -> None:
    library = PromptLibrary.load(path)
    with pytest.raises(UserError, match=r"retriever retriever \(fingerprint 0a, .* not of retriever \(fingerprint 0c"):
        library.append(dataclasses.replace(RETRIEVER, fingerprint="0c"), [source(9)])
    with pytest.raises(UserError, match="0 source prompts"):
        library.append(RETRIEVER, [])
    with pytest.raises(UserError, match=r"one source prompt, but a list was expected: write \[source\]"):
        library.append(RETRIEVER, source(9))  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match=r"sources holds 'runs/a', but an ip\.SourcePrompt"):
        library.append(RETRIEVER, ["runs/a"])  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match=r"libraries holds 'runs/a': open it with PromptLibrary.load"):
        PromptLibrary.merge(path.with_name("merged"), [library, "runs/a"])  # pyright: ignore[reportArgumentType]
    library.append(RETRIEVER, [source(9)])
    with pytest.raises(UserError, match="has been changed since it was opened"):
        library.append(RETRIEVER, [source(10)])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"retriever": Model("other", "0c", R)}, r"retriever other .* has retriever \("),
        ({"backbone": Model("other", "0c", D)}, "backbone other"),
        ({"similarity": "cosine"}, "the similarity cosine, but .* has inner_product"),
        ({"sources": [altered("prompt", value_PD=np.zeros((2, D)))]}, "the prompt length 2, but .* has 3"),
        ({"sources": [source(1)]}, "two source prompts named 'prompt 1'"),
    ],
)
def test_libraries_that_differ_are_not_merged(changed: dict, message: str, tmp_path: pathlib.Path) -> None:
    made = {"retriever": RETRIEVER, "backbone": BACKBONE, "sources": [source(9)], **changed}
    if "backbone" in changed:
        made["sources"] = [altered("prompt", metadata={})]
    other = PromptLibrary.create(tmp_path / "other", **made)
    with pytest.raises(UserError, match=message):
        PromptLibrary.merge(tmp_path / "merged", [make(tmp_path / "a"), other])
    assert not (tmp_path / "merged").exists()


def test_a_library_is_not_overwritten(path: pathlib.Path) -> None:
    for write in (make, lambda path: PromptLibrary.merge(path, [PromptLibrary.load(path)])):
        with pytest.raises(UserError, match="exists: append to it"):
            write(path)
    with pytest.raises(UserError, match="similarity='l2' is unknown"):
        make(path.with_name("new"), similarity="l2")
    with pytest.raises(UserError, match="0 source prompts"):
        make(path.with_name("new"), [])


SEGMENT, MANIFEST = "segment-00000.safetensors", "manifest.json"
