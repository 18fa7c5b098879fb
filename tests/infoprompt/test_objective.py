"""The loss of one member, part by part, against NumPy and against the backbone's own verbs."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx

from infoprompt_jax.infoprompt import bottleneck, streams
from infoprompt_jax.infoprompt.objective import Objective
from infoprompt_jax.t5 import scoring

ALONE: dict[str, Any] = {"head_term": False, "representation_term": False}  # a program of the task loss alone


@pytest.fixture(scope="module")
def model() -> tiny.Backbone:
    return tiny.backbone()


@pytest.fixture(scope="module")
def rows() -> dict[str, np.ndarray]:
    return {name: value[0] for name, value in tiny.batch(seed=11).items()}


def trainable_of(objective: Objective, model: tiny.Backbone) -> Any:
    """A trainable tree away from identities and zeros."""
    value = np.asarray(model.embed(np.arange(5, 5 + tiny.P)[None])[0])
    verbalizer = np.asarray(model.head_rows(np.arange(tiny.C) + 5))
    rng = np.random.default_rng(9)
    tree = objective.init(value, jax.random.key(0), verbalizer)
    return jax.tree.map(lambda x: jnp.asarray(x + 0.1 * rng.standard_normal(x.shape), jnp.float32), tree)


@functools.cache
def compiled_loss(objective: Objective) -> Any:
    return jax.jit(objective.loss)


def loss(model: tiny.Backbone, rows: dict, trainable: Any, progress: float = 0.0, **fields: Any) -> dict[str, float]:
    run, hyper = compiled_loss(Objective(graph=model.graph, **fields)), tiny.hyper_of_one(decay=0.5)
    total, parts = run(trainable, model.frozen, rows, hyper, jax.random.key(4), progress)
    return {"total": float(total), **{name: float(value) for name, value in parts.items()}}


@functools.partial(jax.jit, static_argnums=0)
def states(graph: nnx.GraphDef, frozen: nnx.State, inputs: jax.Array, prompt: jax.Array | None) -> jax.Array:
    t5 = nnx.merge(graph, frozen)
    y, mask = t5.encode(inputs, prompt)
    return t5.decode(jnp.zeros((len(inputs), 1), jnp.int32), y, mask)[:, 0]


def unprompted(model: tiny.Backbone, rows: dict, prompt: Any = None) -> np.ndarray:
    """The decoder's state at position 0, [B, D], by way of the model's parts."""
    return np.asarray(states(model.graph, model.frozen, rows["inputs"], prompt), np.float64)


def infonce(positive: np.ndarray, negative: np.ndarray, mask: np.ndarray) -> float:
    scores = np.concatenate([positive[:, None], np.where(mask, negative, -np.inf)], axis=1)
    return float(np.mean(np.log(1 + mask.sum(1)) + positive - np.log(np.exp(scores).sum(axis=1))))


def test_lm_loss_is_the_mean_over_target_tokens(model: tiny.Backbone, rows: dict) -> None:
    trainable = trainable_of(Objective(graph=model.graph), model)
    logits = np.asarray(model.logits(rows["inputs"], rows["targets"], trainable["prompt"]["value"]), np.float64)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    picked = np.take_along_axis(log_p, rows["targets"][..., None], 2)[..., 0]
    mask = rows["targets"] != 0
    expected = -(picked * mask).sum() / mask.sum()
    assert loss(model, rows, trainable)["task_loss"] == pytest.approx(expected, rel=1e-5)


def test_choices_loss_is_the_cross_entropy_of_rank_classification(model: tiny.Backbone, rows: dict) -> None:
    trainable = trainable_of(Objective(graph=model.graph, **ALONE), model)
    scores = np.asarray(model.score(rows["inputs"], rows["choices"], trainable["prompt"]["value"]), np.float64)
    expected = np.mean(np.log(np.exp(scores).sum(1)) - np.take_along_axis(scores, rows["label"][:, None], 1)[:, 0])
    assert loss(model, rows, trainable, task_loss="choices", **ALONE)["task_loss"] == pytest.approx(expected, rel=1e-4)


def test_verbalizer_loss_reads_z_and_theta(model: tiny.Backbone, rows: dict) -> None:
    objective = Objective(graph=model.graph, task_loss="verbalizer", **ALONE)
    trainable = trainable_of(objective, model)
    z = unprompted(model, rows, trainable["prompt"]["value"])
    logits = z @ np.asarray(trainable["verbalizer"]["value"], np.float64).T
    expected = np.mean(np.log(np.exp(logits).sum(1)) - np.take_along_axis(logits, rows["label"][:, None], 1)[:, 0])
    found = loss(model, rows, trainable, task_loss="verbalizer", **ALONE)["task_loss"]
    assert found == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(jax.jit(objective.scores)(trainable, model.frozen, rows), logits, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("critic", ["dot", "bilinear"])
def test_head_information(model: tiny.Backbone, rows: dict, critic: str) -> None:
    trainable = trainable_of(Objective(graph=model.graph, critic=critic, representation_term=False), model)
    rows = {**rows, "choices": rows["choices"].copy()}
    rows["choices"][1, 2], rows["choices"][2] = 0, 0  # two choices; none: the target's first token stands for them
    first = [
        ids[ids > 0] if ids.any() else targets[:1]
        for ids, targets in zip(rows["choices"][..., 0], rows["targets"], strict=True)
    ]
    label = np.stack([np.asarray(model.head_rows(ids), np.float64).mean(axis=0) for ids in first])
    kernel = np.asarray(trainable["head_critic"]["kernel"], np.float64) if critic == "bilinear" else np.eye(64)
    against = label @ kernel.T / 8.0  # sqrt(D)
    positive = against @ np.asarray(trainable["prompt"]["value"], np.float64).mean(axis=0)
    negative = np.einsum("BLD,BD->BL", np.asarray(model.embed(rows["inputs"]), np.float64), against)
    expected = infonce(positive, negative, rows["inputs"] != 0)
    found = loss(model, rows, trainable, critic=critic, representation_term=False)["head_mi"]
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)


def context(trainable: Any) -> np.ndarray:
    critic = {name: np.asarray(value, np.float64) for name, value in trainable["representation_critic"].items()}
    return np.asarray(trainable["prompt"]["value"], np.float64).mean(axis=0) @ critic["kernel"] + critic["bias"]


def test_representation_information_without_noise(model: tiny.Backbone, rows: dict) -> None:
    trainable = trainable_of(Objective(graph=model.graph), model)
    c = context(trainable) / 8.0
    positive = unprompted(model, rows, trainable["prompt"]["value"]) @ c
    negative = np.repeat((unprompted(model, rows) @ c)[:, None], 6, axis=1)
    expected = infonce(positive, negative, np.ones_like(negative, bool))
    fields = {"noise_scale": 0.0, "negatives_per_example": 6, "head_term": False}
    found = loss(model, rows, trainable, **fields)["representation_mi"]
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_representation_information_in_batch(model: tiny.Backbone, rows: dict) -> None:
    trainable = trainable_of(Objective(graph=model.graph), model)
    scores = unprompted(model, rows, trainable["prompt"]["value"]) @ (context(trainable) / 8.0)
    expected = infonce(scores, np.repeat(scores[None], len(scores), axis=0), ~np.eye(len(scores), dtype=bool))
    found = loss(model, rows, trainable, negatives="in_batch", head_term=False)["representation_mi"]
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_mean_encoder_reads_input_positions_alone(model: tiny.Backbone, rows: dict) -> None:
    objective = Objective(graph=model.graph, representation="mean_encoder")

    @jax.jit
    def features(frozen: nnx.State, inputs: jax.Array) -> jax.Array:
        return objective.unprompted(nnx.merge(model.graph, frozen), inputs)

    found = features(model.frozen, rows["inputs"])
    encoded, mask = np.asarray(model.encode(rows["inputs"])), rows["inputs"] != 0
    expected = [y[m].mean(axis=0) for y, m in zip(encoded, mask, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    wider = np.pad(rows["inputs"], ((0, 0), (0, 9)))
    np.testing.assert_allclose(features(model.frozen, wider), found, rtol=1e-4, atol=1e-5)
    predicting = Objective(graph=model.graph, representation="mean_encoder", task_loss="verbalizer")
    trainable = trainable_of(predicting, model)
    encoded = np.asarray(model.encode(rows["inputs"], trainable["prompt"]["value"]))[:, tiny.P :]
    z = np.stack([y[m].mean(axis=0) for y, m in zip(encoded, mask, strict=True)])
    scores = jax.jit(predicting.scores)(trainable, model.frozen, rows)
    np.testing.assert_allclose(scores, z @ np.asarray(trainable["verbalizer"]["value"]).T, rtol=1e-3, atol=1e-4)


def test_the_total_weighs_and_decays_the_terms(model: tiny.Backbone, rows: dict) -> None:
    fields = {"variational": True, "task_loss": "verbalizer"}
    trainable = trainable_of(Objective(graph=model.graph, **fields), model)
    parts = loss(model, rows, trainable, progress=0.4, **fields)
    terms = 0.1 * parts["kl"] - 0.1 * parts["head_mi"] - 0.2 * parts["representation_mi"]
    assert parts["total"] == pytest.approx(parts["task_loss"] + (1 - 0.5 * 0.4) * terms, rel=1e-5)


def test_the_kl_is_summed_over_both_passes(model: tiny.Backbone, rows: dict) -> None:
    fields = {"variational": True, "task_loss": "verbalizer", "latent": 6}
    trainable = trainable_of(Objective(graph=model.graph, **fields), model)
    total = 0.0
    for h in (unprompted(model, rows), unprompted(model, rows, trainable["prompt"]["value"])):
        mean, log_std = (
            np.asarray(x, np.float64) for x in bottleneck.encode(trainable["posterior"], jnp.asarray(h, "f"))
        )
        total += np.mean(0.5 * (mean**2 + np.exp(2 * log_std) - 1) - log_std)
    assert loss(model, rows, trainable, **fields)["kl"] == pytest.approx(total, rel=1e-3)


def test_an_instance_prompt_is_one_per_example(model: tiny.Backbone, rows: dict) -> None:
    objective = Objective(graph=model.graph, kind="instance", task_loss="choices")
    trainable = trainable_of(objective, model)
    scores = np.asarray(jax.jit(objective.scores)(trainable, model.frozen, rows))
    for b in range(len(scores)):
        alone = {name: value[b : b + 1] for name, value in rows.items()}
        np.testing.assert_allclose(
            jax.jit(objective.scores)(trainable, model.frozen, alone)[0], scores[b], rtol=1e-3, atol=1e-3
        )
    h = jnp.asarray(unprompted(model, rows), jnp.float32)
    hidden = jax.nn.gelu(h @ trainable["generator"]["down"])
    prompts = trainable["prompt"]["value"][None] + jnp.einsum("BE,EPD->BPD", hidden, trainable["generator"]["up"])
    np.testing.assert_allclose(model.score(rows["inputs"], rows["choices"], prompts), scores, rtol=1e-3, atol=1e-3)


def test_rows_of_weight_zero_change_nothing(model: tiny.Backbone, rows: dict) -> None:
    """A row that only fills up a batch, with no choice at all, is as if it were not there."""
    filled = {name: np.concatenate([value, np.zeros_like(value[:1])]) for name, value in rows.items()}
    filled["inputs"][-1, 0] = 1
    for task_loss in ("lm", "choices"):
        trainable = trainable_of(Objective(graph=model.graph, task_loss=task_loss), model)
        fields = {"task_loss": task_loss, "noise_scale": 0.0, "negatives_per_example": 3}
        found, expected = (loss(model, some, trainable, **fields) for some in (filled, rows))
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name


@pytest.mark.parametrize(
    "fields",
    [{"negatives": "in_batch"}, {"task_loss": "choices"}, {"task_loss": "verbalizer", "variational": True}],
)
def test_what_a_row_of_weight_zero_holds_changes_nothing(
    model: tiny.Backbone, rows: dict, fields: dict[str, Any]
) -> None:
    """Two batches that differ in their last row, which does not count."""
    rows = {**rows, "weight": np.float32([1, 1, 1, 0])}
    other = {name: np.concatenate([value[:3], value[:1]]) for name, value in rows.items()}
    other["weight"][3] = 0
    objective = Objective(graph=model.graph, **fields)
    trainable = trainable_of(objective, model)
    hyper = tiny.hyper_of_one()
    run = jax.jit(lambda batch: objective.loss(trainable, model.frozen, batch, hyper, jax.random.key(0), 0.0)[1])
    found, expected = run(other), run(rows)
    assert found.keys() >= {"task_loss", "head_mi", "representation_mi"}
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(float(value), rel=1e-5), name


@pytest.mark.parametrize(
    ("fields", "needed"),
    [
        ({}, True),
        ({"representation_term": False}, False),
        ({"negatives": "in_batch"}, False),
        ({"kind": "instance", "representation_term": False}, True),
        ({"variational": True, "representation_term": False}, True),
    ],
)
def test_what_needs_features(fields: dict[str, Any], needed: bool) -> None:
    assert Objective(graph=None, **fields).needs_features is needed


def test_variational_scores_read_the_posteriors_mean(model: tiny.Backbone, rows: dict) -> None:
    fields = {"variational": True, "latent": 6}
    verbalizer = Objective(graph=model.graph, task_loss="verbalizer", **fields)
    trainable = trainable_of(verbalizer, model)
    posterior = {name: np.asarray(value, np.float64) for name, value in trainable["posterior"].items()}
    z = unprompted(model, rows, trainable["prompt"]["value"]) @ posterior["mean"] @ posterior["out"]
    expected = z @ np.asarray(trainable["verbalizer"]["value"]).T
    found = jax.jit(verbalizer.scores)(trainable, model.frozen, rows)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    # With a bottleneck that passes nothing, a choice's first token is a draw from the whole vocabulary.
    del trainable["verbalizer"]
    trainable["posterior"]["out"] = jnp.zeros_like(trainable["posterior"]["out"])
    choice, prompt = rows["choices"][:, 0], trainable["prompt"]["value"]
    log_p = jax.nn.log_softmax(model.logits(rows["inputs"], choice, prompt))
    picked = np.take_along_axis(np.asarray(log_p), choice[..., None], axis=2)[..., 0]
    expected = (picked * (choice != 0))[:, 1:].sum(axis=1) - np.log(model.config.vocab_size)
    found = jax.jit(Objective(graph=model.graph, **fields).scores)(trainable, model.frozen, rows)[:, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_dropout_is_drawn_in_both_stacks_and_never_at_evaluation(model: tiny.Backbone, rows: dict) -> None:
    dropping = tiny.backbone(dropout=0.5)
    objective = Objective(graph=dropping.graph, task_loss="verbalizer", representation="mean_encoder", **ALONE)
    trainable = trainable_of(objective, model)
    hyper = tiny.hyper_of_one()
    run = jax.jit(lambda key: objective.loss(trainable, dropping.frozen, rows, hyper, key, 0.0)[1]["task_loss"])
    assert run(jax.random.key(0)) == run(jax.random.key(0)) != run(jax.random.key(1))
    decoded = Objective(graph=dropping.graph, **ALONE)
    del trainable["verbalizer"]
    loss = float(jax.jit(decoded.loss)(trainable, dropping.frozen, rows, hyper, jax.random.key(4), 0.0)[1]["task_loss"])
    assert loss == pytest.approx(
        float(loss_with_dropout(dropping.graph, True, dropping.frozen, rows, trainable)), rel=1e-5
    )
    assert loss != pytest.approx(
        float(loss_with_dropout(dropping.graph, False, dropping.frozen, rows, trainable)), rel=1e-3
    )
    without = jax.jit(Objective(graph=model.graph, **ALONE).scores)(trainable, model.frozen, rows)
    np.testing.assert_allclose(jax.jit(decoded.scores)(trainable, dropping.frozen, rows), without, rtol=1e-5)


@functools.partial(jax.jit, static_argnums=(0, 1))
def loss_with_dropout(graph: nnx.GraphDef, decoder: bool, frozen: nnx.State, rows: dict, trainable: Any) -> jax.Array:
    """The language-model loss, with dropout in the encoder and, if `decoder`, in the decoder too."""
    t5 = nnx.merge(graph, frozen)
    key, prompt = jax.random.key(4), trainable["prompt"]["value"]
    y, mask = t5.encode(rows["inputs"], prompt, jax.random.fold_in(key, streams.ENCODER_DROPOUT))
    dropped = jax.random.fold_in(key, streams.DECODER_DROPOUT) if decoder else None
    logits = t5.logits(t5.decode(rows["targets"], y, mask, dropped))
    counts = rows["targets"] != 0
    return -(scoring.token_log_probabilities(logits, rows["targets"]) * counts).sum() / counts.sum()
