"""docs/claims-tables.md and docs/claims.md's table of means, from experiments/results/claims/*.json.

`python -m experiments.claims report` writes them. A gain is a difference to plain prompt tuning, paired by seed
(experiments/paired.py). All runs here are of the first seeds, on which choices were made: exploration, without bold.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from experiments import claims_curves
from experiments.cells import Cell, interval, plus_minus, ratio, with_rows
from experiments.claims_results import (
    PUBLIC,
    SHOTS,
    TASKS,
    Result,
    base_of,
    of_kind,
    read,
    rows_of,
    shots_of,
    task_of,
    title_of,
)
from experiments.pages import CLAIMS, CLAIMS_TABLES, UNMEASURED
from experiments.paired import difference, having, joined, of_preset, pooled, spread, values
from infoprompt_jax import member_names
from infoprompt_jax.reports.documents import fill
from infoprompt_jax.reports.tables import markdown

PRESETS = ("head", "representation", "both")
CHANGES = ("negatives", "mean_encoder", "decay", "critic")
WIDEST = "inference"  # the task whose spread over seeds is several times the others'


def points(result: Result, preset: str, field: str = "test", base: Result | None = None, plain: str = "plain") -> Cell:
    """A gain in percentage points as a cell."""
    return interval(difference(result, preset, field, base, plain), 1, 100)


def accuracy(result: Result, preset: str = "plain", field: str = "test") -> str:
    """Mean and deviation over seeds, in percent, as a cell."""
    return plus_minus(values(result, preset, field))


def reference(result: Result, name: str) -> str:
    """Test accuracy of `no prompt` or `most frequent answer`, in percent, as a cell."""
    return f"{100 * result['references'][name]['test']:.1f}"


def average(result: Result, field: str) -> str:
    """The mean over the plain members as a cell without digits."""
    return f"{values(result, 'plain', field).mean():.0f}"


def never(result: Result, preset: str) -> int:
    """How many members reached the quality at no evaluation."""
    return sum(member["steps_to_quality"] is None for member in of_preset(result, preset))


def main_table(results: Mapping[str, Result]) -> str:
    """Both terms and none, static prompts: one line a run."""
    header = ("task, examples", "no prompt", "plain", "both", "difference", "last evaluation: plain", "difference",
              "steps to 90 %: plain", "both minus plain", "never: plain, both", "mean over training: difference",
              "spread, both / plain")  # fmt: skip
    rows = [
        (
            title_of(name),
            reference(result, "no prompt"),
            accuracy(result),
            accuracy(result, "both"),
            points(result, "both"),
            accuracy(result, "plain", "last"),
            points(result, "both", "last"),
            average(result, "steps_to_quality"),
            interval(difference(result, "both", "steps_to_quality"), 0),
            f"{never(result, 'plain')}, {never(result, 'both')}",
            points(result, "both", "mean curve"),
            ratio(spread([result], "both", "test")),
        )
        for name, result in results.items()
    ]
    return markdown(header, rows)


def above(results: Sequence[Result], preset: str, field: str) -> str:
    """`4 of 6`: in how many runs the preset's mean is above plain prompt tuning's."""
    return f"{sum(difference(result, preset, field).value > 0 for result in results)} of {len(results)}"


def ablation_table(groups: Mapping[str, Sequence[Result]]) -> str:
    """Each preset's mean gain over a group's runs; where not all of them have the preset, the line names those."""
    header = ("prompts, examples", "terms", "accuracy", "tasks above plain", f"without {WIDEST}", "last evaluation",
              "steps to 90 %", f"without {WIDEST}", "mean over training", "spread")  # fmt: skip
    rows = []
    for title, group in groups.items():
        for preset in PRESETS:
            if results := having(group, preset):
                tasks = ", ".join(task_of(result["run"]) for result in results)
                terms = preset if len(results) == len(group) else f"{preset} ({tasks})"
                rows.append((title, terms, *_ablation_cells(results, preset)))
    return markdown(header, rows)


def _ablation_cells(results: Sequence[Result], preset: str) -> list[object]:
    others = [result for result in results if task_of(result["run"]) != WIDEST]

    def gain(runs: Sequence[Result], field: str, digits: int = 2, factor: float = 100.0) -> object:
        return interval(pooled(runs, preset, field), digits, factor) if runs else ""

    return [
        gain(results, "test"),
        above(results, preset, "test"),
        gain(others, "test"),
        gain(results, "last"),
        gain(results, "steps_to_quality", 1, 1.0),
        gain(others, "steps_to_quality", 1, 1.0),
        gain(results, "mean curve"),
        ratio(spread(results, preset, "test")),
    ]


def tasks_table(groups: Mapping[str, Sequence[Result]]) -> str:
    """Each preset's gain in accuracy on each task."""
    rows = []
    for title, group in groups.items():
        for result in _by_task(group):
            gains = [points(result, preset) if having([result], preset) else "" for preset in PRESETS]
            rows.append((title, task_of(result["run"]), accuracy(result), *gains))
    return markdown(("prompts, examples", "task", "plain", *PRESETS), rows)


def _by_task(results: Iterable[Result]) -> list[Result]:
    return sorted(results, key=lambda result: task_of(result["run"]))


def initial_table(results: Mapping[str, Result], bases: Mapping[str, Result]) -> str:
    """Spread only over first prompts: all members have the same examples in the same order."""
    rows = []
    for name, result in results.items():
        cells = [accuracy(run) for run in (bases[base_of(name)], result)]
        rows.append((title_of(name), *cells, *(ratio(spread([result], preset, "test")) for preset in PRESETS)))
    if len(results) > 1:
        every = list(results.values())
        rows.append(("all", "", "", *(ratio(spread(every, preset, "test")) for preset in PRESETS)))
    header = ("task, examples", "plain, each seed its examples", "plain, the same examples")
    return markdown((*header, *(f"spread, {preset} / plain" for preset in PRESETS)), rows)


def long_table(results: Mapping[str, Result], bases: Mapping[str, Result]) -> str:
    """Long runs below the main runs of the same task.

    Steps to 90 % are only of the long runs: the main runs are evaluated more often, and end lower.
    """
    presets, rows = ("head", "both"), []
    for name, result in results.items():
        speed = [interval(difference(result, preset, "steps_to_quality"), 0) for preset in presets]
        speed = [average(result, "steps_to_quality"), *speed]
        for run, shown in ((bases[base_of(name)], [""] * len(speed)), (result, speed)):
            steps = of_preset(run, "plain")[0]["curve"][-1][0]
            gains = [points(run, preset) for preset in presets]
            spreads = [ratio(spread([run], preset, "test")) for preset in presets]
            rows.append((title_of(name), steps, accuracy(run), *gains, *shown, *spreads))
    header = ("task, examples", "steps", "plain", "head", "both", "steps to 90 %: plain", "head", "both",
              "spread, head / plain", "both / plain")  # fmt: skip
    return markdown(header, rows)


def information_table(results: Mapping[str, Result]) -> str:
    """What critics trained on the finished prompts estimate, in nats, and how the presets differ in it."""
    header = ("task, examples", "I(prompt; head): all presets", "I(prompt; Z): plain", *PRESETS)
    rows = []
    for name, result in results.items():
        of_head = [values(result, preset, "head_mi").mean() for preset in ("plain", *PRESETS)]
        low, high = (f"{end(of_head):.2f}" for end in (min, max))
        rows.append(
            (
                title_of(name),
                low if low == high else f"{low} to {high}",
                plus_minus(values(result, "plain", "representation_mi"), 2, 1.0),
                *(interval(difference(result, preset, "representation_mi"), 2) for preset in PRESETS),
            )
        )
    return markdown(header, rows)


def estimators_table(results: Iterable[Result], bases: Mapping[str, Result]) -> str:
    """Both terms by other estimators: the gain in accuracy, and the medians of the estimates, in nats."""
    header = ("task, examples", "estimator", "accuracy", "I(prompt; head), estimated", "I(prompt; Z), estimated")
    rows = []
    for result in _by_task(results):
        for preset in member_names.by_seed(result["members"]):
            nats = [f"{np.median(values(result, preset, field)):.3g}" for field in ("head_mi", "representation_mi")]
            gain = points(result, preset, base=bases[base_of(result["run"])])
            rows.append((title_of(result["run"]), preset.removesuffix("-both"), gain, *nats))
    return markdown(header, rows)


def against_table(results: Mapping[str, Result], bases: Mapping[str, Result], presets: Sequence[str]) -> str:
    """Gains in runs without plain members, which are those of the same task's main run."""
    rows = [
        (title_of(name), *(points(result, preset, base=bases[base_of(name)]) for preset in presets))
        for name, result in results.items()
    ]
    return markdown(("task, examples", *presets), rows)


def one_change_table(kinds: Mapping[str, Mapping[str, Result]], bases: Mapping[str, Result]) -> str:
    """Gains of `both` with one thing changed, a column a kind; the first column is the main run's."""
    changed: dict[str, dict[str, Result]] = {}
    for kind, results in kinds.items():
        for name, result in results.items():
            changed.setdefault(base_of(name), {})[kind] = result
    rows = [
        (
            title_of(name),
            points(bases[name], "both"),
            *(points(by_kind[kind], "both", base=bases[name]) if kind in by_kind else "" for kind in kinds),
        )
        for name, by_kind in changed.items()
    ]
    return markdown(("task, examples", "as above", *kinds), rows)


def rates_table(results: Mapping[str, Result], bases: Mapping[str, Result], factors: Sequence[str]) -> str:
    """Plain prompt tuning at other learning rates, and the gain of both terms at the same rate."""
    rows = []
    for name, result in results.items():
        runs = {"x1": (bases[base_of(name)], "")} | {factor: (result, f"{factor}-") for factor in factors}
        for factor, (run, prefix) in sorted(runs.items()):
            gain = points(run, f"{prefix}both", plain=f"{prefix}plain")
            rows.append((title_of(name), factor, accuracy(run, f"{prefix}plain"), gain))
    return markdown(("task, examples", "learning rate", "plain", "both minus plain"), rows)


def public_table(results: Mapping[str, Result]) -> str:
    """Public text, much of which is outside the backbone's vocabulary: only accuracies."""
    rows = [
        (
            title_of(name),
            *(reference(result, which) for which in ("most frequent answer", "no prompt")),
            *(accuracy(result, preset) for preset in ("plain", "both")),
            points(result, "both"),
        )
        for name, result in results.items()
    ]
    return markdown(("task, examples", "most frequent answer", "no prompt", "plain", "both", "difference"), rows)


def main_runs(results: Mapping[str, Result]) -> dict[str, Result]:
    """The main runs, with the members of `terms` where these ran apart."""
    terms = of_kind(results, "terms")
    return {
        name: joined(result, terms[f"{name}-terms"]) if f"{name}-terms" in terms else result
        for name, result in of_kind(results, "").items()
    }


def grouped(main: Mapping[str, Result], instance: Mapping[str, Result]) -> dict[str, list[Result]]:
    """The runs of TASKS by the kind of their prompt and the number of examples, `static, 256`."""
    groups: dict[str, list[Result]] = {f"static, {shots}": [] for shots in SHOTS}
    for name, result in main.items():
        if task_of(name) in TASKS:
            groups[f"static, {shots_of(name)}"].append(result)
    for name, result in instance.items():
        groups.setdefault(f"instance, {shots_of(name)}", []).append(result)
    return groups


def write(directory: pathlib.Path) -> None:
    """Fills the blocks of both pages and draws the plot; a block without results is "Not measured."."""
    results = read(directory)
    runs = main_runs(results)
    main = {name: result for name, result in runs.items() if task_of(name) not in PUBLIC}
    groups = grouped(main, of_kind(results, "instance"))
    estimated = [*of_kind(results, "estimators").values(), *of_kind(results, "gentle").values()]
    tables = {
        "main": main_table(main),
        "ablation": ablation_table(groups),
        "tasks": tasks_table(groups),
        "initial": initial_table(of_kind(results, "initial"), main),
        "long": long_table(of_kind(results, "long"), main),
        "information": information_table(of_kind(results, "probe")),
        "estimators": estimators_table(estimated, main),
        "weights": against_table(of_kind(results, "weights"), main, ("x0.3-both", "x3-both", "x10-both")),
        "head": against_table(of_kind(results, "head"), main, ("x0.3-head", "x3-head", "x10-head")),
        "changes": one_change_table({kind: of_kind(results, kind) for kind in CHANGES}, main),
        "rates": rates_table(of_kind(results, "rates"), main, ("x0.3", "x3")),
        "released": main_table(of_kind(results, "released_code")),
        "public": public_table({name: result for name, result in runs.items() if task_of(name) in PUBLIC}),
    }
    blocks = {name: text if text.count("\n") > 1 else UNMEASURED for name, text in tables.items()}
    blocks = {name: _about(name, text, results) for name, text in blocks.items()}
    fill(CLAIMS, {"ablation": blocks.pop("ablation")})
    fill(CLAIMS_TABLES, blocks)
    if of_tasks := {name: result for name, result in main.items() if task_of(name) in TASKS}:
        claims_curves.draw(of_tasks, CLAIMS.with_name("claims.png"))


def _about(name: str, table: str, results: Mapping[str, Result]) -> str:
    """The block of a table: critics are trained on the training examples, all else is measured on test rows."""
    if table == UNMEASURED or name == "information":
        return table
    validation, test = rows_of(result for run, result in results.items() if not run.endswith("-probe"))
    return with_rows(table, f"{test} test rows and {validation} validation rows")
