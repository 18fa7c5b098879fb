"""Charts of numbers with intervals, as SVG: rows of marks on an axis, readable on a light and on a dark page.

A panel is an axis with rows; a row has a title, marks and a note, which is text at the right. Each mark's number is
also its `<title>`, so that a screen reader, a browser and a test read the number and not the picture.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
import re
from collections.abc import Mapping, Sequence
from html import escape as escaped

from infoprompt_jax.files import whole

WIDTH, LEFT, RIGHT = 1000, 412, 190  # pixels of a chart, of the titles and of the notes
LOW, TALL, LINE, MARGIN = 28, 40, 16, 20  # rows of one line and of two, a line of small text, the margin
UNWRITABLE = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in XML
SHAPES = ("dot", "ring", "bar", "diamond")  # of the kinds of marks, in their order
STYLE = """
  svg { --page: #ffffff; --ink: #1f2933; --soft: #5b6875; --line: #e1e5ea; --zero: #7b8794;
        --dot: #0072b2; --ring: #c2540a; --bar: #5b6875; --diamond: #00805c; }
  @media (prefers-color-scheme: dark) {
    svg { --page: #15191e; --ink: #e6e9ec; --soft: #a5afb9; --line: #2c333b; --zero: #8b96a1;
          --dot: #56b4e9; --ring: #f0964f; --bar: #a5afb9; --diamond: #3fc79a; }
  }
  text { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: var(--ink); }
  .small { font-size: 11.5px; fill: var(--soft); } .bold, .head { font-weight: 600; }
  .page { fill: var(--page); } .grid { stroke: var(--line); } .zero { stroke: var(--zero); stroke-dasharray: 3 3; }
  .dot { fill: var(--dot); stroke: var(--dot); } .ring { fill: var(--page); stroke: var(--ring); }
  .bar { fill: var(--bar); stroke: var(--bar); } .diamond { fill: var(--diamond); stroke: var(--diamond); }
  .mark { stroke-width: 1.8; }
"""


@dataclasses.dataclass(frozen=True)
class Mark:
    """A number of a kind, with the ends of its interval if it has one, as `text` says it."""

    kind: str
    value: float
    text: str
    low: float | None = None
    high: float | None = None

    @property
    def ends(self) -> tuple[float, float]:
        return (self.value if self.low is None else self.low, self.value if self.high is None else self.high)


@dataclasses.dataclass(frozen=True)
class Row:
    title: str
    marks: Sequence[Mark]
    about: str = ""  # a second line below the title
    note: str = ""
    bold: bool = False  # of the note


@dataclasses.dataclass(frozen=True)
class Panel:
    """An axis with rows; a line stands at `origin`. A mark outside `limits` is an arrow at the edge, a NaN is none."""

    axis: str
    rows: Sequence[Row]
    origin: float | None = None
    limits: tuple[float, float] | None = None
    title: str = ""

    def range(self) -> tuple[float, float]:
        if self.limits:
            return self.limits
        ends = [end for row in self.rows for mark in row.marks for end in mark.ends if math.isfinite(end)]
        ends += [] if self.origin is None else [self.origin]
        low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
        pad = (high - low or 1) / 20 if self.origin is not None or low == high else 0.0
        return low - pad, high + pad


def svg(title: str, kinds: Mapping[str, str], panels: Sequence[Panel], note: str = "") -> str:
    """A chart: its `title` for screen readers, a legend of `kinds` (at most four, with their words), and the panels."""
    shapes = dict(zip(kinds, SHAPES, strict=False))
    parts, y = [_legend(kinds, shapes), _text(WIDTH - MARGIN, 28, note, "small", "end")], 52.0
    for panel in panels:
        drawn, y = _panel(panel, shapes, y)
        parts.append(drawn)
    height = round(y + 6)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>",
            f'<rect width="{WIDTH}" height="{height}" rx="10" class="page"/>',
            *parts,
            "</svg>\n",
        ]
    )


def save(path: pathlib.Path, chart: str) -> None:
    """Writes a chart, whole or not at all."""
    path.parent.mkdir(exist_ok=True)
    with whole(path) as partial:
        partial.write_text(chart, encoding="utf-8")


def ticks(low: float, high: float, most: int = 8) -> list[float]:
    """Round numbers from low to high: at most that many, a step of 1, 2 or 5 times a power of ten apart."""
    size = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(size * factor for factor in (1, 2, 5, 10) if (high - low) / (size * factor) <= most)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, digits) for number in range(first, last + 1)]


def _panel(panel: Panel, shapes: Mapping[str, str], y: float) -> tuple[str, float]:
    """The panel from y on, and where it ends."""
    low, high = panel.range()
    width = WIDTH - LEFT - RIGHT

    def place(value: float) -> float:
        return round(LEFT + width * (min(max(value, low), high) - low) / (high - low), 1)

    top = y + (22 if panel.title else 0)
    height = TALL if any(row.about for row in panel.rows) else LOW
    bottom = top + height * len(panel.rows)
    parts = [_text(MARGIN, y + 10, panel.title, "head")] if panel.title else []
    for tick in ticks(low, high):
        x = place(tick)
        parts += [f'<path d="M{x} {top} V{bottom}" class="grid"/>']
        parts += [_text(x, bottom + LINE, f"{tick:g}".replace("-", "\N{MINUS SIGN}"), "small", "middle")]
    if panel.origin is not None:
        parts.append(f'<path d="M{place(panel.origin)} {top} V{bottom}" class="zero"/>')
    for number, row in enumerate(panel.rows):
        middle = top + height * (number + 0.5)
        parts += _titles(row, middle)
        marks = [mark for mark in row.marks if all(map(math.isfinite, (mark.value, *mark.ends)))]
        ranged = [mark for mark in marks if mark.low is not None]
        for mark in marks:
            offset = 9 * (ranged.index(mark) - (len(ranged) - 1) / 2) if mark in ranged else 0.0
            outside = (mark.value > high) - (mark.value < low)
            parts.append(_mark(mark, shapes[mark.kind], [place(v) for v in (mark.value, *mark.ends)],
                               middle + offset, outside))  # fmt: skip
    parts.append(_text(LEFT + width / 2, bottom + 2 * LINE, panel.axis, "small", "middle"))
    return "\n".join(parts), bottom + 2 * LINE + 22


def _titles(row: Row, middle: float) -> list[str]:
    """A row's title with what is below it, and its note."""
    first = middle - 3 if row.about else middle + 5
    parts = [_text(MARGIN, first, row.title)]
    parts += [_text(MARGIN, middle + 12, row.about, "small")] if row.about else []
    kind = "bold" if row.bold else "small"
    return [*parts, _text(WIDTH - RIGHT + 14, middle + 5, row.note, kind)] if row.note else parts


def _mark(mark: Mark, shape: str, places: Sequence[float], y: float, outside: int) -> str:
    """A mark with its interval; `outside` the limits it is an arrow, -1 to the left and 1 to the right."""
    x, low, high = places
    line = "" if mark.low is None or outside else f'<path d="M{low} {y} H{high}"/>'
    return f'<g class="mark {shape}"><title>{escape(mark.text)}</title>{line}{_shape(shape, x, y, outside)}</g>'


def _shape(shape: str, x: float, y: float, outside: int = 0) -> str:
    if outside:
        return f'<path d="M{x - 9 * outside} {y - 5} L{x} {y} L{x - 9 * outside} {y + 5} z"/>'
    return {
        "dot": f'<circle cx="{x}" cy="{y}" r="4.5"/>',
        "ring": f'<circle cx="{x}" cy="{y}" r="4"/>',
        "bar": f'<path d="M{x} {y - 8} V{y + 8}"/>',
        "diamond": f'<path d="M{x - 5} {y} L{x} {y - 5} L{x + 5} {y} L{x} {y + 5} z"/>',
    }[shape]


def _legend(kinds: Mapping[str, str], shapes: Mapping[str, str]) -> str:
    parts, x = [], MARGIN + 6.0
    for kind, words in kinds.items():
        parts.append(f'<g class="mark {shapes[kind]}">{_shape(shapes[kind], x, 24)}</g>' + _text(x + 14, 28, words))
        x += 48 + 7 * len(words)
    return "\n".join(parts)


def escape(text: str) -> str:
    """The text inside SVG; what XML cannot hold is a replacement character."""
    return escaped(UNWRITABLE.sub("\N{REPLACEMENT CHARACTER}", text))


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'
