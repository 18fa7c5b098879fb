"""The summary of both experiments: docs/claims.md's verdicts and README.md's results.

A verdict follows from the effect's 95 % interval. If the interval excludes "no difference", the verdict is `holds` for
an effect in the direction of the claim and `the opposite` for one against it; otherwise it is `no effect shown`.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments import rospr
from experiments.claims_fresh import TERMS, Pairs, mean_gains, pairs_of, seeds_of
from experiments.claims_results import TASKS, Result, of_kind, read, task_of
from experiments.estimates import Estimate, bootstrap, interval, mean, ratio, student
from experiments.pages import CLAIMS, README, UNMEASURED
from experiments.paired import pooled, pooled_spread, values
from infoprompt_jax.reports.documents import fill
from infoprompt_jax.reports.tables import markdown

INFOPROMPT, ROSPR = "InfoPrompt", "RoSPr"
RATIO = "x plain"  # the unit of an effect for which 1 is "no difference"
OTHERS = ("nwj", "dv", "smile")  # estimators whose critics diverge


@dataclasses.dataclass(frozen=True)
class Claim:
    """One line of the verdicts: an effect with its 95 % interval, in `unit`."""

    paper: str
    text: str
    measured: str  # on what
    effect: Estimate
    where: str  # link to the tables
    better: int = 1  # the sign of an effect that supports the claim
    unit: str = "points"

    @property
    def verdict(self) -> str:
        none = 1 if self.unit == RATIO else 0
        low, high = sorted(self.better * (end - none) for end in self.effect[1:])
        return "holds" if low > 0 else "the opposite" if high < 0 else "no effect shown"

    @property
    def cell(self) -> str:
        """The effect as text, in bold if the interval excludes "no difference"."""
        if self.unit == RATIO:
            return f"{ratio(self.effect)} {self.unit}"
        return f"{interval(self.effect, 1)} {self.unit}"


def verdict_table(claims: Sequence[Claim]) -> str:
    header = ("paper", "claim", "measured as", "verdict", "effect, 95 % interval", "where")
    return markdown(header, [(c.paper, c.text, c.measured, c.verdict, c.cell, c.where) for c in claims])


def infoprompt_claims(results: Mapping[str, Result]) -> list[Claim]:
    """Means over six tasks, with 256 examples and static prompts.

    What ran on fresh seeds is measured on these, the rest on the first seeds.
    """
    fresh = [again for _, again in pairs_of(results)]
    first = [results[f"{task}-256"] for task in TASKS]
    initial, probes = (list(of_kind(results, kind).values()) for kind in ("initial", "probe"))

    def gain(preset: str, field: str, factor: float = 100.0) -> Estimate:
        return student(factor * mean_gains(fresh, preset, field))

    tables, more = "[fresh seeds](#fresh-seeds)", "claims-tables.md"
    replicated = [
        ("better results", "test accuracy", gain("both", "test"), tables, 1, "points"),
        ("faster convergence", "steps to 90 % of plain", gain("both", "steps_to_quality", 1), tables, -1, "steps"),
        ("faster convergence", "mean accuracy over training", gain("both", "mean curve"), tables, 1, "points"),
        ("the head term helps", "head alone, test accuracy", gain("head", "test"), tables, 1, "points"),
    ]
    once = [
        ("the representation term helps", "representation alone, test accuracy",
         scaled(pooled(first, "representation", "test")), "[each term](#each-term-over-the-tasks)", 1, "points"),
        ("less sensitive to initialisation", "spread over seeds on the same examples",
         pooled_spread(initial, "both", "test"), f"[same examples]({more}#the-same-examples-for-all-seeds)", -1, RATIO),
        ("prompts carry more information", "I(prompt; Z) by fresh critics",
         pooled(probes, "both", "representation_mi"), f"[information]({more}#how-much-information)", 1, "nats"),
        ("js trains better prompts than InfoNCE (not in the paper)", "test accuracy",
         estimators(results, first, ("js",)), f"[estimators]({more}#estimators)", 1, "points"),
        (f"{', '.join(OTHERS)} train better prompts than InfoNCE (not in the paper)", "test accuracy",
         estimators(results, first, OTHERS), f"[estimators]({more}#estimators)", 1, "points"),
    ]  # fmt: skip
    return [
        Claim(INFOPROMPT, text, f"{measured}, seeds {seeds_of(runs)}", *about)
        for runs, claims in ((fresh, replicated), (first, once))
        for text, measured, *about in claims
    ]


def scaled(effect: Estimate) -> Estimate:
    """A difference of shares as percentage points."""
    value, low, high = effect
    return 100 * value, 100 * low, 100 * high


def estimators(results: Mapping[str, Result], first: Sequence[Result], names: Sequence[str]) -> Estimate:
    """Both terms by these estimators minus both by InfoNCE: the mean over tasks, in points."""
    differences = [
        values(results[f"{task_of(base['run'])}-256-estimators"], f"{name}-both", "test") - values(base, "both", "test")
        for base in first
        for name in names
    ]
    return scaled(bootstrap(np.mean(differences, axis=0), mean))


def rospr_claims(retrieved: Sequence[Mapping[str, Any]]) -> list[Claim]:
    """By library: with the source prompts that the paper would have, and with those of the other unseen tasks too."""
    accuracy, sharing = "[accuracy](rospr.md#accuracy)", "[common traits](rospr.md#format-and-family)"

    def gain(library: str, method: str, base: str, datasets: Sequence[str] = ("mean",)) -> Estimate:
        scores = functools.partial(rospr.scores, retrieved, library)
        differences = [scores(name, method) - scores(name, base) for name in datasets]
        return student(100 * np.mean(differences, axis=0))

    rows = []
    for library, title in rospr.LIBRARIES.items():
        others = [name for name in retrieved[0][library]["datasets"] if name not in rospr.BELOW]
        left_out = " and ".join(name.removeprefix("nano/") for name in rospr.BELOW)
        for where, names in (("six tasks", ("mean",)), (f"without {left_out}", others)):
            effect = gain(library, "rospr", "none", names)
            rows.append(
                ("retrieved prompts help unseen tasks", f"RoSPr - no prompt, {where}; {title}", effect, accuracy)
            )
    for method in ("inter", "var", "inter_var"):
        for library, title in rospr.LIBRARIES.items():
            effect = gain(library, method, "rospr")
            rows.append((f"{rospr.TITLES[method]} helps", f"minus RoSPr, six tasks; {title}", effect, accuracy))
    relations = [result["both"]["relations"]["every"] for result in retrieved]
    formats = np.array([of["format alone"]["gain"] - of["family alone"]["gain"] for of in relations])
    measured = "source prompts of the same format alone - of the same family alone"
    rows.append(("answer format matters more than family", measured, student(100 * formats), sharing))
    return [Claim(ROSPR, *row) for row in rows]


def infoprompt_table(pairs: Pairs) -> str:
    """README's: what a soft prompt does and what the terms add to it, on the fresh seeds."""
    fresh = [again for _, again in pairs]
    rows = [
        (
            task_of(result["run"]),
            f"{100 * result['references']['no prompt']['test']:.0f}",
            f"{100 * values(result, 'plain', 'test').mean():.0f}",
            *(interval(student(mean_gains([result], preset, "test")), 1, 100) for preset in TERMS),
        )
        for result in fresh
    ]
    means = (interval(student(mean_gains(fresh, preset, "test")), 1, 100) for preset in TERMS)
    rows.append((f"mean of the {len(fresh)}", "", "", *means))
    return markdown(("task", "no prompt", "plain", *(f"{preset} - plain" for preset in TERMS)), rows)


def rospr_table(retrieved: Sequence[Mapping[str, Any]]) -> str:
    """README's: accuracy without a prompt and what each method adds to it, by library."""
    methods = [method for method in rospr.TITLES if method != "none"]
    rows = [
        (
            title,
            f"{100 * rospr.scores(retrieved, library, 'mean', 'none').mean():.1f}",
            *(rospr.gain(retrieved, library, "mean", method, "none") for method in methods),
        )
        for library, title in rospr.LIBRARIES.items()
    ]
    return markdown(("library", "no prompt", *(rospr.TITLES[method] for method in methods)), rows)


def blocks(claims: pathlib.Path, retrieval: pathlib.Path) -> dict[pathlib.Path, dict[str, str]]:
    """What the pages' blocks hold, from the directories of results."""
    results = read(claims)
    retrieved = [json.loads(path.read_text()) for path in sorted(retrieval.glob("*.json"))]
    if not pairs_of(results) or not retrieved:
        return {CLAIMS: {"verdicts": UNMEASURED}, README: dict.fromkeys(("results", "rospr"), UNMEASURED)}
    return {
        CLAIMS: {"verdicts": verdict_table([*infoprompt_claims(results), *rospr_claims(retrieved)])},
        README: {"results": infoprompt_table(pairs_of(results)), "rospr": rospr_table(retrieved)},
    }


def write(claims: pathlib.Path, retrieval: pathlib.Path) -> None:
    """Fills the blocks in."""
    for page, content in blocks(claims, retrieval).items():
        fill(page, content)
