"""However a run ends, the same command finishes it, and its log is that of a run that was never stopped."""

from __future__ import annotations

import itertools
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import generated_words
import ml_collections
import numpy as np
import pytest
import tiny_runs
from tiny_runs import STEPS, acting, before_step

from infoprompt_jax import jobs, saved_config
from infoprompt_jax.data import rows
from infoprompt_jax.data.tasks import Task
from infoprompt_jax.errors import Stopped, UserError
from infoprompt_jax.fleet.fleet import Fleet
from infoprompt_jax.reports import curves
from infoprompt_jax.training import experiment, page, train
from infoprompt_jax.training.checkpoints import Checkpoints
from infoprompt_jax.training.experiment import build

ROOT = pathlib.Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("programs")


class Killed(BaseException):
    """Stands for the end of the process."""


def die() -> None:
    raise Killed


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def config(data: pathlib.Path) -> ml_collections.ConfigDict:
    """Two members that differ in their seed."""
    return tiny_runs.config(data, fleet__seeds=(0, 1))


@pytest.fixture(scope="module")
def uninterrupted(config: ml_collections.ConfigDict, data: pathlib.Path) -> pathlib.Path:
    jobs.run(config, str(data / "uninterrupted"))
    return data / "uninterrupted"


def members(workdir: pathlib.Path) -> list[dict[str, Any]]:
    return json.loads((workdir / "summary.json").read_text())["members"]


def assert_same_run(found: pathlib.Path, expected: pathlib.Path) -> None:
    """The logs byte for byte, the results, and the exported prompts."""
    assert (found / "metrics.jsonl").read_bytes() == (expected / "metrics.jsonl").read_bytes()
    assert members(found) == members(expected)
    prompts = sorted(path.relative_to(expected) for path in expected.glob("*prompts/*/*"))
    assert len(prompts) == 8
    for path in prompts:
        assert (found / path).read_bytes() == (expected / path).read_bytes()


def test_the_uninterrupted_run_is_worth_comparing_with(uninterrupted: pathlib.Path) -> None:
    """It moves, at a changing rate, and its events do not coincide."""
    records = [json.loads(line) for line in (uninterrupted / "metrics.jsonl").read_text().splitlines()]
    steps = {name: sorted({r["step"] for r in records if r["name"] == name}) for name in ("task_loss", "eval/accuracy")}
    assert steps == {"task_loss": list(range(1, STEPS + 1)), "eval/accuracy": [0, 4, 8, STEPS]}
    rates = [r["value"] for r in records if r["name"] == "learning_rate" and r["member"] == "run-seed0"]
    assert rates[:4] == sorted(rates[:4]) and rates[4:] == sorted(rates[4:], reverse=True) and len(set(rates)) > 7
    for name in ("task_loss", "head_mi", "representation_mi", "gradient_norm", "prompt_norm"):
        values = [r["value"] for r in records if r["name"] == name]
        assert len(set(values)) == len(values)


def killed_at(moment: str, patch: pytest.MonkeyPatch) -> None:
    if moment == "features":
        calls = itertools.count()
        patch.setattr(Fleet, "features", acting("features", lambda *_: next(calls) == 2, die))
    elif moment == "save":
        save = Checkpoints.save
        patch.setattr(Checkpoints, "save", lambda self, step, *rest: die() if step == 6 else save(self, step, *rest))
    else:
        patch.setattr(Fleet, "step", before_step(int(moment), die))


@pytest.mark.parametrize("moments", [["features"], ["save"], ["0", "5", "8"]])
def test_a_killed_run_resumes_to_the_same_log(
    moments: list[str],
    config: ml_collections.ConfigDict,
    uninterrupted: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for moment in moments:
        with monkeypatch.context() as patch, pytest.raises(Killed):
            killed_at(moment, patch)
            jobs.run(config, str(tmp_path))
    assert not (tmp_path / "summary.json").exists()
    jobs.run(config, str(tmp_path))
    assert_same_run(tmp_path, uninterrupted)


def test_neither_ctrl_c_in_the_export_nor_a_failing_picture_costs_results(
    config: ml_collections.ConfigDict,
    uninterrupted: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    def failing(*_: Any) -> None:
        raise RuntimeError("no such font\nin $HOME")

    for module, name in ((train, "collect"), (train, "last_evaluations"), (curves, "draw"), (page, "write")):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(module, name, interrupted)
            jobs.run(config, str(tmp_path))
        assert not (tmp_path / "summary.json").exists()
    monkeypatch.setattr(curves, "draw", failing)
    monkeypatch.setattr(page, "results", failing)
    jobs.run(config, str(tmp_path))
    assert_same_run(tmp_path, uninterrupted)
    assert "curves.png could not be made (no such font): the results are complete without it." in caplog.text
    assert "report.html could not be made" in caplog.text


def test_a_workdir_that_is_removed_under_a_run_ends_it(
    config: ml_collections.ConfigDict, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Fleet, "step", before_step(4, lambda: shutil.rmtree(tmp_path / "run")))
    with pytest.raises(UserError, match=r"run was removed or replaced while this process wrote into it: start the"):
        jobs.run(config, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_names_that_are_markup_elsewhere_pass_through(data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    names = ("_a$x^{$", "<script>alert(1)</script>", "a|b `c` *d*", "ä " * 40)
    fields = {"fleet__members": tuple({"name": name.strip().replace("/", "")} for name in names)}
    jobs.run(tiny_runs.config(data, train__steps=1, **fields), str(tmp_path))
    exported = {one["name"] for one in members(tmp_path)}
    assert exported == {path.name for path in (tmp_path / "prompts").iterdir()} and len(exported) == 4
    shown = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script>" not in shown and "&lt;script&gt;alert(1)&lt;script&gt;" in shown
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_what_is_saved_has_been_evaluated(
    config: ml_collections.ConfigDict, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step 0 is evaluated and saved; resuming from it repeats no evaluation, so the checkpoint must know its metric."""
    monkeypatch.setattr(Fleet, "step", before_step(0, die))
    with pytest.raises(Killed):
        jobs.run(config, str(tmp_path))
    start = build(config).initial_state()
    assert np.isneginf(start.best_metric).all()
    restored = Checkpoints(tmp_path / "checkpoints").restore(start, {})
    assert restored is not None and np.isfinite(restored[0].best_metric).all()


Start = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def start(config: ml_collections.ConfigDict, programs: dict[str, str], tmp_path: pathlib.Path) -> Start:
    """Trains in a process of its own that kills itself as asked."""
    (tmp_path / "config.json").write_text(config.to_json())

    def run(workdir: pathlib.Path, where: str, when: float) -> subprocess.CompletedProcess[str]:
        script = [sys.executable, str(ROOT / "tests" / "tiny_runs.py"), str(tmp_path / "config.json"), str(workdir)]
        environment = os.environ | programs | {"PYTHONPATH": str(ROOT)}
        return subprocess.run([*script, where, str(when)], env=environment, capture_output=True, text=True, check=False)

    return run


def test_a_process_killed_with_a_checkpoint_half_written(
    start: Start, config: ml_collections.ConfigDict, uninterrupted: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    ended = start(tmp_path / "run", "save", 3)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    left = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert "0" in left and "3" not in left and any(name.startswith("3.") for name in left)
    jobs.run(config, str(tmp_path / "run"))
    assert_same_run(tmp_path / "run", uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("step", range(STEPS))
def test_a_process_killed_at_each_of_its_ten_steps(
    step: int, start: Start, uninterrupted: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    assert start(tmp_path / "run", "step", step).returncode == -signal.SIGKILL
    ended = start(tmp_path / "run", "step", STEPS + 1)
    assert ended.returncode == 0, ended.stderr
    assert_same_run(tmp_path / "run", uninterrupted)


@pytest.mark.slow
def test_a_process_killed_at_random_moments(start: Start, uninterrupted: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """While it imports, tokenises, compiles, trains, saves or exports, until one attempt is given time to finish."""
    moments, attempts, ended = random.Random(0), 0, None
    while ended is None or ended.returncode == -signal.SIGALRM:
        ended = start(tmp_path / "run", "seconds", moments.uniform(1, 3 + attempts / 2))
        attempts += 1
    assert ended.returncode == 0 and attempts > 1, ended.stderr
    assert_same_run(tmp_path / "run", uninterrupted)


def test_sigterm_saves_and_stops(
    config: ml_collections.ConfigDict,
    uninterrupted: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    sentence = f"^Stopped at step 5 of {STEPS}; the same command resumes\\.$"
    with monkeypatch.context() as patch, pytest.raises(Stopped, match=sentence):
        patch.setattr(Fleet, "step", before_step(4, lambda: os.kill(os.getpid(), signal.SIGTERM)))
        jobs.run(config, str(tmp_path))
    assert signal.getsignal(signal.SIGTERM) == before
    assert (tmp_path / "checkpoints" / "5").is_dir()
    jobs.run(config, str(tmp_path))
    assert_same_run(tmp_path, uninterrupted)


def test_sigterm_in_an_evaluation_stops_and_the_evaluation_is_done_again(
    data: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after a head start, which is not done again."""
    short = {"train__steps": 4, "train__eval_batch_size": 8}
    made = tiny_runs.config(data, fleet__seeds=(0, 1), infoprompt__head_steps=2, **short)
    jobs.run(made, str(tmp_path / "whole"))
    for step in (0, 4):
        with monkeypatch.context() as patch:
            calls, sigterm = itertools.count(), lambda: os.kill(os.getpid(), signal.SIGTERM)
            patch.setattr(Fleet, "scores", acting("scores", lambda *_, c=calls, s=step: next(c) == 1 + s, sigterm))
            with pytest.raises(Stopped, match=f"Stopped in the evaluation of step {step}; "):
                jobs.run(made, str(tmp_path / "run"))
        assert (tmp_path / "run" / "checkpoints" / str(step)).is_dir()
    jobs.run(made, str(tmp_path / "run"))
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_sigterm_while_features_are_computed_stops(
    config: ml_collections.ConfigDict,
    uninterrupted: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They may take longer than a cluster waits for the end. Those that are there are not computed again."""
    calls: list[int] = []

    def second(*_: object) -> bool:
        calls.append(1)
        return len(calls) == 2

    monkeypatch.setattr(Fleet, "features", acting("features", second, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    with pytest.raises(Stopped, match="Stopped while features without a prompt were"):
        jobs.run(config, str(tmp_path / "run"))
    assert len(calls) == 2
    jobs.run(config, str(tmp_path / "run"))
    computed = len(calls)
    jobs.run(config, str(tmp_path / "whole"))
    assert computed == len(calls) - computed
    assert_same_run(tmp_path / "run", uninterrupted)


def test_a_run_resumes_on_its_own_data_and_settings_alone(
    config: ml_collections.ConfigDict, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows of each of its splits are its own, those that it is only tested on included."""
    generated_words.write(tmp_path / "data")
    words = tmp_path / "data" / "generated" / "words"
    (words / "test.jsonl").write_text((words / "validation.jsonl").read_text())
    config = config.copy_and_resolve_references()
    config.data.dir, config.task.test_split = str(tmp_path / "data"), "test"
    workdir = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Fleet, "step", before_step(4, die))
        jobs.run(config, str(workdir))
    before = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
    other = config.copy_and_resolve_references()
    other.infoprompt.beta = 0.5
    with pytest.raises(UserError, match=r"holds a run with infoprompt\.beta=0\.2, this one has 0\.5: choose another"):
        jobs.run(other, str(workdir))
    for split, data in (("train", "data"), ("validation", "evaluation data"), ("test", "test data")):
        path = words / f"{split}.jsonl"
        own = path.read_text()
        path.write_text("".join(own.splitlines(keepends=True)[::-1]))
        with pytest.raises(UserError, match=rf"was made with {data} '.*', this run has '.*': choose another --workdir"):
            jobs.run(config, str(workdir))
        path.write_text(own)
    render = Task.render
    with monkeypatch.context() as patch:  # another version reads the same file otherwise
        patch.setattr(rows, "RULES", 0)
        patch.setattr(Task, "render", lambda task, row: render(task, row | {"words": row["words"] + " ant"}))
        with pytest.raises(UserError, match=r"was made with contents of data '.*', this run has '.*': choose another"):
            jobs.run(config, str(workdir))
    assert {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()} == before
    jobs.run(config, str(workdir))
    fingerprints = json.loads((workdir / "summary.json").read_text())["fingerprints"]
    assert fingerprints.keys() == {"backbone", "data", "evaluation_data", "test_data", "sources"}
    assert len(set(fingerprints.values())) == 5


def test_a_run_resumes_where_data_sets_and_templates_stand_as_before_alone(
    config: ml_collections.ConfigDict, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where two data sets, or two templates, change places, all rows are there still, but the batches are others."""
    templates, data = tmp_path / "templates" / "generated", tmp_path / "data" / "generated"
    generated_words.write(tmp_path / "data")
    shutil.copytree(data / "words", data / "others")
    for file in (data / "others").iterdir():
        file.write_text("".join(file.read_text().splitlines(keepends=True)[::-1]))
    for name in ("words", "others"):
        (templates / name).mkdir(parents=True)
        (templates / name / "templates.yaml").write_text(tiny_runs.TEMPLATES)
    config = config.copy_and_resolve_references()
    config.data.dir, config.task.templates_dir = str(tmp_path / "data"), str(tmp_path / "templates")
    config.fleet.members = ({"name": "x"}, {"name": "y", "task.name": "generated/others"})
    config.fleet.seeds = ()
    workdir = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Fleet, "step", before_step(4, die))
        jobs.run(config, str(workdir))

    def exchange_data() -> None:
        (data / "words").rename(data / "aside")
        (data / "others").rename(data / "words")
        (data / "aside").rename(data / "others")

    def exchange_templates() -> None:
        path = templates / "words" / "templates.yaml"
        head, *entries = re.split(r"(?=^  \w+: !Template$)", path.read_text(), flags=re.MULTILINE)
        path.write_text(head + "".join(entries[::-1]))

    for exchange in (exchange_data, exchange_templates):
        exchange()
        with pytest.raises(UserError, match=r"was made with order of data '.*', this run has '.*': choose another"):
            jobs.run(config, str(workdir))
        exchange()
    jobs.run(config, str(workdir))


def test_a_run_on_few_rows_that_a_former_version_began_is_not_resumed(
    config: ml_collections.ConfigDict, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sorted several epochs together, and did not record that: its batches were others."""
    config = config.copy_and_resolve_references()
    config.task.shots = 16
    workdir = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(experiment, "WINDOW", 0)
        patch.setattr(Fleet, "step", before_step(4, die))
        jobs.run(config, str(workdir))
    with pytest.raises(UserError, match=r"was made with order of data '.*', this run has '.*': choose another"):
        jobs.run(config, str(workdir))


def test_a_run_does_not_go_on_with_fields_that_it_did_not_begin_with(
    config: ml_collections.ConfigDict, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However they came into config.json."""
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Fleet, "step", before_step(5, die))
        jobs.run(config, str(tmp_path))
    file = tmp_path / "config.json"
    text = re.sub(r'\n *"checksum": .*', "", file.read_text())
    file.write_text(text.replace('"learning_rate": 0.3', '"learning_rate": 0.5'))
    changed = saved_config.read(file)
    assert changed.train.learning_rate == 0.5
    with pytest.raises(UserError, match="was made with other config fields"):
        jobs.run(changed, str(tmp_path))
    file.write_text(text)
    changed = saved_config.read(file)
    changed.train.eval_batch_size = 8  # which a resumed run may change
    jobs.run(changed, str(tmp_path))
