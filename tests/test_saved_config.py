"""A run's config.json on the command line: its fields, its workdir, and a sentence for what is no such file."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np
import pytest

import infoprompt_jax as ip
from infoprompt_jax import settings
from infoprompt_jax.command_line import parse
from infoprompt_jax.errors import UserError
from infoprompt_jax.fleet.members import expand
from infoprompt_jax.training.prompt_config import with_prompt_of

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"
ALONE = "--config.prompt.length=0"  # the run has no prompts yet


def save(path: pathlib.Path, **fields: Any) -> str:
    """A config.json with the defaults and these fields, as a command-line option."""
    config = settings.defaults()
    config.update_from_flattened_dict({name.replace("__", "."): value for name, value in fields.items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(config.to_json())
    return f"--config={path}"


def test_the_fields_and_the_workdir_are_those_of_the_run(tmp_path: pathlib.Path) -> None:
    members = ({"name": "a", "task.name": "glue/sst2"}, {"name": "b"})
    option = save(tmp_path / "run" / "config.json", seed=3, fleet__seeds=(4, 5), fleet__members=members)
    config, workdir = parse(["main", option, "--config.train.steps=4000"])
    expected = settings.defaults()
    expected.update_from_flattened_dict(
        {"seed": 3, "fleet.seeds": (4, 5), "fleet.members": members, "train.steps": 4000}
    )
    assert settings.check(config).to_dict() == expected.to_dict()
    assert workdir == str(tmp_path / "run")


@pytest.mark.parametrize(
    ("arguments", "workdir"),
    [
        (["--config={run}/config.json", "--config.job=evaluate", ALONE], "{run}/evaluate"),
        (["--config={run}/config.json", "--config.job=train"], "{run}"),
        (["--config={run}/config.json", "--config.job=evaluate", ALONE, "--workdir=w"], "w"),
        (["--config={configs}/rte.py", "--config.job=evaluate"], "runs/rte-evaluate"),
        (["--config={configs}/rte.py:64,nano", "--config.job=evaluate"], "runs/rte-64-nano-evaluate"),
        (["--config={configs}/rospr_eval.py:nano", "--config.job=rospr_eval"], "runs/rospr_eval-nano"),
    ],
)
def test_another_job_than_the_configs_own_has_its_own_workdir(
    arguments: list[str], workdir: str, tmp_path: pathlib.Path
) -> None:
    save(tmp_path / "config.json")
    places = {"run": tmp_path, "configs": CONFIGS}
    assert parse(["main", *(argument.format(**places) for argument in arguments)])[1] == workdir.format(**places)


def test_a_runs_members_are_evaluated_with_what_they_ended_with(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not with what some of them began with."""
    members = ({"name": "a", "prompt.init": "uniform"}, {"name": "b", "prompt.init": "other/prompt", "seed": 3})
    save(tmp_path / "run" / "config.json", fleet__members=members)
    for name in "ab":
        ip.save_prompt(tmp_path / "run" / "prompts" / name, ip.Prompt(np.zeros((2, 4), np.float32)))
    monkeypatch.setenv("HOME", str(tmp_path))
    for run in (str(tmp_path), "~"):
        config, _ = parse(["main", f"--config={run}/run/config.json", "--config.job=evaluate"])
        began = [with_prompt_of(member).config.prompt.init for member in expand(config)]
        assert began == [str(tmp_path / "run" / "prompts" / name) for name in "ab"]
        assert [member.config.seed for member in expand(config)] == [0, 3]


def test_a_file_of_a_former_version(tmp_path: pathlib.Path) -> None:
    """It has other names, fields that are gone, and lacks those that are new."""
    option = save(tmp_path / "config.json", fleet__presets=("plain", "both"))
    older = json.loads((tmp_path / "config.json").read_text())
    older["fleet"]["variants"] = older["fleet"].pop("presets")
    older["backbone"]["allow_pickle"] = True
    del older["task"]["cap"]
    (tmp_path / "config.json").write_text(json.dumps(older))
    config, _ = parse(["main", option])
    assert config.fleet.presets == ("plain", "both") and config.task.cap == 0
    assert settings.check(config)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"job": "train", "train": {"momentum": 1}}', r"sets train\.momentum, which this version does not have: read"),
        ('{"job": "train", "train": {"steps": "many"}}', r"train\.steps='many' is of type str: int was expected"),
        ('{"job": "train", "train": {"learning_rate": true}}', r"train\.learning_rate=True is of type bool: float was"),
        ('{"job": "train", "fleet": {"seeds": ["a"]}}', r"fleet\.seeds=\('a',\) .* a tuple of int was expected"),
        ('{"job": "dance"}', "job='dance' is not supported: choose one of train"),
        ('{"job": "train", ', r"cannot be read: .*: give the config of another run"),
        ("[]", "holds list, but an object was expected: give the config of another run"),
        ('{"members": []}', r"is not the config of a run: give the config\.json in a workdir"),
        (None, "cannot be read: No such file or directory"),
        ('{"job": "train", "checksum": "a"}', 'is not what was written, .*, or remove the line "checksum"'),
    ],
)
def test_a_file_that_is_no_config(text: str | None, sentence: str, tmp_path: pathlib.Path) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=sentence) as error:
        parse(["main", f"--config={tmp_path / 'config.json'}"])
    assert "\n" not in str(error.value)
