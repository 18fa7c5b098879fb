"""The speed of a run: steps and tokens per second, waiting for data, compilation, and the share of the chip's peak.

Utilisation counts the model FLOPs of a frozen backbone of N weights, 4 N a token: 2 N forward and 2 N backward to
activations. Full training has 6 N, because it also computes the weights' gradients.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from infoprompt_jax.batch import Batch
from infoprompt_jax.t5.config import PAD, T5Config

COMPILATION = "/jax/core/compile/backend_compile_duration"  # JAX's event for one compiled program

# Peak dense bfloat16 FLOP/s of one chip, from the makers' data sheets; the first name in `device_kind` counts.
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
    """Peak FLOP/s of a JAX device; None if it is not listed (a CPU)."""
    return next((peak for name, peak in PEAK_FLOPS if name.lower() in device.device_kind.lower()), None)


def step_flops(config: T5Config, encoder_tokens: int, decoder_tokens: int) -> float:
    """Model FLOPs of a training step on so many encoder (prompt included) and decoder positions.

    The products of attention scores and values are not counted.
    """
    width, inner = config.d_model, config.num_heads * config.d_kv
    feed_forward = (3 if config.feed_forward == "gated-gelu" else 2) * width * config.d_ff
    attention = 4 * width * inner
    encoder = config.num_layers * (attention + feed_forward) * encoder_tokens
    decoder = config.num_decoder_layers * (2 * attention + feed_forward) * decoder_tokens
    cross = config.num_decoder_layers * 2 * width * inner * (encoder_tokens - decoder_tokens)  # K and V of the input
    return 4.0 * (encoder + decoder + cross + config.vocab_size * width * decoder_tokens)


class Compilations:
    """A context that counts the programs that JAX compiles in it, and the seconds that this takes."""

    def __init__(self) -> None:
        self.count, self.seconds = 0, 0.0

    def __enter__(self) -> Compilations:
        jax.monitoring.register_event_duration_secs_listener(self._listen)
        return self

    def __exit__(self, *_: object) -> None:
        jax.monitoring.unregister_event_duration_listener(self._listen)

    def _listen(self, event: str, duration_secs: float, **_: object) -> None:
        if event == COMPILATION:
            self.count += 1
            self.seconds += duration_secs


class Speedometer:
    """Counts the steps of a run: `begin`, `fetched` when the batch is there, and `count` when the step is dispatched.

    The first step on a batch of a new shape compiles, so compilation is counted apart. `rows` is the number of rows of
    a step, of all members; several processes may each read the same ones, or a share. What a step decodes depends on
    `task_loss`.
    """

    def __init__(
        self, config: T5Config, prompt_length: int, rows: int, compilations: Compilations, task_loss: str = "lm"
    ) -> None:
        self.config, self.prompt_length, self.rows, self.compilations = config, prompt_length, rows, compilations
        self.task_loss = task_loss
        self.steps = self.tokens = 0
        self.flops = self.seconds = self.waited = 0.0
        self.begun = self.compiling = 0.0

    def begin(self) -> None:
        """Starts the clock of a step, before its batch is fetched."""
        self.begun, self.compiling = time.monotonic(), self.compilations.seconds

    def fetched(self) -> None:
        """Adds the time since `begin` to the time spent waiting for batches."""
        self.waited += time.monotonic() - self.begun

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """The time of the block, compilation included, is no part of the step that has begun."""
        since, compiling = time.monotonic(), self.compilations.seconds
        yield
        self.begun += time.monotonic() - since
        self.compiling += self.compilations.seconds - compiling

    def count(self, batch: Batch[np.ndarray]) -> None:
        """One step; `batch` [M, B, ...] is what this process read of it."""
        tokens = int((batch["inputs"] != PAD).sum() + (batch["targets"] != PAD).sum())
        self.steps += 1
        self.tokens += tokens * self.rows // batch["inputs"][..., 0].size
        positions = batch["inputs"].shape[-1] + self.prompt_length
        self.flops += step_flops(self.config, self.rows * positions, self.rows * self._decoded(batch))
        self.seconds += time.monotonic() - self.begun - (self.compilations.seconds - self.compiling)

    def _decoded(self, batch: Batch[np.ndarray]) -> int:
        """Decoder positions of a row, padding included: all answer choices, the target, or the verbalizer's one."""
        choices, length = batch["choices"].shape[-2:]
        return {"choices": choices * length, "verbalizer": 1}.get(self.task_loss, batch["targets"].shape[-1])

    def mfu(self) -> float | None:
        """The share of the chips' peak over the steps so far; None for a chip whose peak is not listed."""
        peak = peak_flops(jax.devices()[0])
        return self.flops / max(self.seconds, 1e-9) / (peak * jax.device_count()) if peak else None

    def summary(self) -> dict[str, str | float | int | None]:
        """Rates over the steps so far, `mfu`, and the kind and number of the devices."""
        seconds = max(self.seconds, 1e-9)
        return {
            "device": jax.devices()[0].device_kind,
            "devices": jax.device_count(),
            "steps_per_second": self.steps / seconds,
            "tokens_per_second": self.tokens / seconds,
            "input_wait_share": self.waited / seconds,
            "mfu": self.mfu(),
            "compile_seconds": self.compilations.seconds,
            "compilations": self.compilations.count,
        }
