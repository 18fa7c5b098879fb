"""RoSPr on the embedded backbone, from source prompts to the table of unseen tasks, with no download.

    python -m infoprompt_jax.main --config=configs/nano_rospr.py:sources
    python -m infoprompt_jax.main --config=configs/nano_rospr.py

The first command trains a soft prompt for each template of the 20 data sets that `nano` was pretrained on, and keeps
the prompts in a library. The second evaluates the six held-out data sets (docs/nano.md) with prompts retrieved from the
library; nothing is trained on them. Both resume. runs/nano_rospr/report.html shows which prompts were retrieved for
each task, and why.

Variants:
    sources     the first command
    siblings    source prompts of the held-out data sets themselves. A library merged of both kinds offers each
                held-out data set all prompts but its own; `python -m experiments.rospr run` makes and evaluates it for
                several seeds, and docs/rospr.md has the results
    eval        the second command; the default
"""

from __future__ import annotations

import pathlib

import ml_collections

from infoprompt_jax.command_line import read_config
from infoprompt_jax.errors import UserError
from infoprompt_jax.nano import world

CONFIGS = pathlib.Path(__file__).parent
VARIANTS = ("sources", "siblings", "eval")


def get_config(variant: str = "eval") -> ml_collections.ConfigDict:
    if variant not in VARIANTS:
        raise UserError(f"The config has no variant {variant!r}: choose from {', '.join(VARIANTS)}.")
    if variant == "eval":
        config = read_config(f"{CONFIGS}/rospr_eval.py:nano")
        config.rospr.library = "runs/nano_rospr-sources/library"
        return config
    config = read_config(f"{CONFIGS}/rospr_sources.py:nano")
    if variant == "siblings":
        config.task.name = ",".join(world.PREFIX + name for name in world.HELD_OUT)
    config.train.steps = 160  # as in configs/nano.py
    config.fleet.at_once = 8
    return config
