"""The training step: what it changes, what it must not, and that members do not touch each other."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
import tiny
from flax import nnx

from infoprompt_jax.fleet import fleet as fleets
from infoprompt_jax.t5 import blocks

ESTIMATORS = ("infonce", "nwj", "dv", "smile", "js")
PLAIN = {"head_term": False, "representation_term": False}
pytestmark = pytest.mark.usefixtures("programs")


@pytest.fixture(scope="module")
def model() -> tiny.Backbone:
    return tiny.backbone()


def with_terms(model: tiny.Backbone) -> fleets.Fleet:
    """Both terms with a critic that is trained: the program of most tests, compiled once for a number of members."""
    return tiny.fleet(model, critic="bilinear")


def assert_close(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], rtol: float = 2e-4) -> None:
    assert expected.keys() <= found.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=rtol, atol=1e-5, err_msg=name)


def test_only_the_trainable_tree_changes(model: tiny.Backbone) -> None:
    before = jax.tree.map(np.array, model.frozen)
    program = tiny.fleet(model, kind="instance", critic="bilinear", variational=True, task_loss="verbalizer")
    first = jax.device_get(tiny.start(program, model, [0]).trainable)
    state, _ = tiny.run(program, model, [0], tiny.hyper(), [tiny.batch(seed=k) for k in range(3)])
    for entry, leaves in jax.device_get(state.trainable).items():
        for name, value in leaves.items():
            assert not np.array_equal(value, first[entry][name]), f"{entry}/{name} did not move"
    jax.tree.map(np.testing.assert_array_equal, jax.tree.map(np.array, model.frozen), before)


def test_a_member_trains_as_it_would_alone(model: tiny.Backbone) -> None:
    seeds = [0, 0, 1, 2]
    own = [
        {"estimator": 1},
        {"beta": 0.0, "gamma": 0.0, "learning_rate": 0.1},
        {"estimator": 3, "schedule": 1, "warmup": 0.3, "decay": 0.5},
        {"estimator": 4, "schedule": 2, "beta": 0.7},
    ]
    program = tiny.fleet(model, estimators=ESTIMATORS, critic="bilinear", steps=6)
    batches = [tiny.batch(4, seed=k) for k in range(6)]
    state, together = tiny.run(program, model, seeds, tiny.hyper(*own), batches)
    for m, seed in enumerate(seeds):
        alone_state, alone = tiny.run(
            program, model, [seed], tiny.hyper(own[m]), [tiny.member(rows, m) for rows in batches]
        )
        assert_close(tiny.member({k: v.T for k, v in together.items()}, m), {k: v.T for k, v in alone.items()})
        value = np.asarray(state.trainable["prompt"]["value"])[m]
        np.testing.assert_allclose(value, np.asarray(alone_state.trainable["prompt"]["value"])[0], rtol=1e-3, atol=1e-4)


def test_members_in_turns_train_and_score_like_all_at_once(model: tiny.Backbone) -> None:
    """Three members by two at once: one turn is not full."""
    seeds, own = [0, 1, 2], ({"beta": 0.7}, {"learning_rate": 0.1}, {"beta": 0.0, "gamma": 0.0})
    batches = [tiny.batch(3, seed=k) for k in range(4)]
    every = with_terms(model)
    turns = dataclasses.replace(every, at_once=2)
    expected_state, expected = tiny.run(every, model, seeds, tiny.hyper(*own), batches)
    state, found = tiny.run(turns, model, seeds, tiny.hyper(*own), batches)
    assert_close(found, expected)
    scores = [np.asarray(p.scores(expected_state.trainable, model.frozen, batches[0])) for p in (turns, every)]
    np.testing.assert_allclose(*scores, rtol=1e-5, atol=1e-5)
    value, expected_value = (np.asarray(s.trainable["prompt"]["value"]) for s in (state, expected_state))
    np.testing.assert_allclose(value, expected_value, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_members_of_a_fleet_of_64_train_as_if_alone(model: tiny.Backbone) -> None:
    """The first, the last and one between, plain, with its own rows, seed and learning rate."""
    plain = tiny.fleet(model, steps=20, **PLAIN)
    own = [{"learning_rate": np.float32(0.1 + 0.01 * m)} for m in range(64)]
    batches = [tiny.batch(64, seed=k) for k in range(20)]
    state, every = tiny.run(plain, model, list(range(64)), tiny.hyper(*own), batches)
    for m in (0, 37, 63):
        rows = [tiny.member(values, m) for values in batches]
        alone_state, alone = tiny.run(plain, model, [m], tiny.hyper(own[m]), rows)
        np.testing.assert_allclose(every["loss"][:, m], alone["loss"][:, 0], rtol=2e-4)
        values = [np.asarray(found.trainable["prompt"]["value"]) for found in (state, alone_state)]
        np.testing.assert_allclose(values[0][m], values[1][0], rtol=1e-3, atol=1e-4)


def test_members_of_a_pair_differ_in_their_terms_alone(model: tiny.Backbone) -> None:
    program = with_terms(model)
    own = {}, {"beta": 0.0, "gamma": 0.0}, {}
    _, metrics = tiny.run(program, model, [7, 7, 7], tiny.hyper(*own), [tiny.batch(3, same=True)])
    assert metrics["task_loss"][0, 0] == metrics["task_loss"][0, 1]
    assert metrics["loss"][0, 0] == metrics["loss"][0, 2] != metrics["loss"][0, 1]


def test_zero_weights_train_like_a_program_without_the_terms(model: tiny.Backbone) -> None:
    batches = [tiny.batch(seed=k % 7) for k in range(15)]
    off = tiny.hyper({"beta": 0.0, "gamma": 0.0})
    without = tiny.fleet(model, **PLAIN)
    _, found = tiny.run(with_terms(model), model, [3], off, batches)
    _, expected = tiny.run(without, model, [3], off, batches)
    assert "head_mi" not in expected
    assert_close(found, expected, rtol=1e-3)


@pytest.mark.parametrize("representation", ["decoder", pytest.param("mean_encoder", marks=pytest.mark.slow)])
def test_cached_features_train_like_recomputed_ones(model: tiny.Backbone, representation: str) -> None:
    program = tiny.fleet(model, critic="bilinear", representation=representation)
    batches = [tiny.batch(seed=k % 7) for k in range(15)]

    def cached(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {**rows, "features": np.asarray(program.features(model.frozen, rows["inputs"][0]))[None]}

    _, found = tiny.run(program, model, [3], tiny.hyper(), [cached(rows) for rows in batches])
    _, expected = tiny.run(program, model, [3], tiny.hyper(), batches)
    assert_close(found, expected, rtol=1e-3)
    _, wrong = tiny.run(
        program, model, [3], tiny.hyper(), [{**cached(batches[0]), "features": np.zeros((1, 4, 64), "f")}]
    )
    assert abs(wrong["representation_mi"] - expected["representation_mi"][:1]).max() > 1e-4, "features are not read"


@pytest.mark.parametrize("task_loss", ["lm", "choices"])
def test_micro_batches_add_up_to_the_batch(model: tiny.Backbone, task_loss: str) -> None:
    """Also where their targets have different numbers of tokens."""
    batches = [tiny.batch(seed=k) for k in range(3)]
    plain = {**PLAIN, "task_loss": task_loss}
    _, whole = tiny.run(tiny.fleet(model, **plain), model, [0], tiny.hyper(), batches)
    _, parts = tiny.run(tiny.fleet(model, accumulate=2, **plain), model, [0], tiny.hyper(), batches)
    assert_close(parts, whole)


def test_a_member_whose_loss_is_not_finite_stops_alone(model: tiny.Backbone) -> None:
    program = with_terms(model)
    batches = [tiny.batch(3, seed=k) for k in range(6)]
    own = [{}, {"learning_rate": np.float32(3e38)}, {"learning_rate": 0.1}]
    state, metrics = tiny.run(program, model, [0, 1, 2], tiny.hyper(*own), batches)
    assert np.asarray(state.active).tolist() == [True, False, True]
    assert int(state.failed[1]) > 0 and np.asarray(state.failed).tolist()[::2] == [-1, -1]
    assert np.isfinite(np.asarray(state.trainable["prompt"]["value"])).all(), "the last finite prompt is kept"
    _, alone = tiny.run(program, model, [2], tiny.hyper(own[2]), [tiny.member(rows, 2) for rows in batches])
    np.testing.assert_allclose(metrics["loss"][:, 2], alone["loss"][:, 0], rtol=2e-4)


def test_a_member_whose_gradient_alone_is_not_finite_stops_alone(model: tiny.Backbone) -> None:
    """A term of a huge weight: the loss still is a float32, the square of its gradient is not."""
    program = with_terms(model)
    first = jax.device_get(tiny.start(program, model, [0, 1, 2]).trainable)
    own = {}, {"gamma": 1e30}, {}
    state, metrics = tiny.run(program, model, [0, 1, 2], tiny.hyper(*own), [tiny.batch(3, seed=k) for k in range(2)])
    assert np.isfinite(metrics["loss"]).all() and np.isinf(metrics["gradient_norm"][:, 1]).all()
    assert np.asarray(state.active).tolist() == [True, False, True] and np.asarray(state.failed).tolist() == [-1, 0, -1]
    for part, leaves in tiny.member(jax.device_get(state.trainable), 1).items():
        for name, value in leaves.items():
            np.testing.assert_array_equal(value[0], first[part][name][1], err_msg=f"{part}/{name}")


def test_one_program_per_bucket(model: tiny.Backbone) -> None:
    program = dataclasses.replace(tiny.fleet(model, **PLAIN))  # equal to others, but with nothing compiled yet
    lengths = [8, 12, 8, 12, 12, 8]
    tiny.run(program, model, [0], tiny.hyper(), [tiny.batch(seed=k, length=n) for k, n in enumerate(lengths)])
    assert program.step._cache_size() == 2


def test_the_best_prompt_is_kept_and_patience_ends_a_member(model: tiny.Backbone) -> None:
    program = with_terms(model)
    state = tiny.start(program, model, [0, 1, 2])
    for step, metric in enumerate([[0.5, 0.5, 0.5], [0.6, 0.4, 0.4], [0.6, 0.4, 0.6], [0.4, 0.7, 0.4]]):
        value = jax.numpy.full_like(state.trainable["prompt"]["value"], step)
        state = state._replace(step=jax.numpy.int32(step), trainable={**state.trainable, "prompt": {"value": value}})
        state = program.record_best(state, np.array(metric, np.float32), np.int32(2))
    assert np.asarray(state.best["prompt"]["value"])[:, 0, 0].tolist() == [2.0, 0.0, 2.0], "of equals the later"
    np.testing.assert_allclose(np.asarray(state.best_metric), [0.6, 0.5, 0.6])
    assert np.asarray(state.best_step).tolist() == [2, 0, 2]
    assert np.asarray(state.active).tolist() == [False, False, True]


@pytest.mark.parametrize("terms", [pytest.param(False, marks=pytest.mark.slow), True])
def test_the_gradient_costs_no_weight_gradients(terms: bool) -> None:
    """A step that differentiates only the prompt is two forwards; one that reached the weights would be three."""
    model = tiny.backbone(unroll=2, remat="none")
    program = tiny.fleet(model, head_term=terms, representation_term=terms)
    state, keys = tiny.start(program, model, [0]), fleets.member_keys([0])
    batch = tiny.batch(rows=8, length=64) | {"features": np.zeros((1, 8, 64), np.float32)}
    trainable, rows, hyper = jax.tree.map(lambda x: x[0], (state.trainable, batch, tiny.hyper()))

    def loss(trainable: dict, frozen: nnx.State) -> jax.Array:
        return program.objective.loss(trainable, frozen, rows, hyper, keys[0], 0.0)[0]

    def flops(function: Any, *arguments: Any) -> float:
        return jax.jit(function).lower(*arguments).compile().cost_analysis()["flops"]

    once = flops(loss, trainable, model.frozen)
    assert flops(program.step, state, model.frozen, batch, tiny.hyper(), keys) < 2.3 * once
    everything = jax.grad(loss, argnums=(0, 1), allow_int=True)
    assert flops(everything, trainable, model.frozen) > 2.5 * once, "the measure itself"


def test_the_noise_is_new_in_every_step_and_micro_batch(model: tiny.Backbone) -> None:
    """Nothing is learned, and the micro-batches hold the same rows: only the noise tells estimates apart."""
    still = tiny.hyper({"learning_rate": 0.0, "critic_learning_rate": 0.0})
    half = tiny.batch()
    _, metrics = tiny.run(with_terms(model), model, [0], still, [half] * 3)
    once = metrics["representation_mi"][:, 0]
    assert np.abs(np.diff(once)).min() > 1e-4
    doubled = {name: np.repeat(value, 2, axis=1) for name, value in half.items()}
    parts = tiny.fleet(model, accumulate=2, critic="bilinear")
    _, metrics = tiny.run(parts, model, [0], still, [doubled])
    assert abs(metrics["representation_mi"][0, 0] - once[0]) > 1e-4


def test_a_member_that_has_stopped_does_not_move(model: tiny.Backbone) -> None:
    program = with_terms(model)
    state = tiny.start(program, model, [0, 1, 2])
    state = state._replace(active=jax.device_put(np.array([True, False, True]), state.active.sharding))
    before = jax.device_get(state)
    batch = program.place(tiny.batch(3))
    hyper, keys = jax.device_put((tiny.hyper({}, {}, {}), fleets.member_keys([0, 1, 2])), program.member_sharding)
    after, _ = program.step(state, model.frozen, batch, hyper, keys)
    after = jax.device_get(after)
    assert after.active.tolist() == [True, False, True] and after.failed.tolist() == [-1, -1, -1]
    moved = jax.tree.map(
        lambda a, b: [bool((a[m] != b[m]).any()) for m in range(3)],
        *({"trainable": s.trainable, "optimizer": s.optimizer} for s in (after, before)),
    )
    leaves = jax.tree.leaves(moved, is_leaf=lambda x: isinstance(x, list))
    assert [any(moved) for moved in zip(*leaves, strict=True)] == [True, False, True]


def test_terms_and_learning_rate_decay_with_the_share_of_the_steps_done(model: tiny.Backbone) -> None:
    """After 0, 25, 50 and 75 of 100 steps."""
    program, rows = with_terms(model), tiny.batch()
    state, linear = tiny.start(program, model, [0]), tiny.hyper({"decay": 1.0, "schedule": 1})
    hyper, keys = jax.device_put((linear, fleets.member_keys([0])), program.member_sharding)
    for left in (1.0, 0.75, 0.5, 0.25):
        step = jax.device_put(np.int32(100 - 100 * left), state.step.sharding)
        state, found = program.step(state._replace(step=step), model.frozen, program.place(rows), hyper, keys)
        terms = 0.1 * found["head_mi"] + 0.2 * found["representation_mi"]
        np.testing.assert_allclose((found["task_loss"] - found["loss"]) / terms, left, rtol=1e-3)
        np.testing.assert_allclose(found["learning_rate"], 0.3 * left, rtol=1e-5)


def test_the_members_key_depends_on_its_seed_alone() -> None:
    together, alone = fleets.member_keys([5, 6, 5]), fleets.member_keys([6])
    np.testing.assert_array_equal(jax.random.key_data(together)[1], jax.random.key_data(alone)[0])
    np.testing.assert_array_equal(jax.random.key_data(together)[0], jax.random.key_data(together)[2])


def test_scores_of_a_fleet_equal_the_backbones(model: tiny.Backbone) -> None:
    program = with_terms(model)
    state = tiny.start(program, model, [0, 1, 2])
    rows = tiny.batch(3)
    scores = program.scores(state.trainable, model.frozen, program.place(rows))
    for m in range(3):
        expected = model.score(rows["inputs"][m], rows["choices"][m], prompts=state.trainable["prompt"]["value"][m])
        np.testing.assert_allclose(scores[m], expected, rtol=1e-4, atol=1e-4)


def test_on_a_cpu_members_predict_a_block_at_a_time(model: tiny.Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block is one member and one row here: it needs far less memory than all at once, for the same results."""
    state, rows = tiny.start(with_terms(model), model, range(4)), tiny.batch(4, rows=16, length=64)
    found, memory = [], list[int]()
    for positions in (1, 1 << 20):
        monkeypatch.setattr(blocks, "POSITIONS", positions)
        program = dataclasses.replace(with_terms(model))  # not compiled yet
        arguments = state.trainable, model.frozen, program.place(rows)
        memory.append(program.scores.lower(*arguments).compile().memory_analysis().temp_size_in_bytes)
        found.append((program.scores(*arguments), program.generate(*arguments, 4)))
    (scores, texts), (expected, expected_texts) = found
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(texts, expected_texts)
    assert memory[0] < 0.2 * memory[1]
