"""The config.json of a workdir, read back: `--config=runs/rte/config.json` is the config of that run.

A file of a former version has other names for some fields, and lacks the fields that are newer than itself: those have
their defaults, which is what they did.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
from typing import Any

import ml_collections

from infoprompt_jax import checksums
from infoprompt_jax.errors import UserError
from infoprompt_jax.settings import FIELDS, RENAMED, defaults, flatten

NAME = "config.json"

# What former versions wrote: fields without effect now, and defaults that are "" now.
RETIRED = ("backbone.allow_pickle",)
FORMER_DEFAULTS = {"rospr.similarity": "inner_product"}
PROCESSES = ("mesh.coordinator", "mesh.processes", "mesh.process")


def content(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """What config.json holds of a config: everything but which processes the run has at the moment."""
    made = config.copy_and_resolve_references()
    made.update_from_flattened_dict({field: FIELDS[field].default for field in PROCESSES})
    return json.loads(made.to_json())


def deciding(config: dict[str, Any]) -> str:
    """A fingerprint of the fields that decide what a run computes, of `content`; those at their defaults do not count.

    So a version with more fields gives the same.
    """
    default = flatten(json.loads(defaults().to_json()))
    fields = current(config).items()
    chosen = {n: v for n, v in fields if v != default.get(n) and not (FIELDS[n].resume or FIELDS[n].grows)}
    return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:16]


def read(path: str | pathlib.Path) -> ml_collections.ConfigDict:
    """The config that a run was started with.

    Raises:
      UserError: the file cannot be read, is no config, or was written by a version with other fields.
    """
    saved = checksums.read_json(path, "give the config of another run", f"--config={path}")
    if "job" not in saved:
        raise UserError(f"--config={path} is not the config of a run: give the {NAME} in a workdir.")
    fields = current(saved)
    for name, value in fields.items():
        if name not in FIELDS:
            raise UserError(
                f"--config={path} sets {name}, which this version does not have: read it with the version that wrote "
                "it, or remove the field."
            )
        fields[name] = tuple(value) if isinstance(value, list) else value
        try:
            FIELDS[name].check(name, fields[name])
        except UserError as error:
            raise UserError(f"--config={path}: {error}") from error
    config = defaults()
    config.update_from_flattened_dict(fields)
    return config


def current(saved: dict[str, Any]) -> dict[str, Any]:
    """The fields of a config.json as this version writes them; fields that the file lacks have their defaults."""
    default = flatten(json.loads(defaults().to_json()))
    fields = {RENAMED.get(field, field): value for field, value in flatten(saved).items() if field not in RETIRED}
    former = {field: default[field] for field, value in FORMER_DEFAULTS.items() if fields.get(field) == value}
    return default | fields | former
