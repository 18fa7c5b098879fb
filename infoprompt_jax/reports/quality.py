"""How soon each member reaches 90 % of what plain prompt tuning ends with."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from infoprompt_jax import member_names
from infoprompt_jax.reports.records import Records

SHARE = 0.9  # of plain prompt tuning's final quality


def steps_to_quality(
    final: Mapping[str, Mapping[str, float]], records: Records, main_metrics: Sequence[str]
) -> list[dict[str, Any] | None]:
    """For each member the quality to reach, and the first step whose evaluation reached it.

    Plain prompt tuning is the mean over the `plain` members that were evaluated and whose name differs from the
    member's only in preset and seed.

    Args:
      final: each member's last evaluation, by the member's name; empty for one that was never evaluated.
      records: the run's log, as `MetricsLog.records` has it.
      main_metrics: each member's main metric.

    Returns:
      {"steps": the first step, or None if the member never reached the quality; the metric's name: the quality} for
      each member, or None for one without plain members to compare with.
    """
    names = [member_names.split(member) for member in final]
    plain: dict[str, list[float]] = {}
    for (name, preset), member, metric in zip(names, final, main_metrics, strict=True):
        if preset == "plain" and metric in final[member]:  # a member that stopped early may have no evaluation
            plain.setdefault(name, []).append(final[member][metric])
    return [
        _reached(records.get(member, {}), metric, plain[name]) if name in plain else None
        for (name, _), member, metric in zip(names, final, main_metrics, strict=True)
    ]


def _reached(series: Mapping[str, Mapping[int, float]], metric: str, plain: Sequence[float]) -> dict[str, Any]:
    quality = SHARE * statistics.fmean(plain)
    steps = [step for step, value in series.get(f"eval/{metric}", {}).items() if value >= quality]
    return {"steps": min(steps, default=None), metric: quality}
