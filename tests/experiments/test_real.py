"""The comparison on public tasks: its runs, the rows that they read, and the table on results made up by hand."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

from experiments import real
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
    return {"run": text, "metric": "accuracy", "members": members, "fingerprints": same, "references": references}


def test_the_table_has_a_mean_where_all_tasks_have_run() -> None:
    texts = [f"{task},64,static,200,{arm},0-9" for task in TASKS for arm in ("plain", "both")]
    results = {text: result(text, 0.02 if ",both," in text else 0.0) for text in texts}
    lines = real.table(results).splitlines()
    assert len(lines) == 2 + len(TASKS) + 1 and "test: both - plain" in lines[0] and "head" not in lines[0]
    assert lines[2].startswith("| sst2 | 64 | accuracy | 50 | 55 | 60.9 ±") and "+2.0" in lines[2]
    assert lines[-1].startswith("| mean of the 9 | 64 |") and "+2.0" in lines[-1] and "+1.0" in lines[-1]
    del results[texts[-1]]
    assert "mean of" not in real.table(results) and real.table({}) == "Not measured."
