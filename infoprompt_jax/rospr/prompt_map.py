"""The map of a Source Prompt Library: source prompts with similar instances are close together.

Each prompt is the mean of its keys, projected on the two directions in which these means vary most (PCA). Colour and
shape show the prompt's kind.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from infoprompt_jax.reports.figures import COLOURS
from infoprompt_jax.reports.pages import bullets, join, tag
from infoprompt_jax.rospr.library import PromptLibrary

SHAPES = (  # around (0, 0), of about equal area; their number and that of the colours have no common divisor
    "M-5.5 0a5.5 5.5 0 1 0 11 0a5.5 5.5 0 1 0-11 0Z",
    "M-5-5H5V5H-5Z",
    "M0-7L7 0L0 7L-7 0Z",
    "M0-7L6.6 5H-6.6Z",
    "M0 7L6.6-5H-6.6Z",
    "M-2.3-6.5H2.3V-2.3H6.5V2.3H2.3V6.5H-2.3V2.3H-6.5V-2.3H-2.3Z",
    "M-6.5-4.2L-4.2-6.5L0-2.3L4.2-6.5L6.5-4.2L2.3 0L6.5 4.2L4.2 6.5L0 2.3L-4.2 6.5L-6.5 4.2L-2.3 0Z",
)
WIDTH, HEIGHT, MARGIN = 640, 440, 22
UNKNOWN = "not known"
NOISE = 1e-9  # of the keys' norm: smaller differences count as 0


def project(keys_KR: np.ndarray, owners_K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places [M, 2] of the owners' mean keys, and the share of these means' variance that each axis shows [2].

    The sign of an axis is such that its largest component is positive, so that the same keys make the same map.
    """
    means_MR = np.stack([keys_KR[owners_K == m].mean(axis=0, dtype=np.float64) for m in range(owners_K.max() + 1)])
    left, sizes, right = np.linalg.svd(means_MR - means_MR.mean(axis=0), full_matrices=False)
    sizes = np.where(sizes > NOISE * np.linalg.norm(means_MR), sizes, 0)
    largest = np.take_along_axis(right, np.abs(right).argmax(axis=1)[:, None], axis=1)[:, 0]
    places, shares = left * sizes * np.sign(largest), sizes**2 / max((sizes**2).sum(), np.finfo(float).tiny)
    missing = max(0, 2 - len(sizes))
    return np.pad(places, ((0, 0), (0, missing)))[:, :2], np.pad(shares, (0, missing))[:2]


def maps(library: PromptLibrary) -> list[Markup]:
    """The same map twice: by task family and by answer format. A point links to the element `source-<number>`."""
    keys_KR = library.keys_KR
    if library.manifest.similarity == "cosine":  # which ignores lengths
        keys_KR = keys_KR / np.maximum(np.linalg.norm(keys_KR, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    places_M2, shares = project(keys_KR, library.owners_K)
    points, entries = pixels(places_M2), library.entries
    texts = [describe(library, owner) for owner in range(len(library))]
    shown = (
        figure("Colour and shape: task family", [entry.family for entry in entries], points, texts),
        figure("Colour and shape: answer format", [entry.answer_format for entry in entries], points, texts),
    )
    note = (
        "A point is a source prompt, at the mean of its keys. The axes are the two directions of the largest variance, "
        f"on one scale: {shares[0]:.0%} of the variance lies along x, {shares[1]:.0%} along y. Hover over a point for "
        "its facts; click it to go to the list."
    )
    return [tag("p", note), tag("div", *shown, class_="side")]


def describe(library: PromptLibrary, owner: int) -> str:
    """The facts on a source prompt, one a line: name, data set, template, kinds, metrics."""
    entry = library.entries[owner]
    facts = {
        "data set": entry.dataset,
        "template": entry.template,
        "family": entry.family,
        "answers": entry.answer_format,
        **{name: f"{value:.4f}" for name, value in entry.metrics.items()},
    }
    return "\n".join([entry.name, *(f"{name}: {value}" for name, value in facts.items() if value)])


def pixels(places_M2: np.ndarray) -> np.ndarray:
    """Places in the picture, centred, with one scale for x and y."""
    low, high = places_M2.min(axis=0), places_M2.max(axis=0)
    box = np.array([WIDTH, HEIGHT], float)
    scale = ((box - 2 * MARGIN) / np.maximum(high - low, np.finfo(np.float32).tiny)).min()
    return box / 2 + (places_M2 - (low + high) / 2) * scale * (1, -1)


def figure(title: str, kinds: Sequence[str], points_M2: np.ndarray, texts: Sequence[str]) -> Markup:
    """One map as SVG, with a legend that counts the source prompts of each kind.

    Args:
      kinds: of each source prompt, which sets its colour and shape; "" is shown as not known.
      points_M2: x and y in pixels, from `pixels`.
      texts: of each source prompt, shown when the mouse is over its point.
    """
    kinds = [kind or UNKNOWN for kind in kinds]
    legend = sorted(set(kinds), key=lambda kind: (kind == UNKNOWN, kind))
    marks = {kind: (SHAPES[i % len(SHAPES)], COLOURS[i % len(COLOURS)]) for i, kind in enumerate(legend)}
    drawn = []
    for owner, (kind, (x, y), text) in enumerate(zip(kinds, points_M2, texts, strict=True)):
        shape, colour = marks[kind]
        mark = tag("path", tag("title", text), d=shape, fill=colour, transform=f"translate({x:.1f} {y:.1f})")
        drawn.append(tag("a", mark, href=f"#source-{owner}"))
    picture = tag("svg", *drawn, class_="map", viewBox=f"0 0 {WIDTH} {HEIGHT}", role="group", **{"aria-label": title})
    items = (join([glyph(*marks[kind]), kind, f" ({kinds.count(kind)})"]) for kind in legend)
    return tag("figure", tag("figcaption", title), picture, bullets(items, class_="legend"))


def glyph(shape: str, colour: str) -> Markup:
    """The mark of a kind, for the legend. Screen readers skip it."""
    return tag("svg", tag("path", d=shape, fill=colour), viewBox="-7 -7 14 14", **{"aria-hidden": "true"})
