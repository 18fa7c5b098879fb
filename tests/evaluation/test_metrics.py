"""Metrics against scikit-learn, and by hand."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from infoprompt_jax import metric_names
from infoprompt_jax.errors import UserError
from infoprompt_jax.evaluation import metrics

sklearn = pytest.importorskip("sklearn.metrics")

PARITY = {
    "accuracy": sklearn.accuracy_score,
    "macro_f1": lambda labels, predictions: sklearn.f1_score(labels, predictions, average="macro", zero_division=0),
    "matthews": sklearn.matthews_corrcoef,
}


def cases() -> list[tuple[np.ndarray, np.ndarray]]:
    """(predictions, labels): 1 to 5 classes, 1 to 200 rows, classes that one side lacks, and collapsed ones."""
    rng = np.random.default_rng(0)
    drawn = [
        (rng.integers(0, classes, rows), rng.integers(0, max(1, classes - missing), rows))
        for classes in (2, 3, 5)
        for rows in (1, 7, 200)
        for missing in (0, 1)
    ]
    labels = rng.integers(0, 2, 50)
    return [*drawn, (np.ones(50, int), labels), (np.zeros(50, int), labels), (labels, labels), (1 - labels, labels)]


@pytest.mark.parametrize("name", PARITY)
def test_parity_with_scikit_learn(name: str) -> None:
    for predictions, labels in cases():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = PARITY[name](labels, predictions)
        np.testing.assert_allclose(metrics.find_metric(name)(predictions, labels), expected, atol=1e-12)


def test_binary_f1_is_that_of_class_one() -> None:
    for predictions, labels in cases():
        expected = sklearn.f1_score(labels == 1, predictions == 1, zero_division=0)
        np.testing.assert_allclose(metrics.f1(predictions, labels), expected, atol=1e-12)


def test_by_hand() -> None:
    predictions, labels = [1, 1, 0, 0, 1], [1, 0, 0, 1, 1]  # 2 true positives, 1 false, 1 missed, 1 true negative
    assert metrics.accuracy(predictions, labels) == pytest.approx(3 / 5)
    assert metrics.f1(predictions, labels) == pytest.approx(4 / 6)
    assert metrics.macro_f1(predictions, labels) == pytest.approx((4 / 6 + 2 / 4) / 2)
    assert metrics.matthews(predictions, labels) == pytest.approx((2 * 1 - 1 * 1) / 6)


def test_exact_match_forgives_white_space_and_case_alone() -> None:
    assert metrics.exact_match([" Paris\n", "the Paris", "paris", "Paris."], ["Paris"] * 4) == 0.5


def test_rows_must_pair_up() -> None:
    for metric in (metrics.accuracy, metrics.f1, metrics.matthews):
        with pytest.raises(ValueError, match="one prediction a label"):
            metric([1, 0], [1])
    with pytest.raises(ValueError):
        metrics.exact_match(["a", "b"], ["a"])


def test_summarise() -> None:
    got = metrics.summarise([0.1, 0.2, 0.6, 0.7])
    assert got == pytest.approx({"mean": 0.4, "median": 0.4, "q25": 0.175, "q75": 0.625})
    assert set(metrics.summarise([0.5]).values()) == {0.5}


def test_collapsed() -> None:
    assert metrics.collapsed([1, 1, 1], [0, 1, 1])
    assert not metrics.collapsed([1, 1, 0], [0, 1, 1])
    assert not metrics.collapsed([1, 1, 1], [1, 1, 1])


def test_no_answer_is_wrong_and_no_class() -> None:
    predictions, labels = [-1, 1, 0, -1], [0, 1, 0, 1]
    assert metrics.accuracy(predictions, labels) == 0.5
    assert metrics.f1(predictions, labels) == metrics.macro_f1(predictions, labels) == pytest.approx(2 / 3)
    # (2 right * 4 rows - (1 * 2 + 1 * 2)) / sqrt((16 - (4 + 1 + 1)) * (16 - (4 + 4))), after Gorodkin
    assert metrics.matthews(predictions, labels) == pytest.approx(4 / np.sqrt(10 * 8))
    for name in ("accuracy", "f1", "macro_f1", "matthews"):
        assert metrics.find_metric(name)([-1] * 4, labels) == 0.0, name
    assert not metrics.collapsed([-1] * 4, labels)


def test_an_own_metric_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "METRICS", dict(metrics.METRICS))
    monkeypatch.setattr(metric_names, "NAMES", names := list(metric_names.NAMES))
    metrics.register_metric("share_of_ones", lambda predictions, labels: (predictions == 1).mean(dtype=np.float32))
    value = metrics.find_metric("share_of_ones")([1, 0, 0, 1], [0, 0, 0, 0])
    assert value == 0.5 and type(value) is float  # which JSON can hold
    metrics.register_metric("share_of_ones", lambda predictions, labels: 0)  # a notebook's cell again
    assert metrics.find_metric("share_of_ones")([1], [1]) == 0 and names.count("share_of_ones") == 1
    metrics.register_metric("by_class", lambda predictions, labels: np.array([0.5, 1.0]))  # pyright: ignore
    with pytest.raises(UserError, match=r"task\.metric='by_class' gave array\(\[0\.5, 1\. \]\), but one finite"):
        metrics.find_metric("by_class")([1], [1])
    with pytest.raises(UserError, match="There is a metric 'f1' in the package"):
        metrics.register_metric("f1", metrics.accuracy)
    with pytest.raises(UserError, match="The metric's name is 'a/b'"):
        metrics.register_metric("a/b", metrics.accuracy)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_an_own_metric_without_a_finite_number_is_a_sentence(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a correlation with predictions that are all alike, which many untrained prompts give."""
    monkeypatch.setattr(metrics, "METRICS", dict(metrics.METRICS))
    monkeypatch.setattr(metric_names, "NAMES", list(metric_names.NAMES))
    metrics.register_metric("correlation", lambda predictions, labels: value)
    with pytest.raises(UserError, match=f"task.metric='correlation' gave {value}, but one finite number was expected"):
        metrics.find_metric("correlation")([1, 1], [0, 1])


def test_an_unknown_metric_is_a_sentence() -> None:
    with pytest.raises(UserError, match=r"task\.metric is 'bleu'"):
        metrics.find_metric("bleu")
