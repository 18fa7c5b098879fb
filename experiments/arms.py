"""Runs that compare arms, forms of a method, on tasks: each is a fleet with one member a seed, and has a result file.

An `Experiment` is a config file, the texts that it takes after its name, one for each run, and a folder of results. A
text has a task, a setting, an arm and seeds. An effect is an arm minus plain prompt tuning, paired by seed.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.cells import Cell, interval
from experiments.estimates import student
from infoprompt_jax import member_names
from infoprompt_jax.files import whole
from infoprompt_jax.reports import measurements
from infoprompt_jax.reports.records import read_records, series


@dataclasses.dataclass(frozen=True)
class Experiment:
    """`runs` are the config's texts by the run's name, in the order of their value."""

    config: pathlib.Path
    runs: Mapping[str, str]
    results: pathlib.Path
    fields: tuple[str, ...] = ()  # of the command, as --config.data.dir=DATA

    def train(self, name: str, workdir: pathlib.Path) -> None:
        """Runs the job in a separate process, so that its compiled programs are freed."""
        main = [sys.executable, "-m", "infoprompt_jax.main"]
        command = [*main, f"--config={self.config}:{self.runs[name]}", f"--workdir={workdir}", *self.fields]
        subprocess.run(command, check=True)

    def run(self, names: Sequence[str], directory: pathlib.Path) -> None:
        """Trains the runs without a result, all of them if no names are given, and writes their results."""
        self.results.mkdir(parents=True, exist_ok=True)
        for name in names or self.runs:
            result = self.results / f"{name}.json"
            if not result.exists():
                self.train(name, directory / name)
                about = {"run": name, "config": self.runs[name]}
                with whole(result) as partial:
                    made = measurements.rounded(about | extract(directory / name))
                    partial.write_text(json.dumps(made) + "\n")


def extract(workdir: pathlib.Path) -> dict[str, Any]:
    """The result of a finished run, by its `task.metric`: what the reports need of its summary and log."""
    summary = json.loads((workdir / "summary.json").read_text())
    records = series(read_records(workdir / "metrics.jsonl"))
    metric = json.loads((workdir / "config.json").read_text())["task"]["metric"]
    members = {
        member["name"]: {
            "test": member["test"][metric],
            "curve": sorted(records[member["name"]][f"eval/{metric}"].items()),
        }
        for member in summary["members"]
    }
    references = {reference["name"]: reference["test"][metric] for reference in summary["references"]}
    about = {key: summary[key] for key in ("device", "examples", "training_examples", "fingerprints")}
    return {"metric": metric, "references": references, **about, "machine": measurements.machine(), "members": members}


Results = Mapping[str, Any]  # by the run's text
Measure = Callable[[Mapping[str, Any]], float]  # of a member


def curve_mean(member: Mapping[str, Any]) -> float:
    """The area under the validation curve, over its steps: the mean of the evaluations after the first one."""
    return float(np.mean([value for _, value in member["curve"][1:]]))


def test(member: Mapping[str, Any]) -> float:
    return member["test"]


def last(member: Mapping[str, Any]) -> float:
    return member["curve"][-1][1]


MEASURES: dict[str, Measure] = {"area under the curve": curve_mean, "test accuracy": test, "last evaluation": last}


def read(directory: pathlib.Path) -> Results:
    """The results by the run's text."""
    results = [json.loads(path.read_text()) for path in sorted(directory.glob("*.json"))]
    return {result["config"]: result for result in results}


def values(result: Mapping[str, Any], measure: Measure) -> np.ndarray:
    """[seeds]: of the members, in the order of their seeds."""
    members = sorted(result["members"], key=lambda name: member_names.seed(name) or 0)
    return np.array([measure(result["members"][name]) for name in members])


def effect(results: Results, task: str, setting: str, arm: str, seeds: str, measure: Measure) -> np.ndarray | None:
    """[seeds]: the arm minus plain, in points; None where one of them has not run.

    Raises:
      ValueError: the two were evaluated on other rows, trained on others, or ran on other devices.
    """
    one, plain = (results.get(f"{task},{setting},{each},{seeds}") for each in (arm, "plain"))
    if one is None or plain is None:
        return None
    for key in ("backbone", "data", "evaluation_data", "test_data"):
        if one["fingerprints"][key] != plain["fingerprints"][key]:
            raise ValueError(f"{one['run']} and {plain['run']} have different {key}: they are no pair.")
    devices = [result["device"] for result in (one, plain) if "device" in result]  # older results have none
    if len(set(devices)) > 1:
        raise ValueError(f"{one['run']} and {plain['run']} ran on {' and '.join(devices)}: they are no pair.")
    return 100 * (values(one, measure) - values(plain, measure))


def cell(differences: np.ndarray | None) -> Cell | str:
    return "-" if differences is None else interval(student(differences), 1)
