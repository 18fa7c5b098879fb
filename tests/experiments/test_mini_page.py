"""docs/mini.md and the model card say what the result files hold."""

from __future__ import annotations

import json
import pathlib
import re
from xml.etree import ElementTree

import pytest

from experiments import mini_charts, mini_page, mini_trials
from experiments.pages import CHARTS, MINI
from infoprompt_jax.pretraining.loop import MEMBER


def test_the_page_and_the_card_are_current() -> None:
    page = MINI.read_text(encoding="utf-8")
    for name, content in mini_page.blocks().items():
        assert f"<!-- {name} -->\n\n{content}\n\n<!-- end -->" in page, "python -m experiments.mini_page"
    assert (mini_page.BACKBONE / "README.md").read_text(encoding="utf-8") == mini_page.card(page)


def test_the_card_has_no_links_to_files_that_are_not_beside_it() -> None:
    page = "See [nano](nano.md#shape) and [below](#below).\n\n![A chart](charts/a.svg)\n\nEnd.\n"
    assert mini_page.card(page).endswith("---\n\nSee nano (docs/nano.md) and [below](#below).\n\nEnd.\n")


def test_every_source_of_its_training_has_a_row_on_the_card() -> None:
    kept = json.loads((mini_page.RESULTS / "overlap.json").read_text())["kept"]
    card = (mini_page.BACKBONE / "README.md").read_text(encoding="utf-8")
    sources = {name.partition("/")[2] for name in kept}
    assert sources == mini_page.TEXT.keys() | mini_page.SETS.keys()
    assert sources <= set(re.findall(r"^\| (\S+) \| .*\w.* \|$", card, re.M))


def test_a_choice_that_is_always_at_one_place_is_no_baseline() -> None:
    entry = {"value": 0.4, "chance": 0.25, "majority": 1.0, "hard_prompts": {"one": 0.3, "two": 0.5}}
    assert "| 40.0 | 25.0 | - | 30.0 | 50.0 |" in mini_page.accuracies_table({"sciq": entry})


def test_prompts_for_sst2_by_the_number_of_rows() -> None:
    """The bag of words has read all rows, so it is no baseline of fewer."""
    references = {"most frequent answer": 0.5, "no prompt": 0.75}
    members = {f"run-seed{seed}": {"test": 0.77 + 0.02 * seed} for seed in range(2)}
    made = {
        f"sst2,{shots},static,{steps},plain,0-9": {"training_examples": n, "references": references, "members": members}
        for shots, steps, n in (("64", 200, 64), ("full", 600, 6664))
    }
    assert mini_page.sst2_table(made, 0.788).splitlines()[2:] == [
        "| 64 | 200 | 50.0 | 75.0 | 78.0 ± 1.4 | 77.0 | 79.0 | - |",
        "| 6,664 | 600 | 50.0 | 75.0 | 78.0 ± 1.4 | 77.0 | 79.0 | 78.8 |",
    ]


def test_a_trial_has_its_backbones_pretraining_and_its_scores(tmp_path: pathlib.Path) -> None:
    shipped = mini_trials.pretrained("mini")
    assert shipped["more_steps"] == 0
    assert shipped["held_in_sentiment"] == pytest.approx(0.731, abs=5e-4)  # the mean of four lines of the page's table
    account = json.loads((mini_page.BACKBONE / "pretraining.json").read_text())
    account["config"]["pretrain"]["start_from"] = "mini"
    (tmp_path / "backbone").mkdir()
    (tmp_path / "backbone" / "pretraining.json").write_text(json.dumps(account))
    accuracies = {"checksum": "", "imdb": {"value": 0.8}, "trec": {"value": 0}}
    (tmp_path / "backbone" / "validation.json").write_text(json.dumps(accuracies))
    about = {"member": MEMBER, "name": "task_loss"}
    logged = [{**about, "step": step, "value": value} for step, value in ((5565, 9.0), (5566, 0.5), (6060, 1.0))]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in logged))
    members = {f"run-seed{seed}": {"test": 0.77 + 0.02 * seed} for seed in range(2)}
    trial = {"run": "a", "prompt_tokens": 10, "prompt_steps": 2400, "members": members}
    pretrained = mini_trials.pretrained(str(tmp_path / "backbone"))
    line = mini_trials.line({**trial, "references": {"no prompt": 0.75}, **pretrained})
    assert line == ["a", "6,065", "0.75", "80.0", 10, "2,400", "75.0", "78.0 ± 1.4", "77.0", "79.0"]


def test_a_trial_that_has_a_result_is_not_run(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its fields would become those of this command, its scores would stay."""
    monkeypatch.setattr(mini_trials, "TRIALS", tmp_path)
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(SystemExit, match="delete it to run the trial again"):
        mini_trials.run("a", "mini", 600, 10, "data", tmp_path / "runs")
    assert (tmp_path / "a.json").read_text() == "{}"


def test_the_charts_have_the_files_numbers() -> None:
    """And docs/charts has these charts."""
    zero_shot, own_rows = (mini_page.results(name) for name in ("zero_shot", "own_rows"))
    drawn = mini_charts.draw(zero_shot, own_rows)
    shown = {
        name: [title.text or "" for title in ElementTree.fromstring(chart).findall(".//{*}g/{*}title")]
        for name, chart in drawn.items()
    }
    accuracies = [r["value"] for r in zero_shot if "value" in r and r["group"] in mini_charts.GROUPS]
    ours = [text.split()[1] for text in shown["mini-zero-shot.svg"] if text.startswith("mini: ")]
    assert sorted(ours) == sorted(f"{100 * value:.1f}" for value in accuracies)
    before = [text for text in shown["mini-own-rows.svg"] if text.startswith("mini: ")]
    assert sorted(before) == sorted(f"mini: {100 * record['no_prompt']:.1f}" for record in own_rows)
    for name, chart in drawn.items():
        assert (CHARTS / name).read_text(encoding="utf-8") == chart, "python -m experiments.mini_page"
