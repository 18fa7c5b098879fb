"""What is kept of the critics' estimates, and how the tables of docs/claims.md show it."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest

from experiments import critics, pages
from experiments.critics import FORMS, RELEASED, Form

STEPS = (0, 2)
SHARES = {"share/task": np.array([0.5, 0.7]), "share/head": np.array([0.5, 0.3])}


def logged(*nats: tuple[float, float], most: float = 2.0) -> list[dict[str, np.ndarray]]:
    """The metrics of two seeds, a pair of estimates a step, with shares at each."""
    return [{"head_mi": np.array(pair), "head_most": np.full(2, most), **SHARES} for pair in nats]


def cells(table: str, row: int = 0) -> list[str]:
    return [cell.strip() for cell in table.splitlines()[2 + row].strip("|").split("|")]


def test_a_term_has_a_record_of_all_seeds_and_one_that_is_off_has_none() -> None:
    (record,) = critics.records(Form("answer", "labels"), logged((-3, 0), (1, 1.9), (1.9, 1.9)), STEPS)
    assert record["term"] == "head" and record["head"] == "answer" and record["temperature"] == 0.1
    assert record["nats"] == {"0": [-3, 0], "2": [1.9, 1.9]} and record["shares"]["2"] == [0.5, 0.3]
    assert record["at_ceiling"] == 2  # at step 1, one seed was


def test_a_row_has_the_means_of_seeds() -> None:
    measured = critics.records(Form("answer", "labels"), logged((-3, 0), (1, 1), (1.9, 1.9)), STEPS)
    assert cells(critics.table(measured)) == (
        ["head", "answer", "cosine", "0.1", "-1.50", "1.90", "2.00", "40", "40", "yes", "at 2"]
    )


def test_neither_low_nor_at_the_ceiling() -> None:
    measured = critics.records(Form("answer", "labels"), logged((-2, 0), (3, -3), (1.8, 1.9)), STEPS)
    assert cells(critics.table(measured))[-2:] == ["no", "no"]


def test_the_released_form_comes_first_and_has_no_temperature() -> None:
    made = [critics.records(form, logged((0, 0), (0, 0), (0, 0)), STEPS)[0] for form in (FORMS["small"][1], RELEASED)]
    assert [cells(critics.table(made), row)[1:4] for row in (0, 1)] == [
        ["released_code (released)", "product", "-"],
        ["answer", "cosine", "0.1"],
    ]


@pytest.mark.parametrize("backbone", critics.BACKBONES)
def test_a_form_is_the_config_that_its_row_names(backbone: str) -> None:
    for form in FORMS[backbone]:
        terms = critics.configured(backbone, form).infoprompt
        assert (terms.negatives, terms.score, terms.temperature) == form[1:4]
        assert terms.beta == 0.2 and (terms.gamma, terms.head) == ((0.1, form.head) if form.head else (0, terms.head))
    released = critics.configured(backbone, RELEASED)
    assert released.infoprompt.noise == "absolute" and not released.train.clip_apart


def test_the_page_has_the_tables_of_the_results(tmp_path: pathlib.Path) -> None:
    page = pages.CLAIMS.read_text()
    for name, table in critics.blocks(critics.RESULTS).items():
        assert f"<!-- {name} -->\n\n{table}\n\n<!-- end -->" in page
    assert set(critics.blocks(tmp_path).values()) == {pages.UNMEASURED}


def test_what_is_measured_is_not_measured_again(tmp_path: pathlib.Path) -> None:
    kept = [
        record for form in FORMS["small"] for record in critics.records(form, logged((0, 0), (0, 0), (0, 0)), STEPS)
    ]
    path = tmp_path / "small.json"
    path.write_text(json.dumps({"records": kept}))
    critics.measure("small", tmp_path)  # would load a T5 of 77 M weights
    assert json.loads(path.read_text())["records"] == kept


@pytest.mark.slow
def test_the_first_steps_on_nano_repeat_the_results(tmp_path: pathlib.Path) -> None:
    form = FORMS["nano"][1]
    experiment = critics.build(critics.configured("nano", form), critics.BACKBONES["nano"]())
    kept = json.loads((critics.RESULTS / "nano.json").read_text())["records"]
    repeated = critics.records(form, critics.trajectory(experiment, tmp_path, (0, 1)), (0, 1))
    assert [record["term"] for record in repeated] == ["head", "representation"]
    for record in repeated:
        (former,) = [r for r in kept if all(r[f] == record[f] for f in ("term", *Form._fields))]
        for field in ("nats", "most", "shares"):
            for step, values in record[field].items():
                np.testing.assert_allclose(values, former[field][step], rtol=1e-2, atol=1e-3)
