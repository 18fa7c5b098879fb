"""docs/claims-tables.md, and docs/claims.md's table of means, from experiments/results/claims/*.json.

experiments.paired has the statistics.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from experiments.pages import CLAIMS, CLAIMS_TABLES, UNMEASURED
from experiments.paired import (
    Estimate,
    Result,
    difference,
    having,
    joined,
    of_variant,
    pooled,
    pooled_spread,
    spread,
    values,
)
from infoprompt_jax.reports.documents import fill
from infoprompt_jax.reports.figures import COLOURS
from infoprompt_jax.reports.tables import markdown

SHOTS = ("64", "256", "full")
TASKS = ("entailment", "inference", "causes", "endings", "pronouns", "films")  # that means are over
PUBLIC = ("sst2", "rotten_tomatoes", "ag_news")  # real text
VARIANTS = ("head", "representation", "both")
CHANGES = ("negatives", "mean_encoder", "decay", "critic")
WIDEST = "inference"  # the task whose spread over seeds is several times the others'


def read(directory: pathlib.Path) -> dict[str, Result]:
    """Results by the run's name.

    Raises ValueError unless all are of one backbone: what is compared here must be.
    """
    found = {path.stem: json.loads(path.read_text()) for path in sorted(directory.glob("*.json"))}
    backbones = {result["fingerprints"]["backbone"] for result in found.values()}
    if len(backbones) > 1:
        raise ValueError(f"{directory} holds results of several backbones: {', '.join(sorted(backbones))}.")
    return found


def interval(found: Estimate, digits: int, factor: float = 1.0) -> str:
    """`+1.2 [0.3, 2.0]`, in bold where the interval leaves zero out."""
    value, low, high = (factor * number for number in found)
    text = f"{value:+.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
    return f"**{text}**" if low > 0 or high < 0 else text


def ratio(found: Estimate) -> str:
    value, low, high = found
    if np.isnan(value):
        return "-"
    text = f"{value:.2f} [{low:.2f}, {high:.2f}]"
    return f"**{text}**" if low > 1 or high < 1 else text


def plus_minus(samples: np.ndarray, digits: int = 1, factor: float = 100.0) -> str:
    return f"{factor * samples.mean():.{digits}f} ± {factor * samples.std(ddof=1):.{digits}f}"


def split_name(name: str) -> tuple[str, str]:
    task, shots = name.split("-")[:2]
    return task, shots


def task_of(result: Result) -> str:
    return split_name(result["run"])[0]


def title_of(name: str) -> str:
    return ", ".join(split_name(name))


def never(result: Result, variant: str) -> int:
    """Members that reached the quality at no evaluation."""
    return sum(member["steps_to_quality"] is None for member in of_variant(result, variant))


def main_table(results: Mapping[str, Result]) -> str:
    """Both terms beside none, static prompts: one line a run."""
    header = ("task, examples", "no prompt", "plain", "both", "difference", "last evaluation: plain", "difference",
              "steps to 90 %: plain", "both minus plain", "never: plain, both", "mean over training: difference",
              "spread, both / plain")  # fmt: skip
    rows = []
    for name, result in results.items():
        rows.append(
            (
                title_of(name),
                f"{100 * result['references']['no prompt']['test']:.1f}",
                plus_minus(values(result, "plain", "test")),
                plus_minus(values(result, "both", "test")),
                interval(difference(result, "both", "test"), 1, 100),
                plus_minus(values(result, "plain", "last")),
                interval(difference(result, "both", "last"), 1, 100),
                f"{values(result, 'plain', 'steps_to_quality').mean():.0f}",
                interval(difference(result, "both", "steps_to_quality"), 0),
                f"{never(result, 'plain')}, {never(result, 'both')}",
                interval(difference(result, "both", "mean curve"), 1, 100),
                ratio(spread(result, "both", "test")),
            )
        )
    return markdown(header, rows)


def verdicts(results: Sequence[Result], variant: str, field: str, better: int) -> str:
    """`7 better, 1 worse of 18`, counting intervals that leave zero out."""
    found = [difference(result, variant, field) for result in results]
    good = sum(better * value > 0 and low * high > 0 for value, low, high in found)
    bad = sum(better * value < 0 and low * high > 0 for value, low, high in found)
    return f"{good} better, {bad} worse of {len(found)}"


def ablation_table(groups: Mapping[str, Sequence[Result]]) -> str:
    """{head, representation, both} beside none, over the runs of a group that have the variant: `of` says how many."""
    header = ("prompts, examples", "terms", "accuracy", "", f"without {WIDEST}", "last evaluation", "steps to 90 %",
              f"without {WIDEST}", "mean over training", "spread")  # fmt: skip
    rows = []
    for title, group in groups.items():
        for variant in VARIANTS:
            results = having(group, variant)
            if not results:
                continue
            others = [result for result in results if task_of(result) != WIDEST]
            named = variant if len(results) == len(group) else f"{variant} ({', '.join(map(task_of, results))})"
            rows.append(
                (
                    title,
                    named,
                    interval(pooled(results, variant, "test"), 2, 100),
                    verdicts(results, variant, "test", 1),
                    interval(pooled(others, variant, "test"), 2, 100) if others else "",
                    interval(pooled(results, variant, "last"), 2, 100),
                    interval(pooled(results, variant, "steps_to_quality"), 1),
                    interval(pooled(others, variant, "steps_to_quality"), 1) if others else "",
                    interval(pooled(results, variant, "mean curve"), 2, 100),
                    ratio(pooled_spread(results, variant, "test")),
                )
            )
    return markdown(header, rows)


def tasks_table(groups: Mapping[str, Sequence[Result]]) -> str:
    """Each term on each task: accuracy beside plain prompt tuning's."""
    rows = []
    for title, group in groups.items():
        for result in sorted(group, key=task_of):
            cells = [
                interval(difference(result, variant, "test"), 1, 100) if having([result], variant) else ""
                for variant in VARIANTS
            ]
            rows.append((title, task_of(result), plus_minus(values(result, "plain", "test")), *cells))
    return markdown(("prompts, examples", "task", "plain", *VARIANTS), rows)


def initial_table(results: Mapping[str, Result], bases: Mapping[str, Result]) -> str:
    """Spread over first prompts alone: all members have the same examples in the same order."""
    rows = []
    for name, result in results.items():
        base = bases["-".join(split_name(name))]
        cells = [plus_minus(values(own, "plain", "test")) for own in (base, result)]
        rows.append((title_of(name), *cells, *(ratio(spread(result, variant, "test")) for variant in VARIANTS)))
    if len(results) > 1:
        every = list(results.values())
        rows.append(("all", "", "", *(ratio(pooled_spread(every, variant, "test")) for variant in VARIANTS)))
    header = ("task, examples", "plain, each seed its examples", "plain, the same examples")
    return markdown((*header, *(f"spread, {variant} / plain" for variant in VARIANTS)), rows)


def long_table(results: Mapping[str, Result], bases: Mapping[str, Result]) -> str:
    """The same runs with as many steps as the others, and with more.

    Steps to 90 % are of the long runs alone: the others are evaluated more often, and end lower.
    """
    variants, rows = ("head", "both"), []
    for name, result in results.items():
        for own in (bases["-".join(split_name(name))], result):
            steps = of_variant(own, "plain")[0]["curve"][-1][0]
            speed = ["", "", ""]
            if own is result:
                speed = [interval(difference(own, variant, "steps_to_quality"), 0) for variant in variants]
                speed = [f"{values(own, 'plain', 'steps_to_quality').mean():.0f}", *speed]
            accuracy = [interval(difference(own, variant, "test"), 1, 100) for variant in variants]
            spreads = [ratio(spread(own, variant, "test")) for variant in variants]
            rows.append(
                (title_of(name), str(steps), plus_minus(values(own, "plain", "test")), *accuracy, *speed, *spreads)
            )
    header = ("task, examples", "steps", "plain", "head", "both", "steps to 90 %: plain", "head", "both",
              "spread, head / plain", "both / plain")  # fmt: skip
    return markdown(header, rows)


def information_table(results: Mapping[str, Result]) -> str:
    """What critics trained on the finished prompts estimate, in nats, and how the variants differ in it."""
    header = ("task, examples", "I(prompt; head): all variants", "I(prompt; Z): plain", *VARIANTS)
    rows = []
    for name, result in results.items():
        of_head = [values(result, variant, "head_mi").mean() for variant in ("plain", *VARIANTS)]
        low, high = (f"{end(of_head):.2f}" for end in (min, max))
        rows.append(
            (
                title_of(name),
                low if low == high else f"{low} to {high}",
                plus_minus(values(result, "plain", "representation_mi"), 2, 1.0),
                *(interval(difference(result, variant, "representation_mi"), 2) for variant in VARIANTS),
            )
        )
    return markdown(header, rows)


def estimators_table(results: Sequence[Result], bases: Mapping[str, Result]) -> str:
    """Both terms by other estimators: accuracy beside plain prompt tuning's, and what the critics claimed, in nats."""
    header = ("task, examples", "estimator", "accuracy", "I(prompt; head), estimated", "I(prompt; Z), estimated")
    rows = []
    for result in sorted(results, key=task_of):
        base = bases["-".join(split_name(result["run"]))]
        for own in dict.fromkeys(name.rsplit("-seed", 1)[0] for name in result["members"]):
            found = [f"{np.median(values(result, own, field)):.3g}" for field in ("head_mi", "representation_mi")]
            cells = (own.removesuffix("-both"), interval(difference(result, own, "test", base), 1, 100), *found)
            rows.append((title_of(result["run"]), *cells))
    return markdown(header, rows)


def against_table(results: Mapping[str, Result], bases: Mapping[str, Result], names: Sequence[str]) -> str:
    """Runs without plain members of their own (weights), beside the same task's main run.

    `names` are of their members, without the seed.
    """
    rows = []
    for name, result in results.items():
        base = bases["-".join(split_name(name))]
        found = [difference(result, own, "test", base) for own in names]
        rows.append((title_of(name), *(interval(f, 1, 100) for f in found)))
    return markdown(("task, examples", *names), rows)


def one_change_table(kinds: Mapping[str, Mapping[str, Result]], bases: Mapping[str, Result]) -> str:
    """Runs of `both` with one thing changed, beside the same task's plain members; the first column changes nothing."""
    found: dict[str, dict[str, Result]] = {}
    for kind, results in kinds.items():
        for name, result in results.items():
            found.setdefault("-".join(split_name(name)), {})[kind] = result
    rows = [
        (
            title_of(name),
            interval(difference(bases[name], "both", "test"), 1, 100),
            *(interval(difference(own[k], "both", "test", bases[name]), 1, 100) if k in own else "" for k in kinds),
        )
        for name, own in found.items()
    ]
    return markdown(("task, examples", "as above", *kinds), rows)


def rates_table(results: Mapping[str, Result], bases: Mapping[str, Result], factors: Sequence[str]) -> str:
    """Plain prompt tuning at other learning rates, and what both terms add to it at the same rate."""
    rows = []
    for name, result in results.items():
        base, title = bases["-".join(split_name(name))], title_of(name)
        entries = {"x1": (base, "")} | {factor: (result, f"{factor}-") for factor in factors}
        for factor, (own, prefix) in sorted(entries.items()):
            found = difference(own, f"{prefix}both", "test", plain=f"{prefix}plain")
            rows.append((title, factor, plus_minus(values(own, f"{prefix}plain", "test")), interval(found, 1, 100)))
    return markdown(("task, examples", "learning rate", "plain", "both minus plain"), rows)


def public_table(results: Mapping[str, Result]) -> str:
    """Text that the backbone cannot read well: accuracies alone, beside the most frequent answer's."""
    rows = [
        (
            title_of(name),
            *(f"{100 * result['references'][own]['test']:.1f}" for own in ("most frequent answer", "no prompt")),
            *(plus_minus(values(result, variant, "test")) for variant in ("plain", "both")),
            interval(difference(result, "both", "test"), 1, 100),
        )
        for name, result in results.items()
    ]
    return markdown(("task, examples", "most frequent answer", "no prompt", "plain", "both", "difference"), rows)


def curves(results: Mapping[str, Result], path: pathlib.Path) -> None:
    """Mean validation accuracy of plain and both with bands of one standard deviation, one panel a run."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = 6
    figure = Figure(figsize=(2.6 * columns, 2.3 * -(-len(results) // columns) + 0.4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for index, (name, result) in enumerate(results.items(), 1):
        axes = figure.add_subplot(-(-len(results) // columns), columns, index)
        for variant, colour in (("plain", COLOURS[1]), ("both", COLOURS[0])):
            found = [m["curve"] for n, m in result["members"].items() if n.startswith(f"{variant}-seed")]
            steps = [step for step, _ in found[0]]
            accuracy_MT = np.array([[value for _, value in curve] for curve in found])
            mean, deviation = accuracy_MT.mean(axis=0), accuracy_MT.std(axis=0, ddof=1)
            axes.fill_between(steps, mean - deviation, mean + deviation, color=colour, alpha=0.15, linewidth=0)
            axes.plot(steps, mean, color=colour, linewidth=1.6, label=variant)
        axes.axhline(result["references"]["no prompt"]["best"], color="#999999", linewidth=1, linestyle=":")
        axes.set_title(", ".join(split_name(name)), loc="left", fontsize=9.5)
        axes.tick_params(labelsize=7.5)
        axes.spines[["top", "right"]].set_visible(False)
        if index == 1:
            axes.legend(frameon=False, fontsize=8)
    figure.supxlabel(
        "step; mean validation accuracy ± one standard deviation over seeds; dotted: no prompt", fontsize=8.5
    )
    figure.savefig(path, format="png")


def of_kind(results: Mapping[str, Result], kind: str) -> dict[str, Result]:
    """The runs of one kind, few examples first: `` for the main ones, else what the run's name ends in."""
    found = {name: result for name, result in results.items() if "-".join(name.split("-")[2:]) == kind}
    return dict(sorted(found.items(), key=lambda item: SHOTS.index(split_name(item[0])[1])))


def write(directory: pathlib.Path) -> None:
    """Fills in the pages and draws their plot; what has no results says so."""
    results = read(directory)
    terms = of_kind(results, "terms")
    every = of_kind(results, "")
    every |= {name: joined(own, terms[f"{name}-terms"]) for name, own in every.items() if f"{name}-terms" in terms}
    main = {name: result for name, result in every.items() if split_name(name)[0] not in PUBLIC}
    groups: dict[str, list[Result]] = {f"static, {shots}": [] for shots in SHOTS}
    for name, result in main.items():
        if split_name(name)[0] in TASKS:
            groups[f"static, {split_name(name)[1]}"].append(result)
    for name, result in of_kind(results, "instance").items():
        groups.setdefault(f"instance, {split_name(name)[1]}", []).append(result)
    tables: dict[str, Callable[[], str]] = {
        "main": lambda: main_table(main),
        "ablation": lambda: ablation_table(groups),
        "tasks": lambda: tasks_table(groups),
        "initial": lambda: initial_table(of_kind(results, "initial"), main),
        "long": lambda: long_table(of_kind(results, "long"), main),
        "information": lambda: information_table(of_kind(results, "probe")),
        "estimators": lambda: estimators_table(
            [*of_kind(results, "estimators").values(), *of_kind(results, "gentle").values()], main
        ),
        "weights": lambda: against_table(of_kind(results, "weights"), main, ("x0.3-both", "x3-both", "x10-both")),
        "head": lambda: against_table(of_kind(results, "head"), main, ("x0.3-head", "x3-head", "x10-head")),
        "changes": lambda: one_change_table({kind: of_kind(results, kind) for kind in CHANGES}, main),
        "rates": lambda: rates_table(of_kind(results, "rates"), main, ("x0.3", "x3")),
        "released": lambda: main_table(of_kind(results, "released_code")),
        "public": lambda: public_table({name: r for name, r in every.items() if split_name(name)[0] in PUBLIC}),
    }
    drawn = {name: make() for name, make in tables.items()}
    blocks = {name: text if text.count("\n") > 1 else UNMEASURED for name, text in drawn.items()}
    fill(CLAIMS, {"ablation": blocks.pop("ablation")})
    fill(CLAIMS_TABLES, blocks)
    if of_tasks := {name: result for name, result in main.items() if split_name(name)[0] in TASKS}:
        curves(of_tasks, CLAIMS.with_name("claims.png"))
