"""Selects the best prompt by a metric of one's own, on nano and its generated data; nothing is downloaded.

    python -m examples.metric

The same file as a config, where the command does so:

    python -m infoprompt_jax.main --config=examples/metric.py --workdir=runs/example-metric

The metric is the mean of the classes' recalls, which does not rise for a prompt that always gives the frequent answer.
"""

from __future__ import annotations

import ml_collections
import numpy as np

import infoprompt_jax as ip
from examples import train

WORKDIR = "runs/example-metric"


def balanced_accuracy(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the classes of the labels [rows] of the share of their rows that is predicted right."""
    right = predictions == labels
    return float(np.mean([right[labels == label].mean() for label in np.unique(labels)]))


ip.register_metric("balanced_accuracy", balanced_accuracy)


def get_config() -> ml_collections.ConfigDict:
    """The config of examples/train.py with another metric."""
    config = train.config()
    config.task.metric = "balanced_accuracy"
    return config


def main() -> None:
    (member,) = ip.train(get_config(), WORKDIR)["members"]
    best = member["best"]
    print(f"balanced accuracy {best['balanced_accuracy']:.2f}, accuracy {best['accuracy']:.2f}")


if __name__ == "__main__":
    main()
