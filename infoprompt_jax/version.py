"""The version, which stands in pyproject.toml and nowhere else.

A checkout reads its own pyproject.toml, also where another version is installed. An installed package has no such file
beside it and reads the metadata that its installation made of it.
"""

from __future__ import annotations

import importlib.metadata
import pathlib
import tomllib

NAME = "infoprompt_jax"


def version(package: pathlib.Path = pathlib.Path(__file__).parent) -> str:
    """The version of the package in this directory; "unknown" where it is neither a checkout nor installed."""
    try:
        project = tomllib.loads((package.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        if project["name"] == NAME:
            return project["version"]
    except (OSError, ValueError, KeyError):  # no file, or that of another project
        pass
    try:
        return importlib.metadata.version(NAME)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


__version__ = version()
