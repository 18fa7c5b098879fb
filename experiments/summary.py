"""The summary of the experiments on both methods: the verdicts of docs/claims.md, and README.md's results.

Nano's verdicts and mini's are two tables, each with its own correction: what is measured on one changes no verdict on
the other.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from experiments import arms, claims_results, forms_report, real, real_rospr_report, rospr_report
from experiments.arms import Results
from experiments.cells import confirmed, interval
from experiments.claims_fresh import Pairs, pairs_of
from experiments.claims_results import TASKS, Result, of_kind, task_of
from experiments.estimates import Estimate, student
from experiments.pages import CHARTS, CLAIMS, README, UNMEASURED
from experiments.paired import pooled, spread, values
from experiments.real_config import STEPS
from experiments.rospr_report import BELOW, LIBRARIES, Effect, Sides, contrast, of_library, with_tasks
from experiments.verdicts import ONLY_FRESH, RATIO, Claim, confirmation_table, verdict_chart, verdict_table
from infoprompt_jax.reports import charts
from infoprompt_jax.reports.documents import fill
from infoprompt_jax.rospr.results import TITLES

FORMS = pathlib.Path(__file__).parent / "results" / "forms"
OTHERS = ("nwj", "dv", "smile")  # estimators whose critics diverge


def infoprompt_claims(results: Mapping[str, Result]) -> list[Claim]:
    """Means over six tasks, with 256 examples and static prompts."""
    return [*repeated_claims(pairs_of(results)), *explored_claims(results)]


def repeated_claims(pairs: Pairs) -> list[Claim]:
    """What ran on both kinds of seeds."""
    first, fresh = zip(*pairs, strict=True)

    def claim(text: str, measured: str, preset: str, field: str, better: int, unit: str) -> Claim:
        effects = (pooled(side, preset, field).scaled(100 if unit == "points" else 1) for side in (first, fresh))
        return Claim(f"InfoPrompt: {text}", f"[{measured}](#fresh-seeds)", *effects, better=better, unit=unit)

    return [
        claim("better results", "test accuracy", "both", "test", 1, "points"),
        claim("faster convergence", "steps to 90 % of plain", "both", "steps_to_quality", -1, "steps"),
        claim("faster convergence", "mean accuracy over training", "both", "mean curve", 1, "points"),
        claim("the head term helps", "head alone, test accuracy", "head", "test", 1, "points"),
    ]


def explored_claims(results: Mapping[str, Result]) -> list[Claim]:
    """What ran on the first seeds alone."""
    first = [results[f"{task}-256"] for task in TASKS]
    initial, probes = (list(of_kind(results, kind).values()) for kind in ("initial", "probe"))
    more = "claims-tables.md"

    def claim(text: str, measured: str, effect: Estimate, better: int = 1, unit: str = "points") -> Claim:
        return Claim(f"InfoPrompt: {text}", measured, effect, None, better, unit)

    return [
        claim(
            "the representation term helps",
            "[representation alone, test accuracy](#each-term-over-the-tasks)",
            pooled(first, "representation", "test").scaled(100),
        ),
        claim(
            "less sensitive to initialisation",
            f"[spread on the same examples]({more}#the-same-examples-for-all-seeds)",
            spread(initial, "both", "test"),
            -1,
            RATIO,
        ),
        claim(
            "prompts carry more information",
            f"[I(prompt; Z) by fresh critics]({more}#how-much-information)",
            pooled(probes, "both", "representation_mi"),
            unit="nats",
        ),
        *(
            claim(
                f"{', '.join(names)}: better prompts than by InfoNCE (not in the paper)",
                f"[test accuracy]({more}#estimators)",
                estimators(results, first, names),
            )
            for names in (("js",), OTHERS)
        ),
    ]


def estimators(results: Mapping[str, Result], first: Sequence[Result], names: Sequence[str]) -> Estimate:
    """Both terms by these estimators minus both by InfoNCE: the mean over tasks, in points."""
    differences = [
        values(results[f"{task_of(base['run'])}-256-estimators"], f"{name}-both", "test") - values(base, "both", "test")
        for base in first
        for name in names
    ]
    return student(np.mean(differences, axis=0)).scaled(100)


def rospr_claims(sides: Sides) -> list[Claim]:
    """By library: with the source prompts that the paper would have, and with those of the other unseen tasks too."""

    def claim(text: str, measured: str, effect: Effect) -> Claim:
        return Claim(f"RoSPr: {text}", f"[{measured}](rospr.md#accuracy)", *sides.effects(effect))

    def minus(library: str, method: str, base: str, datasets: Sequence[str]) -> Effect:
        return partial(rospr_report.gain, name=library, datasets=datasets, method=method, base=base)

    every = list(sides.first[0]["sources"]["datasets"])
    above = [name for name in every if name not in BELOW]
    left_out = " and ".join(name.removeprefix("nano/") for name in BELOW)
    helps = [
        claim(
            "retrieved prompts help unseen tasks",
            f"RoSPr - no prompt, {where}; {title}",
            minus(library, "rospr", "none", names),
        )
        for library, title in LIBRARIES.items()
        for where, names in (("six tasks", every), (f"without {left_out}", above))
    ]
    methods = [
        claim(f"{TITLES[m]} helps", f"minus RoSPr, six tasks; {title}", minus(library, m, "rospr", every))
        for m in ("inter", "var", "inter_var")
        for library, title in LIBRARIES.items()
    ]
    formats = [
        Claim(
            "RoSPr: answer format matters more than family",
            f"[{title}: same format alone - {less}, on the same task](rospr.md#format-and-family)",
            *with_tasks(sides, library).effects(
                partial(contrast, of=partial(of_library, name=library), more="format alone", less=less)
            ),
        )
        # No held-in prompt shares a family with an unseen task. Siblings are prompts of the other unseen tasks.
        for library, title, less in (
            ("sources", "held-in prompts", "neither"),
            ("siblings", "sibling prompts", "family alone"),
        )
        if any(with_tasks(sides, library))
    ]
    return [*helps, *methods, *formats]


def real_table(results: Results) -> str:
    """README's on InfoPrompt: what a soft prompt does on real tasks, and what both terms add to it."""
    rows: list[list[object]] = []
    for task in real.TASKS:
        plain = {s: results[text] for s in STEPS if (text := f"{task},{real.setting(s)},plain,{real.SEEDS}") in results}
        if not plain:
            continue
        known = next(iter(plain.values()))
        score = "" if known["metric"] == "accuracy" else f" ({known['metric']})"
        shown = (f"{100 * known['references'][name]:.0f}" for name in real.REFERENCES)
        means = (f"{100 * arms.values(plain[s], arms.test).mean():.1f}" if s in plain else "-" for s in STEPS)
        effects = (arms.effect(results, task, real.setting(s), "both", real.SEEDS, arms.test) for s in STEPS)
        rows.append([f"{task}{score}", *shown, *means, *map(arms.cell, effects)])
    of_all = [real.every(results, s, "both", arms.test) for s in STEPS]
    if any(one is not None for one in of_all):
        means = ("-" if one is None else interval(real.mean_of(one), 1) for one in of_all)
        rows.append([f"mean of the {len(real.TASKS)}", *[""] * (len(real.REFERENCES) + len(STEPS)), *means])
    columns = (f"{which}, {'all' if s == 'full' else s}" for which in ("plain", "both - plain") for s in STEPS)
    header = ("task", *real.REFERENCES.values(), *columns)
    return confirmed(header, rows)


def real_rospr_table(results: real_rospr_report.Results) -> str:
    """README's on RoSPr: mean accuracy without a prompt on each group of data sets, and what each method adds."""
    methods = [method for method in TITLES if method != "none"]
    rows = [
        (
            title,
            real_rospr_report.shown([real_rospr_report.mean(results[0], group, lambda one: one["scores"]["none"])]),
            *(real_rospr_report.gained(results, group, method, "none") for method in methods),
        )
        for group, title in real_rospr_report.GROUPS.items()
    ]
    return confirmed(("data sets", "no prompt", *(TITLES[method] for method in methods)), rows)


@dataclasses.dataclass(frozen=True)
class Folders:
    """Where the results are."""

    claims: pathlib.Path = claims_results.RESULTS
    rospr: pathlib.Path = rospr_report.RESULTS
    forms: pathlib.Path = FORMS
    real: pathlib.Path = real.EXPERIMENT.results
    real_rospr: pathlib.Path = real_rospr_report.RESULTS


def nano_claims(folders: Folders) -> list[Claim]:
    """The rows of the verdicts on nano; [] where the main results are missing."""
    results, sides = claims_results.read(folders.claims), rospr_report.read(folders.rospr)
    if not pairs_of(results) or not sides.first:
        return []
    of_forms = forms_report.claims(arms.read(folders.forms))
    return [*infoprompt_claims(results), *of_forms, *rospr_claims(sides)]


def mini_claims(folders: Folders) -> list[Claim]:
    """The rows of the verdicts on mini."""
    return [
        *real.claims(arms.read(folders.real)),
        *real_rospr_report.claims(real_rospr_report.read(folders.real_rospr)),
    ]


def blocks(folders: Folders) -> dict[pathlib.Path, dict[str, str]]:
    """What the pages' blocks hold."""
    of_nano, of_mini = nano_claims(folders), mini_claims(folders)
    tasks, retrieval = arms.read(folders.real), real_rospr_report.read(folders.real_rospr)
    return {
        CLAIMS: {
            "verdicts mini": confirmation_table(of_mini) if of_mini else UNMEASURED,
            "verdicts": verdict_table(of_nano) if of_nano else UNMEASURED,
        },
        README: {
            "results": real_table(tasks) if tasks else UNMEASURED,
            "rospr": real_rospr_table(retrieval) if retrieval else UNMEASURED,
        },
    }


def drawn(folders: Folders) -> dict[str, str]:
    """The charts of the verdicts by their file's name; none without results."""
    made = {}
    if rows := nano_claims(folders):
        made["verdicts.svg"] = verdict_chart(rows)
    if rows := mini_claims(folders):
        made["verdicts-mini.svg"] = verdict_chart(rows, ONLY_FRESH, limits={})
    return made


def write(folders: Folders) -> None:
    """Fills the blocks in, and draws the verdicts."""
    for page, content in blocks(folders).items():
        fill(page, content)
    for name, chart in drawn(folders).items():
        charts.save(CHARTS / name, chart)
