"""The mean over templates, by hand, and which answer choices mean the same."""

from __future__ import annotations

import pytest

from infoprompt_jax.data.tasks import Task
from infoprompt_jax.data.templates import Example, Template
from infoprompt_jax.serving.engine import Answer
from infoprompt_jax.serving.row_answers import Rendered, RowAnswer

BY_LABEL = "{{ answer_choices[label] }}"


def rendered(choices: str, target: str = BY_LABEL, right: str = "") -> Rendered:
    listed = tuple(choices.split("/")) if choices else ()
    template = Template(f"{choices} {target}", "id", f"{{{{ text }}}} ||| {target}", " ||| ".join(listed))
    return Rendered(Task("data", template, "accuracy"), Example("text", right, listed))


def answer(prediction: str | None, **scores: float) -> Answer:
    return Answer(prediction, scores)


def mean(*pairs: tuple[Rendered, Answer]) -> Answer | None:
    return RowAnswer([one for one, _ in pairs], [one for _, one in pairs], [None] * len(pairs)).mean


def test_choices_of_the_same_texts_correspond_by_text() -> None:
    made = mean(
        (rendered("yes/no"), answer("yes", yes=-1.0, no=-2.0)),
        (rendered("no/yes", "{{ target }}"), answer("no", no=-1.0, yes=-4.0)),
    )
    assert made == answer("no", yes=-2.5, no=-1.5)


def test_other_choices_correspond_by_place_where_targets_are_taken_alike() -> None:
    made = mean(
        (rendered("yes/no"), answer("yes", yes=-1.0, no=-2.0)),
        (rendered("true/false"), answer("false", true=-5.0, false=-1.0)),
    )
    assert made == answer("no", yes=-3.0, no=-1.5)


def test_the_same_texts_correspond_by_place_where_a_template_asks_the_opposite() -> None:
    """ "Is it good? No/Yes" and "Is it bad? Yes/No", both by the label: Yes of one is No of the other."""
    made = mean(
        (rendered("No/Yes"), answer("Yes", No=-2.0, Yes=-1.0)),
        (rendered("Yes/No"), answer("No", Yes=-4.0, No=-1.0)),
    )
    assert made == answer("Yes", No=-3.0, Yes=-1.0)


@pytest.mark.parametrize(
    ("choices", "target"), [("true/false", "{{ answer_choices[1 - label] }}"), ("true/false/maybe", BY_LABEL)]
)
def test_otherwise_the_most_frequent_prediction_counts(choices: str, target: str) -> None:
    first, other = rendered("yes/no"), rendered(choices, target)
    yes, false = answer("yes", yes=-1.0, no=-2.0), answer("false", true=-5.0, false=-1.0)
    assert mean((first, yes), (other, false), (other, false)) == answer("false")


def test_the_target_is_in_the_words_of_the_prediction() -> None:
    first, other = rendered("yes/no", right="no"), rendered("true/false", "{{ answer_choices[1 - label] }}", "true")
    yes, true = answer("yes", yes=-1.0, no=-2.0), answer("true", true=-1.0, false=-5.0)
    line = RowAnswer([first, other, other], [yes, true, true], [None] * 3).to_json()
    assert (line["prediction"], line["target"]) == ("true", "true")


def test_generated_texts_are_counted() -> None:
    free = rendered("")
    assert mean((free, answer("a")), (free, answer("b")), (free, answer("b"))) == answer("b")


def test_nan_in_one_template_leaves_no_mean() -> None:
    made = mean(
        (rendered("yes/no"), answer("yes", yes=-1.0, no=-2.0)),
        (rendered("yes/no"), answer(None, yes=float("nan"), no=-1.0)),
    )
    assert made is not None and made.prediction is None


def test_a_row_that_no_template_applies_to_has_no_prediction() -> None:
    assert RowAnswer([], [], []).to_json() == {"prediction": None, "scores": {}, "templates": {}}
