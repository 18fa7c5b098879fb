"""The Source Prompt Library: retrieval, appending, merging, and what an interruption leaves."""

from __future__ import annotations

import dataclasses
import pathlib
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent import futures
from typing import Any

import numpy as np
import pytest
import tiny
from made_library import KEYS, OWNERS, RETRIEVER, SOURCES, D, P, R, make, same, source, stable
from safetensors.numpy import load_file

import infoprompt_jax as ip
from infoprompt_jax.errors import UserError
from infoprompt_jax.rospr import library_files
from infoprompt_jax.rospr.library import PromptLibrary


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    make(tmp_path / "library")
    return tmp_path / "library"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> PromptLibrary:
    return make(tmp_path_factory.mktemp("made") / "library")


def test_retrieval_votes_and_interpolates(library: PromptLibrary) -> None:
    queries = np.random.default_rng(3).standard_normal((8, R))
    _, numbers = stable(queries.astype(np.float32), KEYS, 10)
    frequencies = np.bincount(OWNERS[numbers].ravel(), minlength=5)
    choice = library.retrieve(queries, top=10, interpolate=3)
    assert np.argmax(frequencies) == choice.owners[0] and len(choice.owners) == 3
    assert sorted(frequencies[choice.owners]) == sorted(frequencies)[-3:]
    np.testing.assert_allclose(choice.weights, frequencies[choice.owners] / frequencies[choice.owners].sum())
    values = [SOURCES[owner].prompt.value_PD for owner in choice.owners]
    mean = sum(w * value for w, value in zip(choice.weights, values, strict=True))
    np.testing.assert_allclose(choice.prompt_PD, mean, rtol=1e-6, atol=1e-6)
    first = library.retrieve(queries)
    np.testing.assert_array_equal(first.prompt_PD, SOURCES[first.owners[0]].prompt.value_PD)
    assert first.weights.tolist() == [1.0]
    assert set(library.retrieve(queries, interpolate=9).owners) == set(np.flatnonzero(frequencies))


def test_excluded_source_prompts_get_no_votes(library: PromptLibrary) -> None:
    """As if the library did not hold them; where the others have too few keys, all of these are hits."""
    queries = np.random.default_rng(3).standard_normal((8, R))
    kept = np.flatnonzero(~np.isin(OWNERS, [0, 3]))
    _, numbers = stable(queries.astype(np.float32), KEYS[kept], 4)
    choice = library.retrieve(queries, top=4, interpolate=2, exclude=[0, 3])
    np.testing.assert_array_equal(choice.hits.keys_QN, kept[numbers])
    frequencies = np.bincount(OWNERS[kept[numbers]].ravel(), minlength=5)
    assert choice.votes.frequencies.tolist() == sorted(frequencies[frequencies > 0], reverse=True)
    few = library.retrieve(queries, top=20, exclude=[0, 1, 2, 3])
    assert few.owners.tolist() == [4] and few.hits.keys_QN.shape == (8, (OWNERS == 4).sum())


def test_prompts_of_a_mixed_batch(library: PromptLibrary) -> None:
    actual = library.prompts([[4, 0], [4, 2]])
    assert actual.shape == (2, 2, P, D)
    np.testing.assert_array_equal(actual[0, 0], SOURCES[4].prompt.value_PD)
    np.testing.assert_array_equal(actual[1, 1], SOURCES[2].prompt.value_PD)
    with pytest.raises(IndexError):
        library.prompts([5])


UNFIT_SEARCH: dict[str, tuple[Callable[[PromptLibrary], Any], str]] = {
    "width": (lambda library: library.search(np.zeros((2, R + 1))), r"shape \[2, 7\] do not fit .* \[Q, 6\]"),
    "axes": (lambda library: library.search(np.zeros(R)), r"shape \[6\] do not fit"),
    "none": (lambda library: library.search(np.zeros((0, R))), r"shape \[0, 6\] do not fit"),
    "finite": (lambda library: library.search(np.full((1, R), np.nan)), "NaN or infinity"),
    "large": (lambda library: library.search(np.full((1, R), 3e38)), "overflow float32"),
    "top": (lambda library: library.search(np.zeros((1, R)), top=26), "top=26 is not between 1 and 25"),
    "no top": (lambda library: library.search(np.zeros((1, R)), top=0), "top=0 is not between"),
    "interpolate": (lambda library: library.retrieve(np.zeros((1, R)), interpolate=0), "interpolate=0"),
    "all excluded": (
        lambda library: library.retrieve(np.zeros((1, R)), exclude=range(5)),
        "must leave a source prompt; 0 keys are left",
    ),
}


@pytest.mark.parametrize("use,message", UNFIT_SEARCH.values(), ids=UNFIT_SEARCH)
def test_unfit_queries_are_refused(use: Callable, message: str, library: PromptLibrary) -> None:
    with pytest.raises(UserError, match=message):
        use(library)


def test_what_is_written_is_read_as_memory_maps(path: pathlib.Path) -> None:
    library = ip.PromptLibrary.load(str(path))
    np.testing.assert_array_equal(library.keys_KR, KEYS)
    np.testing.assert_array_equal(library.owners_K, OWNERS)
    np.testing.assert_array_equal(library.prompts_MPD, np.stack([s.prompt.value_PD for s in SOURCES]))
    for array in (library.keys_KR, library.prompts_MPD):
        assert isinstance(array, np.memmap) and array.dtype == np.float32 and not array.flags.writeable
    assert library.text(3) == "instance 1.0 ø\ud800" and library.text(24) == "instance 4.6 ø\ud800"
    assert library.entries == tuple(s.entry for s in SOURCES)
    assert [row["keys"] for row in library.listing()] == [3, 4, 5, 6, 7]
    with pytest.raises(IndexError, match="no key 25"):
        library.text(25)
    stored = load_file(path / "segment-00000.safetensors")  # by the safetensors library
    np.testing.assert_array_equal(stored["keys"], KEYS)


def test_texts_may_be_left_out(tmp_path: pathlib.Path) -> None:
    mixed = [dataclasses.replace(SOURCES[0], texts=()), SOURCES[1]]
    some = make(tmp_path / "some", mixed)
    assert some.text(2) == "" and some.text(3) == "instance 1.0 ø\ud800"
    assert make(tmp_path / "none", mixed[:1]).text(2) == ""


def test_appending_equals_making_it_anew_and_writes_no_old_file(tmp_path: pathlib.Path, library: PromptLibrary) -> None:
    grown = make(tmp_path / "grown", SOURCES[:2])
    before = (tmp_path / "grown" / "segment-00000.safetensors").stat()
    for sources in (SOURCES[2:3], SOURCES[3:]):
        grown = grown.append(RETRIEVER, sources)
    after = (tmp_path / "grown" / "segment-00000.safetensors").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    for actual in (grown, PromptLibrary.load(tmp_path / "grown")):
        same(actual, library)
    np.testing.assert_array_equal(grown.prompts([[4, 1]]), library.prompts([[4, 1]]))


def test_of_appends_at_once_one_succeeds_and_the_others_are_refused(path: pathlib.Path, library: PromptLibrary) -> None:
    views = [PromptLibrary.load(path, tiny.one_device()) for _ in range(8)]

    def append(number: int) -> str:
        try:
            return views[number].append(RETRIEVER, [source(10 + number)]).entries[-1].name
        except UserError as error:
            return str(error)

    with futures.ThreadPoolExecutor(len(views)) as pool:
        outcomes = list(pool.map(append, range(len(views))))
    grown = PromptLibrary.load(path, tiny.one_device())
    (added,) = (name for name in outcomes if name == grown.entries[-1].name)
    assert all("has been changed since it was opened" in one for one in outcomes if one != added)
    assert len(grown) == len(library) + 1


def test_merging_equals_making_it_anew(tmp_path: pathlib.Path, library: PromptLibrary) -> None:
    first = make(tmp_path / "a", SOURCES[:1]).append(RETRIEVER, SOURCES[1:3])
    merged = PromptLibrary.merge(tmp_path / "merged", [first, make(tmp_path / "b", SOURCES[3:])])
    same(merged, library)
    grown = merged.append(dataclasses.replace(RETRIEVER, name="the same from elsewhere"), [source(9)])
    grown.verify()
    assert len(grown) == len(library) + 1


def test_a_damaged_library_is_not_merged(tmp_path: pathlib.Path) -> None:
    whole, damaged = make(tmp_path / "a", SOURCES[:1]), make(tmp_path / "b", SOURCES[1:])
    segment = tmp_path / "b" / "segment-00000.safetensors"
    content = bytearray(segment.read_bytes())
    content[-1] ^= 1
    segment.write_bytes(content)
    with pytest.raises(UserError, match="/b"):
        PromptLibrary.merge(tmp_path / "merged", [whole, damaged])
    assert not (tmp_path / "merged").exists()


KILLED = """
import os, signal, sys
sys.path[:0] = sys.argv[2:]
import made_library as here
from infoprompt_jax.rospr import library_files
library_files.write_manifest = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
here.PromptLibrary.load(sys.argv[1], here.tiny.one_device()).append(here.RETRIEVER, [here.source(9)])
"""


def test_an_append_killed_before_the_manifest_leaves_the_old_library(
    path: pathlib.Path, library: PromptLibrary
) -> None:
    folders = [str(pathlib.Path(__file__).parents[1]), str(pathlib.Path(__file__).parents[2])]
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path), *folders], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (path / "segment-00001.safetensors").exists()
    left = PromptLibrary.load(path)
    same(left, library)
    longer = left.append(RETRIEVER, [source(10, 2)])
    longer.verify()
    assert len(longer) == 6 and longer.text(26) == "instance 10.1 ø\ud800"


def test_a_failed_making_leaves_nothing(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(library_files, "write_manifest", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "library")
    assert not list(tmp_path.iterdir())
