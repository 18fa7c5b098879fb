"""The one way in: `python -m infoprompt_jax.main --config=configs/rte.py --workdir=DIR [--config.field=value ...]`."""

from __future__ import annotations

import logging
import os
import sys

import absl.logging
from absl import flags
from ml_collections import config_flags

from infoprompt_jax.errors import UserError

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "A file in configs/, or your own; its docstring is its manual."
)
WORKDIR = flags.DEFINE_string("workdir", None, "Where the run's files go; the same command again resumes.")


def parse(arguments: list[str]) -> None:
    """Reads the command line; everything wrong with it or with the config file becomes a UserError."""
    try:
        rest = flags.FLAGS(arguments)[1:]
    except flags.Error as error:
        raise UserError(f"{error}.") from error
    except (AttributeError, KeyError) as error:
        reason = " ".join(str(error.args[0]).split())
        raise UserError(f"The config has no such field: {reason}; infoprompt_jax/settings.py lists all.") from error
    except (OSError, SyntaxError) as error:
        raise UserError(f"--config cannot be read: {' '.join(str(error).split())}.") from error
    if rest:
        raise UserError(f"The argument {rest[0]!r} was not expected: options are written --name=value.")
    for flag in (CONFIG, WORKDIR):
        if flag.value is None:
            raise UserError(f"--{flag.name} is missing: python -m infoprompt_jax.main --config=FILE --workdir=DIR.")


def main() -> None:
    """Runs the job that the config names; exit status 2 with one sentence for what a user can fix, 143 if stopped."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow only reads data here
    logging.basicConfig(format="%(message)s")
    logging.getLogger("infoprompt_jax").setLevel(logging.INFO)
    absl.logging.set_verbosity(absl.logging.WARNING)  # Orbax reports every step of a save
    try:
        parse(sys.argv)
        from infoprompt_jax import jobs  # after the flags: a typing error should not wait for JAX

        print(jobs.run(CONFIG.value, WORKDIR.value))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
