"""The choice of a form and its confirmation: its runs, and the tables on results made up by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from experiments import forms, forms_report
from experiments.forms_config import CHOOSING, CONFIRMING
from experiments.forms_report import FIRST, ROUNDS
from infoprompt_jax.command_line import read_config
from infoprompt_jax.errors import UserError
from infoprompt_jax.fleet.members import expand

FORM, PRIMARY, LONG = FIRST.form, FIRST.primary, FIRST.long


@pytest.mark.parametrize("run", forms.RUNS)
def test_every_run_is_a_fleet_of_one_task_and_arm(run: str) -> None:
    task, shots, kind, steps, arm, seeds, *_ = forms.RUNS[run].split(",")
    config = read_config(f"{forms.CONFIG}:{forms.RUNS[run]}")
    found = [member.config for member in expand(config)]
    first, last = map(int, seeds.split("-"))
    assert [member.seed for member in found] == [*range(first, last + 1)]
    assert {(member.prompt.kind, member.train.steps) for member in found} == {(kind, int(steps))}
    assert config.task.eval_split == ("validation[:256]" if task in CHOOSING else "validation[:512]")
    terms = config.infoprompt
    if arm == "plain":
        assert (terms.gamma, terms.beta, terms.head_steps) == (0, 0, 0)
    assert terms.placebo == arm.endswith("placebo")
    assert config.task.shots == (0 if shots == "full" else int(shots))


def test_choice_and_confirmation_share_no_task_and_no_seed() -> None:
    assert not {*CHOOSING} & {*CONFIRMING}
    seeds = {which: set() for which in (True, False)}
    for text in forms.RUNS.values():
        task, *_, last = text.removesuffix(",initial").split(",")
        first, end = map(int, last.split("-"))
        seeds[task in CHOOSING] |= {*range(first, end + 1)}
    assert seeds[True] and seeds[False] and not seeds[True] & seeds[False]
    of_rounds = [{seeds for seeds in of.settings.values()} for of in ROUNDS]
    assert of_rounds[0] == {"20-39", "20-29"} and of_rounds[1] == {"40-59", "40-49"}


def test_an_unknown_arm_is_refused() -> None:
    with pytest.raises(UserError, match=r"no arm 'nope': choose from plain, .*answer1-placebo\.$"):
        read_config(f"{forms.CONFIG}:causes,256,static,160,nope,0-9")


def result(text: str, gain: float, spread: float = 0.01, learns: int = 8) -> dict[str, Any]:
    """Ten members whose accuracy rises to 0.7 + gain over `learns` evaluations of 80 steps."""
    rng = np.random.default_rng(len(text))
    members = {}
    for seed in range(20, 30):
        end = 0.7 + gain + spread * rng.standard_normal()
        curve = [[80 * i, 0.4 + (end - 0.4) * min(i / learns, 1)] for i in range(9)]
        members[f"run-seed{seed}"] = {"test": end, "curve": curve}
    same = dict.fromkeys(("backbone", "data", "evaluation_data", "test_data"), "a")
    return {"config": text, "run": text, "members": members, "fingerprints": same, "references": {"no prompt": 0.5}}


def confirmed(gains: dict[str, float], learns: int) -> forms_report.Results:
    """Results of both settings of the goal, with a gain by task at 640 steps."""
    made = {}
    for task in CONFIRMING:
        for setting in (PRIMARY, LONG):
            for arm in ("plain", FORM):
                text = f"{task},{setting},{arm},{FIRST.settings[setting]}"
                gain = gains.get(task, 0.0) if arm == FORM and setting == LONG else 0.0
                made[text] = result(text, gain, learns=learns if arm == FORM else 8)
    return made


def test_the_goals_verdicts() -> None:
    """Faster by the share of plain's steps; better by a point that is beyond chance; hurt wherever it is worse."""
    gains = {"endings": 0.05, "pronouns": -0.05}
    for learns, otherwise in ((5, "faster"), (7, "no difference shown")):
        rows = forms_report.goal_table(confirmed(gains, learns), FIRST).splitlines()[2:]
        verdicts = {row.strip("| ").split(" | ")[0]: row.strip("| ").split(" | ")[-1] for row in rows}
        assert verdicts == {**dict.fromkeys(CONFIRMING, otherwise), "endings": "better", "pronouns": "hurts"}


def test_the_confirmation_is_bold_where_holm_leaves_it() -> None:
    results = {}
    for task in CONFIRMING:
        for arm in ("plain", FORM):
            text = f"{task},{PRIMARY},{arm},20-39"
            results[text] = result(text, 0.05 if arm == FORM and task == "films" else 0.0)
    table = forms_report.confirmation_table(results, FIRST)
    bold = [line.split(" | ")[0].strip("| ") for line in table.splitlines() if "**" in line]
    assert bold == ["films"] and "512 test rows" in table


def test_the_choice_has_no_bold_and_a_dash_for_what_did_not_run() -> None:
    texts = [f"{task},{PRIMARY},{arm},0-9" for task in ("entailment", "causes") for arm in ("plain", "start10")]
    table = forms_report.choice_table({text: result(text, 0.2 if "start10" in text else 0.0) for text in texts}, FIRST)
    assert "**" not in table and " - |" in table and "start10" in table
