"""Where a config file lies: at its path or, where there is none, among the configs that come with the package.

`--config=configs/rte.py` works in every directory. The working directory's own file comes first; without one, the
package's of that name is run. A wheel holds the checkout's `configs/` as `infoprompt_jax/configs/`.
"""

from __future__ import annotations

import logging
import os
import pathlib

from infoprompt_jax.errors import UserError

log = logging.getLogger(__name__)

FOLDER = "configs"
_PACKAGE = pathlib.Path(__file__).parent


def shipped(package: pathlib.Path = _PACKAGE) -> dict[str, pathlib.Path]:
    """The configs of the package in this directory, by name: `configs/rte.py` and its path."""
    folder = next((one / FOLDER for one in (package, package.parent) if (one / FOLDER).is_dir()), package / FOLDER)
    return {f"{FOLDER}/{path.name}": path for path in sorted(folder.glob("*.py"))}


def locate(file: str) -> str:
    """The path of the config file that a command names.

    Raises:
      UserError: `file` is `configs/NAME.py`, and neither the working directory nor the package has it.
    """
    path = pathlib.Path(file)
    if path.parent != pathlib.Path(FOLDER) or os.path.lexists(file):
        return file
    known = shipped()
    if path.as_posix() not in known:
        raise UserError(
            f"--config={file} is neither a file here nor a config that comes with the package: "
            f"choose from {', '.join(known) or 'none'}."
        )
    log.info("config: %s, which comes with the package", known[path.as_posix()])
    return str(known[path.as_posix()])
