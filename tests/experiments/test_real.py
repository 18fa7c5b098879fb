"""The comparison on public tasks: its runs, the rows that they read, and the tables on results made up by hand."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

from experiments import arms, real
from experiments.cells import confirmed
from experiments.estimates import student
from experiments.real_config import ARMS, TASKS
from infoprompt_jax import settings
from infoprompt_jax.command_line import read_config
from infoprompt_jax.data.examples import examples
from infoprompt_jax.data.selection import find_tasks
from infoprompt_jax.errors import UserError
from infoprompt_jax.fleet.members import expand

CONFIG = real.EXPERIMENT.config


def test_every_run_is_ten_seeds_of_one_arm() -> None:
    assert len(real.EXPERIMENT.runs) == len(TASKS) * len(ARMS) * 3
    for task in TASKS:
        for arm in ARMS:
            members = expand(read_config(f"{CONFIG}:{task},64,static,200,{arm},0-9"))
            assert [member.config.seed for member in members] == [*range(10)]
    with pytest.raises(UserError, match="no 'nope': choose from plain, both"):
        read_config(f"{CONFIG}:sst2,64,static,200,nope,0-9")


@pytest.mark.parametrize("task", TASKS)
def test_the_rows_of_a_task(task: str, shared_data: pathlib.Path) -> None:
    """Real rows, each with its own answer among its choices, and enough of them to evaluate."""
    config = read_config(f"{CONFIG}:{task},64,static,200,plain,0-9")
    config.data.dir = str(shared_data)
    (one,) = find_tasks(settings.check(config))
    rows = list(examples(one, config.task.eval_split))
    assert len(rows) == 256 and len({row.label for row in rows}) > 1
    assert all(row.choices[row.label] == row.target for row in rows)


def result(text: str, gain: float) -> dict[str, Any]:
    members = {
        f"run-seed{seed}": {"test": 0.6 + gain + 0.01 * (seed % 3), "curve": [[0, 0.5], [100, 0.6], [200, 0.6 + gain]]}
        for seed in range(10)
    }
    same = dict.fromkeys(("backbone", "data", "evaluation_data", "test_data"), "a")
    references = {"most frequent answer": 0.5, "no prompt": 0.55}
    about = {"run": text, "metric": "accuracy", "device": "a GPU", "training_examples": 64, "references": references}
    return {**about, "members": members, "fingerprints": same}


def made(gains: dict[str, float]) -> dict[str, dict[str, Any]]:
    """Results of all tasks with 64 examples, by the arm's gain."""
    return {
        text: result(text, gain)
        for task in TASKS
        for arm, gain in {"plain": 0.0, **gains}.items()
        for text in (f"{task},64,static,200,{arm},0-9",)
    }


def test_the_tables_have_means_where_all_tasks_have_run() -> None:
    results = made({"both": 0.02})
    tables = real.tables(results)
    device, _, *lines = tables["real test"].splitlines()
    assert device == "Device of the 18 runs: a GPU."
    assert len(lines) == 2 + len(TASKS) + 2 and lines[0].endswith("| plain | both - plain |")
    assert lines[2].startswith("| sst2 | 64 | 50 | 55 | 60.9 ±") and lines[2].endswith("| **+2.0 [2.0, 2.0]** |")
    assert lines[-2:] == [
        "| mean of the 9 | 64 |  |  |  | **+2.0 [2.0, 2.0]** |",
        "| the same, tasks resampled | 64 |  |  |  | +2.0 [2.0, 2.0] |",
    ]
    area = tables["real area"].splitlines()
    assert area[2] == "| sst2 | 64 | 60.0 ± 0.0 | **+1.0 [1.0, 1.0]** |" and len(area) == len(lines)
    del results["cola,64,static,200,both,0-9"]
    assert "mean of" not in real.tables(results)["real test"]
    assert set(real.tables({}).values()) == {"Not measured."}


def test_all_examples_are_counted_and_a_metric_is_named() -> None:
    text = "cola,full,static,600,plain,0-9"
    one = {**result(text, 0), "metric": "matthews", "training_examples": 8295}
    assert "| cola (matthews) | 8,295 | 50 | 55 |" in real.tables({text: one})["real test"]


def test_both_tables_are_corrected_together() -> None:
    """A score differs with p = 0.003: enough among the nine tasks and the mean of its table, not among twenty cells."""
    results = made({"both": 0.0})
    for seed, member in enumerate(results["sst2,64,static,200,both,0-9"]["members"].values()):
        member["test"] += 0.01 + 0.008 * (-1) ** seed
    differences = arms.effect(results, "sst2", "64,static,200", "both", "0-9", arms.test)
    assert differences is not None and 0.05 / 20 < student(differences).p < 0.05 / 10
    assert "**" not in "".join(real.tables(results).values())
    alone = real.table(results, arms.test, references=True)
    assert confirmed(*alone).count("**") == 4  # of this task, and of the mean


def test_the_verdicts_lines_are_means_over_all_tasks() -> None:
    results = made({"both": 0.02, "head": -0.01})
    lines = {claim.text: claim for claim in real.claims(results)}
    assert [*lines] == [
        "InfoPrompt: better results",
        "InfoPrompt: faster convergence",
        "InfoPrompt: the head term helps",
    ]
    better, faster, head = lines.values()
    assert better.first is None and better.measured == "[both, test score, 64 examples](#real-tasks-on-mini)"
    effects = [claim.fresh.value for claim in (better, faster, head) if claim.fresh]
    assert effects == pytest.approx([2, 1, -1])
    del results["cola,64,static,200,head,0-9"]
    assert len(real.claims(results)) == 2 and not real.claims({})
