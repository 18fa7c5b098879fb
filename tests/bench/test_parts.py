"""The parts of a training step are found in XLA's program: every product is counted, and every instruction once."""

from __future__ import annotations

import pytest

from bench import parts, synthetic
from bench.synthetic import Size

SIZE = Size("slim", batch=8, input_length=48, target_length=8, prompt_length=16)
SLIM = {"vocab_size": 384, "d_model": 128, "d_kv": 16, "d_ff": 256, "num_layers": 2, "num_decoder_layers": 2}


@pytest.mark.slow
def test_products_of_a_step_are_those_that_the_model_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(synthetic.SHAPES, "slim", SLIM | {"num_heads": 4, "feed_forward": "gated-gelu"})
    rows, about = parts.records(SIZE, steps=2)
    assert about["product_flops"] == about["model_flops"] > 0
    assert rows[0]["subject"] == "ours" and rows[0]["share"] == about["share_of_ceiling"]
    assert sum(row["part_seconds"] for row in rows[1:]) == pytest.approx(about["step_seconds"])
    assert {"products with weights", "products with the LM head"} < {row["subject"] for row in rows}


def test_a_fused_product_and_a_slice_are_read() -> None:
    hlo = """
%fused (p0: f32[6,4], p1: f32[4,8]) -> f32[6,8] {
  %p0 = f32[6,4]{1,0} parameter(0)
  %p1 = f32[4,8]{1,0} parameter(1)
  ROOT %dot.1 = f32[6,8]{1,0} dot(%p0, %p1), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}
%taken (p2: f32[3,6,4]) -> f32[6,4] {
  %p2 = f32[3,6,4]{2,1,0} parameter(0)
  ROOT %slice = f32[1,6,4]{2,1,0} dynamic-slice(%p2), dynamic_slice_sizes={1,6,4}
}
ENTRY %main (a: f32[3,6,4], b: f32[4,8]) -> f32[6,8] {
  %a = f32[3,6,4]{2,1,0} parameter(0)
  %b = f32[4,8]{1,0} parameter(1)
  %x = f32[6,4]{1,0} fusion(%a), kind=kLoop, calls=%taken
  ROOT %y = f32[6,8]{1,0} fusion(%x, %b), kind=kCustom, calls=%fused
}
"""
    found = parts.read(hlo, depth=3)
    product = found["y"].product
    assert found["x"].product is None and found["x"].moved == 4 * (24 + 72 / 3)
    assert product and product == parts.Product(((6, 4), (4, 8)), ((1,), (0,)), ((), ()))
    assert product.flops == 2 * 6 * 4 * 8 and found["y"].moved == 4 * (24 + 32 + 48)
