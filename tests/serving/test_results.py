"""What the predictions' table shows, from lines worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from infoprompt_jax.serving.results import MEAN, measure, table


def entry(prediction: str | None, target: str = "", **more: Any) -> dict[str, Any]:
    return {
        "prediction": prediction,
        "scores": {"no": -1.0, "yes": -2.0},
        **({"target": target} if target else {}),
        **more,
    }


def line(prediction: str | None, target: str, *templates: dict[str, Any]) -> dict[str, Any]:
    return entry(prediction, target, templates=dict(zip("ab", templates, strict=False)))


def test_templates_and_their_mean_are_measured_over_labelled_rows() -> None:
    lines = [
        line("no", "no", entry("no", "no"), entry("yes", "no")),
        line("yes", "no", entry("yes", "no"), entry("yes", "no")),
        line("yes", "", entry("yes"), entry("no")),
        line(None, "yes", entry(None, "yes"), entry("yes", "yes")),
        line(None, ""),
    ]
    summary = measure(lines, {("", "a"): "accuracy", ("", "b"): "accuracy"})
    assert (summary["rows"], summary["left_out"]) == (5, 1)
    shown = {
        one["template"]: (one["rows"], one["labelled"], one["unanswered"], one["value"]) for one in summary["results"]
    }
    assert shown == {
        "a": (4, 3, 1, pytest.approx(1 / 3)),
        "b": (4, 3, 0, pytest.approx(1 / 3)),
        MEAN: (4, 3, 1, pytest.approx(1 / 3)),
    }
    printed = table(summary | {"rows_per_second": 1380.4, "peak_memory_bytes": 511e6})
    *_, note, speed = printed.splitlines()
    assert note == "1 of 5 rows fit no template; their prediction is null."
    assert speed == "1,380 rows/s, peak memory 511 MB"
    assert len([row for row in printed.splitlines() if "0.3333" in row]) == 3
    assert "\n24 rows/min, peak" in table(summary | {"rows_per_second": 0.4, "peak_memory_bytes": 511e6})


def test_prompts_of_different_metrics_have_their_columns() -> None:
    """F1 of class 1, "yes": one hit, one false alarm, one miss: 2 / (2 + 1 + 1)."""
    pairs = [("yes", "yes"), ("yes", "no"), ("no", "yes")]
    lines = [line(p, t, entry(p, t, prompt="first")) for p, t in pairs] + [
        line("no", "no", entry("no", "no", prompt="second"))
    ]
    summary = measure(lines, {("first", "a"): "f1", ("second", "a"): "accuracy"})
    assert [(one["prompt"], one["metric"], one["value"]) for one in summary["results"]] == [
        ("first", "f1", 0.5),
        ("second", "accuracy", 1.0),
    ]
    head = table(summary).splitlines()[0].split()
    assert head == ["prompt", "template", "rows", "labelled", "f1", "accuracy"]


def test_a_vote_without_scores_is_measured_by_the_choices_of_its_template() -> None:
    """F1 of class 1 again; a vote's text alone does not tell its class."""
    pairs = [("yes", "yes"), ("yes", "no"), ("no", "yes")]
    lines = [line(p, t, entry(p, t), entry(p, t)) | {"scores": {}} for p, t in pairs]
    summary = measure(lines, {("", "a"): "f1", ("", "b"): "f1"})
    assert [one["value"] for one in summary["results"]] == [0.5, 0.5, 0.5]


def test_generated_texts_are_compared_whole() -> None:
    texts = [
        {"prediction": p, "scores": {}, "target": t}
        for p, t in (("A cat ", "a cat"), ("a dog", "a cat"), ("", "a cat"))
    ]
    lines = [text | {"templates": {"a": text}} for text in texts]
    (result,) = measure(lines, {("", "a"): "exact_match"})["results"]
    assert result["value"] == pytest.approx(1 / 3)


def test_without_labels_the_table_has_no_metric() -> None:
    summary = measure([line("no", "", entry("no"))], {("", "a"): "accuracy"})
    assert table(summary).splitlines()[0].split() == ["template", "rows", "labelled"]
