"""The results of predictions, from the finished file: how many rows have a label, and what share of them is right."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from infoprompt_jax.evaluation import metrics
from infoprompt_jax.progress import pace
from infoprompt_jax.reports.tables import aligned

MEAN = "mean over templates"

Key = tuple[str, str]  # a prompt, "" where there is one set of templates for all; and a template, or MEAN


@dataclasses.dataclass
class Result:
    """One template's predictions, or the mean's. `pairs` counts (prediction, target), as places of choices."""

    rows: int = 0
    unanswered: int = 0
    pairs: collections.Counter[tuple[int, int]] = dataclasses.field(default_factory=collections.Counter)

    def add(self, entry: Mapping[str, Any], metric: str) -> None:
        """Counts one prediction of `predictions.jsonl`."""
        self.rows += 1
        self.unanswered += entry["prediction"] is None
        if "target" in entry:
            self.pairs[places(entry, metric)] += 1

    @property
    def labelled(self) -> int:
        """How many rows have a target."""
        return self.pairs.total()

    def value(self, metric: str) -> float | None:
        """The metric over the labelled rows; None without any."""
        if not self.pairs:
            return None
        counts = list(self.pairs.values())
        predicted, right = (np.repeat(np.array(side, np.int32), counts) for side in zip(*self.pairs, strict=True))
        return metrics.find_metric("accuracy" if metric == "exact_match" else metric)(predicted, right)


def places(entry: Mapping[str, Any], metric: str) -> tuple[int, int]:
    """The prediction and the target as places among the choices; of texts, (0, 0) for an exact match."""
    prediction, target = entry["prediction"], entry["target"]
    if metric == "exact_match":
        alike = prediction is not None and metrics.normal_form(prediction) == metrics.normal_form(target)
        return (0 if alike else metrics.NO_ANSWER, 0)
    choices = list(entry["scores"]) or [target]
    return choices.index(prediction) if prediction in choices else metrics.NO_ANSWER, choices.index(target)


def over_templates(line: Mapping[str, Any]) -> Mapping[str, Any]:
    """A line's own entry; without scores, that of the first template with its prediction, which has choices."""
    alike = (entry for entry in line["templates"].values() if entry["prediction"] == line["prediction"])
    return line if line["scores"] else next(alike, line)


def measure(lines: Iterable[Mapping[str, Any]], metric_of: Mapping[Key, str]) -> dict[str, Any]:
    """The summary of `predictions.jsonl`, in constant memory.

    Args:
      lines: of the file.
      metric_of: `PromptSource.metrics`.

    Returns:
      `rows`; `left_out`, the rows that no template applies to; and `results`, one for each template and, where there
      are several, for their mean: prompt, template, rows, labelled, unanswered, metric and its value.
    """
    by_prompt = any(prompt for prompt, _ in metric_of)
    results: dict[Key, Result] = {key: Result() for key in metric_of}
    rows = left_out = 0
    for line in lines:
        rows += 1
        left_out += not line["templates"]
        for template, entry in line["templates"].items():
            key = (entry.get("prompt", "") if by_prompt else "", template)
            results[key].add(entry, metric_of[key])
        if line["templates"]:
            first = next(iter(line["templates"].items()))
            prompt = first[1].get("prompt", "") if by_prompt else ""
            results.setdefault((prompt, MEAN), Result()).add(over_templates(line), metric_of[prompt, first[0]])
    return {"rows": rows, "left_out": left_out, "results": [*_listed(results, metric_of)]}


def _listed(results: Mapping[Key, Result], metric_of: Mapping[Key, str]) -> Iterable[dict[str, Any]]:
    """A prompt's templates, then their mean if there are several."""
    for prompt in dict.fromkeys(prompt for prompt, _ in metric_of):
        templates = [template for name, template in metric_of if name == prompt]
        for template in [*templates, *([MEAN] if len(templates) > 1 and (prompt, MEAN) in results else [])]:
            result, metric = (
                results[prompt, template],
                metric_of[prompt, template if template != MEAN else templates[0]],
            )
            yield {
                "prompt": prompt,
                "template": template,
                "rows": result.rows,
                "labelled": result.labelled,
                "unanswered": result.unanswered,
                "metric": metric,
                "value": result.value(metric),
            }


def table(summary: Mapping[str, Any]) -> str:
    """A line for each template and their mean; then the rows left out, the speed and the peak of memory."""
    results: Sequence[Mapping[str, Any]] = summary["results"]
    prompts = any(one["prompt"] for one in results)
    names = list(dict.fromkeys(one["metric"] for one in results if one["labelled"]))
    lines = [
        [
            *([one["prompt"]] if prompts else []),
            one["template"],
            str(one["rows"]),
            str(one["labelled"]),
            *(f"{one['value']:.4f}" if one["metric"] == name and one["labelled"] else "-" for name in names),
        ]
        for one in results
    ]
    titles = [*(["prompt"] if prompts else []), "template", "rows", "labelled", *names]
    left_out, rows = summary["left_out"], summary["rows"]
    notes = [f"{left_out} of {rows} rows fit no template; their prediction is null."] if left_out else []
    if summary.get("rows_per_second") and summary.get("peak_memory_bytes"):
        peak = summary["peak_memory_bytes"] / 1e6
        notes.append(f"{pace(summary['rows_per_second'], 1, 'rows')}, peak memory {peak:,.0f} MB")
    return "\n".join([aligned(titles, lines), *notes])
