"""int8 weights: the rounding against values worked by hand, and products, scores and gradients against full weights."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx
from jax.typing import ArrayLike

import infoprompt_jax as ip
from infoprompt_jax.t5 import convert, partition
from infoprompt_jax.t5.config import T5Config
from infoprompt_jax.t5.int8 import GROUP, TABLES, Int8, best, logits, quantize
from infoprompt_jax.t5.model import T5


@pytest.mark.parametrize("library", [np, jnp])
def test_quantize_by_hand(library: Any) -> None:
    kernel_IO = library.asarray(
        [[1.27, 0.0, -254.0, 1e-45], [-0.634, 0.0, 3.0, 0.0], [0.0, 0.0, 1.01, 0.0]], np.float32
    )
    values, scale = quantize(kernel_IO)
    assert values.dtype == np.int8 and scale.dtype == np.float32
    assert isinstance(values, np.ndarray) == isinstance(kernel_IO, np.ndarray)
    # -0.634 / 0.01 = -63.4; 3 / 2 = 1.5, to the even 2; 1.01 / 2 = 0.505; what is too small for a scale becomes 0
    np.testing.assert_array_equal(values, [[127, 0, -127, 0], [-63, 0, 2, 0], [0, 0, 1, 0]])
    np.testing.assert_allclose(scale, [0.01, 1.0, 2.0, 1.0], rtol=1e-6)
    rows, row_scale = quantize(kernel_IO.T, axis=-1)
    np.testing.assert_array_equal(rows, values.T)
    np.testing.assert_array_equal(row_scale, scale)


def test_each_layer_and_channel_has_its_scale_and_an_error_of_half_of_it() -> None:
    kernel_NIO = np.random.default_rng(0).standard_normal((3, 16, 8)).astype(jnp.bfloat16)
    values, scale = quantize(kernel_NIO)
    assert values.shape == (3, 16, 8) and scale.shape == (3, 8)
    error = np.abs(values * scale[:, None] - kernel_NIO.astype(np.float32))
    assert (error <= 0.5001 * scale[:, None]).all()
    assert (np.abs(values).max(axis=1) == 127).all()


ROWS = {name: value[0] for name, value in tiny.batch(rows=8).items()}


@functools.cache
def loaded(name: str, weights: str) -> ip.Backbone:
    return ip.load_backbone(name, weights=weights, mesh=tiny.one_device())


def dequantised(backbone: ip.Backbone) -> ip.Backbone:
    """The backbone with full weights that have the values of the int8 ones."""
    config = dataclasses.replace(backbone.config, weights="full")
    graph, state = nnx.split(nnx.eval_shape(lambda: T5(config, nnx.Rngs(0))))
    flat = {"/".join(map(str, path)): leaf[...] for path, leaf in nnx.to_flat_state(backbone.frozen)}
    for leaf in convert.leaf_shapes(config):
        if f"{leaf}/scale" in flat:
            axis = -1 if leaf in TABLES else -2
            flat[leaf] = flat[f"{leaf}/values"] * jnp.expand_dims(flat[f"{leaf}/scale"], axis)
    leaves = [(path, leaf.replace(flat["/".join(map(str, path))])) for path, leaf in nnx.to_flat_state(state)]
    return dataclasses.replace(backbone, config=config, graph=graph, frozen=nnx.from_flat_state(leaves))


@functools.partial(jax.jit, static_argnums=0)
def loss_and_gradient(graph: Any, frozen: Any, prompt_PD: ArrayLike) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Of the prompt: the loss of the targets, its gradient, and the logits."""

    def loss(prompt_PD: jax.Array) -> tuple[jax.Array, jax.Array]:
        model = nnx.merge(graph, frozen)
        logits_BTV = model.logits(model.decode(ROWS["targets"], *model.encode(ROWS["inputs"], prompt_PD)))
        picked = jnp.take_along_axis(jax.nn.log_softmax(logits_BTV), ROWS["targets"][..., None], axis=-1)
        return -picked.mean(), logits_BTV

    (value, logits_BTV), gradient_PD = jax.value_and_grad(loss, has_aux=True)(prompt_PD)
    return value, gradient_PD, logits_BTV


def prompt(backbone: ip.Backbone) -> np.ndarray:
    return np.asarray(backbone.embed(np.arange(5, 15)[None])[0])


@pytest.mark.parametrize("name", [pytest.param("random", marks=pytest.mark.slow), "nano"])
def test_int8_computes_what_full_weights_of_the_same_values_do(name: str) -> None:
    small = loaded(name, "int8")
    full = dequantised(small)
    computed = loss_and_gradient(small.graph, small.frozen, prompt(small))
    expected = loss_and_gradient(full.graph, full.frozen, prompt(small))
    for one, other in zip(computed, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * float(jnp.abs(other).max()))
    np.testing.assert_allclose(small.head_rows([3, 7]), full.head_rows([3, 7]), rtol=1e-6)
    np.testing.assert_array_equal(small.generate(ROWS["inputs"], 6), full.generate(ROWS["inputs"], 6))


@pytest.mark.parametrize("name", ["random", "nano"])
def test_int8_agrees_with_full_weights(name: str) -> None:
    """The error of a weight is 0.8 % of the spread of its channel; of a sum over layers, a few times as much."""
    full, small = loaded(name, "full"), loaded(name, "int8")
    assert small.fingerprint == full.fingerprint  # of the checkpoint: prompts fit both
    expected = loss_and_gradient(full.graph, full.frozen, prompt(full))
    computed = loss_and_gradient(small.graph, small.frozen, prompt(full))
    gradient, other = (np.asarray(each[1]).ravel() for each in (computed, expected))
    norms = np.linalg.norm(gradient), np.linalg.norm(other)
    assert abs(norms[0] / norms[1] - 1) < 0.01
    assert gradient @ other / (norms[0] * norms[1]) > 0.999
    assert np.linalg.norm(computed[2] - expected[2]) / np.linalg.norm(expected[2]) < 0.03
    assert abs(computed[0] / expected[0] - 1) < 0.01


@pytest.mark.parametrize("remat", [pytest.param("none", marks=pytest.mark.slow), "dots"])
def test_no_more_than_a_layer_is_dequantised_at_a_time(remat: str) -> None:
    """Temporary memory of a gradient does not grow with the weights of further layers, forward and backward."""
    sizes = {"d_model": 64, "d_kv": 16, "d_ff": 1024, "num_heads": 4, "num_decoder_layers": 1, "remat": remat}

    def temporary(depth: int, weights: str) -> int:
        config = T5Config(vocab_size=384, num_layers=depth, weights=weights, **sizes)
        graph, frozen = nnx.split(nnx.eval_shape(lambda: T5(config, nnx.Rngs(0))))
        shape = jax.ShapeDtypeStruct((4, 64), jnp.float32)
        return loss_and_gradient.lower(graph, frozen, shape).compile().memory_analysis().temp_size_in_bytes

    layer = 4 * (4 * 64 * 64 + 3 * 64 * 1024)  # bytes of its kernels in float32
    grown = [temporary(12, weights) - temporary(4, weights) for weights in ("int8", "full")]
    assert grown[0] < grown[1] + layer  # 8 layers more


def test_a_fleet_trains_on_int8_weights_as_on_full_ones() -> None:
    batches = [tiny.batch(2, seed=k % 2) for k in range(8)]
    losses = {}
    for weights in ("full", "int8"):
        backbone = loaded("random", weights)
        losses[weights] = tiny.run(tiny.fleet(backbone), backbone, [0, 1], tiny.hyper({}, {}), batches)[1]["loss"]
    assert (losses["int8"][-2:].mean(axis=0) < losses["int8"][:2].mean(axis=0) - 0.05).all()
    np.testing.assert_allclose(losses["int8"], losses["full"], rtol=0.03)


def test_eight_devices_compute_what_one_does() -> None:
    if jax.device_count() < 8:
        pytest.skip("needs 8 devices")
    one = loaded("random", "int8")
    eight = ip.load_backbone("random", weights="int8", mesh=partition.make_mesh(data=2, model=4))
    expected = loss_and_gradient(one.graph, one.frozen, prompt(one))
    for values, others in zip(loss_and_gradient(eight.graph, eight.frozen, prompt(one)), expected, strict=True):
        np.testing.assert_allclose(values, others, rtol=1e-4, atol=1e-5 * float(jnp.abs(others).max()))


def test_a_scale_is_split_as_the_output_channels_of_its_kernel() -> None:
    config = dataclasses.replace(loaded("random", "full").config, weights="int8")
    state = nnx.state(nnx.eval_shape(lambda: T5(config, nnx.Rngs(0))))
    shapes = {"/".join(map(str, path)): leaf.shape for path, leaf in nnx.to_flat_state(state)}
    places = partition.shardings(shapes, partition.make_mesh(data=2, model=4))
    kernels = [path.removesuffix("/values") for path in shapes if path.endswith("/values")]
    assert len(kernels) == 2 + 4 + 3 + 8 + 3
    for kernel in kernels:
        whole, values = shapes[f"{kernel}/values"], places[f"{kernel}/values"].shard_shape(shapes[f"{kernel}/values"])
        summed = 1 if kernel in TABLES else len(whole) - 2
        of_channels = tuple(size for axis, size in enumerate(values) if axis != summed)
        assert places[f"{kernel}/scale"].shard_shape(shapes[f"{kernel}/scale"]) == of_channels, kernel


@pytest.mark.parametrize("weights", ["full", "int8"])
@pytest.mark.parametrize("rows", [5, GROUP, 3 * GROUP, 613])
def test_best_is_the_first_of_the_largest_logits(weights: str, rows: int) -> None:
    """Rows occur twice, in one group and in two; 613 is a prime, so each of its groups has one row."""
    random = np.random.default_rng(rows)
    table_VD, hidden_BD = random.integers(-9, 9, (rows, 4)), random.integers(-9, 9, (64, 4)).astype(np.float32)
    table_VD[[rows - 1, rows // 2]] = table_VD[[0, rows // 2 - 1]]
    kernel: Any = nnx.Param(jnp.asarray(table_VD, jnp.float32))
    if weights == "int8":
        kernel = Int8(jnp.asarray(table_VD, jnp.int8), jnp.asarray(random.choice([0.5, 1.0], rows), jnp.float32))
    found = best(jnp.asarray(hidden_BD), kernel)
    np.testing.assert_array_equal(found, np.argmax(logits(jnp.asarray(hidden_BD), kernel), axis=-1))
    assert found.dtype == jnp.int32
