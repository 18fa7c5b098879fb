"""How cost grows: the fits, and the measurements of many prompts and of inputs, at toy sizes."""

from __future__ import annotations

import dataclasses
import pathlib

import pytest

from bench import command, inputs, many, scaling
from bench.synthetic import SHAPES, Size

SIZE = Size("toy", batch=8, input_length=16, target_length=4, prompt_length=8)


def test_an_exponent_is_a_slope() -> None:
    assert scaling.exponent([1, 2, 4], [3, 12, 48]) == pytest.approx(2)


def test_counted_work_grows_with_rows_linearly_and_with_length_more() -> None:
    def of(**fields: int) -> float:
        return scaling.flops(dataclasses.replace(SIZE, **fields))

    assert of(batch=16) == of(members=2) == pytest.approx(2 * of())
    assert of(input_length=4 * 16 + 3 * 8) > 4 * of()  # four times the encoder's positions


def test_memory_is_that_of_the_compiled_step() -> None:
    fits = scaling.memory(SIZE, {"batch": (8, 16, 32)}, ())
    assert [one["against"] for one in fits] == ["batch"]
    assert 0.5 < fits[0]["exponent"] < 1.2


def test_fits_that_are_not_measured_again_stay(tmp_path: pathlib.Path) -> None:
    command.finish(tmp_path, scaling.NAME, [], fits=[{"what": "search"}, {"what": "tokenising"}])
    (kept,) = scaling.kept(tmp_path, [{"what": "tokenising"}])
    assert kept["what"] == "search" and kept["machine"]["cores"]
    assert scaling.kept(None, []) == [] == scaling.kept(tmp_path / "none", [])


def test_a_wider_shape_grows_as_a_whole() -> None:
    name = scaling.widened("toy", 64)
    assert SHAPES[name]["d_model"] == 64 and SHAPES[name]["d_ff"] == 2 * SHAPES["toy"]["d_ff"]
    del SHAPES[name]


def test_rows_are_timed_in_a_process_of_their_own() -> None:
    record = inputs.alone(64)
    times = [record[f"{name}_seconds"] for name in ("first", "second", "batching")]
    assert min(times) > 0 and record["first_rows_per_second"] == pytest.approx(64 / times[0])


def test_totals_are_sums_of_start_and_steps() -> None:
    taken = many.Taken(whole=10.0, step=2.0)
    assert taken.start(3) == 4.0
    assert many.total(64, 10, 100.0, 400.0, "")["ratio"] == 4.0


@pytest.mark.slow
def test_many_prompts_are_measured_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("peft")
    monkeypatch.setenv("XLA_FLAGS", "")
    parts, totals = many.measure("toy", 8, 2, 2, 3)
    assert len(parts) == 4 and [t["prompts"] for t in totals] == [8, 8, 8, 2]
