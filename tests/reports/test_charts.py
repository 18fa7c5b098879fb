"""A chart's marks stand at their numbers, and its titles say them."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from infoprompt_jax.reports import charts
from infoprompt_jax.reports.charts import Mark, Panel, Row

SVG = "{http://www.w3.org/2000/svg}"


def drawn(*panels: Panel) -> ElementTree.Element:
    return ElementTree.fromstring(charts.svg("A <chart>", {"a": "first", "b": "second"}, panels))


def places(chart: ElementTree.Element) -> dict[str, list[float]]:
    """By a mark's text: its horizontal place, and the ends of its line."""
    found = {}
    for group in chart.iter(f"{SVG}g"):
        if (text := group.findtext(f"{SVG}title")) is not None:
            lines = " ".join(path.get("d", "") for path in group.iter(f"{SVG}path"))
            ends = [float(number) for number in re.findall(r"[MH]([-\d.]+)", lines)]
            circle = group.find(f"{SVG}circle")
            found[text] = [] if circle is None else [float(circle.get("cx", "")), *ends]
    return found


def test_marks_and_lines_stand_at_their_numbers() -> None:
    chart = drawn(Panel("points", [Row("one", [Mark("a", 5, "a: 5", 0, 10), Mark("b", 2.5, "b: 2.5")])], 0.0, (0, 10)))
    width = charts.WIDTH - charts.LEFT - charts.RIGHT
    at = places(chart)
    assert at["a: 5"] == [charts.LEFT + width / 2, charts.LEFT, charts.LEFT + width]
    assert at["b: 2.5"] == pytest.approx([charts.LEFT + width / 4], abs=0.05)
    assert chart.findtext(f"{SVG}title") == "A <chart>"


def test_a_number_beyond_the_limits_is_an_arrow_and_its_text_stays() -> None:
    chart = drawn(Panel("points", [Row("far", [Mark("a", -25, "a: -25", -26, -24)], note="-25")], 0.0, (-6, 8)))
    assert places(chart) == {"a: -25": []}  # no circle
    assert "-25" in [text.text for text in chart.iter(f"{SVG}text")]


def test_an_axis_without_limits_holds_its_origin_and_all_ends() -> None:
    panel = Panel("nats", [Row("one", [Mark("a", 2, "2", 1.5, 2.5)])], origin=0.0)
    low, high = panel.range()
    assert low < 0 and high > 2.5
    assert Panel("x", [Row("one", [Mark("a", 2, "2", 1.5, 2.5)])]).range() == (1.5, 2.5)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-6, 8, [-6, -4, -2, 0, 2, 4, 6, 8]),
        (0, 100, [0, 20, 40, 60, 80, 100]),
        (0.61, 1.25, [0.7, 0.8, 0.9, 1.0, 1.1, 1.2]),
        (-0.1, 2.4, [0, 0.5, 1, 1.5, 2]),
    ],
)
def test_ticks_are_round_numbers_of_the_range(low: float, high: float, expected: list[float]) -> None:
    assert charts.ticks(low, high) == expected


def test_numbers_that_make_no_axis_are_drawn() -> None:
    """A single number, none at all, a NaN as of a single seed, and what XML cannot hold."""
    nan = float("nan")
    same = drawn(Panel("x", [Row("one", [Mark("a", 3, "a: 3")])]))
    assert places(same)["a: 3"] == [charts.LEFT + (charts.WIDTH - charts.LEFT - charts.RIGHT) / 2]
    for limits in (None, (0.0, 1.0)):
        chart = drawn(Panel("x", [Row("one", [Mark("a", nan, "a: -", nan, nan), Mark("b", 1, "b: 1")])], 0.0, limits))
        assert [*places(chart)] == ["b: 1"]
    assert drawn(Panel("x", [], 0.0)).tag == f"{SVG}svg"
    texts = drawn(Panel("x", [Row("a\x1b\ud800b", [])])).iter(f"{SVG}text")
    assert "a\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}b" in [text.text for text in texts]
