"""docs/claims.png: validation accuracy over training, plain prompt tuning beside both terms, one panel a run."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

import numpy as np

from experiments.claims_results import Result, title_of
from experiments.paired import of_preset
from infoprompt_jax.reports import figures

COLUMNS = 6
COLOURS = {"plain": figures.COLOURS[1], "both": figures.COLOURS[0]}


def draw(results: Mapping[str, Result], path: pathlib.Path) -> None:
    """Means over the seeds with bands of one standard deviation."""
    rows = -(-len(results) // COLUMNS)
    figure = figures.empty(2.6 * COLUMNS, 2.3 * rows + 0.4, dpi=110)
    for index, (name, result) in enumerate(results.items(), 1):
        axes = figure.add_subplot(rows, COLUMNS, index)
        for preset, colour in COLOURS.items():
            curves = [member["curve"] for member in of_preset(result, preset)]
            steps = [step for step, _ in curves[0]]
            accuracy_MT = np.array([[value for _, value in curve] for curve in curves])
            mean, deviation = accuracy_MT.mean(axis=0), accuracy_MT.std(axis=0, ddof=1)
            axes.fill_between(steps, mean - deviation, mean + deviation, color=colour, alpha=0.15, linewidth=0)
            axes.plot(steps, mean, color=colour, linewidth=1.6, label=preset)
        axes.axhline(result["references"]["no prompt"]["best"], color="#999999", linewidth=1, linestyle=":")
        axes.set_title(title_of(name), loc="left", fontsize=9.5)
        axes.tick_params(labelsize=7.5)
        axes.spines[["top", "right"]].set_visible(False)
        if index == 1:
            axes.legend(frameon=False, fontsize=8)
    figure.supxlabel(
        "step; mean validation accuracy ± one standard deviation over seeds; dotted: no prompt", fontsize=8.5
    )
    figures.save(path, figure)
