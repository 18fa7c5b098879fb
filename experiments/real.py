"""InfoPrompt beside plain prompt tuning on nine public English tasks, with mini as the backbone: docs/claims.md.

    python -m experiments.real run [NAME ...] [--data DATA] [--workdir runs/real]   trains missing runs; again: resumes
    python -m experiments.real report                                               writes the tables

A run is `experiments/real_config.py:<text>` with a text of `RUNS`. Its result is results/real/<name>.json. The same
command runs on a CPU and on an accelerator; two runs are a pair only if both ran on one kind of machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib

import numpy as np

from experiments.arms import Experiment, Results, cell, curve_mean, effect, read, test, values
from experiments.cells import confirmed, interval, plus_minus
from experiments.estimates import student
from experiments.pages import CLAIMS, UNMEASURED
from experiments.real_config import ARMS, STEPS, TASKS
from infoprompt_jax.reports.documents import fill

SEEDS = "0-9"
REFERENCES = ("most frequent answer", "no prompt")
OTHERS = tuple(arm for arm in ARMS if arm != "plain")


def setting(shots: str) -> str:
    return f"{shots},static,{STEPS[shots]}"


def texts() -> list[str]:
    """The runs in the order of their value: few examples first, plain and both terms before the other arms."""
    return [
        f"{task},{setting(shots)},{arm},{SEEDS}"
        for shots in STEPS
        for arms in (("plain", "both"), ("scale_free", "head", "representation"))
        for task in TASKS
        for arm in arms
    ]


EXPERIMENT = Experiment(
    pathlib.Path(__file__).with_name("real_config.py"),
    {text.replace(",", "-"): text for text in texts()},
    pathlib.Path(__file__).parent / "results" / "real",
)


def table(results: Results) -> str:
    """A line a task and number of examples, and their mean where all tasks have run: each arm minus plain."""
    arms = [arm for arm in OTHERS if any(f",{arm}," in text for text in results)]
    rows: list[list[object]] = []
    for shots in STEPS:
        effects = {
            (arm, measure): [effect(results, task, setting(shots), arm, SEEDS, measure) for task in TASKS]
            for arm in arms
            for measure in (test, curve_mean)
        }
        for number, task in enumerate(TASKS):
            plain = results.get(f"{task},{setting(shots)},plain,{SEEDS}")
            if plain is not None:
                references = (
                    f"{100 * plain['references'][name]:.0f}" for name in ("most frequent answer", "no prompt")
                )
                cells = (cell(of_tasks[number]) for of_tasks in effects.values())
                rows.append([task, shots, plain["metric"], *references, plus_minus(values(plain, test)), *cells])
        whole = {key: np.array(of_tasks) for key, of_tasks in effects.items() if all(e is not None for e in of_tasks)}
        if whole:
            means = (interval(student(whole[key].mean(axis=0)), 1) if key in whole else "-" for key in effects)
            rows.append([f"mean of the {len(TASKS)}", shots, "", "", "", "", *means])
    titles = [f"{title}: {arm} - plain" for arm in arms for title in ("test", "area")]
    header = ("task", "examples", "metric", "most frequent", "no prompt", "plain", *titles)
    return confirmed(header, rows) if rows else UNMEASURED


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("what", choices=("run", "report"))
    options.add_argument("names", nargs="*", metavar="NAME", help="runs; none = all, in the order of their value")
    options.add_argument("--data", default="data", help="folder with the data sets' files, as in docs/data.md")
    options.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("runs/real"))
    chosen = options.parse_args()
    if chosen.what == "run":
        fields = (f"--config.data.dir={chosen.data}",)
        dataclasses.replace(EXPERIMENT, fields=fields).run(chosen.names, chosen.workdir)
    else:
        fill(CLAIMS, {"real": table(read(EXPERIMENT.results))})


if __name__ == "__main__":
    main()
