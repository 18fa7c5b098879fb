"""The fused attention against the model's own. Without a GPU, JAX's reference of the same call stands in for cuDNN."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx

import infoprompt_jax as ip
from infoprompt_jax.t5 import fused
from infoprompt_jax.t5.config import PAD, T5Config
from infoprompt_jax.t5.model import REMAT_POLICIES, T5

CONFIG = T5Config(17, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_decoder_layers=1, num_heads=2)
GPU = jax.devices()[0].platform == "gpu"
TOKENS = np.random.default_rng(0).integers(2, 17, (3, 8))
PADDED = np.where(np.arange(8)[None] < np.array([8, 3, 5])[:, None], TOKENS, PAD)
TARGETS = np.random.default_rng(1).integers(2, 17, (3, 4))
PROMPT = np.random.default_rng(2).standard_normal((4, 16)).astype(np.float32)


@pytest.fixture(params=["reference", "cudnn"])
def dtype(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The activations' dtype, with the implementation that takes it."""
    if request.param == "cudnn":
        if not GPU:
            pytest.skip("cuDNN needs an NVIDIA GPU")
        return "bfloat16"
    monkeypatch.setattr(fused, "IMPLEMENTATION", "xla")
    return "float32"


def model(attention: str, dtype: str) -> T5:
    return T5(dataclasses.replace(CONFIG, attention=attention, dtype=dtype), nnx.Rngs(0))


def states(attention: str, dtype: str, prompt: np.ndarray | None, tokens: np.ndarray) -> np.ndarray:
    """Encoder states of the unpadded positions."""
    hidden, mask = model(attention, dtype).encode(jnp.asarray(tokens), prompt)
    return np.asarray(hidden.astype(jnp.float32))[np.asarray(mask)]


@pytest.mark.parametrize("prompt", [None, PROMPT, np.stack([PROMPT, 2 * PROMPT, -PROMPT])])
def test_states_are_those_of_the_other_attention(prompt: np.ndarray | None, dtype: str) -> None:
    expected, found = (states(attention, dtype, prompt, PADDED) for attention in ("xla", "cudnn"))
    np.testing.assert_allclose(found, expected, atol=2e-5 if dtype == "float32" else 0.1)
    assert not np.allclose(found, states("cudnn", dtype, prompt, TOKENS)[: len(found)], atol=0.1)  # padding matters


def gradients(attention: str, dtype: str) -> jax.Array:
    """By the prompts of two members, mapped as a fleet maps them."""
    graph, weights = nnx.split(model(attention, dtype))

    def loss(prompt: jax.Array, tokens: jax.Array) -> jax.Array:
        merged = nnx.merge(graph, weights)
        return jnp.square(merged.logits(merged.decode(jnp.asarray(TARGETS), *merged.encode(tokens, prompt)))).mean()

    of_members = jax.vmap(jax.grad(loss))
    return jax.jit(of_members)(jnp.stack([PROMPT, -PROMPT]), jnp.stack([PADDED, TOKENS]))


def test_gradients_are_those_of_the_other_attention(dtype: str) -> None:
    expected, found = (np.asarray(gradients(attention, dtype)) for attention in ("xla", "cudnn"))
    largest = np.abs(expected).max()
    assert largest > 1e-4
    np.testing.assert_allclose(found, expected, atol=largest * (1e-3 if dtype == "float32" else 0.05), rtol=0)


def test_the_backward_pass_knows_the_kernel_by_name() -> None:
    """Else it would compute the kernel's forward pass again, without a word."""
    from jax._src.cudnn import fused_attention_stablehlo as kernels

    primitive = vars(kernels)["_dot_product_attention_fwd_p_wrapper"]
    assert primitive.name == fused.FORWARD
    assert REMAT_POLICIES["dots"](primitive) and REMAT_POLICIES["narrow"](primitive)
    assert not REMAT_POLICIES["dots"](jax.lax.tanh_p)


@pytest.mark.parametrize("attention", ["xla", "cudnn"])
def test_the_kernel_attends_to_the_encoders_positions(attention: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a bias in the encoder, without one in cross-attention, where a row may have several answer choices."""
    monkeypatch.setattr(fused, "IMPLEMENTATION", "xla")
    biased, kernel = list[bool](), fused.attention

    def counted(*arrays: jax.Array | None) -> jax.Array:
        biased.append(arrays[3] is not None)
        return kernel(*arrays)  # type: ignore[arg-type]

    monkeypatch.setattr(fused, "attention", counted)
    made = model(attention, "float32")
    choices = jnp.asarray(np.repeat(TARGETS, 2, axis=0))  # two a row
    hidden = made.decode(choices, *made.encode(jnp.asarray(PADDED), jnp.asarray(PROMPT)))
    assert set(biased) == ({True, False} if attention == "cudnn" else set())
    plain = model("xla", "float32")
    expected = plain.decode(choices, *plain.encode(jnp.asarray(PADDED), jnp.asarray(PROMPT)))
    np.testing.assert_allclose(hidden, expected, atol=2e-5)


def test_a_row_of_only_padding_gives_no_nan(dtype: str) -> None:
    hidden, _ = model("cudnn", dtype).encode(jnp.full((2, 8), PAD))
    assert np.isfinite(np.asarray(hidden.astype(jnp.float32))).all()


def test_an_odd_number_of_positions_is_left_to_xla() -> None:
    """On this machine's devices, whatever they are: cuDNN's gradient does not take it."""
    tokens = PADDED[:, :7]
    np.testing.assert_array_equal(states("cudnn", "float32", None, tokens), states("xla", "float32", None, tokens))


def test_what_the_kernel_needs_is_checked_before_anything_is_loaded() -> None:
    mesh = tiny.one_device()
    with pytest.raises(ip.UserError, match=r"attention='flash' is not supported: choose one of xla, cudnn"):
        ip.load_backbone("random", mesh=mesh, attention="flash")
    refusal = r"needs dtype='bfloat16'" if GPU else r"needs an NVIDIA GPU, but .* 'cpu': set"
    with pytest.raises(ip.UserError, match=refusal):
        ip.load_backbone("no such directory", mesh=mesh, attention="cudnn")
