"""The tables of docs/performance.md that answer what users ask, each from the files of bench/results."""

from __future__ import annotations

from bench.measured import MISSING, Measured, duration, ratio
from bench.shares import ALONE
from infoprompt_jax.reports.tables import markdown

H100 = "h100/device"
RTE_ROWS, STEPS, BATCH = 2490, 4000, 32  # of RTE's training split; of configs/rte.py
# Model, machine, file, subject: plain prompt tuning with a prompt of 100.
SPEEDS = (
    ("T5 v1.1 small", "one core of an Intel Xeon, float32", "intel-one-core/rows-rte-v1.1-small", "ours"),
    ("T5 v1.1 base", "H100, bfloat16", H100, "base-train-ours-L128-b32"),
    ("T5 v1.1 large", "H100, bfloat16", H100, "large-train-ours-L128-b32"),
    ("T0-3B", "H100, bfloat16", H100, "xl-train-ours-L128-b32"),
)
# What, file, the other's subject: its time divided by ours.
RATIOS = (
    ("training step, T5 v1.1 small, one core of an AMD EPYC", "one-core/train_step-v1.1-small", "PEFT"),
    ("the same, one core of an Intel Xeon", "intel-one-core/train_step-v1.1-small", "PEFT"),
    ("the same, two threads of the Xeon", "intel-two-cores/train_step-v1.1-small", "PEFT"),
    ("training step, T5 v1.1 base, one core of the Xeon", "intel-one-core/train_step-v1.1-base", "PEFT"),
    ("rows of SST-2, T5 v1.1 small, one core of the Xeon", "intel-one-core/rows-sst2-v1.1-small", "PEFT"),
    ("rows of RTE, T5 v1.1 small, one core of the Xeon", "intel-one-core/rows-rte-v1.1-small", "PEFT"),
    (
        "ranking RTE's 2 answers, one core of the Xeon",
        "intel-one-core/ranking-rte-v1.1-small",
        "torch, a pass a choice",
    ),
    (
        "ranking HellaSwag's 4 answers, one core of the Xeon",
        "intel-one-core/ranking-hellaswag-v1.1-small",
        "torch, a pass a choice",
    ),
    (
        "32 generated tokens, 32 rows, one core of the Xeon",
        "intel-one-core/generation-v1.1-small",
        "PEFT and transformers",
    ),
    ("the same, two cores of the Xeon", "intel-two-cores/generation-v1.1-small", "PEFT and transformers"),
)
CASES = (
    ("training step, T0-3B, H100", "xl-train-peft-L128-b32"),
    ("the same with `torch.compile`", "xl-train-peft-compiled-L128-b32"),
    ("32 generated tokens, T0-3B, H100", "xl-generate-peft-L128-b32"),
)


def rte(measured: Measured) -> str:
    """How long RTE takes."""
    rows = []
    for model, machine, name, subject in SPEEDS:
        record = measured.record(name, subject)
        rate = record["examples_per_second"] if record else None
        times = [duration(count / rate) for count in (RTE_ROWS, STEPS * BATCH)] if rate else ["", ""]
        rows.append([model, machine, f"{rate:.4g}" if rate else MISSING, *times, f"`{name}.json`"])
    header = ("model", "machine", "rows/s", "an epoch", f"`configs/rte.py`: {STEPS} steps of {BATCH}", "file")
    return markdown(header, rows)


def case_ratio(measured: Measured, case: str) -> str:
    """Time an example of a device's case, divided by that of the case beside it, with its spread."""
    pair = measured.beside(H100, case)
    if pair is None:
        return MISSING
    value = pair[1]["examples_per_second"] / pair[0]["examples_per_second"]
    least, most = (value * pair[0][f"{end}_seconds"] / pair[0]["p50_seconds"] for end in ("least", "most"))
    return f"{value:.2f} ({least:.2f} - {most:.2f})"


def peft(measured: Measured) -> str:
    """The time of PEFT, or of torch, divided by ours."""
    rows = [[what, ratio(measured.record(name, subject)), f"`{name}.json`"] for what, name, subject in RATIOS]
    rows += [[what, case_ratio(measured, case), f"`{H100}.json`"] for what, case in CASES]
    return markdown(("", "their time / ours (least - most)", "file"), rows)


def ranking(measured: Measured) -> str:
    """Ranking answers with one encoder pass, beside what the counted work lets expect."""
    cells = []
    for name, answers in (("RTE", 2), ("HellaSwag", 4)):
        content = measured.content(file := f"intel-one-core/ranking-{name.lower()}-v1.1-small")
        expected = content.get("by_arithmetic")
        shown = ratio(measured.record(file, "torch, a pass a choice")), f"{expected:.2f}" if expected else MISSING
        cells.append([name, str(answers), *shown])
    return markdown(("data set", "answers", "torch / ours (least - most)", "by counted work"), cells)


def fleet(measured: Measured) -> str:
    """64 prompts, in one run or one after another."""
    name = "intel-one-core/many-v1.1-small"
    content = measured.content(name)
    if not content:
        return f"`{name}.json`: {MISSING}."
    parts = [[part["subject"], f"{part['seconds']:.1f} s", part["what"]] for part in content["records"]]
    rows = [
        [f"{t['prompts']} x {t['steps']}", duration(t["peft"]), duration(t["ours"]), f"{t['ratio']:.2f}", t["how"]]
        for t in content["totals"]
    ]
    header = ("prompts x steps", "PEFT, one after another", "one fleet", "ratio", "")
    return f"{markdown(('', 'time', 'what'), parts)}\n\n{markdown(header, rows)}\n\n`bench/results/{name}.json`"


def infoprompt(measured: Measured) -> str:
    """A step with both terms beside the plain one."""
    subjects = ("features cached", "features recomputed")
    machines = {
        "one core of an AMD EPYC": "one-core",
        "one core of an Intel Xeon": "intel-one-core",
        "two cores of the Xeon": "intel-two-cores",
    }
    rows = [
        [
            f"{machine}, T5 v1.1 small: {subject}",
            ratio(measured.record(name, f"both terms, {subject}")),
            f"`{name}.json`",
        ]
        for machine, folder in machines.items()
        for name in [f"{folder}/train_step-v1.1-small"]
        for subject in subjects
    ]
    for subject in ("cached", "recomputed"):
        case = case_ratio(measured, f"xl-infoprompt-{subject}-L128-b32")
        rows.append([f"H100, T0-3B's shape: features {subject}", case, f"`{H100}.json`"])
    return markdown(("", "time / plain (least - most)", "file"), rows)


def growth(measured: Measured) -> str:
    """Fitted exponents beside theory's."""
    name = "intel-one-core/scaling-v1.1-small"
    fits = measured.content(name).get("fits", ())
    if not fits:
        return f"`{name}.json`: {MISSING}."
    header = ("what", "against", "range", "exponent", "by arithmetic")
    cells = [
        [f["what"], f["against"], f"{f['points'][0]} - {f['points'][-1]}", f"{f['exponent']:.2f}", f"{f['theory']:.2f}"]
        for f in fits
    ]
    return f"{markdown(header, cells)}\n\n`bench/results/{name}.json`"


def inputs(measured: Measured) -> str:
    """From JSONL to batches: the first time, and with the rows tokenised."""
    name = "intel-one-core/inputs"
    cells = [
        [
            f"{r['rows']:,}",
            *(f"{r[f'{when}_seconds']:.2g} s" for when in ("first", "second", "batching")),
            f"{r['added_memory_bytes'] / 1e6:.0f} MB",
        ]
        for r in measured.content(name).get("records", ())
        if "rows" in r
    ]
    if not cells:
        return f"`{name}.json`: {MISSING}."
    header = ("rows", "the first time: rendered and tokenised", "later: opened", "made into batches", "memory")
    return f"{markdown(header, cells)}\n\n`bench/results/{name}.json`"


def shares(measured: Measured) -> str:
    """A step beside its products alone, for both libraries."""
    cells = []
    for machine, folder in (("one core", "intel-one-core"), ("two cores", "intel-two-cores")):
        for subject, alone in ALONE.items():
            name = f"{folder}/shares-v1.1-small"
            step, products = measured.record(name, subject), measured.record(name, alone)
            if step is None or products is None:
                cells.append([machine, subject, *[MISSING] * 3])
                continue
            times = [duration(record["p50_seconds"]) for record in (step, products)]
            cells.append([machine, subject, *times, f"{step['share']:.2f}"])
    return markdown(("", "", "step", "its products with weights alone", "share"), cells)
