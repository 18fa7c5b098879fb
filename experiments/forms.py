"""Which form of InfoPrompt's terms is chosen, and whether it is confirmed: docs/claims.md, Protocol.

    python -m experiments.forms run [NAME ...] [--workdir runs/forms]    trains missing runs; again: resumes
    python -m experiments.forms report                                   writes the tables

A run is `experiments/forms_config.py:<text>` with a text of `RUNS`. Its result is results/forms/<name>.json.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from experiments import forms_report
from experiments.forms_config import CHOOSING, CONFIRMING, SAME_CHOICES
from infoprompt_jax.files import whole
from infoprompt_jax.reports import measurements
from infoprompt_jax.reports.records import read_records, series

CONFIG = pathlib.Path(__file__).with_name("forms_config.py")
RESULTS = pathlib.Path(__file__).parent / "results" / "forms"
METRIC = "accuracy"


def runs() -> list[str]:
    """The texts of all runs, in the order of their value: an interrupted experiment has the most important ones."""
    texts: list[str] = []
    for of in forms_report.ROUNDS:
        chosen = [f"{task},{of.primary},{a},{forms_report.CHOSEN}" for a in ("plain", *of.tried) for task in CHOOSING]
        texts += [text for text in chosen if not (text.startswith("causes") and ",labels," in text)]
        texts += confirming(of.primary, ("plain", of.form), of.seeds)
    for of in forms_report.ROUNDS:
        texts += confirming(of.long, ("plain", of.form), of.settings[of.long])
        texts += confirming(of.primary, (f"{of.form}-placebo",), of.seeds)
        texts += [f"{task},{of.primary},labels,{of.seeds}" for task in SAME_CHOICES]
        texts += confirming(of.primary, ("plain", of.form), f"{of.seeds},initial")
        for setting in sorted(of.settings.keys() - {of.primary, of.long}):
            texts += confirming(setting, ("plain", of.form), of.settings[setting])
    return texts


def confirming(setting: str, arms: Sequence[str], seeds: str) -> list[str]:
    return [f"{task},{setting},{arm},{seeds}" for task in CONFIRMING for arm in arms]


RUNS = {text.replace(",", "-"): text for text in runs()}


def train(name: str, workdir: pathlib.Path) -> None:
    """Runs the job in a separate process, so that its compiled programs are freed."""
    main = [sys.executable, "-m", "infoprompt_jax.main"]
    subprocess.run([*main, f"--config={CONFIG}:{RUNS[name]}", f"--workdir={workdir}"], check=True)


def extract(name: str, workdir: pathlib.Path) -> dict[str, Any]:
    """The result of a finished run: what the report needs of its summary and log."""
    summary = json.loads((workdir / "summary.json").read_text())
    records = series(read_records(workdir / "metrics.jsonl"))
    members = {
        member["name"]: {
            "test": member["test"][METRIC],
            "curve": sorted(records[member["name"]][f"eval/{METRIC}"].items()),
        }
        for member in summary["members"]
    }
    references = {reference["name"]: reference["test"][METRIC] for reference in summary["references"]}
    about = {key: summary[key] for key in ("examples", "training_examples", "fingerprints")}
    made = {"run": name, "config": RUNS[name], "references": references, **about}
    return {**made, "machine": measurements.machine(), "members": members}


def run(names: list[str], directory: pathlib.Path) -> None:
    """Trains the runs without a result, all of RUNS if no names are given, and writes their results."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in names or RUNS:
        result = RESULTS / f"{name}.json"
        if not result.exists():
            train(name, directory / name)
            with whole(result) as partial:
                partial.write_text(json.dumps(measurements.rounded(extract(name, directory / name))) + "\n")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("what", choices=("run", "report"))
    options.add_argument("names", nargs="*", metavar="NAME", help="runs; none = all, in the order of their value")
    options.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("runs/forms"))
    chosen = options.parse_args()
    if chosen.what == "run":
        run(chosen.names, chosen.workdir)
    else:
        forms_report.write(RESULTS)


if __name__ == "__main__":
    main()
