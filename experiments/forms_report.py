"""docs/claims.md's tables on the choice and the confirmation of a form, from experiments/results/forms/*.json.

An effect is an arm minus plain prompt tuning, paired by seed. The choice is exploration: no bold. The confirmation is
on other tasks and fresh seeds; its cells are bold by `cells.confirmed`.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.arms import MEASURES, Measure, Results, cell, curve_mean, effect, last, read, test, values
from experiments.cells import Cell, confirmed, interval, plus_minus, ratio, with_rows
from experiments.estimates import LEVEL, Estimate, holm, ratio_of_deviations, student
from experiments.forms_config import CHOOSING, CONFIRMING, TESTED
from experiments.pages import CLAIMS, UNMEASURED
from experiments.verdicts import Claim
from infoprompt_jax.reports.documents import fill
from infoprompt_jax.reports.tables import markdown

CHOSEN = "0-9"  # seeds
SHARE = 0.8  # of plain's steps, to reach its quality in


@dataclasses.dataclass(frozen=True)
class Round:
    """A choice and its confirmation."""

    name: str  # of its blocks
    form: str  # what the choice came to
    primary: str  # the setting of both
    settings: Mapping[str, str]  # of the confirmation, with their seeds
    tried: tuple[str, ...]  # arms that the choice was among, beside plain

    @property
    def seeds(self) -> str:
        return self.settings[self.primary]

    @property
    def long(self) -> str:
        """The setting of converged quality."""
        return self.primary.replace("160", "640")


def _settings(kind: str, other: str, seeds: str, fewer: str) -> dict[str, str]:
    settings = dict.fromkeys((f"256,{kind},160", f"256,{other},160", f"64,{kind},160", f"full,{kind},160"), seeds)
    return settings | {f"256,{kind},640": fewer}


STATIC = (
    "labels",
    "released",
    "start10",
    "start40",
    "answer0.1",
    "conditional0.3",
    "conditional1",
    "conditional3",
    "unprompted0.2",
    "shuffled0.2",
)
FIRST = Round("first", "start10", "256,static,160", _settings("static", "instance", "20-39", "20-29"), STATIC)
SECOND = Round(
    "second", "answer1", "256,instance,160", _settings("instance", "static", "40-59", "40-49"), ("answer0.1", "answer1")
)
ROUNDS = (FIRST, SECOND)


def choice_table(results: Results, of: Round) -> str:
    """Every arm that was tried, on the choosing tasks: the area under the curve, and the test accuracy."""
    setting, seeds, rows = of.primary, CHOSEN, []
    for arm in arms_of(results, setting, seeds):
        cells = [
            cell(effect(results, task, setting, arm, seeds, measure))
            for measure in (curve_mean, test)
            for task in CHOOSING
        ]
        rows.append((arm, *map(str, cells)))
    header = [f"{title}: {task}" for title in ("area", "test") for task in CHOOSING]
    return markdown(("arm - plain", *header), rows)


def arms_of(results: Results, setting: str, seeds: str) -> list[str]:
    """The arms beside plain that have run with these seeds, in the order of their names."""
    texts = [text.rsplit(",", 2) for text in results if f",{setting}," in text]
    return sorted({arm for _, arm, of in texts if of == seeds and arm != "plain"})


def complete(results: Results, setting: str, arm: str, seeds: str) -> bool:
    return all(effect(results, task, setting, arm, seeds, test) is not None for task in CONFIRMING)


def confirmation_table(results: Results, of: Round) -> str:
    """A line a task: the form and its placebo minus plain, on the fresh seeds of the primary setting."""
    primary, seeds, arms = of.primary, of.seeds, [of.form, f"{of.form}-placebo", "labels"]
    arms = [arm for arm in arms if any(f"{task},{primary},{arm},{seeds}" in results for task in CONFIRMING)]
    rows: list[list[Any]] = []
    for task in CONFIRMING:
        plain = results.get(f"{task},{primary},plain,{seeds}")
        if plain is not None:
            cells = [cell(effect(results, task, primary, arm, seeds, m)) for m in (curve_mean, test) for arm in arms]
            rows.append(
                [task, f"{100 * plain['references']['no prompt']:.0f}", plus_minus(values(plain, test)), *cells]
            )
    header = [f"{title}: {arm} - plain" for title in ("area", "test") for arm in arms]
    return with_rows(confirmed(("task", "no prompt", "plain", *header), rows), f"{TESTED} test rows") if rows else ""


def settings_table(results: Results, of: Round) -> str:
    """A line a setting: the form minus plain, the mean over the confirming tasks, and the ratio of the spreads."""
    same = f"{of.seeds},initial"  # the same examples for all seeds
    settings = {**{setting: (setting, seeds) for setting, seeds in of.settings.items()}, "same": (of.primary, same)}
    rows: list[list[Any]] = []
    for name, (setting, seeds) in settings.items():
        if not complete(results, setting, of.form, seeds):
            continue
        effects: list[list[Any]] = [
            [effect(results, t, setting, of.form, seeds, m) for t in CONFIRMING] for m in MEASURES.values()
        ]
        title = setting.replace(",", ", ") if name != "same" else "the same examples"
        spread: Cell | str = "-"
        if name == "same":
            pairs = [
                [values(results[f"{t},{setting},{arm},{seeds}"], test) for arm in (of.form, "plain")]
                for t in CONFIRMING
            ]
            spread = ratio(ratio_of_deviations(np.array(pairs)))
        rows.append([title, seeds.removesuffix(",initial"), *(cell(np.mean(e, axis=0)) for e in effects), spread])
    header = ("examples, prompts, steps", "seeds", *(f"{title}: {of.form} - plain" for title in MEASURES),
              "spread, ratio to plain")  # fmt: skip
    return confirmed(header, rows) if rows else ""


def steps_to(result: Mapping[str, Any], quality: float) -> int | None:
    """The first evaluated step at which the mean over the members reaches the quality."""
    steps = [step for step, _ in next(iter(result["members"].values()))["curve"]]
    means = np.mean([[value for _, value in member["curve"]] for member in result["members"].values()], axis=0)
    return next((step for step, mean in zip(steps, means, strict=True) if mean >= quality), None)


def goal_table(results: Results, of: Round) -> str:
    """A line a task: whether the form meets the goal, faster or better, and whether it hurts."""
    long, seeds, rows, measured = of.long, of.settings[of.long], [], []
    for task in CONFIRMING:
        gains, end = (
            effect(results, task, setting, of.form, of.settings[setting], test) for setting in (of.primary, long)
        )
        if gains is None or end is None:
            continue
        plain, form = (results[f"{task},{long},{arm},{seeds}"] for arm in ("plain", of.form))
        quality = float(values(plain, last).mean())
        pair = [steps_to(result, 0.99 * quality) for result in (plain, form)]
        measured.append((task, student(gains), student(end), pair))
    adjusted = holm([estimate.p for _, *both, _ in measured for estimate in both]) if measured else []
    for (task, short, end, pair), (p, q) in zip(measured, np.reshape(adjusted, (-1, 2)), strict=True):
        steps = [str(step) if step is not None else "never" for step in pair]
        fast = None not in pair and pair[1] <= SHARE * pair[0]
        verdict = "better" if end.value >= 1 and q < LEVEL else "faster" if fast else "no difference shown"
        verdict = "hurts" if hurts(short, p) or hurts(end, q) else verdict
        rows.append((task, *steps, str(interval(short, 1)), str(interval(end, 1)), verdict))
    header = ("task", "plain: steps to its converged quality", f"{of.form}: steps to it", "test at 160 steps",
              "test at 640 steps", "verdict")  # fmt: skip
    return markdown(header, rows) if rows else ""


def hurts(estimate: Estimate, p: float) -> bool:
    return estimate.value < 0 and p < LEVEL


def write(directory: pathlib.Path) -> None:
    """Fills the blocks; one without results is "Not measured."."""
    results = read(directory)
    tables = {
        "choice": choice_table,
        "confirmation": confirmation_table,
        "settings": settings_table,
        "goal": goal_table,
    }
    made = {f"{name}-{of.name}": table(results, of) for name, table in tables.items() for of in ROUNDS}
    fill(CLAIMS, {name: text if text.count("\n") > 1 else UNMEASURED for name, text in made.items()})


def claims(results: Results) -> list[Claim]:
    """The forms' lines of the verdicts: means over the tasks of the choice, and over those of the confirmation."""

    def mean(of: Round, tasks: Sequence[str], seeds: str, measure: Measure) -> Estimate | None:
        effects = [effect(results, task, of.primary, of.form, seeds, measure) for task in tasks]
        effects = [each for each in effects if each is not None]
        return (
            student(np.mean(effects, axis=0)) if effects and (seeds == CHOSEN or len(effects) == len(tasks)) else None
        )

    measures = {
        "better results": ("test accuracy", test),
        "faster convergence": ("area under the validation curve", curve_mean),
    }
    return [
        Claim(
            f"InfoPrompt: {text}, form `{of.form}`",
            f"[{measured}](#the-{of.name}-round)",
            mean(of, CHOOSING, CHOSEN, measure),
            mean(of, CONFIRMING, of.seeds, measure),
        )
        for of in ROUNDS
        for text, (measured, measure) in measures.items()
    ]
