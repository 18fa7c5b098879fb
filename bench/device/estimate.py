"""XLA's own estimate of a program: its FLOPs, its bytes, and the least time that a chip needs for them.

XLA counts the body of a loop once. So programs of two and of three layers a stack are counted without loops: the
second has one layer more, and the whole model has N of them. FLOPs are counted before the program is optimised, because
XLA does not see those of a library's matrix products; bytes after it, because only then operations are fused.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax

from infoprompt_jax.training import speed

# Bytes a second of a chip's memory, by a part of its device kind; NVIDIA's data sheets.
BANDWIDTHS = {"H100": 3.35e12, "H200": 4.8e12}


def of_layers(layers: int, lowered: Callable[[int], Any]) -> dict[str, float]:
    """FLOPs and bytes of the program with `layers` a stack, and `bound_seconds` where the chip's rates are known.

    Args:
      layers: of each stack.
      lowered: the program of a model with so many layers a stack, unrolled, as `jax.jit(...).lower` gives it.
    """
    programs = [lowered(2), lowered(3)]  # one layer would need no slice of the stacked weights
    with ThreadPoolExecutor() as pool:
        compiled = list(pool.map(lambda program: program.compile(), programs))
    counts: dict[str, float] = {}
    for name, key, counted in (("estimated_flops", "flops", programs), ("estimated_bytes", "bytes accessed", compiled)):
        two, three = (float((program.cost_analysis() or {}).get(key, 0.0)) for program in counted)
        counts[name] = two + (layers - 2) * (three - two)
    device = jax.devices()[0]
    peak, bandwidth = speed.peak_flops(device), bandwidth_of(device.device_kind)
    if peak and bandwidth:
        counts["bound_seconds"] = max(counts["estimated_flops"] / peak, counts["estimated_bytes"] / bandwidth)
    return counts


def bandwidth_of(kind: str) -> float | None:
    return next((bytes_a_second for name, bytes_a_second in BANDWIDTHS.items() if name in kind), None)
