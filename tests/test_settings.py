"""The config: what its check accepts and refuses; code and docs agree with the declarations."""

from __future__ import annotations

import math
import pathlib
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

import ml_collections
import pytest

from infoprompt_jax import settings, variants
from infoprompt_jax.data import counterparts
from infoprompt_jax.errors import UserError
from infoprompt_jax.evaluation.metrics import METRICS
from infoprompt_jax.fleet.members import PRESETS
from infoprompt_jax.fleet.optimizers import OPTIMIZERS, SCHEDULES
from infoprompt_jax.infoprompt.estimators import ESTIMATORS
from infoprompt_jax.jobs import JOBS
from infoprompt_jax.prompts.prompts import INITIALIZERS
from infoprompt_jax.rospr.library import SIMILARITIES
from infoprompt_jax.rospr.zero_shot import METHODS
from infoprompt_jax.t5.backbone import DTYPES
from infoprompt_jax.t5.model import REMAT_POLICIES
from infoprompt_jax.t5.scoring import NORMALIZATIONS

ROOT = pathlib.Path(__file__).parents[1]


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


def test_tables_of_fields_name_fields_that_exist() -> None:
    for fields in (*variants.VARIANTS.values(), *counterparts.COUNTERPARTS.values(), *PRESETS.values()):
        assert fields.keys() <= settings.FIELDS.keys()


@pytest.mark.parametrize(
    ("field", "listed"),
    [
        ("job", JOBS),
        ("backbone.dtype", DTYPES),
        ("backbone.remat", ("none", *REMAT_POLICIES)),
        ("task.metric", ("", *METRICS)),
        ("infoprompt.estimator", ESTIMATORS),
        ("train.optimizer", OPTIMIZERS),
        ("train.schedule", SCHEDULES),
        ("fleet.presets", PRESETS),
        ("scoring.normalize", NORMALIZATIONS),
        ("rospr.similarity", ("", *SIMILARITIES)),
        ("rospr.methods", METHODS),
    ],
)
def test_choices_are_those_that_the_code_has(field: str, listed: Iterable[str]) -> None:
    assert set(settings.FIELDS[field].choices) == set(listed)


def test_the_initialisers_are_named() -> None:
    """`prompt.init` also takes a path, so that its choices are in its meaning."""
    assert ", ".join(INITIALIZERS) in settings.FIELDS["prompt.init"].meaning


def test_the_page_of_the_configuration_is_current() -> None:
    """docs/configuration.md is what the command in it prints."""
    command = [sys.executable, "-m", "infoprompt_jax.settings"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    assert (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8") == ran.stdout


def test_every_field_has_a_row_of_the_page() -> None:
    rows = [line.split(" | ") for line in settings.page().splitlines() if line.startswith("| `")]
    cells = {name.strip("| `"): rest for name, *rest in rows}
    assert list(cells) == list(settings.FIELDS)
    assert cells["train.warmup"] == ["`0.0`", "0 to 1", settings.FIELDS["train.warmup"].meaning, "members |"]
    assert cells["train.log_every"][-1] == "resumed runs |" and cells["task.metric"][0] == '`""`'


@pytest.mark.parametrize("name", [name for name, field in settings.FIELDS.items() if field.choices])
def test_choices(name: str) -> None:
    field = settings.FIELDS[name]
    several = isinstance(field.default, tuple)
    for value in field.choices:
        settings.check(with_field(name, (value,) if several else value))
    assert ", ".join(filter(None, field.choices)) in refused(name, ("nope",) if several else "nope")


@pytest.mark.parametrize("name", [name for name, field in settings.FIELDS.items() if field.least is not None])
def test_ranges(name: str) -> None:
    field = settings.FIELDS[name]
    assert field.least is not None
    less = field.least - 1
    assert f"at least {field.least}" in refused(name, (64, less) if isinstance(field.default, tuple) else less)
    if field.most is not None:
        assert f"at most {field.most}" in refused(name, field.most + 1)


def test_every_number_has_a_least_value() -> None:
    numbers = {name: field for name, field in settings.FIELDS.items() if type(field.default) in (int, float)}
    open_ended = {name for name, field in numbers.items() if field.least is None}
    assert open_ended == {"mesh.data", "mesh.fsdp", "mesh.model", "mesh.slices"}, "what make_mesh checks"
    assert settings.FIELDS["data.buckets"].least == 1


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
        ("train.steps", True),
        ("fleet.seeds", (True,)),
        ("train.learning_rate", "fast"),
        ("infoprompt.variational", 1),
        ("fleet.seeds", 3),
        ("fleet.seeds", ("a",)),
        ("fleet.presets", (1,)),
        ("fleet.members", ("a",)),
        ("data.buckets", (32.0,)),
    ],
)
def test_types(field: str, value: Any) -> None:
    assert "was expected" in refused(field, value)


def test_whole_numbers_are_numbers() -> None:
    assert settings.check(with_field("train.learning_rate", 1)).train.learning_rate == 1


def test_unknown_and_missing_fields() -> None:
    with pytest.raises(UserError, match=r"sets train\.stepz, which does not exist: did you mean train\.steps\?"):
        settings.check(with_field("train.stepz", 3))
    with pytest.raises(UserError, match=r"sets qqq, which does not exist; infoprompt_jax/settings\.py lists"):
        settings.check(with_field("qqq", 3))
    with pytest.raises(
        UserError, match=r"sets fleet\.variants, which does not exist: it is called fleet\.presets now\.$"
    ):
        settings.check(with_field("fleet.variants", ("plain",)))
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
