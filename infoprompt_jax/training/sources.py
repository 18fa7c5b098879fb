"""The rows and templates that a run read, before they were tokenised: whether they are still what they were.

A finished run is shown as it is. Where its rows or templates have changed since, a warning says so.
"""

from __future__ import annotations

import contextlib
import logging
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_collections

from infoprompt_jax.data.examples import source_fingerprint
from infoprompt_jax.data.rows import combined_fingerprint
from infoprompt_jax.errors import UserError
from infoprompt_jax.fleet.members import Member
from infoprompt_jax.training import recorded

log = logging.getLogger(__name__)


def fingerprint(members: Sequence[Member], config: ml_collections.ConfigDict) -> str:
    """Of all slices that the job reads, of each member's tasks. Raises UserError where they cannot be read."""
    task = config.task
    slices = [(task.eval_split, 0), (task.test_split, 0)]
    slices += [(task.train_split, task.train_limit)] if config.job == "train" else []
    tasks = [one for member in members for one in recorded.tasks(member.config)]
    named = [(split, limit) for split, limit in slices if split]
    return combined_fingerprint(*(source_fingerprint(one, *part) for one in tasks for part in named))


def warn_of_changes(
    workdir: pathlib.Path, summary: Mapping[str, Any], members: Sequence[Member], config: ml_collections.ConfigDict
) -> None:
    """Logs a warning where the slices of the members are not those of a finished run of them; see `warn`."""
    warn(workdir, summary, lambda: fingerprint(members, config))


def warn(workdir: pathlib.Path, summary: Mapping[str, Any], now: Callable[[], str]) -> None:
    """Logs a warning where a finished run's rows or templates have another fingerprint `now`.

    Those that are gone, so that `now` raises UserError, are no reason for one.
    """
    before = summary["fingerprints"].get("sources")  # former versions have none
    with contextlib.suppress(UserError):
        if before not in (None, now()):
            log.warning(
                "The rows or the templates have changed since the run in %s: choose another --workdir to use those of "
                "now.",
                workdir,
            )
