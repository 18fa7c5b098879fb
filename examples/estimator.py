"""Adds an estimator of mutual information and trains InfoPrompt's head term with it, without a download.

    python -m examples.estimator

It is InfoNCE of softly clipped scores, as in AMDIM (Bachman et al. 2019): still a lower bound, and its critic cannot
run away. `ip.register_estimator` makes it known to `infoprompt.estimator` and to `ip.mutual_information`. In a command,
the config file is the place to call it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import infoprompt_jax as ip
from examples import train
from infoprompt_jax.infoprompt import estimators

WORKDIR = "runs/example-estimator"


def clipped_infonce(scores: estimators.Scores) -> jax.Array:
    """`infonce` of tau * tanh(score / tau), in nats; tau is `infoprompt.smile_tau`. Its value is a scalar."""
    positive_B, negative_BK = (scores.tau * jnp.tanh(x / scores.tau) for x in (scores.positive_B, scores.negative_BK))
    return estimators.infonce(scores._replace(positive_B=positive_B, negative_BK=negative_BK))


ip.register_estimator("clipped_infonce", clipped_infonce)


def pairs(rho: float = 0.8, rows: int = 512, negatives: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Log density ratios of Gaussian pairs of correlation rho: [B] of pairs drawn together, [B, K] drawn apart."""
    rng = np.random.default_rng(0)
    x_B1, y_BK = rng.normal(size=(rows, 1)), rng.normal(size=(rows, negatives + 1))
    y_BK[:, 0] = rho * x_B1[:, 0] + np.sqrt(1 - rho**2) * y_BK[:, 0]
    ratio_BK = (2 * rho * x_B1 * y_BK - rho**2 * (x_B1**2 + y_BK**2)) / (2 * (1 - rho**2)) - np.log(1 - rho**2) / 2
    return ratio_BK[:, 0], ratio_BK[:, 1:]


def main() -> None:
    print(f"exact: {-np.log(1 - 0.8**2) / 2:.2f} nats")
    for name in ("clipped_infonce", "infonce", "nwj"):
        print(f"{name}: {ip.mutual_information(name, *pairs()):.2f} nats")
    config = train.config()
    config.infoprompt.update(estimator="clipped_infonce", gamma=0.1)
    (member,) = ip.train(config, WORKDIR)["members"]
    print(
        f"accuracy {member['best']['accuracy']:.2f}, I(prompt; head) {member['mutual_information']['head_mi']:.2f} nats"
    )


if __name__ == "__main__":
    main()
