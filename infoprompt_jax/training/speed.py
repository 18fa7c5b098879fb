"""How fast a run is: steps and tokens a second, waiting for data, compilation, and the share of the chip's peak.

Utilisation counts the model FLOPs of a frozen backbone of N weights, 4 N a token: 2 N forward and 2 N backward to
activations. Full training has 6 N, because it also computes the weights' gradients.
"""

from __future__ import annotations

import time
from typing import Any

import jax
import numpy as np

from infoprompt_jax.batch import Batch
from infoprompt_jax.t5.model import PAD, T5Config

# Peak dense bfloat16 FLOP/s of one chip, from the makers' data sheets; first match in `device_kind` wins.
PEAK_FLOPS = (
    ("v6", 918e12),
    ("v5p", 459e12),
    ("v5 lite", 197e12),
    ("v5e", 197e12),
    ("TPU v5", 459e12),  # v5p by its other name
    ("v4", 275e12),
    ("H200", 989e12),
    ("H100", 989e12),
    ("A100", 312e12),
)


def peak_flops(device: Any) -> float | None:
    """None where the chip's peak is not known (a CPU)."""
    return next((peak for name, peak in PEAK_FLOPS if name.lower() in device.device_kind.lower()), None)


def step_flops(config: T5Config, encoder_tokens: int, decoder_tokens: int) -> float:
    """Model FLOPs of a training step on so many encoder (prompt included) and decoder positions, without attention."""
    width, inner = config.d_model, config.num_heads * config.d_kv
    feed_forward = (3 if config.feed_forward == "gated-gelu" else 2) * width * config.d_ff
    attention = 4 * width * inner
    encoder = config.num_layers * (attention + feed_forward) * encoder_tokens
    decoder = config.num_decoder_layers * (2 * attention + feed_forward) * decoder_tokens
    cross = config.num_decoder_layers * 2 * width * inner * (encoder_tokens - decoder_tokens)  # K and V of the input
    return 4.0 * (encoder + decoder + cross + config.vocab_size * width * decoder_tokens)


class Speedometer:
    """Counts while a run trains; the first pass over a shape compiles, so compile time is counted apart."""

    def __init__(self, config: T5Config, prompt_length: int) -> None:
        self.config, self.prompt_length = config, prompt_length
        self.steps = self.tokens = self.compilations = 0
        self.flops = self.seconds = self.waited = self.compiling = 0.0
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, duration_secs: float, **_: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            self.compilations += 1
            self.compiling += duration_secs

    def count(self, batch: Batch[np.ndarray], waited: float, since: float, compiling: float) -> None:
        """One step on a host batch [M, B, ...] begun at `since`; `compiling` is this meter's value at that time."""
        rows = batch["inputs"].shape[0] * batch["inputs"].shape[1] * jax.process_count()
        self.steps += 1
        self.tokens += int((batch["inputs"] != PAD).sum() + (batch["targets"] != PAD).sum()) * jax.process_count()
        positions = batch["inputs"].shape[-1] + self.prompt_length
        self.flops += step_flops(self.config, rows * positions, rows * batch["targets"].shape[-1])
        self.waited += waited
        self.seconds += time.monotonic() - since - (self.compiling - compiling)

    def line(self) -> str:
        """For a progress bar."""
        rates = self.summary()
        mfu = "" if rates["mfu"] is None else f", MFU {rates['mfu']:.1%}"
        return f"{rates['steps_per_second']:.2f} steps/s, {rates['tokens_per_second']:.0f} tokens/s{mfu}"

    def summary(self) -> dict[str, float | int | None]:
        """Rates over the steps counted so far; `mfu` is None where the chip's peak is not known."""
        seconds = max(self.seconds, 1e-9)
        peak = peak_flops(jax.devices()[0])
        return {
            "steps_per_second": self.steps / seconds,
            "tokens_per_second": self.tokens / seconds,
            "input_wait_share": self.waited / seconds,
            "mfu": self.flops / seconds / (peak * jax.device_count()) if peak else None,
            "compile_seconds": self.compiling,
            "compilations": self.compilations,
        }
