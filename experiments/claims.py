"""The experiment behind docs/claims.md: runs it, or writes the documents from its results.

    python -m experiments.claims run [NAME ...] [--workdir runs/claims]     trains missing runs; again: resumes
    python -m experiments.claims report                                     writes the tables and the plot

A run is `experiments/claims_config.py:<text>` with a text of `RUNS`. Its result is results/claims/<name>.json.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import sys
from typing import Any

from experiments import claims_fresh, claims_report, summary
from experiments.claims_results import PUBLIC, RESULTS, TASKS
from infoprompt_jax.reports import measurements
from infoprompt_jax.reports.records import read_records, series

CONFIG = pathlib.Path(__file__).with_name("claims_config.py")
TRIED = ("entailment", "causes", "inference")  # for changes of the method
LONG = ("inference", "films", "entailment")  # not converged at the usual number of steps
FRESH = ("inference", "entailment", "causes", "endings", "pronouns", "films")  # on fresh seeds; widest spread first
RELEASED = ("entailment", "causes", "films")  # with the recipe of the released code
# In the order of importance: an interrupted experiment has the most important runs.
RUNS = {
    **{f"{task}-256": f"{task},256" for task in TASKS},
    **{f"{task}-256-fresh": f"{task},256,fresh" for task in FRESH},
    **{f"{task}-{shots}": f"{task},{shots},pair" for shots in ("64", "full") for task in TASKS},
    **{f"{task}-256-instance": f"{task},256,instance" for task in TASKS},
    **{f"{task}-256": f"{task},256,pair" for task in (*PUBLIC, "senses")},
    **{f"{task}-256-probe": f"{task},256,probe={{workdir}}/{task}-256" for task in TASKS},
    **{f"{task}-256-released_code": f"{task},256,released_code" for task in RELEASED},
    **{f"{task}-{shots}-terms": f"{task},{shots},terms" for shots in ("64", "full") for task in TASKS},
    **{f"{task}-{shots}-instance": f"{task},{shots},instance" for shots in ("64", "full") for task in TASKS},
    **{f"{task}-256-estimators": f"{task},256,estimators" for task in TASKS},
    **{f"{task}-full-long": f"{task},full,long" for task in LONG},
    **{f"{task}-256-initial": f"{task},256,initial" for task in TASKS},
    "causes-256-gentle": "causes,256,gentle",
    **{
        f"{task}-256-{kind}": f"{task},256,{kind}"
        for kind in ("critic", "weights", "head", "negatives", "mean_encoder", "decay", "rates")
        for task in TRIED
    },
}
METRIC = "accuracy"


def train(name: str, workdir: pathlib.Path, data: str) -> None:
    """Runs the job in a separate process, so that its compiled programs are freed."""
    main = [sys.executable, "-m", "infoprompt_jax.main"]
    text = RUNS[name].format(workdir=workdir.parent)
    where = [f"--config.data.dir={data}"] if name.split("-")[0] in PUBLIC else []
    subprocess.run([*main, f"--config={CONFIG}:{text}", f"--workdir={workdir}", *where], check=True)


def extract(name: str, workdir: pathlib.Path) -> dict[str, Any]:
    """The result of a finished run: what the report needs of its summary and log."""
    summary = json.loads((workdir / "summary.json").read_text())
    records = series(read_records(workdir / "metrics.jsonl"))
    members = {
        member["name"]: {
            "validation": member["final"].get(METRIC),
            "test": member.get("test", {}).get(METRIC),
            "steps_to_quality": member.get("to_quality", {}).get("steps"),
            "curve": sorted(records[member["name"]].get(f"eval/{METRIC}", {}).items()),
            **estimates(records[member["name"]]),
        }
        for member in summary["members"]
    }
    quality = next((m["to_quality"][METRIC] for m in summary["members"] if "to_quality" in m), None)
    references = {r["name"]: {k: r[k][METRIC] for k in ("best", "test")} for r in summary["references"]}
    about = {key: summary[key] for key in ("examples", "training_examples", "fingerprints")}
    result = {"run": name, "config": RUNS[name], "quality": quality, "references": references}
    return {**result, **about, "machine": measurements.machine(), "members": members}


def estimates(records: dict[str, dict[int, float]]) -> dict[str, float]:
    """Both terms' mutual information in nats, as estimated in training: means over the run's second half."""
    means = {}
    for name in ("head_mi", "representation_mi"):
        values = records.get(name, {})
        late = [value for step, value in values.items() if 2 * step > max(values)]
        means |= {name: sum(late) / len(late)} if late else {}
    return means


def run(names: list[str], directory: pathlib.Path, data: str) -> None:
    """Trains the runs without a result, all of RUNS if no names are given, and writes their results."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in names or RUNS:
        result = RESULTS / f"{name}.json"
        if not result.exists():
            train(name, directory / name, data)
            result.write_text(json.dumps(measurements.rounded(extract(name, directory / name))) + "\n")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("what", choices=("run", "report"))
    options.add_argument("names", nargs="*", metavar="NAME", help=f"runs; all: {', '.join(RUNS)}")
    options.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("runs/claims"))
    options.add_argument("--data", default="data", help="folder with the public data sets' files")
    chosen = options.parse_args()
    if chosen.what == "run":
        run(chosen.names, chosen.workdir, chosen.data)
    else:
        claims_report.write(RESULTS)
        claims_fresh.write(RESULTS)
        summary.write(summary.Folders())


if __name__ == "__main__":
    main()
