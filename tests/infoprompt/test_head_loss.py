"""The head loss: its critic's scores, and that its gradient reaches the prompt."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx

from infoprompt_jax.infoprompt.estimators import mutual_information
from infoprompt_jax.infoprompt.head_loss import head_information, head_scores


@pytest.mark.parametrize("bilinear", [False, True])
def test_head_scores(bilinear: bool) -> None:
    rng = np.random.default_rng(0)
    prompt, inputs, label = rng.normal(size=(3, 16)), rng.normal(size=(3, 5, 16)), rng.normal(size=(3, 16))
    kernel = rng.normal(size=(16, 16)) if bilinear else np.eye(16)
    positive, negative = head_scores(prompt, jnp.bfloat16(inputs), label, kernel if bilinear else None)
    assert positive.dtype == negative.dtype == jnp.float32
    inputs = np.float64(jnp.bfloat16(inputs))
    for b in range(3):
        np.testing.assert_allclose(positive[b], prompt[b] @ (kernel @ label[b]) / 4, rtol=1e-4)
        for token in range(5):
            np.testing.assert_allclose(negative[b, token], inputs[b, token] @ (kernel @ label[b]) / 4, rtol=1e-4)


def test_the_gradient_reaches_the_prompt() -> None:
    model = tiny.backbone()
    rows = {name: value[0] for name, value in tiny.batch(seed=11).items()}
    value_PD = model.embed(np.arange(5, 5 + tiny.P)[None])[0]

    def bound(positive: jax.Array, negative: jax.Array, mask: jax.Array | None) -> jax.Array:
        return mutual_information("infonce", positive, negative, mask)

    def information(value_PD: jax.Array) -> jax.Array:
        return head_information(bound, nnx.merge(model.graph, model.frozen), rows, value_PD, None, None)

    assert np.abs(jax.jit(jax.grad(information))(value_PD)).max() > 1e-6
