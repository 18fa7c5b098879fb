"""Trains a soft prompt from Python, on nano and its generated entailment data; nothing is downloaded.

    python -m examples.train

The same command again reads the finished run, and one that was stopped resumes. Your own rows and a template are set as
the fields `data.dir` and `task.input` (docs/data.md). The prompt is in runs/example/prompts/run; examples/predict.py
uses it.
"""

from __future__ import annotations

import ml_collections

import infoprompt_jax as ip
from infoprompt_jax import settings

WORKDIR = "runs/example"


def config() -> ml_collections.ConfigDict:
    """Plain prompt tuning on 256 examples; docs/configuration.md has every field."""
    config = settings.defaults()
    config.backbone.name = "nano"  # or a hub id, or a local directory
    config.task.name = "nano/entailment"
    config.task.template = "follows"
    config.task.shots = 256
    config.task.eval_split = "validation[:256]"
    config.data.max_input_length = 64
    config.data.buckets = (32, 64)  # inputs are padded to the next of these
    config.prompt.length = 8
    config.train.steps = 120
    config.train.batch_size = 8
    config.train.eval_every = 20
    config.train.learning_rate = 1.0
    config.train.references = True  # also the backbone without a prompt
    return config


def main() -> None:
    summary = ip.train(config(), WORKDIR)
    for reference in summary["references"]:
        print(f"{reference['name']}: {reference['best']['accuracy']:.2f}")
    for member in summary["members"]:
        print(f"{member['name']}: {member['best']['accuracy']:.2f} after {member['best_step']} steps")


if __name__ == "__main__":
    main()
