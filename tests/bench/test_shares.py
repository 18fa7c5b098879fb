"""A step's products with weights alone."""

from __future__ import annotations

import pytest

from bench import peft_step, shares
from bench.synthetic import Size


@pytest.mark.parametrize("shape", ["toy", "v1.0-small", "v1.1-base"])
def test_products_are_the_flops_of_the_step(shape: str) -> None:
    size = Size(shape, batch=3, input_length=16, target_length=5, prompt_length=7)
    assert shares.facts(size)["model_flops"] == peft_step._flops(size)


def test_both_libraries_multiply_the_same_products() -> None:
    size = Size("toy", batch=2, input_length=16, prompt_length=4)
    work = shares.xla(size)
    work.step()
    pytest.importorskip("torch")
    theirs = shares.torchs(size)
    theirs.step()
    assert work.facts["model_flops"] == theirs.facts["model_flops"] > 0


def test_a_share_is_the_time_of_the_products_in_that_of_the_step() -> None:
    ratios = {"ours": 1.0, "XLA's products alone": 0.75, "torch's products alone": 0.5}  # PEFT is not installed
    records = shares.with_shares([{"subject": name, "ratio": value} for name, value in ratios.items()])
    assert [record.get("share") for record in records] == [0.75, None, None]
