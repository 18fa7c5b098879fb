"""The Source Prompt Library: its search against NumPy and FAISS, its files against damage and interruption."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent import futures
from typing import Any

import jax
import numpy as np
import pytest
import tiny
from safetensors.numpy import load_file, save_file

import infoprompt_jax as ip
from infoprompt_jax.errors import UserError
from infoprompt_jax.prompts.saved import Prompt
from infoprompt_jax.rospr import keys, library_files, retrieval, search
from infoprompt_jax.rospr.library import PromptLibrary
from infoprompt_jax.rospr.library_files import Entry, Model
from infoprompt_jax.rospr.library_sources import SourcePrompt
from infoprompt_jax.t5 import partition

R, P, D = 6, 3, 4
RETRIEVER, BACKBONE = Model("retriever", "0a", R), Model("backbone", "0b", D)


def source(number: int, count: int = 5, **fields: Any) -> SourcePrompt:
    """Keys of small whole numbers: their products are exact, so that equal scores are equal in every implementation."""
    random = np.random.default_rng(number)
    made = SourcePrompt(
        Entry(f"prompt {number}", "data", "template", "family", "yes/no", ("Yes", "No"), {"accuracy": 0.5}),
        Prompt(random.standard_normal((P, D)).astype(np.float32), {"backbone": "backbone", "fingerprint": "0b"}),
        random.integers(-2, 3, (count, R)).astype(np.float32),
        [f"instance {number}.{i} ø\ud800" for i in range(count)],
    )
    return dataclasses.replace(made, **fields)


SOURCES = [source(number, 3 + number) for number in range(5)]
KEYS = np.concatenate([s.keys_NR for s in SOURCES])
OWNERS = np.repeat(range(5), [len(s.keys_NR) for s in SOURCES])


def make(path: pathlib.Path, sources: list[SourcePrompt] = SOURCES, **fields: Any) -> PromptLibrary:
    return PromptLibrary.create(path, RETRIEVER, BACKBONE, sources, mesh=tiny.one_device(), **fields)


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    make(tmp_path / "library")
    return tmp_path / "library"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> PromptLibrary:
    return make(tmp_path_factory.mktemp("made") / "library")


def same(actual: PromptLibrary, expected: PromptLibrary) -> None:
    assert actual.entries == expected.entries and actual.listing() == expected.listing()
    for name in ("keys_KR", "owners_K", "prompts_MPD"):
        np.testing.assert_array_equal(getattr(actual, name), getattr(expected, name), err_msg=name)
    assert [actual.text(k) for k in range(len(actual.owners_K))] == [
        expected.text(k) for k in range(len(actual.owners_K))
    ]
    queries = np.random.default_rng(0).standard_normal((4, R))
    np.testing.assert_array_equal(actual.search(queries).keys_QN, expected.search(queries).keys_QN)


def stable(queries_QR: np.ndarray, keys_KR: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """The same search in float64: scores and numbers, of equal scores the lower number first."""
    scores = queries_QR.astype(np.float64) @ keys_KR.astype(np.float64).T
    numbers = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return np.take_along_axis(scores, numbers, axis=1), numbers


# Keys


@pytest.fixture(scope="module")
def retriever() -> ip.Backbone:
    return tiny.backbone()


def test_keys_are_means_over_tokens(retriever: ip.Backbone) -> None:
    tokens = tiny.tokens(np.random.default_rng(0), 6, length=9)
    actual = keys.encode_keys(retriever, tokens)
    assert actual.dtype == np.float32
    for row, key in zip(tokens, actual, strict=True):
        alone = np.asarray(retriever.encode(row[row != 0][None]))[0].astype(np.float64)
        np.testing.assert_allclose(key, alone.mean(axis=0), atol=2e-6)


def test_keys_do_not_depend_on_padding_or_batch(retriever: ip.Backbone) -> None:
    tokens = tiny.tokens(np.random.default_rng(1), 7, length=9)
    expected = keys.encode_keys(retriever, tokens)
    padded = np.pad(tokens, ((0, 0), (0, 5)))
    for batch_size in (1, 3, 8):
        np.testing.assert_allclose(keys.encode_keys(retriever, padded, batch_size), expected, atol=2e-6)
    np.testing.assert_allclose(keys.encode_keys(retriever, tokens[[5, 2]]), expected[[5, 2]], atol=2e-6)


def test_a_row_without_tokens_has_no_key(retriever: ip.Backbone) -> None:
    with pytest.raises(UserError, match="Row 1 of the instances"):
        keys.encode_keys(retriever, np.array([[5, 1], [0, 0]]))


def test_an_instance_finds_its_own_prompt(retriever: ip.Backbone, tmp_path: pathlib.Path) -> None:
    tokens = tiny.tokens(np.random.default_rng(2), 12, length=9)
    tokens[:, 0] = np.arange(3, 15)  # no two alike
    sources = [source(n, 4, keys_NR=keys.encode_keys(retriever, tokens[4 * n : 4 * n + 4])) for n in range(3)]
    model = keys.model(retriever)
    assert model == Model("any name", retriever.fingerprint, 64) and model.name == "random"
    actual = PromptLibrary.create(tmp_path / "library", model, BACKBONE, sources, "cosine", retriever.mesh)
    queries = ip.encode_keys(retriever, np.pad(tokens, ((0, 0), (0, 3))), batch_size=5)
    hits = actual.search(queries, top=1)
    np.testing.assert_allclose(hits.scores_QN, 1, atol=1e-5)
    assert hits.keys_QN[:, 0].tolist() == list(range(12))
    assert retrieval.per_query(hits).tolist() == [0] * 4 + [1] * 4 + [2] * 4


# Search


@pytest.mark.parametrize("shape", [(1, 1), (8, 1), (2, 4)])
@pytest.mark.parametrize("count", [3, 64, 331])
def test_search_equals_float64_with_many_equal_scores(
    shape: tuple[int, int], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the number of keys is to the blocks and devices; there are ten scores for hundreds of keys."""
    monkeypatch.setattr(search, "KEY_BLOCK", 16)
    monkeypatch.setattr(search, "QUERY_BLOCK", 4)
    mesh = partition.make_mesh(*shape, devices=jax.devices()[: shape[0] * shape[1]])
    random = np.random.default_rng(count)
    keys_KR, queries_QR = (random.integers(-1, 2, (n, 5)).astype(np.float32) for n in (count, 6))
    index = search.Index(lambda rows: keys_KR[rows], count, 5, mesh)
    for top in {1, 3, min(count, 40)}:
        scores, numbers = index.search(queries_QR, top)
        expected_scores, expected_numbers = stable(queries_QR, keys_KR, top)
        np.testing.assert_array_equal(scores, expected_scores)
        np.testing.assert_array_equal(numbers, expected_numbers)


def test_approximate_search_finds_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "KEY_BLOCK", 128)
    keys_KR, queries_QR = (np.random.default_rng(n).standard_normal((n, 16), np.float32) for n in (1000, 8))
    index = search.Index(lambda rows: keys_KR[rows], 1000, 16, tiny.one_device())
    scores, numbers = index.search(queries_QR, 10, approximate=True)
    expected = stable(queries_QR, keys_KR, 10)[1]
    assert np.mean([len({*a} & {*b}) / 10 for a, b in zip(numbers, expected, strict=True)]) > 0.9
    np.testing.assert_allclose(scores, np.einsum("QNR,QR->QN", keys_KR[numbers], queries_QR), rtol=1e-5)


@pytest.mark.parametrize("similarity", ["inner_product", "cosine"])
def test_search_equals_faiss_flat(similarity: str, tmp_path: pathlib.Path) -> None:
    """The same keys where no two scores are within rounding of each other, and the same scores everywhere."""
    faiss = pytest.importorskip("faiss")
    faiss.omp_set_num_threads(1)
    random = np.random.default_rng(0)
    lengths = random.uniform(0.5, 2, (2000, 1)).astype(np.float32)
    sources = [
        source(number, keys_NR=random.standard_normal((200, 64), np.float32) * lengths[:200], texts=())
        for number in range(10)
    ]
    wide = dataclasses.replace(RETRIEVER, width=64)
    library = PromptLibrary.create(tmp_path / "library", wide, BACKBONE, sources, similarity)
    queries, keys_KR = random.standard_normal((32, 64), np.float32), np.array(library.keys_KR)
    hits = library.search(queries, top=10)
    index = faiss.IndexFlatIP(64)
    if similarity == "cosine":
        faiss.normalize_L2(queries)
        faiss.normalize_L2(keys_KR)
    index.add(keys_KR)
    scores, numbers = index.search(queries, 10)
    np.testing.assert_allclose(hits.scores_QN, scores, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(hits.keys_QN, numbers)
    np.testing.assert_array_equal(hits.owners_QN, numbers // 200)


def test_nothing_is_similar_to_a_zero_vector(tmp_path: pathlib.Path) -> None:
    """By the cosine, of which it has none."""
    actual = make(tmp_path / "library", [source(0, 3, keys_NR=np.eye(3, R, k=1))], similarity="cosine")
    zeros = actual.append(RETRIEVER, [source(1, 2, keys_NR=np.zeros((2, R)), texts=())])
    hits = zeros.search(np.stack([np.zeros(R), 2 * np.eye(R)[2]]), top=5)
    assert hits.scores_QN.tolist() == [[0, 0, 0, 0, 0], [1, 0, 0, 0, 0]]
    assert hits.keys_QN.tolist() == [[0, 1, 2, 3, 4], [1, 0, 2, 3, 4]]


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
    "all excluded": (lambda library: library.retrieve(np.zeros((1, R)), exclude=range(5)), "leave a source prompt"),
}


@pytest.mark.parametrize("use,message", UNFIT_SEARCH.values(), ids=UNFIT_SEARCH)
def test_unfit_queries_are_refused(use: Callable, message: str, library: PromptLibrary) -> None:
    with pytest.raises(UserError, match=message):
        use(library)


# Files


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
import test_library as here
from infoprompt_jax.rospr import library_files
library_files.write_manifest = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
here.PromptLibrary.load(sys.argv[1], here.tiny.one_device()).append(here.RETRIEVER, [here.source(9)])
"""


def test_an_append_killed_before_the_manifest_leaves_the_old_library(
    path: pathlib.Path, library: PromptLibrary
) -> None:
    room = pathlib.Path(__file__).parent
    folders = [str(room), str(room.parent), str(room.parents[1])]
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
    "value": (altered("prompt", value_PD=np.full((P, D), np.inf)), "NaN or infinity"),
    "key width": (altered("", keys_NR=np.zeros((5, 7))), r"shape \[5, 7\], but \[n, 6\] was expected"),
    "no keys": (altered("", keys_NR=np.zeros((0, R)), texts=()), r"shape \[0, 6\]"),
    "keys": (altered("", keys_NR=np.full((5, R), np.nan)), "NaN or infinity"),
    "metrics": (altered("", entry=Entry("a", metrics={"accuracy": float("nan")})), "NaN or infinity"),
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
    assert str(caught.value).startswith("rospr.library: ") and "\n" not in str(caught.value)


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
