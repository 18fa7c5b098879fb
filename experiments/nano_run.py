"""Times the command of `make run`, with compilation, and keeps its table: `python -m experiments.nano_run`."""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

from experiments.nano_page import RESULTS
from infoprompt_jax.reports import final_table, measurements


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--out", type=pathlib.Path, default=RESULTS, help="directory for run.json")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        command = (
            sys.executable,
            "-m",
            "infoprompt_jax.main",
            "--config=configs/nano.py",
            f"--workdir={directory}/run",
        )
        start = time.perf_counter()
        subprocess.run(command, check=True)
        seconds = time.perf_counter() - start
        summary = json.loads(pathlib.Path(directory, "run", "summary.json").read_text())
    record = {"subject": "make run", "seconds": seconds, "table": final_table.table(summary).splitlines()}
    measurements.save(given.out, "run", [record])


if __name__ == "__main__":
    main()
