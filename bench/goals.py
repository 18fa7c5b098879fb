"""What this project wants to reach in speed, each goal beside what was measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from bench.measured import MISSING, Measured
from infoprompt_jax.reports.tables import markdown

H100 = "h100/device"


@dataclasses.dataclass(frozen=True)
class Goal:
    """`value` is None where nothing was measured."""

    what: str
    aim: float
    value: Callable[[Measured], float | None]
    at_most: bool = False
    unit: str = ""

    def row(self, measured: Measured) -> list[str]:
        value = self.value(measured)
        aim = f"{'<=' if self.at_most else '>='} {self.aim:g}{self.unit}"
        if value is None:
            return [self.what, aim, MISSING, ""]
        reached = value <= self.aim if self.at_most else value >= self.aim
        return [self.what, aim, f"{value:.3g}{self.unit}", "yes" if reached else "no"]


def of(name: str, subject: str, field: str = "ratio") -> Callable[[Measured], float | None]:
    """A field of a subject's record."""

    def value(measured: Measured) -> float | None:
        record = measured.record(name, subject)
        return None if record is None else record.get(field)

    return value


def least(*values: Callable[[Measured], float | None]) -> Callable[[Measured], float | None]:
    """The least of several values; None unless all were measured."""

    def value(measured: Measured) -> float | None:
        found = [one(measured) for one in values]
        return min(v for v in found if v is not None) if None not in found else None

    return value


def both_shares(measured: Measured) -> float | None:
    """PEFT / ours, if both libraries' matrix products were equally fast: the quotient of the shares."""
    ours, theirs = (of("intel-one-core/shares-v1.1-small", s, "share")(measured) for s in ("ours", "PEFT"))
    return ours / theirs if ours and theirs else None


def on_h100(measured: Measured) -> float | None:
    pair = measured.beside(H100, "xl-train-peft-L128-b32")
    return pair[1]["examples_per_second"] / pair[0]["examples_per_second"] if pair else None


def many(measured: Measured) -> float | None:
    totals = measured.content("intel-one-core/many-v1.1-small").get("totals", ())
    return next((t["ratio"] for t in totals if t["prompts"] == 64 and t["steps"] == 100), None)


def best_mfu(measured: Measured) -> float | None:
    records = measured.content(H100).get("records", ())
    shares = [r["mfu"] for r in records if r["case"].startswith("xl-train-ours") and r.get("mfu")]
    return max(shares, default=None)


def best_mfu_of_h200(measured: Measured) -> float | None:
    records = measured.content("h200-attention/device").get("records", ())
    return max((r["mfu"] for r in records if r["topic"] == "attention" and r.get("mfu")), default=None)


def fused_mfu(measured: Measured) -> float | None:
    records = measured.content("h100-kept/trial").get("records", ())
    return max((r["mfu"] for r in records if r["attention"].startswith("cudnn")), default=None)


STEP, RANKING = "train_step-v1.1-small", "torch, a pass a choice"
GOALS = (
    Goal(
        "share of the machine's own matrix products, one core",
        0.75,
        of("intel-one-core/shares-v1.1-small", "ours", "share"),
    ),
    Goal("the same, two cores", 0.75, of("intel-two-cores/shares-v1.1-small", "ours", "share")),
    Goal("training step, PEFT / ours, one core of an AMD EPYC", 2.3, of(f"one-core/{STEP}", "PEFT")),
    Goal("the same, one core of the Xeon", 2.3, of(f"intel-one-core/{STEP}", "PEFT")),
    Goal("the same, two threads", 2.0, of(f"intel-two-cores/{STEP}", "PEFT")),
    Goal("PEFT / ours, if both multiplied matrices equally fast", 1.05, both_shares),
    Goal("real rows of SST-2, PEFT / ours", 2.0, of("intel-one-core/rows-sst2-v1.1-small", "PEFT")),
    Goal("real rows of RTE, PEFT / ours", 2.0, of("intel-one-core/rows-rte-v1.1-small", "PEFT")),
    Goal("64 prompts of 100 steps, start-up included, PEFT / one fleet", 3.0, many),
    Goal("ranking RTE's 2 answers, torch / ours", 3.0, of("intel-one-core/ranking-rte-v1.1-small", RANKING)),
    Goal(
        "ranking HellaSwag's 4 answers, torch / ours", 6.0, of("intel-one-core/ranking-hellaswag-v1.1-small", RANKING)
    ),
    Goal("generation, transformers / ours", 1.5, of("intel-one-core/generation-v1.1-small", "PEFT and transformers")),
    Goal("the same, two cores", 1.5, of("intel-two-cores/generation-v1.1-small", "PEFT and transformers")),
    Goal("T0-3B's shape in bfloat16 on an H100, PEFT / ours", 2.0, on_h100),
    Goal("the same, MFU (4 N), best batch", 0.5, best_mfu),
    Goal("the same with `backbone.attention=cudnn`, a trial", 0.5, fused_mfu),
    Goal("the same field on an H200", 0.5, best_mfu_of_h200),
    Goal(
        "InfoPrompt / plain step, one core of the EPYC",
        1.03,
        of(f"one-core/{STEP}", "both terms, features cached"),
        at_most=True,
    ),
    Goal(
        "the same, one core of the Xeon",
        1.03,
        of(f"intel-one-core/{STEP}", "both terms, features cached"),
        at_most=True,
    ),
    Goal(
        "the same, two cores of the Xeon",
        1.03,
        of(f"intel-two-cores/{STEP}", "both terms, features cached"),
        at_most=True,
    ),
    Goal("nano's first step, warm cache", 8, of("intel-two-cores/start-nano", "warm", "seconds"), True, " s"),
    Goal(
        "share of nano's run on one core spent waiting for input",
        0.02,
        of("intel-one-core/inputs", "run", "input_wait_share"),
        True,
    ),
)


def goals(measured: Measured) -> str:
    """The table of all goals."""
    return markdown(("what", "goal", "measured", "reached"), [goal.row(measured) for goal in GOALS])
