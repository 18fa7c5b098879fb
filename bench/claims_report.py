"""docs/claims.md's tables and plots, from bench/results/claims/*.json.

Everything is paired: a variant's member and the plain one of the same seed start from the same prompt and see the same
batches, so their difference is taken seed by seed. Intervals are 95 % percentile bootstraps over the seeds.
"""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from bench.pages import DOCS, fill, markdown
from infoprompt_jax.report import COLOURS

PAGE = DOCS / "claims.md"
SHOTS = ("64", "256", "full")
PUBLIC = ("sst2", "rotten_tomatoes", "ag_news")  # real text
RESAMPLES = 10_000
VARIANTS = ("head", "representation", "both")
CHANGES = ("negatives", "mean_encoder", "decay", "critic")

Result = Mapping[str, Any]
Statistic = Callable[[np.ndarray], np.ndarray]  # [..., seeds] -> [...]


def read(directory: pathlib.Path) -> dict[str, Result]:
    """Results by the run's name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(directory.glob("*.json"))}


def values(result: Result, variant: str, field: str) -> np.ndarray:
    """[seeds] of one variant, in the order of the seeds; `mean curve` is the mean over a member's evaluations.

    A member that never reached the quality counts with the step after the last evaluation.
    """
    found = {name: m for name, m in result["members"].items() if re.fullmatch(rf"{variant}-seed\d+", name)}
    ordered = [found[name] for name in sorted(found, key=lambda name: int(name.rsplit("seed")[-1]))]
    return np.array([_value(member, field) for member in ordered])


def _value(member: Mapping[str, Any], field: str) -> float:
    curve = member["curve"]
    if field == "mean curve":
        return float(np.mean([value for _, value in curve]))
    if field == "steps_to_quality" and member[field] is None:
        return curve[-1][0] + curve[1][0] - curve[0][0]
    return member[field]


def bootstrap(samples: np.ndarray, statistic: Statistic) -> tuple[float, float, float]:
    """The statistic of `samples` [..., seeds] and its 95 % interval over resampled seeds."""
    draws = np.random.default_rng(0).integers(samples.shape[-1], size=(RESAMPLES, samples.shape[-1]))
    resampled = statistic(np.moveaxis(samples[..., draws], -2, 0))
    low, high = np.quantile(resampled, (0.025, 0.975))
    return float(statistic(samples)), float(low), float(high)


def difference(
    result: Result, variant: str, field: str, base: Result | None = None, plain: str = "plain"
) -> tuple[float, float, float]:
    """Mean of the paired differences to plain prompt tuning."""
    return bootstrap(values(result, variant, field) - values(base or result, plain, field), _mean)


def spread(result: Result, variant: str, field: str) -> tuple[float, float, float]:
    """Ratio of the standard deviations over seeds, the variant's over plain prompt tuning's."""
    pair = np.stack([values(result, variant, field), values(result, "plain", field)])
    return bootstrap(pair, _ratio_of_deviations)


def _mean(samples: np.ndarray) -> np.ndarray:
    return samples.mean(axis=-1)


def _ratio_of_deviations(pairs: np.ndarray) -> np.ndarray:
    deviations = pairs.std(axis=-1, ddof=1)
    return deviations[..., 0] / np.maximum(deviations[..., 1], 1e-9)


def interval(found: tuple[float, float, float], digits: int, factor: float = 1.0) -> str:
    """`+1.2 [0.3, 2.0]`, in bold where the interval leaves zero out."""
    value, low, high = (factor * number for number in found)
    text = f"{value:+.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
    return f"**{text}**" if low > 0 or high < 0 else text


def ratio(found: tuple[float, float, float]) -> str:
    value, low, high = found
    text = f"{value:.2f} [{low:.2f}, {high:.2f}]"
    return f"**{text}**" if low > 1 or high < 1 else text


def plus_minus(samples: np.ndarray, digits: int = 1, factor: float = 100.0) -> str:
    return f"{factor * samples.mean():.{digits}f} ± {factor * samples.std(ddof=1):.{digits}f}"


def split_name(name: str) -> tuple[str, str]:
    task, shots = name.split("-")[:2]
    return task, shots


def main_table(results: Mapping[str, Result]) -> str:
    """Both terms beside none, static prompts: one line a run."""
    header = ("task, examples", "no prompt", "plain", "both", "difference", "steps to 90 %: plain", "both minus plain",
              "mean over training: difference", "spread, both / plain")  # fmt: skip
    rows = []
    for name, result in results.items():
        task, shots = split_name(name)
        rows.append(
            (
                f"{task}, {shots}",
                f"{100 * result['references']['no prompt']['test']:.1f}",
                plus_minus(values(result, "plain", "test")),
                plus_minus(values(result, "both", "test")),
                interval(difference(result, "both", "test"), 1, 100),
                f"{values(result, 'plain', 'steps_to_quality').mean():.0f}",
                interval(difference(result, "both", "steps_to_quality"), 0),
                interval(difference(result, "both", "mean curve"), 1, 100),
                ratio(spread(result, "both", "test")),
            )
        )
    return markdown(header, rows)


def pooled(results: Iterable[Result], variant: str, field: str) -> tuple[float, float, float]:
    """The mean over runs of the paired differences, seeds resampled together."""
    pairs = [values(result, variant, field) - values(result, "plain", field) for result in results]
    return bootstrap(np.mean(pairs, axis=0), _mean)


def pooled_spread(results: Iterable[Result], variant: str, field: str) -> tuple[float, float, float]:
    """The geometric mean over runs of the spreads' ratios, seeds resampled together."""
    pairs = [np.stack([values(result, variant, field), values(result, "plain", field)]) for result in results]
    return bootstrap(np.stack(pairs), lambda s: np.exp(np.log(_ratio_of_deviations(s)).mean(axis=-1)))


def verdicts(results: Sequence[Result], variant: str, field: str, better: int) -> str:
    """`7 better, 1 worse of 18`, counting intervals that leave zero out."""
    found = [difference(result, variant, field) for result in results]
    good = sum(better * value > 0 and low * high > 0 for value, low, high in found)
    bad = sum(better * value < 0 and low * high > 0 for value, low, high in found)
    return f"{good} better, {bad} worse of {len(found)}"


def ablation_table(groups: Mapping[str, Sequence[Result]]) -> str:
    """{head, representation, both} beside none, over the runs of a group that have the variant: `of` says how many."""
    header = ("prompts, examples", "terms", "accuracy", "", "steps to 90 %", "", "mean over training", "", "spread")
    fields = (("test", 1, 2, 100), ("steps_to_quality", -1, 1, 1), ("mean curve", 1, 2, 100))
    rows = []
    for title, group in groups.items():
        for variant in VARIANTS:
            results = having(group, variant)
            if not results:
                continue
            named = variant if len(results) == len(group) else f"{variant} ({', '.join(map(task_of, results))})"
            cells = []
            for field, better, digits, factor in fields:
                cells.append(interval(pooled(results, variant, field), digits, factor))
                cells.append(verdicts(results, variant, field, better))
            rows.append((title, named, *cells, ratio(pooled_spread(results, variant, "test"))))
    return markdown(header, rows)


def task_of(result: Result) -> str:
    return split_name(result["run"])[0]


def having(results: Sequence[Result], variant: str) -> list[Result]:
    """The runs that have members of the variant."""
    return [result for result in results if f"{variant}-seed0" in result["members"]]


def information_table(results: Mapping[str, Result]) -> str:
    """What critics trained on the finished prompts estimate, in nats: mean and deviation over seeds."""
    variants = ("plain", *VARIANTS)
    header = ("task, examples", "I(prompt; head): plain", *VARIANTS, "I(prompt; Z): plain", *VARIANTS)
    rows = []
    for name, result in results.items():
        cells = [
            plus_minus(values(result, variant, field), 2, 1.0)
            for field in ("head_mi", "representation_mi")
            for variant in variants
        ]
        rows.append((", ".join(split_name(name)), *cells))
    return markdown(header, rows)


def against_table(results: Mapping[str, Result], bases: Mapping[str, Result], names: Sequence[str]) -> str:
    """Runs without plain members of their own (estimators, weights), beside the same task's main run.

    `names` are of their members, without the seed.
    """
    header = ("task, examples", *names)
    rows = []
    for name, result in results.items():
        base = bases["-".join(split_name(name))]
        found = [difference(result, own, "test", base) for own in names]
        rows.append((", ".join(split_name(name)), *(interval(f, 1, 100) for f in found)))
    return markdown(header, rows)


def one_change_table(kinds: Mapping[str, Mapping[str, Result]], bases: Mapping[str, Result]) -> str:
    """Runs of `both` with one thing changed, beside the same task's plain members; the first column changes nothing."""
    found: dict[str, dict[str, Result]] = {}
    for kind, results in kinds.items():
        for name, result in results.items():
            found.setdefault("-".join(split_name(name)), {})[kind] = result
    rows = [
        (
            ", ".join(split_name(name)),
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
        base, title = bases["-".join(split_name(name))], ", ".join(split_name(name))
        entries = {"x1": (base, "")} | {factor: (result, f"{factor}-") for factor in factors}
        for factor, (own, prefix) in sorted(entries.items()):
            found = difference(own, f"{prefix}both", "test", plain=f"{prefix}plain")
            rows.append((title, factor, plus_minus(values(own, f"{prefix}plain", "test")), interval(found, 1, 100)))
    return markdown(("task, examples", "learning rate", "plain", "both minus plain"), rows)


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


def joined(base: Result, terms: Result) -> Result:
    """A run of `pair` with the head's and the representation's own members, which ran apart from it.

    Raises ValueError unless they have the same seeds, rows, backbone and evaluated steps.
    """
    if _pairing(base) != _pairing(terms):
        raise ValueError(f"{terms['run']} does not belong to {base['run']}: seeds, rows, backbone or steps differ.")
    reached = {
        name: next((step for step, value in member["curve"] if value >= base["quality"]), None)
        for name, member in terms["members"].items()
    }
    members = {name: {**member, "steps_to_quality": reached[name]} for name, member in terms["members"].items()}
    return {**base, "members": {**base["members"], **members}}


def _pairing(result: Result) -> tuple[Any, ...]:
    members = result["members"]
    seeds = sorted({name.rsplit("-", 1)[-1] for name in members})
    steps = {tuple(step for step, _ in member["curve"]) for member in members.values()}
    return seeds, steps, result["training_examples"], result["fingerprints"]


def of_kind(results: Mapping[str, Result], kind: str) -> dict[str, Result]:
    """The runs of one kind, few examples first: `` for the main ones, else what the run's name ends in."""
    found = {name: result for name, result in results.items() if "-".join(name.split("-")[2:]) == kind}
    return dict(sorted(found.items(), key=lambda item: SHOTS.index(split_name(item[0])[1])))


def write(directory: pathlib.Path) -> None:
    """Fills in docs/claims.md and draws its plots; what has no results says so."""
    results = read(directory)
    terms = of_kind(results, "terms")
    every = of_kind(results, "")
    every |= {name: joined(own, terms[f"{name}-terms"]) for name, own in every.items() if f"{name}-terms" in terms}
    main = {name: result for name, result in every.items() if split_name(name)[0] not in PUBLIC}
    groups = {
        f"static, {shots}": [result for name, result in main.items() if split_name(name)[1] == shots] for shots in SHOTS
    }
    for name, result in of_kind(results, "instance").items():
        groups.setdefault(f"instance, {split_name(name)[1]}", []).append(result)
    tables: dict[str, Callable[[], str]] = {
        "main": lambda: main_table(main),
        "ablation": lambda: ablation_table(groups),
        "information": lambda: information_table(of_kind(results, "probe")),
        "estimators": lambda: against_table(
            of_kind(results, "estimators"), main, ("nwj-both", "dv-both", "smile-both", "js-both")
        ),
        "weights": lambda: against_table(of_kind(results, "weights"), main, ("x0.3-both", "x3-both", "x10-both")),
        "head": lambda: against_table(of_kind(results, "head"), main, ("x0.3-head", "x3-head", "x10-head")),
        "changes": lambda: one_change_table({kind: of_kind(results, kind) for kind in CHANGES}, main),
        "rates": lambda: rates_table(of_kind(results, "rates"), main, ("x0.3", "x3")),
        "released": lambda: main_table(of_kind(results, "released_code")),
        "public": lambda: main_table({name: r for name, r in every.items() if split_name(name)[0] in PUBLIC}),
    }
    drawn = {name: make() for name, make in tables.items()}
    fill(PAGE, {name: text if text.count("\n") > 1 else "Not measured." for name, text in drawn.items()})
    if main:
        curves(main, PAGE.with_name("claims.png"))
