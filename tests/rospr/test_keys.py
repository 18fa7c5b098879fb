"""Keys and queries: means over tokens, the same in every batch, and near the prompt of their own task."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
import tiny
from made_library import BACKBONE, source

import infoprompt_jax as ip
from infoprompt_jax.errors import UserError
from infoprompt_jax.rospr import keys, retrieval
from infoprompt_jax.rospr.library import PromptLibrary
from infoprompt_jax.rospr.library_files import Model


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
    with pytest.raises(UserError, match=r"tokens_BL is int64 of shape \[2\], but whole numbers \[B, L\]"):
        keys.encode_keys(retriever, np.array([5, 1]))
    for wrong in (np.array([["ant"]]), np.array([[5.5, 1.0]]), np.zeros((2, 3), bool)):
        with pytest.raises(UserError, match=r"but whole numbers \[B, L\] were expected: encode texts with the"):
            keys.encode_keys(retriever, wrong)
    with pytest.raises(UserError, match="tokens_BL holds rows of different lengths: pad them with 0"):
        keys.encode_keys(retriever, [[5, 1], [1]])  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="holds the token id 1099511627781"):  # 5 in int32
        keys.encode_keys(retriever, np.array([[5 + 2**40, 1]]))
    with pytest.raises(UserError, match="batch_size=-1 is out of range"):
        keys.encode_keys(retriever, np.array([[5, 1]]), batch_size=-1)
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
