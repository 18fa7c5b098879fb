"""Plots of a zero-shot evaluation, as PNG files: the methods' scores, and which source data sets were retrieved."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from infoprompt_jax.plain_text import one_line
from infoprompt_jax.reports import figures
from infoprompt_jax.rospr.results import TITLES

MARKERS = ("o", "s", "D", "^", "v", "P", "*")  # of the methods


def plot_methods(
    path: pathlib.Path,
    scores: Mapping[str, Mapping[str, Mapping[str, float]]],
    metric: str,
    over: str = "templates",
) -> None:
    """For each data set a dot for each method's mean, and a line between its quartiles.

    Args:
      path: of the PNG.
      scores: by data set and method, "mean", "q25" and "q75".
      metric: the label of the axis.
      over: what means and quartiles are over.
    """
    methods = list(next(iter(scores.values())))
    figure = figures.empty(8.5, 1.6 + 0.62 * len(scores))
    axes = figure.add_subplot()
    for place in range(1, len(scores), 2):
        axes.axhspan(place - 0.5, place + 0.5, color="#F5F5F5", zorder=0)
    for index, method in enumerate(methods):
        colour = figures.COLOURS[index]
        y = np.arange(len(scores)) + 0.75 * ((index + 0.5) / len(methods) - 0.5)
        spread = {name: [by_method[method][name] for by_method in scores.values()] for name in ("mean", "q25", "q75")}
        axes.hlines(y, spread["q25"], spread["q75"], color=colour, linewidth=1.2, alpha=0.6)
        face = "none" if method == "oracle" else colour
        dots = axes.scatter(spread["mean"], y, s=26, zorder=3, marker=MARKERS[index], label=TITLES[method])
        dots.set(facecolor=face, edgecolor=colour)
    axes.set_yticks(range(len(scores)), [one_line(name) for name in scores])
    axes.set_ylim(len(scores) - 0.5, -0.5)
    axes.set_xlabel(f"{metric}: mean over {over}; lines: quartiles", fontsize=9, color="#444444")
    figures.style(axes, grid="x")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    figure.legend(loc="outside upper left", ncols=len(methods), frameon=False, fontsize=8.5)
    figures.save(path, figure)


def heat_map(path: pathlib.Path, votes: Mapping[str, Any]) -> None:
    """The share of each data set's votes by source data set, from `analysis.vote_shares`."""
    share, (rows, columns) = np.array(votes["share"]), (len(votes["sources"]), len(votes["targets"]))
    figure = figures.empty(3.5 + 0.6 * columns, 2.2 + 0.3 * rows)
    axes = figure.add_subplot()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=max(float(share.max()), 1e-9), aspect="auto")
    for (row, column), value in np.ndenumerate(share):
        if value >= 0.005:
            colour = "white" if value > 0.6 * share.max() else "#222222"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(range(columns), [one_line(name) for name in votes["targets"]], rotation=40, ha="right", fontsize=8)
    axes.set_yticks(range(rows), [one_line(name) for name in votes["sources"]], fontsize=8)
    axes.set_title("Share of a data set's votes, by source data set", loc="left", fontsize=10)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, shrink=0.6, pad=0.02).ax.tick_params(labelsize=7.5)
    figures.save(path, figure)
