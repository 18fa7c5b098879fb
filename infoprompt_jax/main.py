"""The one way in: `python -m infoprompt_jax.main --config=configs/rte.py [--workdir=DIR] [--config.FIELD=VALUE]`."""

from __future__ import annotations

import logging
import sys

import absl.logging

from infoprompt_jax.command_line import offline_command, parse
from infoprompt_jax.errors import OfflineError, UserError

log = logging.getLogger("infoprompt_jax")


def main() -> None:
    """Runs the job that the config names; exit status 2 with one sentence for what a user can fix, 143 if stopped."""
    logging.basicConfig(format="%(message)s")
    log.setLevel(logging.INFO)
    absl.logging.set_verbosity(absl.logging.WARNING)  # Orbax reports every step of a save
    try:
        config, workdir = parse(sys.argv)
        log.info("workdir: %s", workdir)
        from infoprompt_jax import jobs  # after the flags: a typing error should not wait for JAX

        print(jobs.run(config, workdir))
    except OfflineError as error:
        command = offline_command(sys.argv)
        refuse(f"{str(error).rstrip('.')}; without a network, this runs: {command}" if command else str(error))
    except UserError as error:
        refuse(str(error))


def refuse(sentence: str) -> None:
    """Ends the process with the sentence on one line."""
    print("error:", *sentence.split(), file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
