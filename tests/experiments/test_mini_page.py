"""docs/mini.md and the model card say what the result files hold."""

from __future__ import annotations

import json
import re

from experiments import mini_page
from experiments.pages import MINI


def test_the_page_and_the_card_are_current() -> None:
    page = MINI.read_text(encoding="utf-8")
    for name, content in mini_page.blocks().items():
        assert f"<!-- {name} -->\n\n{content}\n\n<!-- end -->" in page, "python -m experiments.mini_page"
    assert (mini_page.BACKBONE / "README.md").read_text(encoding="utf-8") == mini_page.card(page)


def test_every_source_of_its_training_has_a_row_on_the_card() -> None:
    kept = json.loads((mini_page.RESULTS / "overlap.json").read_text())["kept"]
    card = (mini_page.BACKBONE / "README.md").read_text(encoding="utf-8")
    sources = {name.partition("/")[2] for name in kept}
    assert sources == mini_page.TEXT.keys() | mini_page.SETS.keys()
    assert sources <= set(re.findall(r"^\| (\S+) \| .*\w.* \|$", card, re.M))


def test_a_choice_that_is_always_at_one_place_is_no_baseline() -> None:
    entry = {"value": 0.4, "chance": 0.25, "majority": 1.0, "hard_prompts": {"one": 0.3, "two": 0.5}}
    assert "| 40.0 | 25.0 | - | 30.0 | 50.0 |" in mini_page.accuracies_table({"sciq": entry})
