"""The config: what its check accepts and refuses; code and docs agree with the declarations."""

from __future__ import annotations

import math
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

import ml_collections
import numpy as np
import pytest

from infoprompt_jax import settings, variants
from infoprompt_jax.data import counterparts
from infoprompt_jax.errors import UserError
from infoprompt_jax.evaluation.metrics import METRICS
from infoprompt_jax.fields import Field
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
from infoprompt_jax.training.train import train

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


def refused_member(fields: dict[Any, Any]) -> str:
    with pytest.raises(UserError) as error:
        settings.check(with_field("fleet.members", (fields,)))
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
        ("task.metric", METRICS),
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
    """A metric or an estimator may have been registered since the tests were collected."""
    assert set(settings.FIELDS[field].choices) - {""} == set(listed) - {""}


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


def outside(field: Field) -> list[Any]:
    """Values that a field refuses: of other types, and beyond its range. A list is no case: the config makes tuples."""
    values: list[Any] = [None, object(), b"bytes"]
    if field.between:
        least, most = field.between
        values += [*({least - 1} - {*field.also}), 2 * most + 1, 10**300, math.inf, -math.inf, math.nan, 1e300, "1"]
    if isinstance(field.default, str):
        values += ["a\0b", "half \ud800", "x" * (field.longest + 1), "nope" if field.choices else 3]
    if isinstance(field.default, tuple):
        values = [None, 3, "1", *((element,) for element in values)]
    return values


@pytest.mark.parametrize("name", settings.FIELDS)
def test_every_field_refuses_what_is_outside(name: str) -> None:
    for value in outside(settings.FIELDS[name]):
        assert len(refused(name, value)) < 600


def test_every_number_has_both_ends_and_they_are_finite_in_float32() -> None:
    for name, field in settings.FIELDS.items():
        kind = field.of or type(field.default)
        if kind in (int, float):
            assert field.between, name
            least, most = field.between
            assert least < most and np.isfinite(np.float32(most)), name
            assert name in settings.page() and field.values() in settings.page()
            if not isinstance(field.default, tuple):
                for value in (least, most, *field.also):
                    field.check(name, kind(value))


def test_what_is_refused_claims_no_workdir(tmp_path: pathlib.Path) -> None:
    for name, field in settings.FIELDS.items():
        if name != "job":
            with pytest.raises(UserError):
                train(with_field(name, outside(field)[0]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("data.buckets", (64, 32), "is not in ascending order"),
        ("data.buckets", (32, 32), "is not in ascending order"),
        ("fleet.seeds", (1, 2, 1), "has 1 more than once"),
        ("fleet.seeds", tuple(range(2**16 + 1)), "has 65,537 elements: give it at most 65,536"),
        ("rospr.methods", ("none", "none"), "has 'none' more than once"),
        ("mesh.data", 0, "it must be -1 or 1 to 65,536"),
        ("mesh.data", -2, "it must be -1 or 1 to 65,536"),
        ("mesh.model", 0, "it must be 1 to 65,536"),
        ("train.patience", 3_000_000_000, "it must be 0 to 1,000,000,000"),
        ("train.learning_rate", 1e300, "it must be 0 to 1e+30"),
        ("infoprompt.beta", 1e300, "it must be 0 to 1,000,000"),
        ("fleet.members", ({"seed": -1},), "fleet.members: seed=-1 is out of range"),
        ("fleet.members", ({}, {"infoprompt.decay": 1.5}), "infoprompt.decay=1.5 is out of range: it must be 0 to 1"),
        ("fleet.members", ({"train.learning_rate": "1"},), "train.learning_rate='1' is of type str"),
        ("fleet.members", ({"nope": 1},), "sets 'nope', which does not exist"),
        ("fleet.members", ({3: 1},), "sets 3, which does not exist"),
        ("fleet.members", ({"name": 3},), "sets name=3: a text"),
        ("fleet.members", ({"name": ""},), "sets name='': a text"),
        ("fleet.members", ({"name": ".hidden"},), "holds the name '.hidden'"),
        ("fleet.members", ({"name": "two\nlines"},), r"holds the name 'two\nlines'"),
        ("fleet.members", ({"name": "half \ud800"},), "holds the name"),
        ("fleet.members", ({"name": "é" * 150},), "has 300 bytes: choose one of at most 200"),
    ],
)
def test_sentences_of_ranges(field: str, value: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)) as error:
        settings.check(with_field(field, value))
    assert "\n" not in str(error.value)


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
    with pytest.raises(UserError, match=r"sets qqq, which does not exist; docs/configuration\.md lists"):
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


def test_a_number_too_long_for_python_to_print_is_out_of_range() -> None:
    assert "a number that is too long to show is out of range" in refused("train.steps", 10**5000)
    assert "out of range" in refused_member({"train.learning_rate": 10**5000})


def test_fields_that_do_not_fit_each_other() -> None:
    config = settings.defaults()
    config.train.accumulate = 5
    with pytest.raises(UserError, match=r"train\.batch_size=32 does not divide into train\.accumulate=5"):
        settings.check(config)
    config.train.accumulate, config.infoprompt.variational = 4, True
    config.infoprompt.representation = "mean_encoder"
    with pytest.raises(UserError, match=r"infoprompt\.variational reads the decoder's state"):
        settings.check(config)


def test_scores_of_a_verbalizer_are_not_divided() -> None:
    config = settings.defaults()
    config.scoring.normalize, config.train.task_loss = "tokens", "verbalizer"
    with pytest.raises(UserError, match=r"scoring\.normalize='tokens' divides log-probabilities, but train\.task"):
        settings.check(config)
    config.job, config.prompt.length = "evaluate", 0  # the backbone's own head
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
    with pytest.raises(UserError, match=r"no variant 'nope': choose from infoprompt, .*, nano, mini, smoke"):
        variants.apply(settings.defaults(), "64,nope")
    for name in variants.VARIANTS:
        settings.check(variants.apply(settings.defaults(), name))


@pytest.mark.parametrize("field", ["train.learning_rate", "infoprompt.gamma", "pretrain.denoising_phase"])
def test_what_would_become_zero_is_refused(field: str) -> None:
    config = settings.defaults()
    section, _, name = field.partition(".")
    for value in (1e-45, 1e-320, 1e-39):
        config[section][name] = value
        with pytest.raises(UserError, match=rf"{field}={value} becomes zero in float32: write 0, or at least 1"):
            settings.check(config)
    config[section][name] = 0.0
    settings.check(config)
