"""Rank classification by hand."""

from __future__ import annotations

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from infoprompt_jax.t5 import scoring

CHOICES = np.array([[[5, 1, 0], [6, 7, 1], [0, 0, 0]]], np.int32)


def test_scores_are_sums_over_tokens_and_absent_choices_lose() -> None:
    logits = np.zeros((1, 3, 3, 8), np.float32)
    logits[0, 0, 0, 5] = logits[0, 1, 1, 7] = 2.0
    sharp = 2.0 - np.log(7 + np.exp(2.0))
    flat = -np.log(8.0)
    head = SimpleNamespace(logits=lambda hidden: hidden)  # the hidden states are the logits
    found = np.asarray(scoring.choice_scores(head, jnp.asarray(logits), jnp.asarray(CHOICES)))[0]
    np.testing.assert_allclose(found, [sharp + flat, flat + sharp + flat, -np.inf], rtol=1e-6)


def test_divisors() -> None:
    def decode(ids: np.ndarray) -> str:
        return "x" * int((ids > 1).sum()) * 3

    assert scoring.lengths(CHOICES, "none", decode).tolist() == [[1, 1, 1]]
    assert scoring.lengths(CHOICES, "tokens", decode).tolist() == [[2, 3, 1]]
    assert scoring.lengths(CHOICES, "characters", decode).tolist() == [[3, 6, 1]]


def test_one_encoder_pass_equals_a_full_pass_per_choice_and_rows_may_mix_prompts() -> None:
    model, rng = tiny.backbone(), np.random.default_rng(0)
    rows = {name: value[0] for name, value in tiny.batch().items()}
    prompts = rng.standard_normal((tiny.B, tiny.P, 64)).astype(np.float32)
    found = np.asarray(model.score(rows["inputs"], rows["choices"], prompts))
    for b in range(tiny.B):
        for c in range(tiny.C):
            target = rows["choices"][b : b + 1, c]
            logits = np.asarray(model.logits(rows["inputs"][b : b + 1], target, prompts[b]), np.float64)[0]
            log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
            expected = sum(log_p[t, token] for t, token in enumerate(target[0]) if token)
            assert found[b, c] == pytest.approx(expected, rel=1e-4)


def test_padding_of_inputs_choices_and_batch_changes_no_score() -> None:
    model = tiny.backbone()
    rows = {name: value[0] for name, value in tiny.batch().items()}
    expected = np.asarray(model.score(rows["inputs"], rows["choices"]))
    inputs = np.pad(rows["inputs"], ((0, 2), (0, 20)))
    choices = np.pad(rows["choices"], ((0, 2), (0, 1), (0, 3)))
    found = np.asarray(model.score(inputs, choices))
    np.testing.assert_allclose(found[: tiny.B, : tiny.C], expected, rtol=1e-4, atol=1e-4)
    assert np.isneginf(found[: tiny.B, tiny.C :]).all()


def test_normalised_scores_are_means() -> None:
    model = tiny.backbone()
    rows = {name: value[0] for name, value in tiny.batch().items()}
    total = np.asarray(model.score(rows["inputs"], rows["choices"]))
    mean = np.asarray(model.score(rows["inputs"], rows["choices"], normalize="tokens"))
    np.testing.assert_allclose(mean, total / (rows["choices"] != 0).sum(-1), rtol=1e-6)
