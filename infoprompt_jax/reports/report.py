"""What a run leaves for people: its curves and its table.

Members are named `<variant>-seed<n>`, or `<variant>` alone. Curves and tables treat members of one variant as
repetitions of one thing: one colour, and mean and spread where there are too many for a line each.
"""

from __future__ import annotations

import math
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from infoprompt_jax.files import whole
from infoprompt_jax.reports.tables import aligned

QUALITY = 0.9  # of what plain prompt tuning ends with: how soon a member gets there is reported
MOST_LINES = 8  # members that are drawn one by one
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6A3D9A", "#7F7F7F")  # Okabe and Ito's
TITLES = {"to_quality": "steps to 90 % of plain", "mutual_information": "MI {}"}
STYLES = ("-", (0, (4, 1.5)))
WINDOW = 0.05  # of a curve's points are averaged where each is one batch's value

Record = dict[str, Any]  # one line of metrics.jsonl: step, member, name, value
Records = dict[str, dict[str, dict[int, float]]]  # member -> name -> step -> value; NaN where the file has null
Panel = tuple[str, dict[str, str], bool]  # title, name of the metric -> label, whether each value is one batch's
Curve = tuple[np.ndarray, np.ndarray]  # steps, values


def variant(member: str) -> str:
    """`both-seed3` is the variant `both`; a name without a seed is its own."""
    name, _, seed = member.rpartition("-seed")
    return name if name and seed.isdigit() else member


def setting(member: str) -> tuple[str, str]:
    """(`fast`, `both`) for the member `fast-both-seed3`, ("", `both`) for `both-seed3`."""
    own, _, last = variant(member).rpartition("-")
    return own, last


def group(members: Sequence[str]) -> dict[str, list[str]]:
    """Members by variant, in order."""
    groups: dict[str, list[str]] = {}
    for member in members:
        groups.setdefault(variant(member), []).append(member)
    return groups


def _label(name: str, members: Sequence[str]) -> str:
    if len(members) == 1:
        return members[0]
    return f"{name} ({len(members)}{' seeds' if name == variant(members[0]) else ''})"


def curves(path: str | pathlib.Path, records: Records, members: Sequence[str]) -> None:
    """Draws a PNG with a panel for each of: task loss, the evaluation's first metric, MI estimates, prompt norm.

    Up to 8 members have a line each; of more, a variant's mean is drawn and a band from its lowest to its highest; more
    than 8 variants are drawn as one. `records` is `MetricsLog.records`; nothing is written if none can be drawn.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = _panels(records, members)
    if not panels:
        return
    groups, bands = group(members), len(members) > MOST_LINES
    if len(groups) > MOST_LINES:
        groups = {"all members": list(members)}
    columns = 2 if len(panels) in (2, 4) else len(panels)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(5.2 * columns, 3.5 * rows + 0.5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    for index, panel in enumerate(panels):
        _draw(figure.add_subplot(rows, columns, index + 1), panel, records, groups, bands)
    _legend(figure, groups)
    note = "Values of single batches are drawn as running means." + " Bands: lowest to highest member." * bands
    figure.supxlabel(note, fontsize=8, color="#777777", x=0.995, ha="right")
    with whole(path) as partial:
        figure.savefig(partial, format="png")


def _panels(records: Records, members: Sequence[str]) -> list[Panel]:
    """The panels that have something to show."""
    logged = list(dict.fromkeys(name for member in members for name in records.get(member, {})))
    main = dict.fromkeys(next((n for n in records.get(m, {}) if n.startswith("eval/")), "") for m in members)
    evaluations = {name: name.removeprefix("eval/").replace("_", " ") for name in main if name}
    panels: list[Panel] = [
        ("Task loss, nats", {"task_loss": ""}, True),
        (f"Evaluation: {', '.join(evaluations.values())}", evaluations, False),
        ("Mutual information (estimate), nats", {"head_mi": "head", "representation_mi": "representation"}, True),
        ("Prompt norm, mean over tokens", {"prompt_norm": ""}, False),
    ]
    shown = [(title, {n: label for n, label in names.items() if n in logged}, noisy) for title, names, noisy in panels]
    return [panel for panel in shown if panel[1]]


def _draw(axes: Any, panel: Panel, records: Records, groups: dict[str, list[str]], bands: bool) -> None:
    title, names, noisy = panel
    for colour, members in zip(COLOURS, groups.values(), strict=False):
        for style, name in zip(STYLES * len(names), names, strict=False):
            found = [_curve(records[m][name], noisy) for m in members if name in records.get(m, {})]
            if bands and len(found) > 1:
                steps, low, mean, high = _band(found)
                axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
                found = [(steps, mean)]
            for steps, values in found:
                line = {"linestyle": style, "linewidth": 1.6, "alpha": 0.9, "marker": "" if noisy else "o"}
                axes.plot(steps, values, color=colour, markersize=3, **line)
    axes.set_title(title, loc="left", fontsize=10.5, color="#222222")
    axes.set_xlabel("step", fontsize=9, color="#444444")
    axes.tick_params(labelsize=8.5, color="#999999", labelcolor="#444444")
    axes.grid(axis="y", color="#E6E6E6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#999999")
    if len(names) > 1:
        for style, label in zip(STYLES * len(names), names.values(), strict=False):
            axes.plot([], [], color="#444444", linestyle=style, linewidth=1.6, label=label)
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


def _band(found: list[Curve]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Steps, lowest, mean and highest value, at each step over the members that have it."""
    by_step: dict[float, list[float]] = {}
    for steps, values in found:
        for step, value in zip(steps, values, strict=True):
            by_step.setdefault(step, []).append(value)
    steps = sorted(by_step)
    columns = ([f(by_step[step]) for step in steps] for f in (min, statistics.fmean, max))
    low, mean, high = map(np.array, columns)
    return np.array(steps), low, mean, high


def _legend(figure: Any, groups: dict[str, list[str]]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colour, linewidth=2.5, label=_label(name, own))
        for colour, (name, own) in zip(COLOURS, groups.items(), strict=False)
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=min(len(handles), 4), frameon=False, fontsize=9.5)


def add_steps_to_quality(members: Sequence[dict[str, Any]], records: Records, chosen: Sequence[str]) -> None:
    """Adds to each member the first step at which its evaluation reached 90 % of what plain prompt tuning ended with.

    Plain prompt tuning is the mean of the `plain` members that differ from it in nothing but variant and seed; where
    there are none, nothing is added. A member that never got there has None. `chosen` are the members' main metrics.
    """
    plain: dict[str, list[float]] = {}
    for member, metric in zip(members, chosen, strict=True):
        own, last = setting(member["name"])
        if last == "plain":
            plain.setdefault(own, []).append(member["final"][metric])
    for member, metric in zip(members, chosen, strict=True):
        own, _ = setting(member["name"])
        if own in plain:
            quality = QUALITY * statistics.fmean(plain[own])
            evaluations = records.get(member["name"], {}).get(f"eval/{metric}", {})
            reached = [step for step, value in evaluations.items() if value >= quality]
            member["to_quality"] = {"steps": min(reached, default=None), metric: quality}


def table(summary: Mapping[str, Any]) -> str:
    """The members of a run's summary as aligned text; of a variant with several seeds, mean ± standard deviation.

    Columns: steps, the `best`, `final` and `test` value of each member's first metric, the steps to 90 % of plain
    prompt tuning's final quality, and what members have under `mutual_information` (nats). The summary's `references`
    come first.
    """
    members = {member["name"]: member for member in [*summary.get("references", []), *summary["members"]]}
    columns = _columns(list(members.values()))
    titles = (TITLES.get(entry, f"{entry} {name}").replace("{}", name) for entry, name in columns)
    rows = []
    for name, own in group(list(members)).items():
        found = [members[member] for member in own]
        steps = _spread([member.get("steps") for member in found], 0)
        values = [_spread([m.get(e, {}).get(n) for m in found], 0 if n == "steps" else 4) for e, n in columns]
        rows.append([_label(name, own), steps, *values])
    return aligned(["member", "steps", *titles], rows)


def _columns(members: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(entry of a member, name of a value in it), in the order they are shown."""
    columns: dict[tuple[str, str], None] = {}
    for entry, most in (("best", 1), ("final", 1), ("test", 1), ("to_quality", 1), ("mutual_information", None)):
        for member in members:
            columns |= dict.fromkeys((entry, name) for name in list(member.get(entry, {}))[:most])
    return list(columns)


def _spread(values: list[float | None], digits: int) -> str:
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return "-"
    mean = f"{statistics.fmean(known):.{digits}f}"
    return mean if len(known) == 1 or len(set(known)) == 1 else f"{mean} ± {statistics.stdev(known):.{digits}f}"
