"""Update rules against float64 transcriptions, schedules against hand-worked tables."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from infoprompt_jax.errors import UserError
from infoprompt_jax.fleet import optimizers

STEPS = 20


def adafactor_numpy(p: np.ndarray, gradients: list[np.ndarray], rate: float, decay: float) -> np.ndarray:
    """T5X's rule: decay_rate 0.8, epsilon1 1e-30, clipping threshold 1, no parameter scale, no momentum."""
    row, column, full = np.zeros(p.shape[0]), np.zeros(p.shape[1]), np.zeros(p.shape)
    for t, g in enumerate(gradients):
        keep, square = 1.0 - (t + 1.0) ** -0.8, g * g + 1e-30
        if min(p.shape) >= 128:
            row = keep * row + (1 - keep) * square.mean(axis=1)
            column = keep * column + (1 - keep) * square.mean(axis=0)
            y = g / np.sqrt(np.outer(row, column) / row.mean())
        else:
            full = keep * full + (1 - keep) * square
            y = g / np.sqrt(full)
        y = y / max(1.0, np.sqrt((y * y).mean()))
        p = (1.0 - decay) * p - rate * y
    return p


def adamw_numpy(p: np.ndarray, gradients: list[np.ndarray], rate: float, decay: float) -> np.ndarray:
    m, v = np.zeros(p.shape), np.zeros(p.shape)
    for t, g in enumerate(gradients, start=1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        p = p - rate * (m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8) + decay * p)
    return p


def gradients_of(shape: tuple[int, ...], seed: int = 0) -> list[np.ndarray]:
    """Gradients whose size varies from step to step and from row to row, with a share of exact zeros."""
    rng = np.random.default_rng(seed)
    rows = np.exp(rng.normal(size=(shape[0], *(1,) * (len(shape) - 1))))
    return [rng.normal(size=shape) * rows * np.exp(rng.normal()) * (rng.random(shape) > 0.1) for _ in range(STEPS)]


def run(transform: optax.GradientTransformation, trainable: dict, gradients: list, rates: tuple) -> dict:
    @jax.jit
    def step(trainable: dict, state: tuple, gradient: dict) -> tuple:
        updates, state = transform.update(gradient, state, trainable, step_sizes=optimizers.StepSizes(*rates))
        return optax.apply_updates(trainable, updates), state

    trainable = jax.tree.map(jnp.float32, trainable)
    state = transform.init(trainable)
    for gradient in gradients:
        trainable, state = step(trainable, state, jax.tree.map(jnp.float32, gradient))
    return trainable


@pytest.mark.parametrize("shape", [(256, 160), (160, 256), (20, 64), (127, 500)])
def test_adafactor_is_t5x_without_parameter_scaling(shape: tuple[int, int]) -> None:
    start = np.random.default_rng(1).normal(size=shape)
    gradients = gradients_of(shape)
    transform = optimizers.optimizer("adafactor", weight_decay=1e-2, clip_norm=0)
    got = run(transform, {"prompt": start}, [{"prompt": g} for g in gradients], (0.3, 0.0))
    np.testing.assert_allclose(got["prompt"], adafactor_numpy(start, gradients, 0.3, 1e-2), atol=2e-5)


def test_adafactor_decay_does_not_follow_the_learning_rate() -> None:
    transform = optimizers.optimizer("adafactor", weight_decay=0.1, clip_norm=0)
    got = run(transform, {"prompt": np.ones((2, 3))}, [{"prompt": np.ones((2, 3))}], (0.0, 0.0))
    np.testing.assert_allclose(got["prompt"], 0.9, rtol=1e-6)


def test_every_entry_has_its_rule() -> None:
    shapes = {"prompt": (5, 8), "verbalizer": (3, 8), "posterior": (8, 4), "head_critic": (8, 8)}
    rng = np.random.default_rng(2)
    start = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    streams = {name: gradients_of(shape, seed) for seed, (name, shape) in enumerate(shapes.items())}
    gradients = [{name: streams[name][t] for name in shapes} for t in range(STEPS)]
    got = run(optimizers.optimizer("adamw", 0.05, 0), start, gradients, (0.02, 0.01))
    for name in shapes:
        rate, decay = (0.02 if name == "prompt" else 0.01), (0.0 if name == "head_critic" else 0.05)
        np.testing.assert_allclose(got[name], adamw_numpy(start[name], streams[name], rate, decay), atol=1e-5)


def test_trees_below_an_entry_are_updated_too() -> None:
    start = {
        "prompt": {"down": np.ones((4, 2)), "bias": np.ones(4)},
        "representation_critic": {"kernel": np.eye(4), "bias": np.zeros(4)},
    }
    gradient = jax.tree.map(lambda x: np.full(x.shape, 0.5), start)
    got = run(optimizers.optimizer("adafactor", 0.0, 1.0), start, [gradient], (0.3, 0.001))
    np.testing.assert_allclose(got["prompt"]["bias"], 0.7, rtol=1e-6)
    np.testing.assert_allclose(got["representation_critic"]["kernel"], np.eye(4) - 0.001, atol=1e-6)


@pytest.mark.parametrize(("apart", "clipped"), [(False, (1.5, 2.0)), (True, (2.5, 2.5))])
def test_gradients_are_clipped_by_their_norm(apart: bool, clipped: tuple[float, float]) -> None:
    """3-4-5: with a limit of 2.5, norms 3 and 4 are halved together, and each is cut to it apart."""
    gradient = {"prompt": jnp.array([[3.0]]), "head_critic": jnp.array([[4.0]])}
    transform = optimizers.optimizer("adamw", 0.0, clip_norm=2.5, clip_apart=apart)
    rates = optimizers.StepSizes(0.0, 0.0)
    _, state = transform.update(gradient, transform.init(gradient), gradient, step_sizes=rates)
    moments = [float(x[0, 0]) for x in jax.tree.leaves(state) if x.ndim == 2]  # the first moment shows it
    expected = [0.001 * norm**2 for norm in clipped] + [0.1 * norm for norm in clipped]
    np.testing.assert_allclose(sorted(moments), expected, rtol=1e-5)


def test_apart_the_critics_gradients_do_not_slow_the_prompt() -> None:
    """What predictions need shares one norm, the two critics another."""
    gradient = {"prompt": jnp.array([[0.3]]), "verbalizer": jnp.array([[0.4]]), "head_critic": jnp.array([[1e4]])}
    transform = optimizers.optimizer("adamw", 0.0, clip_norm=1.0, clip_apart=True)
    rates = optimizers.StepSizes(0.0, 0.0)
    _, state = transform.update(gradient, transform.init(gradient), gradient, step_sizes=rates)
    moments = sorted(float(x[0, 0]) for x in jax.tree.leaves(state) if x.ndim == 2)
    np.testing.assert_allclose(moments[-3:], [0.03, 0.04, 0.1], rtol=1e-5)


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_members_do_not_see_each_other(name: str) -> None:
    transform = optimizers.optimizer(name, 1e-3, 1.0)
    rng = np.random.default_rng(3)
    shape = (130, 140)  # a member's matrix is factored; with the member axis in it, other axes would be
    start, gradient = (
        {"prompt": jnp.float32(rng.normal(size=(3, *shape))), "head_critic": jnp.float32(rng.normal(size=(3, 8, 8)))}
        for _ in range(2)
    )
    gradient["prompt"] = gradient["prompt"].at[1].multiply(1e3)  # must not use up the others' gradient norm
    rates = optimizers.StepSizes(jnp.array([0.3, 0.1, 0.2]), jnp.array([1e-3, 1e-2, 1e-1]))

    def step(trainable: dict, gradient: dict, rates: optimizers.StepSizes) -> dict:
        updates, _ = transform.update(gradient, transform.init(trainable), trainable, step_sizes=rates)
        return optax.apply_updates(trainable, updates)

    together = jax.vmap(step)(start, gradient, rates)
    for m in range(3):
        alone = step(*jax.tree.map(lambda x, m=m: x[m], (start, gradient, rates)))
        jax.tree.map(lambda a, b, m=m: np.testing.assert_allclose(a[m], b, rtol=1e-5, atol=1e-6), together, alone)


def test_schedule_table() -> None:
    """Ten steps, two of warm-up, worked by hand; the cosine's x = 0, 1/8, ..., 7/8."""
    table = {
        "constant": [0.5, 1, 1, 1, 1, 1, 1, 1, 1, 1],
        "linear": [0.5, 1, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125],
        "cosine": [0.5, 1, 1, 0.961940, 0.853553, 0.691342, 0.5, 0.308658, 0.146447, 0.038060],
    }
    for name, factors in table.items():
        hyper = tiny.HYPER._replace(learning_rate=0.3, critic_learning_rate=1e-3, warmup=0.2)
        hyper = hyper._replace(schedule=optimizers.SCHEDULES.index(name))
        rates = [optimizers.step_sizes(hyper, step, 10) for step in range(10)]
        np.testing.assert_allclose([r.prompt for r in rates], 0.3 * np.array(factors), rtol=2e-5)
        np.testing.assert_allclose([r.critic for r in rates], 1e-3 * np.array(factors), rtol=2e-5)


def test_schedules_match_optax_and_share_one_program() -> None:
    total, warmup = 50, 7
    names = list(optimizers.SCHEDULES)
    decays = [
        optax.constant_schedule(2.0),
        optax.linear_schedule(2.0, 0.0, total - warmup),
        optax.cosine_decay_schedule(2.0, total - warmup),
    ]
    # optax's warm-up starts at zero; ours is at its second step first, and one step ahead until the decay begins.
    rise = optax.linear_schedule(0.0, 2.0, warmup)
    expected = [[rise(t + 1) if t < warmup else decay(t - warmup) for t in range(total)] for decay in decays]
    own = [{"learning_rate": 2.0, "warmup": warmup / total, "schedule": schedule} for schedule in range(len(names))]
    hyper = tiny.hyper(*own)
    members = jax.jit(jax.vmap(lambda hyper, step: optimizers.step_sizes(hyper, step, total).prompt, (0, None)))
    got = np.stack([members(hyper, jnp.int32(t)) for t in range(total)], axis=1)
    np.testing.assert_allclose(got, np.array(expected), rtol=1e-5)


@pytest.mark.parametrize("warmup", [0.0, 1.0])
def test_schedules_without_and_with_only_warm_up(warmup: float) -> None:
    hyper = tiny.HYPER._replace(learning_rate=1.0, warmup=warmup, schedule=1)
    rates = [float(optimizers.step_sizes(hyper, t, 4).prompt) for t in range(4)]
    np.testing.assert_allclose(rates, [1.0, 0.75, 0.5, 0.25] if warmup == 0 else [0.25, 0.5, 0.75, 1.0], rtol=1e-6)


def test_an_unknown_optimizer_is_a_sentence() -> None:
    with pytest.raises(UserError, match=r"train\.optimizer is 'sgd'"):
        optimizers.optimizer("sgd", 0.0, 0.0)
