"""curves.png: what a run's members logged while they trained, one panel a quantity.

Members that differ only in their seed are one line, their mean, with a band from the lowest member to the highest. A
member without such others is a line of its own. More than 8 lines are drawn as one, over all members.
"""

from __future__ import annotations

import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from infoprompt_jax.member_names import by_seed, group_title, without_seed
from infoprompt_jax.reports import figures
from infoprompt_jax.reports.records import Records

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_LINES = 8  # as many as there are colours
STYLES = ("-", (0, (4, 1.5)))
WINDOW = 0.05  # share of a curve's points that a running mean is over

Curve = tuple[np.ndarray, np.ndarray]  # steps, values


class Panel(NamedTuple):
    """One plot, of one or more logged quantities."""

    title: str
    labels: Mapping[str, str]  # by name of the quantity
    noisy: bool  # each value is of one batch


def draw(path: str | pathlib.Path, records: Records, members: Sequence[str]) -> None:
    """Writes `figure` as a PNG; nothing where there is nothing to draw."""
    made = figure(records, members)
    if made is not None:
        figures.save(path, made)


def figure(records: Records, members: Sequence[str]) -> Figure | None:
    """Task loss, the evaluation's first metric, mutual information and prompt norm against the step.

    Args:
      records: the run's log, as `MetricsLog.records` has it. Values that are not finite are left out.
      members: the names of those to draw, in the order of the legend.

    Returns:
      A figure with a panel for each quantity that a member logged; None if there is none.
    """
    panels = _panels(records, members)
    if not panels:
        return None
    groups = by_seed(members)
    if len(groups) > MOST_LINES:
        groups = {"all members": list(members)}
    columns = 2 if len(panels) in (2, 4) else len(panels)
    rows = -(-len(panels) // columns)
    made = figures.empty(5.2 * columns, 3.5 * rows + 0.5)
    for index, panel in enumerate(panels, 1):
        _draw(made.add_subplot(rows, columns, index), panel, records, groups)
    _legend(made, groups)
    note = "Values of single batches are drawn as running means."
    if len(groups) < len(members):
        what = "seed" if all(without_seed(name) in groups for name in members) else "member"
        note += f" Lines: mean over {what}s; bands: lowest to highest {what}."
    made.supxlabel(note, fontsize=8, color="#777777", x=0.995, ha="right")
    return made


def _panels(records: Records, members: Sequence[str]) -> list[Panel]:
    """The panels that a member logged values for."""
    logged = {name for member in members for name in records.get(member, {})}
    first = dict.fromkeys(next((n for n in records.get(m, {}) if n.startswith("eval/")), "") for m in members)
    evaluations = {name: name.removeprefix("eval/").replace("_", " ") for name in first if name}
    panels = (
        Panel("Task loss, nats", {"task_loss": ""}, True),
        Panel(f"Evaluation: {', '.join(evaluations.values())}", evaluations, False),
        Panel("Mutual information (estimate), nats", {"head_mi": "head", "representation_mi": "representation"}, True),
        Panel("Prompt norm, mean over tokens", {"prompt_norm": ""}, False),
    )
    shown = (p._replace(labels={name: text for name, text in p.labels.items() if name in logged}) for p in panels)
    return [panel for panel in shown if panel.labels]


def _draw(axes: Axes, panel: Panel, records: Records, groups: Mapping[str, Sequence[str]]) -> None:
    for colour, members in zip(figures.COLOURS, groups.values(), strict=False):
        for style, name in zip(STYLES * len(panel.labels), panel.labels, strict=False):
            curves = [_curve(records[m][name], panel.noisy) for m in members if name in records.get(m, {})]
            if len(curves) > 1:
                steps, low, mean, high = _band(curves)
                axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
                curves = [(steps, mean)]
            for steps, values in curves:
                line: dict[str, Any] = {"linestyle": style, "linewidth": 1.6, "marker": "" if panel.noisy else "o"}
                axes.plot(steps, values, color=colour, alpha=0.9, markersize=3, **line)
    figures.style(axes, grid="y")
    axes.set_title(panel.title, loc="left", fontsize=10.5, color="#222222")
    axes.set_xlabel("step", fontsize=9, color="#444444")
    if len(panel.labels) > 1:
        for style, text in zip(STYLES * len(panel.labels), panel.labels.values(), strict=False):
            axes.plot([], [], color="#444444", linestyle=style, linewidth=1.6, label=text)
        axes.legend(frameon=False, fontsize=8.5)


def _curve(values_by_step: Mapping[int, float], noisy: bool) -> Curve:
    """Steps and finite values, noisy ones averaged over their neighbours."""
    steps, values = (np.array(x, float) for x in zip(*sorted(values_by_step.items()), strict=True))
    finite = np.isfinite(values)
    steps, values = steps[finite], values[finite]
    half = int(WINDOW * len(values) / 2) if noisy else 0
    total = np.concatenate([[0.0], np.cumsum(values)])
    low, high = np.arange(len(values)) - half, np.arange(len(values)) + half + 1
    low, high = np.maximum(low, 0), np.minimum(high, len(values))
    return steps, (total[high] - total[low]) / (high - low)


def _band(curves: Sequence[Curve]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Steps, lowest, mean and highest value, at each step over the members that have it."""
    by_step: dict[float, list[float]] = {}
    for steps, values in curves:
        for step, value in zip(steps, values, strict=True):
            by_step.setdefault(step, []).append(value)
    steps = sorted(by_step)
    low, mean, high = (np.array([f(by_step[step]) for step in steps]) for f in (min, statistics.fmean, max))
    return np.array(steps), low, mean, high


def _shown(title: str) -> str:
    """A title as matplotlib shows it: it leaves out of legends what begins with an underscore."""
    return f" {title}" if title.startswith("_") else title


def _legend(figure: Figure, groups: Mapping[str, Sequence[str]]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colour, linewidth=2.5, label=_shown(group_title(group, members)))
        for colour, (group, members) in zip(figures.COLOURS, groups.items(), strict=False)
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=min(len(handles), 4), frameon=False, fontsize=9.5)
