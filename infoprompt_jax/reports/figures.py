"""What the project's figures share: colours, the empty figure, the look of axes, and writing it as a PNG.

Matplotlib is imported when a figure is made, and drawn without its global state, so that jobs start without it and a
notebook's own figures stay untouched.
"""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Literal

from infoprompt_jax.files import whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The palette of Okabe and Ito, which colour-blind readers can tell apart, and two more.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6A3D9A", "#7F7F7F")


def empty(width: float, height: float, dpi: int = 150) -> Figure:
    """A figure of this size in inches, without axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def style(axes: Axes, grid: Literal["x", "y"]) -> None:
    """Gives axes a light grid along one axis, no frame at the top and on the right, and grey ticks."""
    axes.tick_params(labelsize=8.5, color="#999999", labelcolor="#444444")
    axes.grid(axis=grid, color="#E6E6E6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#999999")


def save(path: str | pathlib.Path, figure: Figure) -> None:
    """Writes a PNG, whole or not at all; a dollar sign in a name is no formula."""
    from matplotlib import rc_context
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)  # pyright: ignore[reportAttributeAccessIssue]  (all are of class Text)
    with (
        rc_context({"text.parse_math": False}),
        whole(path) as partial,
    ):  # also of texts that are made while it is drawn
        figure.savefig(partial, format="png")
