"""The one way in: `python -m infoprompt_jax.main --config=configs/rte.py --workdir=DIR [--config.field=value ...]`."""

from __future__ import annotations

import logging
import sys

import absl.logging

from infoprompt_jax.command_line import parse
from infoprompt_jax.errors import UserError


def main() -> None:
    """Runs the job that the config names; exit status 2 with one sentence for what a user can fix, 143 if stopped."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("infoprompt_jax").setLevel(logging.INFO)
    absl.logging.set_verbosity(absl.logging.WARNING)  # Orbax reports every step of a save
    try:
        config, workdir = parse(sys.argv)
        from infoprompt_jax import jobs  # after the flags: a typing error should not wait for JAX

        print(jobs.run(config, workdir))
    except UserError as error:
        print("error:", *str(error).split(), file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
