"""Exact search against float64 and FAISS; the approximate mode."""

from __future__ import annotations

import dataclasses
import math
import pathlib

import jax
import numpy as np
import pytest
import tiny
from made_library import BACKBONE, RETRIEVER, R, make, source, stable

from infoprompt_jax.rospr import search
from infoprompt_jax.rospr.library import PromptLibrary
from infoprompt_jax.t5 import partition


@pytest.mark.parametrize("shape", [(1, 1, 1), (8, 1, 1), (1, 8, 1), (2, 2, 2)])
@pytest.mark.parametrize("count", [3, 64, 331])
def test_search_equals_float64_with_many_equal_scores(
    shape: tuple[int, int], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the number of keys is to the blocks and devices; there are ten scores for hundreds of keys."""
    monkeypatch.setattr(search, "KEY_BLOCK", 16)
    monkeypatch.setattr(search, "QUERY_BLOCK", 4)
    mesh = partition.make_mesh(*shape, devices=jax.devices()[: math.prod(shape)])
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


def test_nothing_is_similar_to_a_zero_query(tmp_path: pathlib.Path) -> None:
    """By the cosine, of which it has none; a library takes no such key."""
    library = make(tmp_path / "library", [source(0, 3, keys_NR=np.eye(3, R, k=1))], similarity="cosine")
    hits = library.search(np.stack([np.zeros(R), 2 * np.eye(R)[2]]), top=3)
    assert hits.scores_QN.tolist() == [[0, 0, 0], [1, 0, 0]] and hits.keys_QN.tolist() == [[0, 1, 2], [1, 0, 2]]
