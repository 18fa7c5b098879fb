"""Evaluation metrics in NumPy, and their summary over several templates.

The figures are scikit-learn's: `accuracy_score`, `f1_score(pos_label=1)`, `f1_score(average="macro")` and
`matthews_corrcoef`, with 0 where a denominator is 0. All are shares (or a correlation), never per cent.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from infoprompt_jax import metric_names
from infoprompt_jax.errors import UserError
from infoprompt_jax.fields import shortened

NO_ANSWER = -1  # the prediction where a score is NaN: wrong, whatever the label, and no class of its own


def answers(scores: np.ndarray) -> np.ndarray:
    """The best of the choices' scores [..., C], as predictions [...]; `NO_ANSWER` where one is NaN."""
    return np.where(np.isnan(scores).any(axis=-1), NO_ANSWER, np.argmax(scores, axis=-1))


def _pairs(predictions: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    predicted, actual = np.asarray(predictions), np.asarray(labels)
    if predicted.shape != actual.shape or not actual.size:
        raise ValueError(f"one prediction a label is needed, not shapes {predicted.shape} and {actual.shape}")
    return predicted, actual


def _confusion(predictions: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """Counts [class, class]: rows are labels, columns predictions; a class is whatever occurs in either.

    The least first: `NO_ANSWER`, where it occurs.
    """
    predicted, actual = _pairs(predictions, labels)
    classes, index = np.unique(np.concatenate([actual, predicted]), return_inverse=True)
    counts = np.zeros((classes.size, classes.size))
    np.add.at(counts, (index[: actual.size], index[actual.size :]), 1)
    return counts


def _f1(true_positives: np.ndarray, predicted: np.ndarray, actual: np.ndarray) -> np.ndarray:
    return 2 * true_positives / np.maximum(predicted + actual, 1)


def accuracy(predictions: ArrayLike, labels: ArrayLike) -> float:
    """Share of the rows whose predicted class is the label."""
    counts = _confusion(predictions, labels)
    return float(np.trace(counts) / counts.sum())


def f1(predictions: ArrayLike, labels: ArrayLike) -> float:
    """F1 of class 1 against all others."""
    predicted, actual = (classes == 1 for classes in _pairs(predictions, labels))
    return float(_f1(np.sum(predicted & actual), predicted.sum(), actual.sum()))


def macro_f1(predictions: ArrayLike, labels: ArrayLike) -> float:
    """Mean of the classes' F1, over the classes that occur among labels or predictions."""
    counts = _confusion(predictions, labels)
    by_class = _f1(np.diag(counts), counts.sum(axis=0), counts.sum(axis=1))
    return float(by_class[int(np.min(predictions) == NO_ANSWER) :].mean())


def matthews(predictions: ArrayLike, labels: ArrayLike) -> float:
    """Matthews correlation, also for more than two classes (Gorodkin 2004); 0 where a side has one class."""
    counts = _confusion(predictions, labels)
    predicted, actual, total = counts.sum(axis=0), counts.sum(axis=1), counts.sum()
    covariance = np.trace(counts) * total - predicted @ actual
    spread = (total**2 - predicted @ predicted) * (total**2 - actual @ actual)
    return float(covariance / np.sqrt(spread)) if spread > 0 else 0.0


def exact_match(predictions: Sequence[str], targets: Sequence[str]) -> float:
    """Share of the texts that equal their target in `normal_form`."""
    pairs = list(zip(predictions, targets, strict=True))
    return sum(normal_form(prediction) == normal_form(target) for prediction, target in pairs) / len(pairs)


def normal_form(text: str) -> str:
    """The text as exact match compares it: without outer white space and case, which some vocabularies fold."""
    return text.strip().casefold()


METRICS: dict[str, Callable[..., float]] = {
    "accuracy": accuracy,
    "f1": f1,
    "macro_f1": macro_f1,
    "matthews": matthews,
    "exact_match": exact_match,
}
OWN = frozenset(METRICS)  # the package's, which no other replaces


def register_metric(name: str, metric: Callable[[np.ndarray, np.ndarray], float]) -> None:
    """Adds a metric of ranked answer choices: `task.metric=name` selects the best prompt by it, and results report it.

    Call it in the config file, or before `ip.train`; whatever goes on with the run or uses its prompts needs it again.
    `examples/metric.py` does it. Of two of one name the later counts, so that a notebook's cell can be run again.

    Args:
        name: of the metric, in configs, the log and tables: letters, digits and underscores.
        metric: of predictions and labels, numbers of answer choices [rows], to a finite number; larger is better.
            The prediction -1 stands for a row without an answer, because a score is NaN: wrong, and no class.

    Raises:
        UserError: the name is one of the package's metrics, or has other characters.
    """
    if name in OWN:
        raise UserError(f"There is a metric {name!r} in the package: register yours under another name.")
    if not name.isidentifier():
        raise UserError(f"The metric's name is {name!r}: letters, digits and underscores were expected.")

    @functools.wraps(metric)
    def measured(predictions: ArrayLike, labels: ArrayLike) -> float:
        value = metric(*_pairs(predictions, labels))
        try:
            if math.isfinite(number := float(value)):
                return number
        except (TypeError, ValueError):
            pass
        # NaN would be neither the best nor the worst of a run's evaluations.
        raise UserError(
            f"task.metric={name!r} gave {shortened(value)}, but one finite number was expected, also where all "
            "predictions are alike."
        )

    METRICS[name] = measured
    if name not in metric_names.NAMES:
        metric_names.NAMES.append(name)


def find_metric(name: str) -> Callable[..., float]:
    """The metric `name`, called with (predictions, labels).

    Raises:
        UserError: there is no such metric.
    """
    if name not in METRICS:
        raise UserError(f"task.metric is {name!r}; set it to one of {', '.join(METRICS)}, or register it first.")
    return METRICS[name]


def summarise(values: Sequence[float]) -> dict[str, float]:
    """Mean, median and quartiles (linear interpolation) of one metric over the templates of a data set."""
    q25, median, q75 = np.quantile(values, (0.25, 0.5, 0.75))
    return {"mean": float(np.mean(values)), "median": float(median), "q25": float(q25), "q75": float(q75)}


def mean(results: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of every metric over those of the results that have it."""
    names = dict.fromkeys(name for result in results for name in result)
    return {name: float(np.mean([result[name] for result in results if name in result])) for name in names}


def collapsed(predictions: ArrayLike, labels: ArrayLike) -> bool:
    """Whether every prediction is one and the same class although the labels are not."""
    predicted, actual = _pairs(predictions, labels)
    alike = predicted[0] != NO_ANSWER and (predicted == predicted[0]).all()
    return bool(alike and (actual != actual[0]).any())
