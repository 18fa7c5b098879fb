"""What a fleet does about the information terms beside a step: the head's first steps, gradient norms, the placebo."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
import tiny

from infoprompt_jax import settings
from infoprompt_jax.errors import UserError
from infoprompt_jax.fleet import assembly
from infoprompt_jax.fleet.fleet import Fleet, FleetState, member_keys
from infoprompt_jax.fleet.members import expand

VOCABULARY = tuple(range(3, 60))


@pytest.fixture(scope="module")
def model() -> tiny.Backbone:
    return tiny.backbone()


def arguments(program: Fleet, model: tiny.Backbone, *members: dict[str, Any]) -> tuple[Any, ...]:
    """What a fleet's programs take after the state."""
    rows = program.place(tiny.batch(members=len(members), seed=3))
    hypers, keys = jax.device_put((tiny.hyper(*members), member_keys([*range(len(members))])), program.member_sharding)
    return model.frozen, rows, hypers, keys


def values(state: FleetState) -> np.ndarray:
    return np.array(state.trainable["prompt"]["value"])


def test_head_steps_move_the_members_that_have_them_and_start_afresh(model: tiny.Backbone) -> None:
    program = tiny.fleet(model, head="answer", score="cosine", vocabulary=VOCABULARY)
    state = tiny.start(program, model, [0, 1, 2])
    before, given = values(state), arguments(program, model, {}, {"head_steps": 1}, {"head_steps": 3})
    estimates, moved = [], []
    for number in range(3):
        previous = values(state)
        state, metrics = program.head_step(state, *given, np.int32(number))
        estimates.append(np.array(metrics["head_mi"]))
        moved.append(np.abs(values(state) - previous).max(axis=(1, 2)) > 1e-4)
    assert np.array(moved).tolist() == [[False, True, True], [False, False, True], [False, False, True]]
    assert estimates[2][2] > estimates[0][2], "the steps raise the estimate"
    after = values(state)
    state = program.restart(state)
    np.testing.assert_array_equal(values(state), after)
    np.testing.assert_array_equal(state.best["prompt"]["value"], after)
    assert int(state.step) == 0 and state.active.all()
    fresh = tiny.start(program, model, [0, 1, 2])
    jax.tree.map(np.testing.assert_array_equal, state.optimizer, fresh.optimizer)
    np.testing.assert_array_equal(after[0], before[0])


def test_gradient_norms_are_those_of_the_weighted_terms(model: tiny.Backbone) -> None:
    """Twice the weight is twice the norm; without a weight there is none; the task's is that of plain prompt tuning."""
    program = tiny.fleet(model, noise_scale=0.0)
    state = tiny.start(program, model, [0, 0, 0])
    members = ({"gamma": 0.0, "beta": 0.0}, {}, {"gamma": 0.2, "beta": 0.4})
    given = arguments(program, model, *members)
    given = (given[0], program.place(tiny.batch(members=3, seed=3, same=True)), *given[2:])
    norms = {name: np.array(values) for name, values in program.gradient_norms(state, *given).items()}
    np.testing.assert_allclose(norms["task"], norms["task"][0], rtol=1e-4)
    for name in ("head", "representation"):
        assert norms[name][0] == 0 and norms[name][1] > 0
        np.testing.assert_allclose(norms[name][2], 2 * norms[name][1], rtol=1e-3)
    _, metrics = program.step(state, *given)
    np.testing.assert_allclose(metrics["gradient_norm"][0], norms["task"][0], rtol=1e-4)


def test_gradient_norms_take_a_micro_batch(model: tiny.Backbone) -> None:
    """As much memory as a step: the first micro-batch, of every other row."""
    whole, halves = (tiny.fleet(model, accumulate=n, representation_term=False) for n in (1, 2))
    rows = tiny.batch(seed=3)
    rows = {name: np.repeat(value[:, ::2], 2, axis=1) for name, value in rows.items()}
    norms = []
    for program in (whole, halves):
        frozen, _, *given = arguments(program, model, {})
        state = tiny.start(program, model, [0])
        norms.append(program.gradient_norms(state, frozen, program.place(rows), *given))
    for name, value in norms[0].items():
        np.testing.assert_allclose(norms[1][name], value, rtol=1e-4, err_msg=name)


def test_the_placebo_turns_the_terms_gradient_and_keeps_its_size(model: tiny.Backbone) -> None:
    """By gradient descent's own step: what the terms add to the prompt's gradient is rolled, the task's part is not."""
    updates = {}
    for placebo in (False, True):
        for name, weights in {"plain": {"gamma": 0.0, "beta": 0.0}, "terms": {"gamma": 30.0, "beta": 30.0}}.items():
            program = tiny.fleet(model, noise_scale=0.0, score="cosine", placebo=placebo)
            gradient = jax.jit(program._gradient)  # what a step is made of
            frozen, rows, hypers, keys = arguments(program, model, weights)
            state, one = tiny.start(program, model, [0]), lambda tree: jax.tree.map(lambda x: x[0], tree)
            made, _ = gradient(one(state.trainable), frozen, one(rows), one(hypers), keys[0], 0.0)
            updates[placebo, name] = np.array(made["prompt"]["value"])
    np.testing.assert_allclose(updates[True, "plain"], updates[False, "plain"], rtol=1e-4, atol=1e-6)
    added = {placebo: updates[placebo, "terms"] - updates[placebo, "plain"] for placebo in (False, True)}
    assert np.linalg.norm(added[False]) > 1e-3
    np.testing.assert_allclose(added[True], np.roll(added[False], 32, axis=-1), rtol=1e-3, atol=1e-5)


def test_the_placebo_turns_the_heads_first_steps(model: tiny.Backbone) -> None:
    """A static prompt's gradient of the head loss is the same for all tokens; the placebo's is that one, rolled."""
    moved = []
    for placebo in (False, True):
        program = tiny.fleet(
            model, optimizer="adamw", head="answer", score="cosine", vocabulary=VOCABULARY, placebo=placebo
        )
        state = tiny.start(program, model, [0])
        before, given = values(state), arguments(program, model, {"head_steps": 1})
        state, _ = program.head_step(state, *given, np.int32(0))
        moved.append(np.sign(values(state) - before))
    assert np.abs(moved[0]).all()
    assert (moved[1] == np.roll(moved[0], 32, axis=-1)).mean() > 0.99  # Adam's first step is the gradient's sign


@pytest.mark.parametrize(("representation", "critic"), [("decoder", "dot"), ("mean_encoder", "bilinear")])
def test_the_prompted_decoder_state_needs_no_map_to_the_head(representation: str, critic: str) -> None:
    config = settings.defaults()
    config.infoprompt.update(head="conditional", representation=representation)
    untied = tiny.backbone()
    assert not untied.config.tied
    assert assembly.assemble(config, expand(config), untied).fleet.objective.critic == critic


def test_representations_of_two_spaces_are_not_compared() -> None:
    config = settings.defaults()
    config.infoprompt.update(variational=True, negatives="unprompted")
    with pytest.raises(UserError, match="choose negatives='posterior'"):
        settings.check(config)
