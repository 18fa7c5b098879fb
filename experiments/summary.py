"""The summary of both experiments: the verdicts of docs/claims.md, and README.md's results."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from experiments import forms_report, rospr_report
from experiments.cells import confirmed, interval
from experiments.claims_fresh import TERMS, Pairs, pairs_of
from experiments.claims_results import TASKS, Result, of_kind, read, rows_of, task_of
from experiments.estimates import Estimate, student
from experiments.pages import CHARTS, CLAIMS, README, UNMEASURED
from experiments.paired import pooled, spread, values
from experiments.rospr_report import BELOW, LIBRARIES, SOURCES, Effect, Sides, contrast
from experiments.verdicts import RATIO, Claim, verdict_chart, verdict_table
from infoprompt_jax.reports import charts
from infoprompt_jax.reports.documents import fill
from infoprompt_jax.reports.tables import markdown
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

    def claim(text: str, measured: str, effect: Effect, where: str = "accuracy") -> Claim:
        return Claim(f"RoSPr: {text}", f"[{measured}](rospr.md#{where})", *sides.effects(effect))

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
        claim(
            "answer format matters more than family",
            f"{title}: same format alone - {less}",
            partial(contrast, of=SOURCES[sources], more="format alone", less=less),
            "format-and-family",
        )
        # No held-in prompt shares a family with an unseen task. Siblings are prompts of the other unseen tasks.
        for sources, title, less in (
            ("held-in", "held-in prompts", "neither"),
            ("siblings", "sibling prompts", "family alone"),
        )
    ]
    return [*helps, *methods, *formats]


def infoprompt_table(pairs: Pairs) -> str:
    """README's: what a soft prompt does and what the terms add to it, on the fresh seeds."""
    fresh = [again for _, again in pairs]
    rows = [
        (
            task_of(result["run"]),
            f"{100 * result['references']['no prompt']['test']:.0f}",
            f"{100 * values(result, 'plain', 'test').mean():.0f}",
            *(interval(pooled([result], preset, "test"), 1, 100) for preset in TERMS),
        )
        for result in fresh
    ]
    means = (interval(pooled(fresh, preset, "test"), 1, 100) for preset in TERMS)
    rows.append((f"mean of the {len(fresh)}", "", "", *means))
    header = (f"task, {rows_of(fresh)[1]} test rows", "no prompt", "plain", *(f"{preset} - plain" for preset in TERMS))
    return confirmed(header, rows)


def rospr_table(sides: Sides) -> str:
    """README's: accuracy without a prompt and what each method adds to it; without fresh seeds it is exploration."""
    methods = [method for method in TITLES if method != "none"]
    shown = sides.fresh or sides.first
    rows = [
        (
            title,
            f"{100 * rospr_report.scores(shown, library, 'mean', 'none').mean():.1f}",
            *(interval(rospr_report.gain(shown, library, ("mean",), m, "none"), 1) for m in methods),
        )
        for library, title in LIBRARIES.items()
    ]
    which = rospr_report.seeds_of(shown)
    header = (f"library, {which}{'' if sides.fresh else ' (exploration)'}", "no prompt", *(TITLES[m] for m in methods))
    return confirmed(header, rows) if sides.fresh else markdown(header, rows)


def every_claim(claims: pathlib.Path, retrieval: pathlib.Path, forms: pathlib.Path = FORMS) -> list[Claim]:
    """The rows of the verdicts, from the directories of results; [] where the main ones are missing."""
    results, sides = read(claims), rospr_report.read(retrieval)
    if not pairs_of(results) or not sides.first:
        return []
    of_forms = forms_report.claims(forms_report.read(forms))
    return [*infoprompt_claims(results), *of_forms, *rospr_claims(sides)]


def blocks(
    claims: pathlib.Path, retrieval: pathlib.Path, forms: pathlib.Path = FORMS
) -> dict[pathlib.Path, dict[str, str]]:
    """What the pages' blocks hold, from the directories of results."""
    results, sides = read(claims), rospr_report.read(retrieval)
    pairs = pairs_of(results)
    if not pairs or not sides.first:
        return {CLAIMS: {"verdicts": UNMEASURED}, README: dict.fromkeys(("results", "rospr"), UNMEASURED)}
    return {
        CLAIMS: {"verdicts": verdict_table(every_claim(claims, retrieval, forms))},
        README: {"results": infoprompt_table(pairs), "rospr": rospr_table(sides)},
    }


def write(claims: pathlib.Path, retrieval: pathlib.Path) -> None:
    """Fills the blocks in, and draws the verdicts."""
    for page, content in blocks(claims, retrieval).items():
        fill(page, content)
    if rows := every_claim(claims, retrieval):
        charts.save(CHARTS / "verdicts.svg", verdict_chart(rows))
