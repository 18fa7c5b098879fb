"""Runs whose workdir, data, templates, prompts, backbone and library lie in a bucket: the same as on a disk."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import loopback_bucket
import ml_collections
import pytest
import tiny_runs
import tiny_sources
from tiny_runs import before_step

from infoprompt_jax import bucket, checksums, command_line, files, jobs
from infoprompt_jax.errors import UserError
from infoprompt_jax.fleet.fleet import Fleet

ROOT = pathlib.Path(__file__).parents[2]
SHORT = {"train__steps": 4, "train__eval_every": 2, "train__save_every": 1, "task__eval_limit": 4}
SHORT |= {"infoprompt__gamma": 0.0}  # the other term has the features

pytestmark = pytest.mark.usefixtures("programs")


class Killed(BaseException):
    """Stands for the end of the process."""


def die() -> None:
    raise Killed


@pytest.fixture(scope="module")
def address() -> str:
    return loopback_bucket.new("runs")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def expected(folder: pathlib.Path) -> pathlib.Path:
    """A run on a disk."""
    jobs.run(tiny_runs.config(folder, **SHORT), str(folder / "run"))
    return folder / "run"


@pytest.fixture(scope="module")
def config(folder: pathlib.Path, expected: pathlib.Path, address: str) -> ml_collections.ConfigDict:
    """The config of that run, with everything that it reads in a bucket."""
    config = tiny_runs.config(folder, **SHORT)
    for name in ("data", "templates"):
        loopback_bucket.upload(folder / name, f"{address}/{name}")
    config.data.update(dir=f"{address}/data", cache_dir=str(folder / "another cache"))
    config.task.templates_dir = f"{address}/templates"
    return config


def assert_same_run(workdir: str, expected: pathlib.Path) -> None:
    """The log and the exported prompts byte for byte but for where templates lie, the results, and the pages."""
    found = loopback_bucket.objects(workdir)
    assert found["metrics.jsonl"] == (expected / "metrics.jsonl").read_bytes()
    for name in ("prompts/run/prompt.safetensors", "last_prompts/run/prompt.safetensors", "curves.png"):
        assert found[name] == (expected / name).read_bytes()
    ours, theirs = json.loads(found["summary.json"]), json.loads((expected / "summary.json").read_text())
    assert ours["members"] == theirs["members"] and ours["fingerprints"] == theirs["fingerprints"]
    assert found["report.html"].startswith(b"<!DOCTYPE html>") and ".lock" not in found


def test_a_killed_run_resumes_to_the_log_of_a_run_on_a_disk(
    config: ml_collections.ConfigDict, expected: pathlib.Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the last complete checkpoint. Then it reports that it is complete, and another config is refused."""
    workdir = f"{address}/killed"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Fleet, "step", before_step(3, die))
        jobs.run(config, workdir)
    assert "summary.json" not in loopback_bucket.objects(workdir)
    files.path(
        f"{workdir}/checkpoints/3/commit_success.txt"
    ).unlink()  # as a process leaves it that is killed just then
    shown = jobs.run(config, workdir)
    assert_same_run(workdir, expected)
    steps = {name.split("/")[1] for name in loopback_bucket.objects(workdir) if name.startswith("checkpoints/")}
    assert steps == {"3", "4"}
    before = loopback_bucket.objects(workdir)
    assert jobs.run(config, workdir) == shown and loopback_bucket.objects(workdir) == before
    other = command_line.read_config(f"{workdir}/config.json")
    other.seed = 1
    with pytest.raises(UserError, match=f"The workdir {workdir} holds a run with seed=0"):
        jobs.run(other, workdir)


@pytest.mark.slow
def test_a_workdir_that_was_emptied_has_no_features_of_its_former_run(
    config: ml_collections.ConfigDict, folder: pathlib.Path, address: str
) -> None:
    """They are kept on this machine, in a directory that depends on the bucket's name for the workdir."""
    workdir, other = f"{address}/emptied", {"infoprompt__representation": "mean_encoder"}
    jobs.run(config, workdir)
    for name in loopback_bucket.objects(workdir):
        files.path(f"{workdir}/{name}").unlink()
    changed = config.copy_and_resolve_references()
    changed.infoprompt.representation = "mean_encoder"
    jobs.run(changed, workdir)
    jobs.run(tiny_runs.config(folder, **SHORT, **other), str(folder / "other"))
    assert loopback_bucket.objects(workdir)["metrics.jsonl"] == (folder / "other" / "metrics.jsonl").read_bytes()


def test_a_workdir_that_another_process_holds_is_refused(
    config: ml_collections.ConfigDict, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workdir = f"{address}/held"
    with loopback_bucket.short_leases(renewed=0.05, expires=5.0), files.lock(files.path(workdir), wait=False):
        with pytest.raises(UserError, match=f"Another process is running in the workdir {workdir}: "):
            jobs.run(config, workdir)
        assert {*loopback_bucket.objects(workdir)} == {".lock"}


def other_process(config: ml_collections.ConfigDict, workdir: str, tmp_path: pathlib.Path, *when: str) -> Any:
    (tmp_path / "config.json").write_text(config.to_json())
    script = [sys.executable, str(ROOT / "tests" / "loopback_bucket.py"), str(tmp_path / "config.json"), workdir]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([*script, *when], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("step", [0, 2, 3])
def test_a_process_killed_in_a_step(
    step: int, config: ml_collections.ConfigDict, expected: pathlib.Path, address: str, tmp_path: pathlib.Path
) -> None:
    """Its lock stays; the next process waits until it is too old, and takes it over."""
    workdir = f"{address}/process{step}"
    ended = other_process(config, workdir, tmp_path, "step", str(step))
    assert ended.returncode == -signal.SIGKILL and ".lock" in loopback_bucket.objects(workdir), ended.stderr
    ended = other_process(config, workdir, tmp_path, "step", "100")
    assert ended.returncode == 0, ended.stderr
    assert_same_run(workdir, expected)


@pytest.mark.slow
def test_a_run_killed_before_or_after_many_uploads(
    config: ml_collections.ConfigDict, expected: pathlib.Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the config, the log, a checkpoint's log, a prompt's files, the curves, the page or the summary."""
    workdir, put, ends = f"{address}/uploads", bucket.client().put_file, 0
    while "summary.json" not in loopback_bucket.objects(workdir):
        uploads = itertools.count()

        def put_or_die(source: str, target: str, uploads: Iterator[int] = uploads, ends: int = ends) -> None:
            dies = next(uploads) == 2 + ends  # later each time: the end, which starts anew, has about ten of them
            if dies and ends % 2:
                die()
            put(source, target)
            if dies:
                die()

        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            patch.setattr(bucket.client(), "put_file", put_or_die)
            jobs.run(config, workdir)
        ends += 1
    assert ends > 3
    assert jobs.run(config, workdir)
    assert_same_run(workdir, expected)


@pytest.mark.slow
def test_saved_prompts_are_evaluated_and_predict(
    config: ml_collections.ConfigDict, expected: pathlib.Path, address: str, folder: pathlib.Path
) -> None:
    run, rows = f"{address}/prompts", folder / "data" / "generated" / "words" / "validation.jsonl"
    jobs.run(config, run)
    loopback_bucket.put(f"{address}/rows.jsonl", rows.read_bytes())
    evaluated = [f"--config={run}/config.json", "--config.job=evaluate", f"--workdir={run}/evaluate"]
    jobs.run(*command_line.parse(["", *evaluated]))
    summary = json.loads(loopback_bucket.objects(f"{run}/evaluate")["summary.json"])
    assert summary["members"][0]["final"] == json.loads((expected / "summary.json").read_text())["members"][0]["best"]
    predictions = []
    for place, source in ((run, f"{address}/rows.jsonl"), (str(expected), str(rows))):
        job = [f"--config={place}/config.json", "--config.job=predict", f"--config.data.file={source}"]
        parsed, workdir = command_line.parse(["", *job])
        assert workdir == f"{place}/predict"
        jobs.run(parsed, workdir)
        predictions.append(files.path(f"{workdir}/predictions.jsonl").read_bytes())
    assert predictions[0] == predictions[1]
    assert not any("/.predictions" in name for name in loopback_bucket.objects(run))


@pytest.mark.slow
def test_a_library_is_made_and_used(tmp_path: pathlib.Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between its groups; the same library and the same results as on a disk."""
    tiny_sources.write(tmp_path)
    config = tiny_sources.configure(tmp_path)
    jobs.run(config, str(tmp_path / "sources"))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Fleet, "step", before_step(2, die))
        jobs.run(config, f"{address}/sources")
    jobs.run(config, f"{address}/sources")
    library = loopback_bucket.objects(f"{address}/sources/library")
    on_disk = {path.name: path.read_bytes() for path in (tmp_path / "sources" / "library").iterdir()}
    assert {name: content for name, content in on_disk.items() if name != ".lock"} == library
    results = []
    for place in (str(tmp_path), address):
        made = config.copy_and_resolve_references()
        made.job, made.prompt.length, made.task.name = "rospr_eval", 0, tiny_sources.OTHER
        made.rospr.update(library=f"{place}/sources/library", queries=4, top=2)
        jobs.run(made, f"{place}/eval")
        kept = checksums.read_json(files.path(f"{place}/eval/results.json"), "")
        results.append(json.dumps(kept).replace(f"{place}/", ""))
    assert results[0] == results[1]


@pytest.mark.slow
def test_tensorboards_files_are_uploaded(address: str) -> None:
    from infoprompt_jax.training.metrics_log import EventFiles

    events = EventFiles(bucket.path(f"{address}/tensorboard"))
    events.write(1, "run", {"loss": 0.5})
    events.flush()
    (name,) = loopback_bucket.objects(f"{address}/tensorboard")
    assert name.startswith("run/events.out.tfevents") and events.close() is None
