"""Runs that go on: with more steps, as if they had been planned with them, and with a test split."""

from __future__ import annotations

import itertools
import json
import os
import pathlib
import shutil
import signal
from typing import Any

import ml_collections
import pytest
import tiny_runs
from tiny_runs import acting, before_step

import infoprompt_jax as ip
from infoprompt_jax import checksums, jobs
from infoprompt_jax.errors import Stopped, UserError
from infoprompt_jax.fleet.fleet import Fleet
from infoprompt_jax.training.train import of_all_steps

SHORT, LONG = 8, 12  # evaluations are every 4 steps

pytestmark = pytest.mark.usefixtures("programs")


class Killed(BaseException):
    """Stands for the end of the process."""


def die(*_: Any, **__: Any) -> None:
    raise Killed


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("data")


def config(data: pathlib.Path, steps: int, **fields: Any) -> ml_collections.ConfigDict:
    planned: dict[str, Any] = {"train__schedule": "constant", "train__warmup": 0.0, "fleet__seeds": (0, 1)}
    planned["infoprompt__gamma"] = 0.0  # the other term has the features
    return tiny_runs.config(data, **planned | fields, train__steps=steps)


@pytest.fixture(scope="module")
def short(data: pathlib.Path) -> pathlib.Path:
    jobs.run(config(data, SHORT), str(data / "short"))
    return data / "short"


@pytest.fixture(scope="module")
def long(data: pathlib.Path) -> pathlib.Path:
    """Planned with all steps from the start."""
    jobs.run(config(data, LONG), str(data / "long"))
    return data / "long"


@pytest.fixture
def run(short: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A finished run that a test may go on with."""
    return pathlib.Path(shutil.copytree(short, tmp_path / "run"))


def read(path: pathlib.Path) -> Any:
    return json.loads(path.read_text())


def contents(directory: pathlib.Path) -> dict[pathlib.Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def assert_same_run(found: pathlib.Path, expected: pathlib.Path) -> None:
    assert (found / "metrics.jsonl").read_bytes() == (expected / "metrics.jsonl").read_bytes()
    assert read(found / "summary.json")["members"] == read(expected / "summary.json")["members"]
    assert read(found / "config.json") == read(expected / "config.json")
    prompts = [path.relative_to(expected) for path in expected.glob("*prompts/*/*")]
    assert len(prompts) == 8
    for path in prompts:
        assert (found / path).read_bytes() == (expected / path).read_bytes()


def test_a_finished_run_goes_on_to_the_result_of_a_longer_one(
    run: pathlib.Path, short: pathlib.Path, long: pathlib.Path, data: pathlib.Path
) -> None:
    before = (run / "metrics.jsonl").read_bytes()
    table = jobs.run(config(data, LONG), str(run))
    assert_same_run(run, long)
    assert (run / "metrics.jsonl").read_bytes().startswith(before)
    assert read(run / "former_summary.json") == read(short / "summary.json")
    finished = contents(run)
    assert jobs.run(config(data, LONG), str(run)) == table
    assert contents(run) == finished


@pytest.mark.parametrize(
    "moment", ["config", "step", *(pytest.param(name, marks=pytest.mark.slow) for name in ("features", "summary"))]
)
def test_a_longer_run_that_is_killed_loses_nothing(
    moment: str, run: pathlib.Path, long: pathlib.Path, data: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before config.json, features, a step or the new summary; there is no summary until it is the new one."""
    write = checksums.write_json
    with monkeypatch.context() as patch, pytest.raises(Killed):
        if moment in ("config", "summary"):
            named = f"{moment}.json"
            patch.setattr(
                checksums,
                "write_json",
                lambda path, *more, **how: die() if path.name == named else write(path, *more, **how),
            )
        else:
            patch.setattr(Fleet, moment, before_step(SHORT + 2, die) if moment == "step" else property(die))
        jobs.run(config(data, LONG), str(run))
    assert not (run / "summary.json").exists() and (run / "former_summary.json").exists()
    assert read(run / "config.json")["train"]["steps"] == (SHORT if moment == "config" else LONG)
    jobs.run(config(data, LONG), str(run))
    assert_same_run(run, long)


@pytest.mark.slow
def test_the_former_last_evaluation_stays_in_the_log(data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Six steps end between two evaluations."""
    for steps in (6, 8):
        jobs.run(config(data, steps, fleet__seeds=(0,), infoprompt__beta=0.0), str(tmp_path))
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
    evaluated = [r["step"] for r in records if r["name"] == "eval/accuracy" and r["member"] == "run-seed0"]
    assert evaluated == [0, 4, 6, 8]


@pytest.mark.slow
def test_the_former_last_evaluation_stays_if_it_was_stopped_and_done_again(
    data: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint of that step is from before the evaluation, and stays so."""
    fields: dict[str, Any] = {"fleet__seeds": (0,), "infoprompt__beta": 0.0, "train__eval_every": 0}
    calls, sigterm = itertools.count(), lambda: os.kill(os.getpid(), signal.SIGTERM)
    with monkeypatch.context() as patch, pytest.raises(Stopped, match="Stopped in the evaluation of step 2; "):
        patch.setattr(Fleet, "scores", acting("scores", lambda *_: next(calls) == 0, sigterm))
        jobs.run(config(data, 2, **fields), str(tmp_path / "run"))
    for name, steps in itertools.product(("run", "whole"), (2, 4)):
        jobs.run(config(data, steps, **fields), str(tmp_path / name))
    found, expected = ((tmp_path / name / "metrics.jsonl").read_bytes() for name in ("run", "whole"))
    assert found == expected and b'"step": 2, "member": "run-seed0", "name": "eval/accuracy"' in found


def test_a_finished_run_gets_a_test_split(
    run: pathlib.Path, data: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the evaluation split again, so that the results must be the best ones."""
    before, members = (run / "metrics.jsonl").read_bytes(), read(run / "summary.json")["members"]
    monkeypatch.setattr(Fleet, "step", property(die))
    jobs.run(config(data, SHORT, task__test_split="validation"), str(run))
    assert (run / "metrics.jsonl").read_bytes() == before
    after = read(run / "summary.json")
    assert after["members"] == [member | {"test": member["best"]} for member in members]
    assert read(run / "config.json")["task"]["test_split"] == "validation" and after["fingerprints"]["test_data"]


def test_an_evaluation_is_not_that_of_the_prompts_before(
    run: pathlib.Path, data: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """A longer run writes its prompts anew, at the same path."""
    path = run / "prompts" / "run-seed0"
    evaluated = config(data, SHORT, job="evaluate", prompt__init=str(path), fleet__seeds=())
    table = jobs.run(evaluated, str(tmp_path / "evaluation"))
    assert jobs.run(evaluated, str(tmp_path / "evaluation")) == table
    prompt = ip.load_prompt(path)
    ip.save_prompt(path, ip.Prompt(prompt.value_PD + 1, prompt.metadata, prompt.tensors))
    with pytest.raises(UserError, match=r"an evaluation of what prompt\.init held before: choose another --workdir"):
        jobs.run(evaluated, str(tmp_path / "evaluation"))


def test_a_run_goes_on_but_not_back(run: pathlib.Path, data: pathlib.Path) -> None:
    before = contents(run)
    for steps in (SHORT - 1, 1):
        sentence = rf"train\.steps={SHORT}, this one has {steps}: .* or the same or a larger value to resume"
        with pytest.raises(UserError, match=sentence):
            jobs.run(config(data, steps), str(run))
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(UserError, match="has no checkpoint to go on from: choose a new --workdir"):
        jobs.run(config(data, LONG), str(run))
    before = {path: content for path, content in before.items() if "checkpoints" not in path.parts}
    assert contents(run) == before


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"train__schedule": "linear"}, r"train\.schedule='linear'"),
        ({"train__schedule": "cosine"}, r"train\.schedule='cosine'"),
        ({"train__warmup": 0.1}, r"train\.warmup=0\.1"),
        ({"infoprompt__decay": 1.0}, r"infoprompt\.decay=1"),
        ({"fleet__members": ({"name": "a"}, {"name": "b", "train.schedule": "cosine"})}, r"train\.schedule='cosine'"),
    ],
)
def test_a_run_whose_steps_depend_on_their_number_is_refused(
    fields: dict[str, Any], named: str, data: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    planned = config(data, SHORT, **fields)
    checksums.write_json(tmp_path / "config.json", json.loads(planned.to_json()))
    checksums.write_json(tmp_path / "summary.json", {"members": []}, kind="summary")
    before = contents(tmp_path)
    sentence = f"planned for {SHORT} steps, and its {named} depends on their number, so it cannot go on to {LONG}"
    with pytest.raises(UserError, match=sentence + ": choose a new --workdir, with prompt.init="):
        jobs.run(config(data, LONG, **fields), str(tmp_path))
    assert contents(tmp_path) == before


def test_a_decay_of_terms_that_are_off_changes_nothing(data: pathlib.Path) -> None:
    decay = {"infoprompt__decay": 1.0, "infoprompt__gamma": 0.0}
    assert of_all_steps(config(data, SHORT, **decay)) == ["infoprompt.decay=1"]
    assert of_all_steps(config(data, SHORT, **decay, infoprompt__beta=0.0)) == []


def test_only_noise_that_is_drawn_depends_on_all_steps(data: pathlib.Path) -> None:
    relative = {"infoprompt__noise": "relative", "infoprompt__beta": 0.2}
    assert of_all_steps(config(data, SHORT, **relative)) == ["infoprompt.noise='relative'"]
    for other in ({"infoprompt__negatives": "shuffled"}, {"infoprompt__variational": True}):
        assert of_all_steps(config(data, SHORT, **relative, **other)) == []
