"""The fuzzer: what each outcome means, that a case is repeated by its number, and a few hundred cases of it."""

from __future__ import annotations

import json
import pathlib
import signal
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest

from experiments.fuzz import __main__ as command
from experiments.fuzz import cases, report, runner
from experiments.fuzz.cases import Case, Outcome
from infoprompt_jax.errors import UserError


def refuse(sentence: str) -> None:
    raise UserError(sentence)


@pytest.mark.parametrize(
    ("run", "outcome"),
    [
        (lambda: refuse("The value is wrong: choose another."), "sentence"),
        (lambda: sys.exit(2), "sentence"),
        (lambda: sys.exit(1), "traceback"),
        (lambda: [1.0, 2], "equal"),
        (lambda: [3], "documented"),
        (lambda: [1.0, 3], "silent"),
        (lambda: 1 / 0, "traceback"),
        (lambda: bytearray(2**62), "memory"),
    ],
)
def test_an_outcome(run: Callable[[], Any], outcome: str, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = Case("planted", run, [1.0, 2], ([4], lambda result: result == [3]))
    module = types.SimpleNamespace(case=lambda choose, folder: planted)
    monkeypatch.setitem(sys.modules, "experiments.fuzz.planted", module)
    ended = cases.run("planted", 0, 0)
    assert ended.outcome == outcome
    assert ended.is_bad == (outcome in ("silent", "traceback", "memory"))


def test_what_must_be_refused_is_silent_where_it_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    planted = types.SimpleNamespace(case=lambda choose, folder: Case("planted", lambda: []))
    monkeypatch.setitem(sys.modules, "experiments.fuzz.planted", planted)
    assert cases.run("planted", 0, 0).outcome == "silent"


@pytest.mark.parametrize("kind", sorted(command.SHARES.keys() - {"workdirs"}))
def test_a_case_is_repeated_by_seed_and_number(kind: str, tmp_path: pathlib.Path) -> None:
    made = [
        [cases.make(kind, seed, n, tmp_path / f"{m}{seed}{n}").what for seed in (1, 2) for n in range(5)]
        for m in (0, 1)
    ]
    assert made[0] == made[1]
    assert len(set(made[0])) > 3


def test_kinds_take_turns_by_their_shares() -> None:
    given = command.numbered(["settings", "tables"])
    shares = command.SHARES["settings"], command.SHARES["tables"]
    first = [next(given) for _ in range(sum(shares))]
    assert len(set(first)) == sum(shares)
    assert tuple([kind for kind, _ in first].count(kind) for kind in ("settings", "tables")) == shares


def test_the_report_counts_and_names_the_command(tmp_path: pathlib.Path) -> None:
    outcomes = [
        Outcome("rows", 5, 0, "sentence", "a"),
        Outcome("rows", 5, 1, "silent", "b", "result: 1"),
        Outcome("tables", 5, 0, "documented", "c"),
    ]
    report.write(tmp_path, outcomes, "Title")
    page = (tmp_path / "report.md").read_text()
    assert "| rows | 2 | 1 | 0 | 1 | 0 | 0 | 0 |" in page
    assert "| all | 3 | 1 | 1 | 1 | 0 | 0 | 0 |" in page
    assert "python -m experiments.fuzz --seed 5 --case rows/1" in page
    assert [one["outcome"] for one in json.loads((tmp_path / "report.json").read_text())] == [
        "sentence",
        "silent",
        "documented",
    ]


@pytest.mark.slow
def test_a_worker_survives_what_its_cases_do(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """A hang, too much memory and a death are outcomes, and the next case runs."""
    (tmp_path / "planted").mkdir()
    (tmp_path / "planted" / "acts.py").write_text(
        "import os, time\nfrom experiments.fuzz.cases import Case\n"
        "def grow():\n    kept = [b'x' * 2**20 for _ in range(900)]\n    time.sleep(60)\n    return len(kept)\n"
        "RUNS = [lambda: 1, lambda: time.sleep(60), lambda: os.kill(os.getpid(), 9), grow]\n"
        "def case(choose, folder):\n    return Case('planted', choose.choice(RUNS), 1)\n"
    )
    monkeypatch.setattr(runner, "HANG", 3.0)
    monkeypatch.setattr(runner, "MEMORY", 0.8e9)
    monkeypatch.syspath_prepend(str(tmp_path))  # a spawned process inherits it
    worker = runner.Worker()
    try:
        ended = [worker.run("planted.acts", 0, number).outcome for number in range(8)]
    finally:
        worker.stop()
    assert set(ended) == {"equal", "hang", "traceback", "memory"}


# What takes a few hundred cases to see; kinds that compile, or whose cases take seconds, are slow.
QUICK = {"rows": 60, "row_files": 40, "tables": 50, "settings": 70, "bigbench": 40, "prompts": 60, "checkpoints": 30}
SLOW = {"templates": 150, "libraries": 60, "workdirs": 40}


def bad_cases(kind: str, count: int, scratch: pathlib.Path) -> list[str]:
    """The bad ones of a kind's first cases, each with what repeats it."""

    def stop(*_: object) -> None:
        raise TimeoutError("a case hangs")

    cases.prepare(kind, scratch)
    former, outcomes = signal.signal(signal.SIGALRM, stop), []
    try:
        for number in range(count):
            signal.setitimer(signal.ITIMER_REAL, runner.HANG)
            outcomes.append(cases.run(kind, 0, number))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
    return [f"{one.outcome}: {one.what:.100}: {one.command}" for one in outcomes if one.is_bad]


@pytest.mark.parametrize(("kind", "count"), QUICK.items())
def test_quick_kinds_have_no_bad_cases(kind: str, count: int, tmp_path: pathlib.Path) -> None:
    assert bad_cases(kind, count, tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "count"), SLOW.items())
def test_slow_kinds_have_no_bad_cases(kind: str, count: int, tmp_path: pathlib.Path) -> None:
    assert bad_cases(kind, count, tmp_path) == []


@pytest.mark.slow
def test_the_command_has_no_bad_cases(tmp_path: pathlib.Path) -> None:
    """Every kind, in workers."""
    assert command.main(["--seed", "3", "--cases", "400", "--minutes", "15", "--out", str(tmp_path)]) == 0
    assert len(json.loads((tmp_path / "report.json").read_text())) > 200


@pytest.mark.parametrize("name", ["report.md", "kills.md"])
def test_the_page_has_the_tables_of_the_results(name: str) -> None:
    root = pathlib.Path(__file__).parents[2]
    lines = (root / "experiments" / "results" / "fuzz" / name).read_text().splitlines()
    table = "\n".join(line for line in lines if line.startswith("|"))
    assert len(table.splitlines()) > 5 and table in (root / "docs" / "fuzzing.md").read_text()
