"""InfoPrompt beside plain prompt tuning on nine public English tasks, with mini as the backbone: docs/claims.md.

    python -m experiments.real run [NAME ...] [--data DATA] [--workdir runs/real]   trains missing runs; again: resumes
    python -m experiments.real report                                               writes the tables

A run is `experiments/real_config.py:<text>` with a text of `RUNS`. Its result is results/real/<name>.json. The same
command runs on a CPU and on an accelerator; two runs are a pair only if both ran on one kind of device.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
from collections.abc import Callable

import numpy as np

from experiments.arms import Experiment, Measure, Results, cell, curve_mean, effect, read, test, values
from experiments.cells import Table, confirmed_together, interval, plus_minus
from experiments.estimates import Estimate, bootstrap, student
from experiments.pages import CLAIMS, UNMEASURED
from experiments.real_config import ARMS, STEPS, TASKS
from experiments.verdicts import Claim
from infoprompt_jax.reports.documents import fill

SEEDS = "0-9"
REFERENCES = {"most frequent answer": "most frequent", "no prompt": "no prompt"}  # and their columns
OTHERS = tuple(arm for arm in ARMS if arm != "plain")
BLOCKS: dict[str, Measure] = {"real test": test, "real area": curve_mean}  # of the page
TITLES: dict[Measure, str] = {test: "test score", curve_mean: "area under the validation curve"}
ANCHOR = "real-tasks-on-mini"  # of the page's section


def mean_of(effects: np.ndarray) -> Estimate:
    """The mean over tasks of [tasks, seeds] and its interval over seeds, with these tasks."""
    return student(effects.mean(axis=0))


MEANS: dict[str, Callable[[np.ndarray], Estimate]] = {
    f"mean of the {len(TASKS)}": mean_of,
    "the same, tasks resampled": bootstrap,
}


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


def tables(results: Results) -> dict[str, str]:
    """The page's blocks: the scores on test rows, and the area under the validation curve.

    Both are one confirmation: Holm's correction is for the cells of the two together.
    """
    if not results:
        return dict.fromkeys(BLOCKS, UNMEASURED)
    made = confirmed_together(*(table(results, measure, name == "real test") for name, measure in BLOCKS.items()))
    devices = ", ".join(sorted({result["device"] for result in results.values() if "device" in result}))
    about = f"Device of the {len(results)} runs: {devices}.\n\n" if devices else ""
    return dict(zip(BLOCKS, (about + made[0], made[1]), strict=True))


def table(results: Results, measure: Measure, references: bool) -> Table:
    """A line a task and number of examples, each arm minus plain; and their means where all tasks have run."""
    arms = [arm for arm in OTHERS if any(f",{arm}," in text for text in results)]
    shown = REFERENCES if references else ()
    rows: list[list[object]] = []
    for shots in STEPS:
        for task in TASKS:
            plain = results.get(f"{task},{setting(shots)},plain,{SEEDS}")
            if plain is not None:
                score = "" if plain["metric"] == "accuracy" else f" ({plain['metric']})"
                known = (f"{100 * plain['references'][name]:.0f}" for name in shown)
                cells = (cell(effect(results, task, setting(shots), arm, SEEDS, measure)) for arm in arms)
                count = f"{plain['training_examples']:,}" if shots == "full" else shots
                rows.append([f"{task}{score}", count, *known, plus_minus(values(plain, measure)), *cells])
        means = [every(results, shots, arm, measure) for arm in arms]
        if any(one is not None for one in means):
            empty = [""] * (len(shown) + 1)
            for title, estimate in MEANS.items():
                cells = ("-" if one is None else interval(estimate(one), 1) for one in means)
                rows.append([title, "all" if shots == "full" else shots, *empty, *cells])
    return ("task", "examples", *(REFERENCES[name] for name in shown), "plain", *(f"{a} - plain" for a in arms)), rows


def every(results: Results, shots: str, arm: str, measure: Measure) -> np.ndarray | None:
    """[tasks, seeds]: the arm minus plain, in points; None where a task has not run."""
    effects = [effect(results, task, setting(shots), arm, SEEDS, measure) for task in TASKS]
    measured = [one for one in effects if one is not None]
    return np.stack(measured) if len(measured) == len(TASKS) else None


def claims(results: Results) -> list[Claim]:
    """The verdicts' lines: means over all tasks, by the number of examples."""
    of_both = {"better results": test, "faster convergence": curve_mean}
    lines = [
        *((text, "both", measure) for text, measure in of_both.items()),
        ("the head term helps", "head", test),
        ("the representation term helps", "representation", test),
        *((f"{text}, form `scale_free`", "scale_free", measure) for text, measure in of_both.items()),
    ]
    return [
        Claim(
            f"InfoPrompt: {text}",
            f"[{arm}, {TITLES[measure]}, {'all' if shots == 'full' else shots} examples](#{ANCHOR})",
            None,
            mean_of(effects),
        )
        for text, arm, measure in lines
        for shots in STEPS
        if (effects := every(results, shots, arm, measure)) is not None
    ]


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
        fill(CLAIMS, tables(read(EXPERIMENT.results)))


if __name__ == "__main__":
    main()
