"""What the command sets for its whole process, before the job. A program that imports the package sets its own."""

from __future__ import annotations

import gc
import io
import logging
import sys

import absl.logging

from infoprompt_jax.devices import order_collectives, quiet_tensorflow


def prepare() -> None:
    """Sets the log, the output, the collection of garbage, and what JAX and TensorFlow read when they start."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("infoprompt_jax").setLevel(logging.INFO)
    absl.logging.set_verbosity(absl.logging.WARNING)  # Orbax reports every step of a save
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names may hold what no terminal has
    gc.set_threshold(50_000)  # modules and traced programs are many objects that stay: seldom look for garbage
    order_collectives()
    quiet_tensorflow()
