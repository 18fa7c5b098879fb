"""The experiment behind docs/rospr.md on the embedded backbone: runs it, or writes the page from its results.

    python -m experiments.rospr run [--workdir runs/rospr] [--seeds 5]     trains missing seeds; again: resumes
    python -m experiments.rospr report                                     writes docs/rospr.md's tables

Per seed: source prompts on the held-in data sets and on the held-out ones (`configs/nano_rospr.py`), and two
evaluations: with the library of the former, as in the paper, and with both in one library, without the source
prompts of the evaluated data set. What the page needs of them is kept as experiments/results/rospr/<seed>.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import pathlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from experiments.estimates import interval, plus_minus, student
from experiments.pages import ROSPR, UNMEASURED
from infoprompt_jax.evaluation.metrics import summarise
from infoprompt_jax.files import whole
from infoprompt_jax.reports import measurements
from infoprompt_jax.reports.documents import fill
from infoprompt_jax.reports.tables import markdown
from infoprompt_jax.rospr import plots
from infoprompt_jax.rospr.analysis import RELATIONS
from infoprompt_jax.rospr.library import PromptLibrary
from infoprompt_jax.rospr.results import NAME, TITLES, VARIED, Results

RESULTS = pathlib.Path(__file__).parent / "results" / "rospr"
LIBRARIES = {"sources": "held-in", "both": "held-in and others"}  # directory -> what its source prompts are trained on
BELOW = ("nano/pronouns", "nano/senses")  # no prompt is some 6 points below guessing on their rows


def job(variant: str, workdir: pathlib.Path, seed: int, *fields: str) -> None:
    """Runs a job in a separate process, so that its compiled programs are freed."""
    main = [sys.executable, "-m", "infoprompt_jax.main", f"--config=configs/nano_rospr.py:{variant}"]
    subprocess.run([*main, f"--workdir={workdir}", f"--config.seed={seed}", *fields], check=True)


def run(directory: pathlib.Path, seeds: int) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    for seed in range(seeds):
        result, place = RESULTS / f"{seed}.json", directory / str(seed)
        if result.exists():
            continue
        for variant in ("sources", "siblings"):
            job(variant, place / variant, seed)
        both = place / "both" / "library"
        if not both.exists():
            parts = [PromptLibrary.load(place / variant / "library") for variant in ("sources", "siblings")]
            PromptLibrary.merge(both, parts)
        by_library = {}
        for name in LIBRARIES:
            job("eval", place / f"eval-{name}", seed, f"--config.rospr.library={place / name / 'library'}")
            by_library[name] = extract(place / f"eval-{name}")
        with whole(result) as partial:
            partial.write_text(
                json.dumps(measurements.rounded(by_library | {"machine": measurements.machine()})) + "\n"
            )


def extract(workdir: pathlib.Path) -> dict[str, Any]:
    """The result of a finished evaluation: what the page needs of it."""
    of_run = Results.from_json(json.loads((workdir / NAME).read_text()))
    datasets = {
        name: {method: spread["mean"] for method, spread in dataset.scores.items()}
        for name, dataset in of_run.datasets.items()
    }
    return {"datasets": datasets, **{name: of_run.analysis[name] for name in ("relations", "varied")}}


def scores(results: Sequence[dict[str, Any]], name: str, dataset: str, method: str) -> np.ndarray:
    """[seeds]: the scores of a method on a data set; the data set "mean" is the mean over all."""
    runs = [result[name]["datasets"] for result in results]
    if dataset == "mean":
        return np.array([np.mean([scored[method] for scored in of.values()]) for of in runs])
    return np.array([of[dataset][method] for of in runs])


def main_table(results: Sequence[dict[str, Any]], name: str) -> str:
    """Accuracy by data set and method, and below it the difference to no prompt; at the end, the mean's to RoSPr."""
    datasets = list(results[0][name]["datasets"])
    methods = list(results[0][name]["datasets"][datasets[0]])
    rows = []
    for dataset in (*datasets, "mean"):
        cells = [plus_minus(scores(results, name, dataset, method)) for method in methods]
        rows.append((dataset.removeprefix("nano/"), *cells))
        rows.append(("minus no prompt", "", *(gain(results, name, dataset, m, "none") for m in methods[1:])))
    rows.append(("minus RoSPr", "", "", *(gain(results, name, "mean", m, "rospr") for m in methods[2:])))
    return markdown((f"data set, {len(results)} seeds", *(TITLES[method] for method in methods)), rows)


def starts_table(results: Sequence[dict[str, Any]]) -> str:
    """The mean gain over no prompt by library and method, for data sets that start below chance and the others."""
    rows = []
    for name, title in LIBRARIES.items():
        datasets = results[0][name]["datasets"]
        groups = {
            "start below guessing": [dataset for dataset in datasets if dataset in BELOW],
            "the others": [dataset for dataset in datasets if dataset not in BELOW],
        }
        methods = [method for method in next(iter(datasets.values())) if method != "none"]
        for group, members in groups.items():
            names = ", ".join(dataset.removeprefix("nano/") for dataset in members)
            gains = (
                np.mean([scores(results, name, d, m) - scores(results, name, d, "none") for d in members], axis=0)
                for m in methods
            )
            rows.append((title, f"{group}: {names}", *(interval(student(of), 2, 100) for of in gains)))
    titles = (TITLES[method] for method in methods)
    return markdown(("library", "data sets", *titles), rows)


def gain(results: Sequence[dict[str, Any]], name: str, dataset: str, method: str, base: str) -> str:
    """The mean of the differences between two methods, seed by seed, with its interval."""
    differences = scores(results, name, dataset, method) - scores(results, name, dataset, base)
    return interval(student(differences), 1, 100)


def relations_table(results: Sequence[dict[str, Any]]) -> str:
    """Mean gain over no prompt by the traits that source task and evaluation task share."""
    rows = []
    for name, title in LIBRARIES.items():
        for which in ("every", "retrieved"):
            kinds = {kind for result in results for kind in result[name]["relations"][which]}
            for kind in sorted(kinds):
                entries = [
                    result[name]["relations"][which][kind]
                    for result in results
                    if kind in result[name]["relations"][which]
                ]
                gains = np.array([of["gain"] for of in entries])
                mean = interval(student(gains), 1, 100)
                pairs = np.mean([of["pairs"] for of in entries])
                better = np.mean([of["better"] for of in entries])
                rows.append((title, which, kind, f"{pairs:.0f}", mean, f"{100 * better:.0f}"))
    return markdown(("library", "source prompts", "in common", "pairs", "gain", "better, %"), rows)


def contrasts_table(results: Sequence[dict[str, Any]]) -> str:
    """The gain of source prompts that share one trait with the evaluation task, minus that of those with another."""
    rows = []
    for name, title in LIBRARIES.items():
        relations = [result[name]["relations"]["every"] for result in results]
        kinds = [kind for kind in RELATIONS if all(kind in of for of in relations)]
        for more, less in itertools.combinations(kinds, 2):
            differences = np.array([of[more]["gain"] - of[less]["gain"] for of in relations])
            rows.append((title, more, less, interval(student(differences), 1, 100)))
    return markdown(("library", "in common", "less those with in common", "difference in gain"), rows)


def varied_table(results: Sequence[dict[str, Any]]) -> str:
    """Accuracy of the most voted source prompt against what is varied, a column for each library."""
    rows = []
    for what, known in VARIED.items():
        cells: dict[int, dict[str, str]] = {}
        for name in LIBRARIES:
            for place, entry in enumerate(results[0][name]["varied"][what]):
                means = np.array([result[name]["varied"][what][place]["mean"] for result in results])
                cells.setdefault(entry["value"], {})[name] = plus_minus(means)
        rows += [(known, str(value), *(cells[value].get(name, "") for name in LIBRARIES)) for value in sorted(cells)]
    return markdown(("varied", "value", *LIBRARIES.values()), rows)


def draw(results: Sequence[dict[str, Any]], name: str, path: pathlib.Path) -> None:
    """Draws the accuracy of each method on each data set."""
    spreads = {
        dataset.removeprefix("nano/"): {m: summarise(scores(results, name, dataset, m).tolist()) for m in means}
        for dataset, means in results[0][name]["datasets"].items()
    }
    plots.plot_methods(path, spreads, "accuracy", over="seeds")


def report() -> None:
    """Fills docs/rospr.md's blocks; a block without results is "Not measured."."""
    results = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    tables: dict[str, Callable[[], str]] = {name: lambda name=name: main_table(results, name) for name in LIBRARIES}
    made = {"starts": starts_table, "relations": relations_table, "contrasts": contrasts_table, "varied": varied_table}
    tables |= {name: lambda make=make: make(results) for name, make in made.items()}
    fill(ROSPR, {name: make() if results else UNMEASURED for name, make in tables.items()})
    if results:
        draw(results, "both", ROSPR.with_name("rospr.png"))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("what", choices=("run", "report"))
    options.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("runs/rospr"))
    options.add_argument("--seeds", type=int, default=5)
    chosen = options.parse_args()
    if chosen.what == "run":
        run(chosen.workdir, chosen.seeds)
    else:
        report()


if __name__ == "__main__":
    main()
