"""The experiment behind docs/rospr.md on the embedded backbone: runs it, or writes the page from its results.

    python -m experiments.rospr run [--first 0] [--seeds 5] [--workdir runs/rospr]     trains missing seeds, or resumes
    python -m experiments.rospr report                                                 writes docs/rospr.md's tables

Per seed: source prompts on the held-in data sets and on the held-out ones, the siblings (`configs/nano_rospr.py`), and
evaluations with the library of the former, as in the paper, with the siblings, and with both in one library, without
the source prompts of the evaluated data set. What the page needs is kept as experiments/results/rospr/<seed>.json.
Seeds 0-4 are exploration. `--first 5` measures the fresh seeds 5-9, which confirm it.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

from experiments import rospr_report
from experiments.rospr_report import LIBRARIES, RESULTS
from infoprompt_jax.files import whole
from infoprompt_jax.reports import measurements
from infoprompt_jax.rospr.library import PromptLibrary
from infoprompt_jax.rospr.results import NAME, Results

EVALUATED = (*LIBRARIES, "siblings")


def job(variant: str, workdir: pathlib.Path, seed: int, *fields: str) -> None:
    """Runs a job in a separate process, so that its compiled programs are freed."""
    main = [sys.executable, "-m", "infoprompt_jax.main", f"--config=configs/nano_rospr.py:{variant}"]
    subprocess.run([*main, f"--workdir={workdir}", f"--config.seed={seed}", *fields], check=True)


def run(directory: pathlib.Path, seeds: Iterable[int]) -> None:
    """Evaluates the libraries that the seeds' results lack."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        result, place = RESULTS / f"{seed}.json", directory / str(seed)
        made = json.loads(result.read_text()) if result.exists() else {}
        missing = [name for name in EVALUATED if name not in made]
        for variant in ("sources", "siblings"):
            if {variant, "both"} & {*missing}:
                job(variant, place / variant, seed)
        both = place / "both" / "library"
        if "both" in missing and not both.exists():
            parts = [PromptLibrary.load(place / variant / "library") for variant in ("sources", "siblings")]
            PromptLibrary.merge(both, parts)
        for name in missing:
            job("eval", place / f"eval-{name}", seed, f"--config.rospr.library={place / name / 'library'}")
            made[name] = extract(place / f"eval-{name}") | {"machine": measurements.machine()}
        if missing:
            with whole(result) as partial:
                partial.write_text(json.dumps(measurements.rounded(made)) + "\n")


def extract(workdir: pathlib.Path) -> dict[str, Any]:
    """The result of a finished evaluation: what the page needs of it."""
    of_run = Results.from_json(json.loads((workdir / NAME).read_text()))
    datasets = {
        name: {method: spread["mean"] for method, spread in dataset.scores.items()}
        for name, dataset in of_run.datasets.items()
    }
    return {"datasets": datasets, **{name: of_run.analysis[name] for name in ("relations", "by_task", "varied")}}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("what", choices=("run", "report"))
    options.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("runs/rospr"))
    options.add_argument("--first", type=int, default=0, help="the first seed; 5 starts the fresh ones")
    options.add_argument("--seeds", type=int, default=5, help="how many seeds")
    chosen = options.parse_args()
    if chosen.what == "run":
        run(chosen.workdir, range(chosen.first, chosen.first + chosen.seeds))
    else:
        rospr_report.write(RESULTS)


if __name__ == "__main__":
    main()
