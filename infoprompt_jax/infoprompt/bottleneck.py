"""The variational bottleneck: a trained Gaussian N(mean(h), exp(log_std(h))^2) between the representation and the loss.

With `infoprompt.variational` the representation Z passes through E latent numbers: a sample in training, the mean at
prediction. The same posterior gives the negatives of the representation loss, and a KL divergence to N(0, I) is added
to the loss. Follows InfoPrompt's released code (arXiv 2306.04933).

`posterior` is the trainable part of this name; E is the bottleneck's width, other axes as in `t5/model.py`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from infoprompt_jax.infoprompt.representation_loss import Negatives
from infoprompt_jax.infoprompt.trainable import Part


def init(width: int, latent: int, down_key: jax.Array, up_key: jax.Array) -> Part:
    """First values of the posterior for D = `width` and E = `latent`."""
    down = jax.random.normal(down_key, (2, width, latent)) * width**-0.5
    up = jax.random.normal(up_key, (latent, width)) * latent**-0.5
    return {"mean": down[0], "log_std": down[1], "out": up}


def encode(posterior: Part, h_BD: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and log standard deviation [B, E]; the latter is clipped to [-2, 10], as in the released code."""
    return h_BD @ posterior["mean"], jnp.clip(h_BD @ posterior["log_std"], -2.0, 10.0)


def sample(posterior: Part, z_BD: jax.Array, features_BD: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A sample [B, D] of Z through the bottleneck, and each row's KL divergence [B] in nats.

    The divergence is the sum of two: of the prompted pass `z_BD` and of the un-prompted one, `features_BD`.
    """
    mean_BE, log_std_BE = encode(posterior, z_BD)
    noise_BE = jax.random.normal(key, mean_BE.shape)
    sampled_BD = (mean_BE + noise_BE * jnp.exp(log_std_BE)) @ posterior["out"]
    return sampled_BD, gaussian_kl(mean_BE, log_std_BE) + gaussian_kl(*encode(posterior, features_BD))


def predict(posterior: Part, z_BD: jax.Array) -> jax.Array:
    """Z through the bottleneck without noise, [B, D]: what predictions are made from."""
    return (z_BD @ posterior["mean"]) @ posterior["out"]


def negatives(posterior: Part, features_BD: jax.Array, count: int, key: jax.Array) -> Negatives:
    """K = `count` samples of the posterior of each example's own un-prompted representation."""
    mean_BE, log_std_BE = encode(posterior, features_BD)
    noise_BKE = jax.random.normal(key, (len(mean_BE), count, mean_BE.shape[-1]))
    return (mean_BE[:, None] + noise_BKE * jnp.exp(log_std_BE)[:, None]) @ posterior["out"], None


def gaussian_kl(mean: jax.Array, log_std: jax.Array) -> jax.Array:
    """KL(N(mean, exp(log_std)^2) || N(0, I)) in nats, averaged over the last (latent) axis."""
    mean, log_std = mean.astype(jnp.float32), log_std.astype(jnp.float32)
    return jnp.mean(0.5 * (mean**2 + jnp.exp(2.0 * log_std) - 1.0) - log_std, axis=-1)
