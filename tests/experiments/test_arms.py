"""What the comparisons of arms share: that a run leaves its result, and what is a pair."""

from __future__ import annotations

import json
import pathlib

import pytest

from experiments import arms
from infoprompt_jax import jobs
from infoprompt_jax.command_line import read_config

CONFIG = """
from experiments.forms_config import get_config as forms


def get_config(text):
    config = forms(text)
    config.train.steps, config.train.eval_every, config.fleet.seeds = 2, 1, (0, 1)
    config.infoprompt.head_steps, config.backbone.unroll, config.data.buckets = 2, 1, (64,)
    config.task.eval_split, config.task.test_split = "validation[:16]", "test[:16]"
    config.train.batch_size, config.train.eval_batch_size = 8, 16
    return config
"""
NAME, TEXT = "a-run", "entailment,256,static,160,start10,0-9"


class InProcess(arms.Experiment):
    """Trains without a process of its own, which would compile anew."""

    def train(self, name: str, workdir: pathlib.Path) -> None:
        jobs.run(read_config(f"{self.config}:{self.runs[name]}"), workdir)


@pytest.mark.slow
def test_a_run_leaves_its_result_and_is_not_repeated(tmp_path: pathlib.Path) -> None:
    """A short run of a real job; what is kept of it is what the tables read."""
    config = tmp_path / "config.py"
    config.write_text(CONFIG)
    experiment = InProcess(config, {NAME: TEXT}, tmp_path / "results")
    experiment.run([NAME], tmp_path / "work")
    made = json.loads((tmp_path / "results" / f"{NAME}.json").read_text())
    assert (made["run"], made["config"], made["metric"]) == (NAME, TEXT, "accuracy")
    assert made["examples"] == {"validation[:16]": 16, "test[:16]": 16}
    assert {len(member["curve"]) for member in made["members"].values()} == {3}
    assert arms.read(tmp_path / "results") == {TEXT: made}
    config.unlink()  # a second run would need it
    experiment.run([], tmp_path / "work")


def test_runs_on_other_rows_or_devices_are_no_pair() -> None:
    same = dict.fromkeys(("backbone", "data", "evaluation_data", "test_data"), "a")
    texts = [f"films,256,static,160,{arm},0-1" for arm in ("plain", "start10")]
    members = {f"run-seed{seed}": {"test": 0.5 + 0.1 * seed} for seed in range(2)}
    results = {text: {"run": text, "fingerprints": same, "members": members} for text in texts}
    pair = "films", "256,static,160", "start10", "0-1", arms.test
    assert list(arms.effect(results, *pair)) == [0, 0]
    results[texts[0]] = {**results[texts[0]], "device": "a CPU"}
    assert list(arms.effect(results, *pair)) == [0, 0]  # the other is older, and has none
    results[texts[1]] = {**results[texts[1]], "device": "a GPU"}
    with pytest.raises(ValueError, match="ran on a GPU and a CPU: they are no pair"):
        arms.effect(results, *pair)
    results[texts[1]] = {**results[texts[1]], "fingerprints": {**same, "test_data": "b"}}
    with pytest.raises(ValueError, match="have different test_data: they are no pair"):
        arms.effect(results, *pair)
