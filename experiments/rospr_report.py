"""docs/rospr.md's tables and plot, from experiments/results/rospr/<seed>.json.

`python -m experiments.rospr report` writes them. Seeds 0-4 are exploration. Later seeds are fresh: they confirm it, and
what is bold, and what Holm's method counts, are theirs alone. Where they are missing, "Not measured." stands.
"""

from __future__ import annotations

import itertools
import json
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from experiments.cells import confirmed, interval, plus_minus, with_rows
from experiments.estimates import Estimate, student
from experiments.pages import ROOT, ROSPR, UNMEASURED
from infoprompt_jax.command_line import read_config
from infoprompt_jax.evaluation.metrics import summarise
from infoprompt_jax.reports.documents import fill
from infoprompt_jax.reports.tables import markdown
from infoprompt_jax.rospr import plots
from infoprompt_jax.rospr.relations import RELATIONS, within
from infoprompt_jax.rospr.results import TITLES, VARIED

RESULTS = pathlib.Path(__file__).parent / "results" / "rospr"
LIBRARIES = {"sources": "held-in", "both": "held-in and others"}  # directory -> what its source prompts are trained on
BELOW = ("nano/pronouns", "nano/senses")  # no prompt is some 6 points below guessing on their rows
EXPLORED = 5  # seeds below it are exploration
PLANNED = 5  # fresh seeds; fewer are not reported, because a look at some of them could decide when to stop

Results = Sequence[Mapping[str, Any]]  # one a seed
Effect = Callable[[Results], Estimate]
Relations = Mapping[str, Mapping[str, float]]  # what is shared -> pairs, gain, better
RelationsOf = Callable[[Mapping[str, Any]], Relations]  # of a seed's result
TasksOf = Callable[[Mapping[str, Any]], Sequence[Mapping[str, Any]]]  # of a seed's result, `relations.by_task`


class Sides(NamedTuple):
    """The results of the first seeds and of fresh ones; either may be empty."""

    first: Results
    fresh: Results

    def effects(self, effect: Effect) -> tuple[Estimate | None, Estimate | None]:
        """On the first seeds and on fresh ones."""
        first, fresh = (effect(side) if side else None for side in self)
        return first, fresh


def read(directory: pathlib.Path) -> Sides:
    """All seeds' results. The fresh ones wait until all that are planned are there."""
    by_seed = {int(path.stem): path for path in directory.glob("*.json")}
    results = [{**json.loads(by_seed[seed].read_text()), "seed": seed} for seed in sorted(by_seed)]
    fresh = [result for result in results if result["seed"] >= EXPLORED]
    return Sides([result for result in results if result["seed"] < EXPLORED], fresh if len(fresh) >= PLANNED else [])


def seeds_of(results: Results) -> str:
    """`seeds 5-9`; `fresh seeds` if there are none."""
    seeds = [result["seed"] for result in results]
    if not seeds:
        return "fresh seeds"
    together = seeds == list(range(seeds[0], seeds[-1] + 1))
    return f"seeds {seeds[0]}-{seeds[-1]}" if together else f"seeds {', '.join(map(str, seeds))}"


def scores(results: Results, name: str, dataset: str, method: str) -> np.ndarray:
    """[seeds]: the scores of a method on a data set; the data set "mean" is the mean over all."""
    runs = [result[name]["datasets"] for result in results]
    if dataset == "mean":
        return np.array([np.mean([scored[method] for scored in of.values()]) for of in runs])
    return np.array([of[dataset][method] for of in runs])


def gain(results: Results, name: str, datasets: Iterable[str], method: str, base: str) -> Estimate:
    """A method minus another, seed by seed, as a mean over data sets: in points."""
    differences = [scores(results, name, d, method) - scores(results, name, d, base) for d in datasets]
    return student(np.mean(differences, axis=0)).scaled(100)


def cells(sides: Sides, effects: Iterable[Effect], digits: int = 1) -> tuple[list[object], list[object]]:
    """The effects on the fresh seeds, or one "Not measured.", and on the first ones as text."""
    both = [sides.effects(effect) for effect in effects]
    fresh: list[object] = ["" if again is None else interval(again, digits) for _, again in both]
    if not sides.fresh:
        fresh[0] = UNMEASURED
    return fresh, ["" if first is None else str(interval(first, digits)) for first, _ in both]


def without_oracle(methods: Sequence[str], gains: Sequence[object]) -> list[object]:
    """The methods' cells. The oracle's is text: it is chosen by the labels, so it confirms nothing."""
    return [str(gain) if method == "oracle" else gain for method, gain in zip(methods, gains, strict=True)]


def main_table(sides: Sides, name: str) -> str:
    """Accuracy by data set and method, and below it the difference to no prompt; at the end, the mean's to RoSPr."""
    datasets = list(sides.first[0][name]["datasets"])
    methods = list(sides.first[0][name]["datasets"][datasets[0]])
    rows: list[Sequence[object]] = []

    def add_gains(base: str, dataset: str, compared: Sequence[str]) -> None:
        effects = [partial(gain, name=name, datasets=(dataset,), method=m, base=base) for m in compared]
        empty = [""] * (len(methods) - len(compared))
        for results, gains in zip((sides.fresh, sides.first), cells(sides, effects), strict=True):
            rows.append((f"minus {TITLES[base]}", seeds_of(results), *empty, *without_oracle(compared, gains)))

    for dataset in (*datasets, "mean"):
        shown = sides.fresh or sides.first
        accuracies = [plus_minus(scores(shown, name, dataset, method)) for method in methods]
        rows.append((dataset.removeprefix("nano/"), seeds_of(shown), *accuracies))
        add_gains("none", dataset, methods[1:])
    add_gains("rospr", "mean", methods[2:])
    return confirmed(("data set", "measured on", *(TITLES[method] for method in methods)), rows)


def starts_table(sides: Sides) -> str:
    """The mean gain over no prompt by library and method, for data sets that start below chance and the others."""
    rows = []
    for name, title in LIBRARIES.items():
        datasets = sides.first[0][name]["datasets"]
        groups = {
            "start below guessing": [dataset for dataset in datasets if dataset in BELOW],
            "the others": [dataset for dataset in datasets if dataset not in BELOW],
        }
        methods = [method for method in next(iter(datasets.values())) if method != "none"]
        for group, members in groups.items():
            names = ", ".join(dataset.removeprefix("nano/") for dataset in members)
            effects = [partial(gain, name=name, datasets=members, method=m, base="none") for m in methods]
            for results, gains in zip((sides.fresh, sides.first), cells(sides, effects, 2), strict=True):
                rows.append((title, f"{group}: {names}", seeds_of(results), *without_oracle(methods, gains)))
    titles = (TITLES[method] for method in methods)
    return confirmed(("library", "data sets", "measured on", *titles), rows)


def held_in(result: Mapping[str, Any]) -> Relations:
    """Of every source prompt on the held-in data sets, by what it shares with the evaluation task."""
    return result["sources"]["relations"]["every"]


def siblings(result: Mapping[str, Any]) -> Relations:
    """The same of source prompts on the other held-out data sets: what the larger library adds to the held-in ones.

    Both libraries hold the same held-in prompts, so sums over pairs are subtracted.
    """
    added = {}
    for kind, every in result["both"]["relations"]["every"].items():
        known = held_in(result).get(kind, {"pairs": 0, "gain": 0.0, "better": 0.0})
        if pairs := every["pairs"] - known["pairs"]:
            means = {of: (every["pairs"] * every[of] - known["pairs"] * known[of]) / pairs for of in ("gain", "better")}
            added[kind] = {"pairs": pairs, **means}
    return added


SOURCES: dict[str, RelationsOf] = {"held-in": held_in, "siblings": siblings}
PROMPTS = {"sources": "held-in", "siblings": "siblings"}  # library of one kind of source prompts -> that kind
RETRIEVED: dict[str, RelationsOf] = {
    title: lambda result, name=name: result[name]["relations"]["retrieved"] for name, title in LIBRARIES.items()
}


def relation_gain(results: Results, of: RelationsOf, kind: str) -> Estimate:
    """The mean gain over no prompt, in points, over the seeds that have such pairs."""
    return student(np.array([r["gain"] for r in _having(results, of, kind)])).scaled(100)


def differences(results: Results, of: TasksOf, more: str, less: str) -> np.ndarray:
    """The gain of source prompts that share `more` minus that of those that share `less`: [data sets, seeds], points.

    Each is a difference on the same evaluation task, as the mean over a data set's templates (`relations.within`).
    """
    of_seeds = [within(of(result), more, less) for result in results]
    datasets = [name for name in of_seeds[0] if all(name in one for one in of_seeds)] if of_seeds else []
    return 100 * np.array([[one[name] for one in of_seeds] for name in datasets]).reshape(len(datasets), len(results))


def contrast(results: Results, of: TasksOf, more: str, less: str) -> Estimate:
    """The mean over data sets of these differences, with an interval over seeds; NaNs if there are none."""
    found = differences(results, of, more, less)
    return student(found.mean(axis=0)) if len(found) else student(np.empty(0))


def of_library(result: Mapping[str, Any], name: str) -> Sequence[Mapping[str, Any]]:
    """What `relations.by_task` gave for a library; older results have none."""
    return result.get(name, {}).get("by_task", [])


def with_tasks(sides: Sides, name: str) -> Sides:
    """Without the results of a side of which any lacks a library's gains by task."""
    return Sides(*([] if not all(of_library(result, name) for result in side) else side for side in sides))


def _having(results: Results, of: RelationsOf, kind: str) -> list[Mapping[str, float]]:
    return [relations[kind] for relations in map(of, results) if kind in relations]


def _kinds(results: Results, of: RelationsOf) -> list[str]:
    """The kinds of pairs that any seed has."""
    return [kind for kind in RELATIONS if _having(results, of, kind)]


def relations_table(sides: Sides) -> str:
    """Mean gain over no prompt by the traits that source task and evaluation task share."""
    rows, every = [], [*sides.first, *sides.fresh]
    for which, groups in (("every", SOURCES), ("retrieved", RETRIEVED)):
        for title, of in groups.items():
            for kind in _kinds(every, of):
                entries = _having(sides.fresh or sides.first, of, kind)
                pairs = f"{np.mean([entry['pairs'] for entry in entries]):.0f}" if entries else ""
                better = f"{100 * np.mean([entry['better'] for entry in entries]):.0f}" if entries else ""
                both = cells(sides, [partial(relation_gain, of=of, kind=kind)])
                rows.append((which, title, kind, pairs, better, *itertools.chain(*both)))
    gains = [f"gain, {seeds_of(side)}" for side in (sides.fresh, sides.first)]
    return confirmed(("source prompts", "of", "in common", "pairs", "better, %", *gains), rows)


def contrasts_table(sides: Sides) -> str:
    """The gain of source prompts that share one trait with an evaluation task, minus that of its others.

    The interval over data sets is text, because the confirmation is over seeds.
    """
    rows: list[Sequence[object]] = []
    for name, title in PROMPTS.items():
        kept, of = with_tasks(sides, name), partial(of_library, name=name)
        shown = kept.fresh or kept.first
        for more, less in itertools.combinations(RELATIONS, 2):
            found = differences(shown, of, more, less)
            if len(found):
                both = cells(kept, [partial(contrast, of=of, more=more, less=less)])
                over = str(interval(student(found.mean(axis=1)), 1))
                rows.append((title, more, less, len(found), *itertools.chain(*both), over))
    gains = [f"difference in gain, {seeds_of(side)}" for side in (sides.fresh, sides.first)]
    header = (
        "source prompts",
        "in common",
        "less those with in common",
        "data sets",
        *gains,
        "over data sets",
    )
    return confirmed(header, rows) if rows else UNMEASURED


def varied_table(sides: Sides) -> str:
    """Accuracy of the most voted source prompt against what is varied, a column for each library: exploration."""
    rows, results = [], [*sides.first, *sides.fresh]
    for what, known in VARIED.items():
        by_value: dict[int, dict[str, str]] = {}
        for name in LIBRARIES:
            for place, entry in enumerate(results[0][name]["varied"][what]):
                means = np.array([result[name]["varied"][what][place]["mean"] for result in results])
                by_value.setdefault(entry["value"], {})[name] = plus_minus(means)
        rows += [(known, str(v), *(by_value[v].get(name, "") for name in LIBRARIES)) for v in sorted(by_value)]
    return markdown((f"varied, {seeds_of(results)}", "value", *LIBRARIES.values()), rows)


def draw(results: Results, name: str, path: pathlib.Path) -> None:
    """Draws the accuracy of each method on each data set."""
    spreads = {
        dataset.removeprefix("nano/"): {m: summarise(scores(results, name, dataset, m).tolist()) for m in means}
        for dataset, means in results[0][name]["datasets"].items()
    }
    plots.plot_methods(path, spreads, "accuracy", over="seeds")


def blocks(directory: pathlib.Path) -> dict[str, str]:
    """The content of the page's blocks."""
    sides = read(directory)
    makers = {
        "starts": starts_table,
        "relations": relations_table,
        "contrasts": contrasts_table,
        "varied": varied_table,
    }
    if not sides.first:
        return dict.fromkeys((*LIBRARIES, *makers), UNMEASURED)
    tables = {name: main_table(sides, name) for name in LIBRARIES} | {n: make(sides) for n, make in makers.items()}
    rows = f"{read_config(f'{ROOT}/configs/nano_rospr.py').task.eval_limit} test rows of each data set and template"
    return {name: with_rows(table, rows) for name, table in tables.items()}


def write(directory: pathlib.Path) -> None:
    """Fills docs/rospr.md's blocks and draws the plot, of the fresh seeds if there are any."""
    fill(ROSPR, blocks(directory))
    sides = read(directory)
    if shown := sides.fresh or sides.first:
        draw(shown, "both", ROSPR.with_name("rospr.png"))
