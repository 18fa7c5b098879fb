"""docs/nano.md says what the result files hold."""

from __future__ import annotations

from experiments import nano_page
from experiments.pages import NANO


def test_the_page_is_current() -> None:
    page = NANO.read_text(encoding="utf-8")
    for name, content in nano_page.blocks().items():
        assert f"<!-- {name} -->\n\n{content}\n\n<!-- end -->" in page, "python -m experiments.nano_page"


def test_the_table_of_a_run_ends_with_a_whole_column() -> None:
    table = ["member  test accuracy  head MI, nats", "------", "run            0.5000         0.7000"]
    machine = {"cores": 2, "processor": "CPU"}
    block = nano_page.run_block({"records": [{"table": table, "seconds": 60}], "machine": machine})
    assert "```text\nmember  test accuracy\n------\nrun            0.5000\n```" in block
    assert block.endswith("room for: `head MI, nats`.")
