"""The sizes of the published T5s, by hub id: what a program is compiled for where there are no weights.

Copied from the config.json of each model. v1.1, LM-adapt, T0 and Flan have one shape a size; v1.0 is tied and ReLU.
"""

from __future__ import annotations

from typing import Any

_GATED = {"feed_forward": "gated-gelu", "tied": False, "scale_decoder_outputs": False}
_RELU = {"feed_forward": "relu", "tied": True, "scale_decoder_outputs": True}
_WIDTHS = ("d_model", "d_kv", "d_ff", "num_layers", "num_decoder_layers", "num_heads")


def _shape(*widths: int, **kind: Any) -> dict[str, Any]:
    return {"vocab_size": 32128, **dict(zip(_WIDTHS, widths, strict=True)), **kind}


# Keyword arguments of `t5.config.T5Config`.
SHAPES: dict[str, dict[str, Any]] = {
    "v1.0-small": _shape(512, 64, 2048, 6, 6, 8, **_RELU),
    "v1.0-base": _shape(768, 64, 3072, 12, 12, 12, **_RELU),
    "v1.0-large": _shape(1024, 64, 4096, 24, 24, 16, **_RELU),
    "v1.0-3b": _shape(1024, 128, 16384, 24, 24, 32, **_RELU),
    "v1.0-11b": _shape(1024, 128, 65536, 24, 24, 128, **_RELU),
    "v1.1-small": _shape(512, 64, 1024, 8, 8, 6, **_GATED),
    "v1.1-base": _shape(768, 64, 2048, 12, 12, 12, **_GATED),
    "v1.1-large": _shape(1024, 64, 2816, 24, 24, 16, **_GATED),
    "v1.1-xl": _shape(2048, 64, 5120, 24, 24, 32, **_GATED),
    "v1.1-xxl": _shape(4096, 64, 10240, 24, 24, 64, **_GATED),
}
_SIZES = ("small", "base", "large", "xl", "xxl")
# The shape of each hub id.
PUBLISHED: dict[str, str] = {
    **{f"google/t5-v1_1-{size}": f"v1.1-{size}" for size in _SIZES},
    **{f"google/t5-{size}-lm-adapt": f"v1.1-{size}" for size in _SIZES},
    **{f"google/flan-t5-{size}": f"v1.1-{size}" for size in _SIZES},
    **{f"{owner}t5-{size}": f"v1.0-{size}" for owner in ("", "google-t5/") for size in ("small", "base", "large")},
    **{f"{owner}t5-{size}": f"v1.0-{size}" for owner in ("", "google-t5/") for size in ("3b", "11b")},
    "bigscience/T0_3B": "v1.1-xl",
    **{f"bigscience/T0{kind}": "v1.1-xxl" for kind in ("", "p", "pp", "_single_prompt", "_original_task_only")},
}
