"""The T5 against transformers', and the properties that the rest of the project relies on."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_t5
from flax import nnx
from tiny_t5 import logits, torch_inputs, torch_logits

from infoprompt_jax.t5.config import EOS, PAD, T5Config
from infoprompt_jax.t5.layers import RelativeBias
from infoprompt_jax.t5.model import T5
from infoprompt_jax.t5.partition import Layout

torch = pytest.importorskip("torch")

RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.integers(2, 97, (3, 9))
PADDED = np.where(np.arange(9)[None] < np.array([9, 4, 7])[:, None], INPUTS, PAD)
TARGETS = RANDOM.integers(2, 97, (3, 5))
PROMPTS = {
    "none": None,
    "one": RANDOM.standard_normal((6, 32)).astype(np.float32),
    "per row": RANDOM.standard_normal((3, 6, 32)).astype(np.float32),
}


@pytest.fixture
def random() -> np.random.Generator:
    """For only one test, which then draws the same whatever ran before it."""
    return np.random.default_rng(1)


@pytest.fixture(scope="module", params=["v1.0", "v1.1"])
def models(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, T5]:
    path = tmp_path_factory.mktemp(request.param)
    theirs = tiny_t5.torch_t5(request.param)
    theirs.save_pretrained(path)
    return theirs, tiny_t5.load(path)


@pytest.fixture(scope="module")
def small() -> T5:
    """For properties that need no second implementation."""
    config = T5Config(17, d_model=8, d_kv=4, d_ff=16, num_layers=2, num_decoder_layers=2, num_heads=2)
    return T5(config, nnx.Rngs(0))


@functools.partial(jax.jit, static_argnums=(0, 4))
def _generate(graph: Any, weights: Any, inputs: Any, prompts: Any, length: int) -> jax.Array:
    model = nnx.merge(graph, weights)
    return model.generate(*model.encode(inputs, prompts), length)


def generate(model: T5, inputs: Any, prompts: Any, length: int) -> jax.Array:
    return _generate(*nnx.split(model), inputs, prompts, length)


@pytest.mark.parametrize("prompts", PROMPTS.values(), ids=PROMPTS)
@pytest.mark.parametrize("inputs", [INPUTS, PADDED], ids=["full", "padded"])
def test_logits_equal_transformers(models: tuple[Any, T5], inputs: np.ndarray, prompts: np.ndarray | None) -> None:
    theirs, ours = models
    expected = torch_logits(theirs, inputs, TARGETS, prompts)
    np.testing.assert_allclose(logits(ours, inputs, TARGETS, prompts), expected, atol=1e-4)


def test_long_inputs_equal_transformers(models: tuple[Any, T5], random: np.random.Generator) -> None:
    """Beyond 128 positions of distance, in the encoder and in the decoder; rounding differs by up to 2e-4."""
    theirs, ours = models
    inputs, targets = random.integers(2, 97, (1, 300)), random.integers(2, 97, (1, 200))
    np.testing.assert_allclose(logits(ours, inputs, targets), torch_logits(theirs, inputs, targets), atol=3e-4)


@pytest.mark.parametrize("buckets,max_distance", [(32, 128), (4, 8), (16, 64)])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_buckets_equal_transformers(bidirectional: bool, buckets: int, max_distance: int) -> None:
    from transformers.models.t5.modeling_t5 import T5Attention

    config = T5Config(2, 2, 1, 1, 1, 1, 1, relative_buckets=buckets, relative_max_distance=max_distance)
    distance = np.arange(-1100, 1100)
    expected = T5Attention._relative_position_bucket(torch.tensor(distance), bidirectional, buckets, max_distance)
    found = jax.jit(RelativeBias(config, bidirectional, nnx.Rngs(0)).bucket)(distance)
    np.testing.assert_array_equal(found, expected.numpy())


@pytest.mark.parametrize("platform", ["cpu", "tpu"])  # the layers repeated in the program, or scanned
def test_generate_equals_transformers(
    models: tuple[Any, T5], random: np.random.Generator, platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Layout, "platform", platform)
    theirs, ours = models
    inputs, prompt = random.integers(2, 97, (8, 9)), PROMPTS["one"]
    with torch.no_grad():
        expected = theirs.generate(**torch_inputs(theirs, inputs, prompt), max_new_tokens=12, do_sample=False)
    expected = np.pad(expected.numpy()[:, 1:], ((0, 0), (0, 13 - expected.shape[1])))
    graph, weights = nnx.split(ours)
    found = jax.jit(lambda weights: _generate.__wrapped__(graph, weights, inputs, prompt, 12))(weights)
    np.testing.assert_array_equal(found, expected)


def test_generate_pads_after_eos(small: T5, random: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that the model generates, and not PAD, which starts every output, is made to change places with EOS.

    The rows that end are then generated alone: no token is computed after the last of them has ended.
    """
    inputs = random.integers(2, 17, (8, 6))
    before = np.asarray(generate(small, inputs, None, 8))
    endless = ~(before == EOS).any(axis=1)
    token = next(token for token in before[endless][:, :-1].flat if token != PAD)
    swap = np.arange(17)
    swap[[EOS, token]] = token, EOS
    swapped = nnx.clone(small)
    swapped.embedding[...], swapped.head[...] = small.embedding[...][swap], small.head[...][swap]
    expected = swap[before]
    ended = np.cumsum(expected == EOS, axis=1) > (expected == EOS)
    found = generate(swapped, swap[inputs], None, 8)
    assert ended[endless].any()
    np.testing.assert_array_equal(found[endless], np.where(ended, PAD, expected)[endless])

    computed, best = list[None](), T5.best

    def counted(self: T5, hidden: jax.Array) -> jax.Array:
        jax.debug.callback(lambda: computed.append(None))
        return best(self, hidden)

    monkeypatch.setattr(T5, "best", counted)
    few = np.flatnonzero(ended[:, -1])
    np.testing.assert_array_equal(generate(swapped, swap[inputs[few]], None, 8), found[few])
    jax.effects_barrier()
    assert len(computed) == (~ended[few]).sum(axis=1).max() < 8


def test_choices_side_by_side_equal_one_pass_each(small: T5, random: np.random.Generator) -> None:
    inputs, targets = random.integers(2, 17, (3, 6)), random.integers(2, 17, (3, 4, 5))
    inputs[1, 4:] = PAD
    together = logits(small, inputs, targets.reshape(12, 5)).reshape(3, 4, 5, 17)
    for choice in range(4):
        np.testing.assert_allclose(together[:, choice], logits(small, inputs, targets[:, choice]), atol=1e-5)


def test_logits_depend_on_no_later_target(small: T5) -> None:
    """By gradient: the logits at t move with the embeddings of the targets before t, and with no others."""
    targets = jnp.array([[6, 7, 8, 9, 10]])
    graph, weights = nnx.split(small)
    encoded = small.encode(jnp.array([[3, 4, 5]]))

    @jax.jit
    @jax.jacobian
    def sensitivity(weights: Any) -> jax.Array:
        model = nnx.merge(graph, weights)
        return model.logits(model.decode(targets, *encoded)).sum(axis=(0, 2))

    moved = np.abs(sensitivity(weights)["embedding"][...]).sum(axis=-1)[:, targets[0]] > 0
    np.testing.assert_array_equal(moved, np.tri(5, k=-1, dtype=bool))


def variant(model: T5, **switches: Any) -> T5:
    """The same weights under a config with other switches."""
    config = dataclasses.replace(model.config, **switches)
    graph = nnx.split(nnx.eval_shape(lambda: T5(config, nnx.Rngs(0))))[0]
    return nnx.merge(graph, jax.tree.map(lambda x: x.astype(config.dtype), nnx.split(model)[1]))


def test_bfloat16_ends_in_float32(small: T5) -> None:
    half = variant(small, dtype="bfloat16")
    inputs, targets = INPUTS % 17, TARGETS % 17
    hidden, _ = half.encode(jnp.asarray(inputs))
    found, expected = logits(half, inputs, targets), logits(small, inputs, targets)
    assert hidden.dtype == jnp.bfloat16 and found.dtype == jnp.float32
    assert not np.array_equal(found, found.astype(jnp.bfloat16).astype(jnp.float32))  # never rounded on the way
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.999


def test_dropout_needs_a_rate_and_a_key(small: T5) -> None:
    dropping = variant(small, dropout=0.3)
    rows, key = (INPUTS % 17, TARGETS % 17, None), jax.random.key(0)
    plain = logits(small, *rows)
    np.testing.assert_array_equal(logits(small, *rows, key), plain)
    np.testing.assert_array_equal(logits(dropping, *rows), plain)
    np.testing.assert_array_equal(logits(dropping, *rows, key), logits(dropping, *rows, key))
    assert not np.allclose(logits(dropping, *rows, key), plain)
    assert not np.allclose(logits(dropping, *rows, key), logits(dropping, *rows, jax.random.key(1)))


def prompt_gradient(model: T5) -> tuple[jax.Array, str]:
    """Gradient of a loss by the prompt, and the program that computes it."""
    graph, weights = nnx.split(model)

    def loss(prompt: jax.Array) -> jax.Array:
        model = nnx.merge(graph, weights)
        return jnp.square(model.logits(model.decode(TARGETS % 17, *model.encode(INPUTS % 17, prompt)))).mean()

    prompt = PROMPTS["one"][:, :8]
    traced = jax.jit(jax.grad(loss)).trace(prompt)
    return traced.lower().compile()(prompt), str(traced.jaxpr)


def test_remat_and_unroll_change_the_program_not_the_gradient(small: T5) -> None:
    expected, program = prompt_gradient(variant(small, remat="none"))
    programs = {program}
    for switches in ({"remat": "dots"}, {"remat": "narrow"}, {"remat": "full"}, {"remat": "none", "unroll": 2}):
        gradient, program = prompt_gradient(variant(small, **switches))
        np.testing.assert_allclose(gradient, expected, atol=1e-6)
        programs.add(program)
    assert len(programs) == 5
