"""The config: what its check lets through, what it refuses, and that its tables name fields that exist."""

from __future__ import annotations

import math
from typing import Any

import ml_collections
import pytest

from infoprompt_jax import settings, variants
from infoprompt_jax.data import counterparts
from infoprompt_jax.errors import UserError
from infoprompt_jax.evaluation.metrics import METRICS


def with_field(field: str, value: Any) -> Any:
    """The defaults with one field changed, without the checks of ml_collections."""
    config = ml_collections.ConfigDict(settings.defaults().to_dict(), type_safe=False)
    section, _, name = field.rpartition(".")
    (config[section] if section else config)[name] = value
    return config


def refused(field: str, value: Any) -> str:
    with pytest.raises(UserError) as error:
        settings.check(with_field(field, value))
    assert str(error.value).startswith(field) and "\n" not in str(error.value)
    return str(error.value)


def test_the_defaults_pass() -> None:
    config = settings.defaults()
    assert settings.check(config) is config and config.is_locked


def test_tables_name_fields_that_exist() -> None:
    """A misspelt name in a table would switch its check off without a word."""
    known = settings.flatten(settings.defaults().to_dict())
    for table in (settings.PER_MEMBER, settings.CHOICES, settings.ELEMENTS, settings.LEAST, settings.MOST):
        assert set(table) <= known.keys()
    for fields in (*variants.VARIANTS.values(), *counterparts.COUNTERPARTS.values()):
        assert fields.keys() <= known.keys()
    assert set(settings.CHOICES["task.metric"]) == {"", *METRICS}


@pytest.mark.parametrize("field", settings.CHOICES)
def test_choices(field: str) -> None:
    for value in settings.CHOICES[field]:
        settings.check(with_field(field, value))
    assert ", ".join(filter(None, settings.CHOICES[field])) in refused(field, "nope")


@pytest.mark.parametrize("field", settings.LEAST)
def test_ranges(field: str) -> None:
    less, default = settings.LEAST[field] - 1, settings.flatten(settings.defaults().to_dict())[field]
    assert f"at least {settings.LEAST[field]}" in refused(field, (64, less) if isinstance(default, tuple) else less)
    if field in settings.MOST:
        assert f"at most {settings.MOST[field]}" in refused(field, settings.MOST[field] + 1)


def test_every_number_has_a_least_value() -> None:
    known = settings.flatten(settings.defaults().to_dict())
    numbers = {field for field, value in known.items() if type(value) in (int, float)} | {"data.buckets"}
    assert numbers - settings.LEAST.keys() == {"mesh.data", "mesh.model"}, "what make_mesh checks"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_are_finite(value: float) -> None:
    for field in ("train.learning_rate", "infoprompt.beta", "task.temperature"):
        assert "choose a finite one" in refused(field, value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("train.steps", "100"),
        ("train.steps", 1.5),
        ("train.steps", None),
        ("train.learning_rate", "fast"),
        ("infoprompt.variational", 1),
        ("fleet.seeds", 3),
        ("fleet.seeds", ("a",)),
        ("fleet.variants", (1,)),
        ("fleet.members", ("a",)),
        ("data.buckets", (32.0,)),
    ],
)
def test_types(field: str, value: Any) -> None:
    assert "was expected" in refused(field, value)


def test_whole_numbers_are_numbers() -> None:
    settings.check(with_field("train.learning_rate", 1))


def test_unknown_and_missing_fields() -> None:
    with pytest.raises(UserError, match=r"sets train\.stepz, which does not exist: did you mean train\.steps\?"):
        settings.check(with_field("train.stepz", 3))
    with pytest.raises(UserError, match=r"sets qqq, which does not exist; infoprompt_jax/settings\.py lists"):
        settings.check(with_field("qqq", 3))
    config = settings.defaults().unlock()
    del config.train.steps
    with pytest.raises(UserError, match=r"lacks train\.steps: start from infoprompt_jax\.settings\.defaults"):
        settings.check(config)


def test_float16_is_refused_with_the_reason() -> None:
    assert "T5 overflows in float16" in refused("backbone.dtype", "float16")


def test_prompts_fit_into_the_input() -> None:
    config = settings.defaults()
    config.data.max_input_length = config.prompt.length
    settings.check(config)
    config.data.max_input_length -= 1
    with pytest.raises(UserError, match=r"prompt\.length=100 is longer than .* data\.max_input_length=99"):
        settings.check(config)


def test_only_evaluation_goes_without_a_prompt() -> None:
    config = settings.defaults()
    config.prompt.length, config.job = 0, "evaluate"
    settings.check(config)
    config.job = "train"
    with pytest.raises(UserError, match=r"prompt\.length=0 leaves nothing to train"):
        settings.check(config)


def test_variants_add_up() -> None:
    config = variants.apply(settings.defaults(), "256,smoke")
    assert (config.task.shots, config.train.steps, config.prompt.length) == (256, 4, 8)
    assert variants.apply(settings.defaults(), "11b").backbone.name == "google/t5-xxl-lm-adapt"
    assert variants.apply(settings.defaults(), "") == settings.defaults()
    with pytest.raises(UserError, match="no variant 'nope': choose from 3b, 11b, 64, 256, nano, smoke"):
        variants.apply(settings.defaults(), "64,nope")
    for name in variants.VARIANTS:
        settings.check(variants.apply(settings.defaults(), name))
