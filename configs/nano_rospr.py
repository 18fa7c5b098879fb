"""RoSPr on the embedded backbone, from source prompts to the table of unseen tasks, with no download.

    python -m infoprompt_jax.main --config=configs/nano_rospr.py:sources
    python -m infoprompt_jax.main --config=configs/nano_rospr.py

The first trains a soft prompt for each hard prompt of the 20 data sets that `nano` was pretrained on, and keeps them in
a library; the second evaluates the six held-out data sets (docs/nano.md), untrained, with prompts retrieved from it.
Both resume. runs/nano_rospr/report.html shows what was retrieved for what, and why.

    siblings    instead of sources: prompts trained on the held-out data sets themselves. Merged with the others, they
                are candidates for every held-out data set but their own (`python -m experiments.rospr run` does this,
                for several seeds; docs/rospr.md has what came of it)
"""

from __future__ import annotations

import pathlib
import runpy

import ml_collections

from infoprompt_jax.errors import UserError
from infoprompt_jax.nano import world

VARIANTS = ("sources", "siblings", "eval")


def beside(name: str, *arguments: str) -> ml_collections.ConfigDict:
    """The config of another file in this directory."""
    return runpy.run_path(str(pathlib.Path(__file__).with_name(f"{name}.py")))["get_config"](*arguments)


def get_config(variant: str = "eval") -> ml_collections.ConfigDict:
    if variant not in VARIANTS:
        raise UserError(f"The config has no variant {variant!r}: choose from {', '.join(VARIANTS)}.")
    if variant == "eval":
        config = beside("rospr_eval", "nano")
        config.rospr.library = "runs/nano_rospr-sources/library"
        return config
    config = beside("rospr_sources", "nano")
    if variant == "siblings":
        config.task.name = ",".join(world.PREFIX + name for name in world.HELD_OUT)
    config.train.steps = 160  # as in configs/nano.py
    config.fleet.at_once = 8
    return config
