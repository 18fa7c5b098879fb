"""Model FLOPs against a count by hand, and compilations counted only within a run."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from infoprompt_jax.t5.config import T5Config
from infoprompt_jax.training import speed
from infoprompt_jax.training.speed import Compilations, Speedometer, peak_flops, step_flops


@pytest.mark.parametrize(("feed_forward", "matrices"), [("relu", 2), ("gated-gelu", 3)])
def test_step_flops_are_four_per_weight_and_token(feed_forward: str, matrices: int) -> None:
    config = T5Config(100, 8, 4, 16, 3, 2, 2, feed_forward=feed_forward)
    attention, mlp = 4 * 8 * 8, matrices * 8 * 16
    encoder = 3 * (attention + mlp) * 50
    decoder = 2 * (attention + mlp + 2 * 8 * 8) * 5 + 2 * 2 * 8 * 8 * 50 + 100 * 8 * 5  # cross K and V read the input
    assert step_flops(config, 50, 5) == 4 * (encoder + decoder)


def test_a_cpus_peak_is_not_known() -> None:
    assert peak_flops(jax.devices("cpu")[0]) is None


# This process reads 8 rows: all, or a half.
@pytest.mark.parametrize(("rows", "task_loss", "decoded"), [(8, "lm", 3), (16, "choices", 4 * 2), (8, "verbalizer", 1)])
def test_a_step_counts_its_tokens_positions_and_time_without_compilation(
    monkeypatch: pytest.MonkeyPatch, rows: int, task_loss: str, decoded: int
) -> None:
    config = T5Config(100, 8, 4, 16, 3, 2, 2)
    compilations = Compilations()
    meter = Speedometer(config, 5, rows, compilations, task_loss)
    inputs, targets = np.zeros((2, 4, 10), np.int32), np.zeros((2, 4, 3), np.int32)
    inputs[..., :6], targets[..., :2] = 7, 7
    seconds = iter((10.0, 10.1, 11.0, 15.0, 17.0))
    monkeypatch.setattr(speed.time, "monotonic", lambda: next(seconds))
    compilations.seconds = 0.5  # of the steps before
    meter.begin()
    meter.fetched()
    with meter.pause():  # 4 s that are no part of the step, 3 of them compiling
        compilations.seconds = 3.5
    compilations.seconds = 5.5
    meter.count({"inputs": inputs, "targets": targets, "choices": np.zeros((2, 4, 4, 2), np.int32)})
    assert meter.flops == step_flops(config, rows * (10 + 5), rows * decoded)
    monkeypatch.setattr(speed, "peak_flops", lambda device: meter.flops)  # a chip that needs a second for the step
    found = meter.summary()
    assert (found["steps_per_second"], found["tokens_per_second"]) == (1.0, rows * (6 + 2))  # 3 s, 2 of them compiling
    assert found["input_wait_share"] == pytest.approx(0.1) and found["compile_seconds"] == 5.5
    assert found["mfu"] == pytest.approx(1 / jax.device_count())


def test_compilations_are_counted_in_their_context_alone() -> None:
    def compile_a_program() -> None:
        jax.jit(lambda x: x + 1).lower(np.float32(0)).compile()

    with Compilations() as first:
        compile_a_program()
    seconds = first.seconds
    with Compilations() as second:
        for _ in range(2):
            compile_a_program()
    assert (first.count, second.count) == (1, 2)
    assert first.seconds == seconds > 0


def test_a_run_that_fails_leaves_no_listener() -> None:
    compilations = Compilations()
    with pytest.raises(KeyboardInterrupt), compilations:
        raise KeyboardInterrupt
    jax.jit(lambda x: x + 2).lower(np.float32(0)).compile()
    assert compilations.count == 0
