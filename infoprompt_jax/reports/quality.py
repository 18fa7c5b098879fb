"""How soon each member reaches 90 % of what plain prompt tuning ends with."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from infoprompt_jax import member_names
from infoprompt_jax.reports.records import Records

SHARE = 0.9  # of plain prompt tuning's final quality


def add_steps_to_quality(members: Sequence[dict[str, Any]], records: Records, main_metrics: Sequence[str]) -> None:
    """Adds `to_quality` to each member: the quality to reach, and the first step whose evaluation reached it.

    Plain prompt tuning is the mean over the `plain` members whose name differs from the member's in preset and seed
    alone. Without such members nothing is added. A member that never reached the quality has None for its steps.

    Args:
      members: the entries of summary.json, which are changed.
      records: the run's log, as `MetricsLog.records` has it.
      main_metrics: each member's main metric.
    """
    names = [member_names.split(member["name"]) for member in members]
    plain: dict[str, list[float]] = {}
    for (name, preset), member, metric in zip(names, members, main_metrics, strict=True):
        if preset == "plain":
            plain.setdefault(name, []).append(member["final"][metric])
    for (name, _), member, metric in zip(names, members, main_metrics, strict=True):
        if name in plain:
            quality = SHARE * statistics.fmean(plain[name])
            evaluations = records.get(member["name"], {}).get(f"eval/{metric}", {})
            reached = [step for step, value in evaluations.items() if value >= quality]
            member["to_quality"] = {"steps": min(reached, default=None), metric: quality}
