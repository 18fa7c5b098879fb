"""From a case's seconds to a record: spread, examples and tokens a second, model FLOPs, share of the chip's peak."""

from __future__ import annotations

import dataclasses
import statistics
from types import SimpleNamespace
from typing import Any

from bench.device.cases import NEW_TOKENS, Case
from bench.synthetic import SHAPES
from infoprompt_jax.t5.config import T5Config
from infoprompt_jax.training import speed


def about(case: Case) -> dict[str, Any]:
    """The part of a record that describes the case, whether it succeeded or not."""
    size = dataclasses.asdict(case.size)
    return {"case": case.name, "topic": case.topic, "beside": case.beside, "size": size, "options": dict(case.options)}


def complete(case: Case, measured: dict[str, Any]) -> dict[str, Any]:
    """The record of a measured case; rates are those of the median repetition."""
    measured = dict(measured)
    seconds = measured.pop("seconds")
    median = statistics.median(seconds)
    flops, rows = model_flops(case), case.size.members * case.size.batch
    peak = speed.peak_flops(SimpleNamespace(device_kind=measured["device"]))
    rates: dict[str, Any] = {
        "p50_seconds": median,
        "least_seconds": min(seconds),
        "most_seconds": max(seconds),
        "repetitions": len(seconds),
        "model_flops": flops,
        "flops_per_second": flops and flops / median,
        "peak_flops": peak and peak * measured["devices"],
        "mfu": flops / median / (peak * measured["devices"]) if peak and flops else None,
    }
    if case.kind != "product":
        rates |= {"examples_per_second": rows / median, "tokens_per_second": tokens(case) / median}
    return about(case) | rates | measured


def tokens(case: Case) -> float:
    """Tokens of one step without padding; for generation, the new tokens."""
    if case.kind == "generate":
        return case.size.members * case.size.batch * NEW_TOKENS
    counts, targets = case.size.counts()["tokens"], case.size.members * case.size.batch * case.size.target_length
    return counts + targets * (case.size.choices - 1) if case.kind == "score" else counts


def model_flops(case: Case) -> float | None:
    """4 N a token for training, 2 N for scoring; None for generation, whose limit is memory bandwidth."""
    size, config = case.size, T5Config(**SHAPES[case.size.shape])
    rows = size.members * size.batch
    positions = rows * (size.input_length + size.prompt_length)
    if case.kind == "product":
        return 4.0 * positions * config.d_model * config.d_ff
    if case.kind == "train":
        return speed.step_flops(config, positions, rows * size.target_length)
    if case.kind == "score":
        passes = 1 if case.options["shared"] else size.choices
        return speed.step_flops(config, passes * positions, rows * size.choices * size.target_length) / 2
    return None
