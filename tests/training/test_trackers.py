"""A tracker gets the log's records, a resumed run continues its own, and a tracker that fails is no obstacle."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import sys
from typing import Any

import pytest
import tiny_runs

from infoprompt_jax import jobs
from infoprompt_jax.errors import Stopped, UserError
from infoprompt_jax.fleet.fleet import Fleet

# As much of Trackio as a run needs; it appends what it is given to a file.
STAND_IN = """\
import json, pathlib
FILE, FAILS = pathlib.Path({path!r}), {fails!r}

class Run:
    def __init__(self, name):
        self.name = name

    def _append(self, **entry):
        with FILE.open("a") as file:
            file.write(json.dumps({{"run": self.name, **entry}}) + "\\n")

    def log(self, metrics, step):
        if FAILS == "log" and step > 0:
            raise RuntimeError("disk full\\nand more")
        self._append(step=step, metrics=metrics)

    def finish(self):
        self._append(finished=True)

def init(project, name, config, resume, embed, auto_log_gpu, auto_log_cpu):
    print("welcome")
    if FAILS == "init":
        raise RuntimeError("no database")
    assert resume == "allow" and config["train.tracker"] == "trackio"
    return Run(name)
"""


@pytest.fixture
def install(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts the stand-in before the real package, if that is here; returns its file."""

    def write(fails: str = "") -> pathlib.Path:
        (tmp_path / "packages").mkdir()
        sent = tmp_path / "sent.jsonl"
        (tmp_path / "packages" / "trackio.py").write_text(STAND_IN.format(path=str(sent), fails=fails))
        monkeypatch.syspath_prepend(tmp_path / "packages")
        monkeypatch.delitem(sys.modules, "trackio", raising=False)
        return sent

    yield write
    sys.modules.pop("trackio", None)


def config(tmp_path: pathlib.Path) -> Any:
    fields: dict[str, Any] = {"train__tracker": "trackio", "train__steps": 4}
    fields |= {"infoprompt__gamma": 0.0, "infoprompt__beta": 0.0}
    return tiny_runs.config(tmp_path, **fields)


def read(path: pathlib.Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def records(workdir: pathlib.Path) -> dict[tuple[int, str], float]:
    return {(r["step"], f"{r['member']}/{r['name']}"): r["value"] for r in read(workdir / "metrics.jsonl")}


@pytest.mark.usefixtures("programs")
def test_a_stopped_and_resumed_run_is_one_run_with_all_records(
    install: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sent, workdir = install(), tmp_path / "words"
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(Fleet, "step", tiny_runs.before_step(1, lambda: os.kill(os.getpid(), signal.SIGTERM)))
        jobs.run(config(tmp_path), str(workdir))
    jobs.run(config(tmp_path), str(workdir))
    entries = read(sent)
    assert len({entry["run"] for entry in entries}) == 1 and entries[0]["run"].startswith("words-")
    logged = {(e["step"], name): v for e in entries if "step" in e for name, v in e["metrics"].items()}
    assert logged == records(workdir) and len(logged) > 30
    assert sum("finished" in entry for entry in entries) == 2
    assert "welcome" not in capsys.readouterr().out


@pytest.mark.usefixtures("programs")
def test_a_tracker_that_fails_later_is_logged_once_and_the_run_ends_well(
    install: Any, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    sent = install(fails="log")
    jobs.run(config(tmp_path), str(tmp_path / "run"))
    failures = [message for message in caplog.messages if "tracker" in message]
    assert failures == [
        "train.tracker='trackio' failed (disk full); the run goes on without it, and metrics.jsonl has everything."
    ]
    assert {entry["step"] for entry in read(sent)} == {0} and len(records(tmp_path / "run")) > 30


def test_a_tracker_that_cannot_start_is_an_error(install: Any, tmp_path: pathlib.Path) -> None:
    install(fails="init")
    with pytest.raises(
        UserError, match=r"train\.tracker='trackio' cannot start \(no database\): mend it, or set it to"
    ):
        jobs.run(config(tmp_path), str(tmp_path / "run"))


def test_a_tracker_that_is_not_installed_is_an_error(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"train\.tracker='trackio' needs a package that is not here: pip install trackio"
    ):
        jobs.run(config(tmp_path), str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("programs")
def test_trackio_itself(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read when it is imported
    pytest.importorskip("trackio", reason="the optional package trackio is not installed")
    from trackio.sqlite_storage import SQLiteStorage

    jobs.run(config(tmp_path), str(tmp_path / "run"))
    name = (tmp_path / "run" / "tracker.txt").read_text().strip()
    shown = SQLiteStorage.get_logs("infoprompt_jax", name)
    logged = {(e["step"], key): e[key] for e in shown for key in e if "/" in key}
    assert logged == records(tmp_path / "run")
