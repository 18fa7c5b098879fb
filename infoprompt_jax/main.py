"""The one way in: `python -m infoprompt_jax.main --config=configs/rte.py [--workdir=DIR] [--config.FIELD=VALUE ...]`.

Jobs return or raise; only this module ends the process.
"""

from __future__ import annotations

import logging
import sys
from typing import NoReturn

from infoprompt_jax import jobs, process, watch
from infoprompt_jax.command_line import help_requested, help_text, offline_command, parse
from infoprompt_jax.devices import deepen_stacks
from infoprompt_jax.errors import OfflineError, Stopped, UserError

MISTAKE, STOPPED = 2, 143  # exit statuses; the latter is a shell's for SIGTERM

log = logging.getLogger("infoprompt_jax")


def main() -> None:
    """Runs the config's job and prints its table; an error or a stop is one sentence and an exit status."""
    process.prepare()
    try:
        shown = help_text() if help_requested(sys.argv) else run(sys.argv)
        if watch.reports():
            print(shown)
        watch.finish()
    except OfflineError as error:
        command = offline_command(sys.argv)
        refuse(f"{str(error).rstrip('.')}; without a network, this runs: {command}" if command else str(error))
    except UserError as error:
        refuse(str(error))
    except KeyboardInterrupt:  # before or after the steps, where nothing has to be saved first
        watch.end(STOPPED, "Stopped; the same command goes on from what is saved.")
    except Stopped as stop:
        watch.end(STOPPED, str(stop))


def run(arguments: list[str]) -> str:
    """The table of the job that a command line asks for."""
    config, workdir = parse(arguments)
    if config.backbone.weights == "int8":
        deepen_stacks()
    log.info("workdir: %s", workdir)
    return jobs.run(config, workdir)


def refuse(sentence: str) -> NoReturn:
    """Prints the sentence on one line and ends the process."""
    watch.end(MISTAKE, f"error: {' '.join(sentence.split())}")


if __name__ == "__main__":
    main()
