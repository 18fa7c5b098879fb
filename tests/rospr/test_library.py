"""The Source Prompt Library: retrieval, appending, merging, and what an interruption leaves."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent import futures
from typing import Any

import numpy as np
import pytest
import tiny
from made_library import KEYS, OWNERS, RETRIEVER, SOURCES, D, P, R, as_format_1, make, same, source, stable
from safetensors.numpy import load_file

import infoprompt_jax as ip
from infoprompt_jax.errors import UserError
from infoprompt_jax.rospr import keys, library_files, library_manifest
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
    for alike in ({0, 3}, iter([0, 3]), np.array([0, 3])):
        again = library.retrieve(queries, top=4, interpolate=2, exclude=alike)
        np.testing.assert_array_equal(again.hits.keys_QN, choice.hits.keys_QN)
    np.testing.assert_array_equal(choice.hits.keys_QN, kept[numbers])
    frequencies = np.bincount(OWNERS[kept[numbers]].ravel(), minlength=5)
    assert choice.votes.frequencies.tolist() == sorted(frequencies[frequencies > 0], reverse=True)
    few = library.retrieve(queries, top=20, exclude=[0, 1, 2, 3])
    assert few.owners.tolist() == [4] and few.hits.keys_QN.shape == (8, (OWNERS == 4).sum())


def test_a_library_without_one_source_prompt(path: pathlib.Path) -> None:
    """Its others are what they were: also those of a segment that was added, whose texts are its own."""
    longer = PromptLibrary.load(path).append(RETRIEVER, [source(9)])
    kept = [longer.source(owner) for owner in range(6) if owner != 3]
    manifest = longer.manifest
    shorter = PromptLibrary.create(path.with_name("shorter"), manifest.retriever, manifest.backbone, kept)
    same(shorter, make(path.with_name("expected"), [*SOURCES[:3], SOURCES[4], source(9)]))
    with pytest.raises(IndexError):
        longer.source(6)
    with pytest.raises(IndexError):
        longer.source(-1)


def test_a_library_of_loaded_models(tmp_path: pathlib.Path) -> None:
    model = tiny.backbone()
    width = model.config.d_model
    fit = source(0, keys_NR=np.ones((5, width)), prompt=ip.Prompt(np.ones((P, width), np.float32)))
    library = PromptLibrary.create(tmp_path / "library", model, model, [fit], mesh=model.mesh)
    assert library.manifest.backbone == library.manifest.retriever == keys.model(model)


def test_a_run_folder_is_no_library(path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"is the folder of a run: set rospr\.library to its folder 'library'"):
        PromptLibrary.load(path.parent, field="rospr.library")


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


def test_what_is_written_is_read_as_memory_maps_where_it_is_large(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not isinstance(ip.PromptLibrary.load(path).keys_KR, np.memmap)  # a map would hold a file open
    monkeypatch.setattr(library_files, "MAPPED_BYTES", 0)
    library = ip.PromptLibrary.load(str(path))
    np.testing.assert_array_equal(library.keys_KR, KEYS)
    np.testing.assert_array_equal(library.owners_K, OWNERS)
    np.testing.assert_array_equal(library.prompts_MPD, np.stack([s.prompt.value_PD for s in SOURCES]))
    for array in (library.keys_KR, library.prompts_MPD):
        assert isinstance(array, np.memmap) and array.dtype == np.float32 and not array.flags.writeable
    assert library.text(3) == "instance 1.0 ø\ud800" and library.text(24) == "instance 4.6 ø\ud800"
    assert library.entries == tuple(s.entry for s in SOURCES)
    assert [row["keys"] for row in library.listing()] == [3, 4, 5, 6, 7]
    for key in (25, -1):
        with pytest.raises(IndexError, match=f"no key {key}"):
            library.text(key)
    stored = load_file(path / "segment-00000.safetensors")  # by the safetensors library
    np.testing.assert_array_equal(stored["keys"], KEYS)


def test_texts_may_be_left_out(tmp_path: pathlib.Path) -> None:
    mixed = [dataclasses.replace(SOURCES[0], texts=()), SOURCES[1]]
    some = make(tmp_path / "some", mixed)
    assert some.text(2) == "" and some.text(3) == "instance 1.0 ø\ud800"
    assert make(tmp_path / "none", mixed[:1]).text(2) == ""


@pytest.mark.parametrize("version", [1, 2])
def test_appending_equals_making_it_anew_and_writes_no_old_file(
    tmp_path: pathlib.Path, library: PromptLibrary, version: int
) -> None:
    grown = make(tmp_path / "grown", SOURCES[:2])
    if version == 1:
        as_format_1(tmp_path / "grown")
        grown = PromptLibrary.load(tmp_path / "grown", tiny.one_device())
        assert not (tmp_path / "grown" / "segments.jsonl").exists() and len(grown) == 2
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
def die(event, arguments):
    if event == "os.rename" and str(arguments[1]).endswith("manifest.json"):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(die)
here.PromptLibrary.load(sys.argv[1], here.tiny.one_device()).append(here.RETRIEVER, [here.source(9)])
"""


def test_an_append_killed_before_the_manifest_leaves_the_old_library(
    path: pathlib.Path, library: PromptLibrary
) -> None:
    folders = [str(pathlib.Path(__file__).parents[1]), str(pathlib.Path(__file__).parents[2])]
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path), *folders], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (path / "segment-00001.safetensors").exists()
    assert (path / "segments.jsonl").read_bytes().count(b"\n") == 2
    left = PromptLibrary.load(path)
    same(left, library)
    longer = left.append(RETRIEVER, [source(10, 2)])
    longer.verify()
    assert len(longer) == 6 and longer.text(26) == "instance 10.1 ø\ud800"


def test_a_failed_making_leaves_nothing(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(library_manifest, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "library")
    assert not list(tmp_path.iterdir())


def test_an_append_costs_the_same_however_long_the_library_is(tmp_path: pathlib.Path) -> None:
    """A segment, a line at the end of a list and a short manifest; what was opened is not opened again."""
    library = make(tmp_path / "library", SOURCES[:1])
    listing = tmp_path / "library" / "segments.jsonl"
    costs: list[tuple[int, int, int]] = []
    for number in range(10, 50):
        before = {file.name: file.stat() for file in (tmp_path / "library").iterdir()}
        listed = listing.read_bytes()
        longer = library.append(RETRIEVER, [source(number, 3)])
        after = {file.name: file.stat() for file in (tmp_path / "library").iterdir()}
        assert all(a is b for a, b in zip(longer.segments, library.segments, strict=False))
        assert after["segments.jsonl"].st_ino == before["segments.jsonl"].st_ino
        assert listing.read_bytes().startswith(listed)
        untouched = after.keys() - {"segments.jsonl", "manifest.json", ".lock"}
        (added,) = (name for name in untouched if before.get(name) != after[name])
        costs.append((after[added].st_size, listing.stat().st_size - len(listed), after["manifest.json"].st_size))
        library = longer
    assert all(abs(late - early) <= 8 for early, late in zip(costs[0], costs[-1], strict=True))  # digits of numbers
    assert len(library) == 41
    same(library, PromptLibrary.load(tmp_path / "library", tiny.one_device()))


@pytest.mark.skipif(sys.platform != "linux", reason="counts the open files in /proc")
def test_a_library_may_have_more_segments_than_a_process_may_open_files(tmp_path: pathlib.Path) -> None:
    library = make(tmp_path / "library", SOURCES[:1])
    for number in range(10, 20):
        library = library.append(RETRIEVER, [source(number)])
    before = len(os.listdir("/proc/self/fd"))
    again = PromptLibrary.load(tmp_path / "library", tiny.one_device())
    assert len(again.segments) == 11 and len(os.listdir("/proc/self/fd")) <= before


UNSTORABLE: dict[str, tuple[dict[str, Any], str, str]] = {
    "keys beyond float32": ({"keys_NR": np.full((2, R), 1e300)}, "", "keys hold .* beyond float32"),
    "keys just beyond": ({"keys_NR": np.full((2, R), 3.5e38)}, "", "keys hold .* beyond float32"),
    "a prompt beyond float32": ({"prompt": np.full((P, D), -1e39)}, "", "prompt holds .* beyond float32"),
    "keys whose products overflow": ({"keys_NR": np.full((2, R), 1e19)}, "", "key 0 is so long"),
    "a zero with the cosine": ({"keys_NR": np.eye(2, R, 1) * [[1], [0]]}, "cosine", "key 1 is zero in float32"),
    "a zero in float32": ({"keys_NR": np.full((1, R), 1e-60)}, "cosine", "key 0 is zero in float32"),
    "complex keys": ({"keys_NR": np.ones((2, R), complex)}, "", "keys hold complex128, but real numbers"),
    "text": ({"keys_NR": np.full((2, R), "1")}, "", "keys hold <U1, but real numbers"),
    "NaN": ({"keys_NR": np.full((2, R), np.nan)}, "", "keys hold NaN"),
    "a metric": ({"entry": {"metrics": {"accuracy": float("inf")}}}, "", "the metric 'accuracy' is inf, but a finite"),
    "a metric's kind": ({"entry": {"metrics": {"accuracy": "0.5"}}}, "", "the metric 'accuracy' is '0.5', but a fini"),
    "a template's kind": ({"entry": {"template": 3}}, "", "an entry's template is 3, but a text was expected"),
    "a choice's kind": ({"entry": {"choices": ("a", 1)}}, "", "a choice is 1, but a text was expected"),
    "texts": ({"texts": ["one"]}, "", "1 texts for 5 keys"),
}


@pytest.mark.parametrize("changes,similarity,message", UNSTORABLE.values(), ids=UNSTORABLE)
def test_what_could_not_be_read_again_is_refused_before_anything_is_written(
    changes: dict[str, Any], similarity: str, message: str, tmp_path: pathlib.Path
) -> None:
    right = source(9)
    if "entry" in changes:
        changes = {"entry": dataclasses.replace(right.entry, **changes["entry"])}
    if "prompt" in changes:
        changes = {"prompt": dataclasses.replace(right.prompt, value_PD=changes["prompt"])}
    if "keys_NR" in changes:
        changes = changes | {"texts": ()}
    wrong = dataclasses.replace(right, **changes)
    fields = {"similarity": similarity or "inner_product"}
    with pytest.raises(UserError, match=message):
        make(tmp_path / "new", [wrong], **fields)
    assert not (tmp_path / "new").exists()
    right = dataclasses.replace(source(8), keys_NR=np.ones((5, R)))  # float64, which float32 holds
    library = make(tmp_path / "library", [dataclasses.replace(SOURCES[0], keys_NR=np.ones((3, R)))], **fields)
    before = sorted(os.listdir(tmp_path / "library"))
    with pytest.raises(UserError, match=message):
        library.append(RETRIEVER, [right, wrong])
    assert sorted(os.listdir(tmp_path / "library")) == before
    library.append(RETRIEVER, [right])
    assert len(PromptLibrary.load(tmp_path / "library", tiny.one_device())) == 2


def test_of_two_that_make_a_library_one_is_refused(tmp_path: pathlib.Path, library: PromptLibrary) -> None:
    """Another process makes it between the check and the end."""
    target, other = tmp_path / "library", make(tmp_path / "other", [source(30)])
    pending: list[str] = []

    def intrude(event: str, arguments: tuple) -> None:
        if pending and event == "os.rename" and str(arguments[1]) == pending[0]:
            pending.clear()
            shutil.copytree(library.path, target)

    sys.addaudithook(intrude)
    for write in (lambda: make(target, [source(31)]), lambda: PromptLibrary.merge(target, [other])):
        pending.append(str(target))
        with pytest.raises(UserError, match="exists: append to it"):
            write()
        same(PromptLibrary.load(target, tiny.one_device()), library)
        shutil.rmtree(target)
    assert sorted(os.listdir(tmp_path)) == ["other"]


def test_a_library_that_has_grown_is_opened_again_before_it_is_merged(tmp_path: pathlib.Path) -> None:
    first, second = make(tmp_path / "a", SOURCES[:1]), make(tmp_path / "b", SOURCES[1:2])
    longer = first.append(RETRIEVER, SOURCES[2:3])
    with pytest.raises(UserError, match=r"/a' has been changed since it was opened"):
        PromptLibrary.merge(tmp_path / "merged", [first, second])
    assert not (tmp_path / "merged").exists()
    assert len(PromptLibrary.merge(tmp_path / "merged", [longer, second])) == 3


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"top": 1.5}, "top=1.5 is of type float: a whole number was expected"),
        ({"top": "3"}, "top='3' is of type str"),
        ({"interpolate": 1.5}, "interpolate=1.5 is of type float"),
        ({"exclude": [-1]}, "exclude names the source prompt -1, but the library has the numbers 0 to "),
        ({"exclude": [99]}, "exclude names the source prompt 99"),
        ({"exclude": 3}, "exclude=3 is no list: write [3]"),
        ({"queries_QR": [["a"] * R]}, "The queries hold <U1, but real numbers were expected"),
        ({"queries_QR": np.ones((1, R), complex)}, "The queries hold complex128"),
        ({"queries_QR": np.full((1, R), np.nan)}, "The queries hold NaN or infinity"),
        ({"queries_QR": [[1.0], [1.0, 2.0]]}, "inhomogeneous"),
    ],
)
def test_arguments_of_a_retrieval_are_checked(arguments: dict[str, Any], sentence: str, library: PromptLibrary) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)) as caught:
        library.retrieve(**{"queries_QR": np.ones((1, R)), "top": 1, **arguments})
    assert "\n" not in str(caught.value)
