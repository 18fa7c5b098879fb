"""The record of a case as text for a terminal."""

from __future__ import annotations

from typing import Any

from infoprompt_jax.reports.tables import aligned

GIB, MIB = 2**30, 2**20


def text(record: dict[str, Any]) -> str:
    """What was asked, memory, collectives and bounds."""
    parts = [_heading(record), _memory(record)]
    if record["fits"]:
        parts += [_collectives(record), _bounds(record)]
    return "\n\n".join(parts)


def _heading(record: dict[str, Any]) -> str:
    mesh = ", ".join(f"{axis} {size}" for axis, size in record["mesh"].items())
    lengths = record["lengths"]
    slices = f"{record['slices']} slices of " if record["slices"] > 1 else ""
    lines = [
        f"{record['model']}, {record['job']}, on {slices}{record['topology']}: {record['devices']} devices, {mesh}",
        f"batch {record['batch']}, {lengths['inputs']} input and {lengths['targets']} target tokens",
    ]
    if record["fields"]:
        lines.append(", ".join(f"{field}={value!r}" for field, value in record["fields"].items()))
    return "\n".join(lines)


def _memory(record: dict[str, Any]) -> str:
    needed, memory = record["needed"] / GIB, record["memory"] / GIB
    if not record["fits"]:
        return (
            f"Does not fit: {needed:.2f} GiB a device of {memory:.2f}; the weights are "
            f"{record['weights'] / GIB:.2f}.\nThe compiler: {record['message']}"
        )
    rows = [[name, _digits(record[name] / GIB)] for name in ("arguments", "outputs", "temporaries", "code")]
    rows += [["needed", f"{needed:.2f}"], ["memory of a device", f"{memory:.2f}"]]
    arrays = [
        [_digits(one["bytes"] / MIB), one["count"], one["shape"], one["op_name"]] for one in record["largest_arrays"]
    ]
    weights = f"of the arguments, {record['weights'] / GIB:.2f} GiB are weights"
    return f"{aligned(['GiB a device', ''], rows)}\nFits; {weights}.\n\n" + aligned(
        ["MiB each", "of them", "largest arrays that are made", "from"], arrays, text_columns=4
    )


def _collectives(record: dict[str, Any]) -> str:
    rows = [
        [
            one["kind"],
            one["along"],
            one["count"],
            one["executed"],
            _digits(one["sent"] / MIB),
            _digits(one["largest"] / MIB),
        ]
        for one in record["collectives"]
    ]
    if not rows:
        return "No collectives."
    table = aligned(["collective", "along", "count", "executed", "MiB sent", "largest"], rows, text_columns=2)
    unknown = record["uncounted_loops"]
    return table + (f"\n{unknown} are in loops of unknown length, counted as one turn." if unknown else "")


def _bounds(record: dict[str, Any]) -> str:
    rows = [[name, _digits(1e3 * record["bounds"][name])] for name in ("compute", "memory", "links", "network")]
    return (
        f"{aligned(['at least, ms', ''], rows)}\n"
        f"A step takes at least {_digits(1e3 * record['step_seconds'])} ms ({record['limit']}): at most "
        f"{record['rows_per_second']:.0f} rows a second, and {record['mfu']:.0%} of the peak by model FLOPs."
    )


def _digits(value: float) -> str:
    """Three digits, and no exponent for large values."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
