"""Start-up: seconds from `python -m infoprompt_jax.main --config=configs/nano.py` to its first step.

    python -m bench.start [--rounds 3] [--out DIRECTORY]

The evaluation before the step counts. "cold" begins with an empty cache directory, "warm" with that of the cold start
before it.
"""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

from bench import command

ROOT = pathlib.Path(__file__).parents[1]
FIRST = re.compile(r"step 1/\d+: loss")


def seconds(cache: pathlib.Path, workdir: pathlib.Path, *fields: str) -> float:
    """Seconds until the command reports its first step; it is then ended.

    Raises:
      RuntimeError: it ended before.
    """
    line = [sys.executable, "-u", "-m", "infoprompt_jax.main", f"--config={ROOT / 'configs' / 'nano.py'}"]
    line += [f"--workdir={workdir}", f"--config.data.cache_dir={cache}", *fields]
    variables = {k: v for k, v in os.environ.items() if "COMPILATION_CACHE" not in k}
    since = time.perf_counter()
    with subprocess.Popen(
        line, cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        printed = []
        for text in process.stdout or ():
            printed.append(text)
            if FIRST.search(text):
                taken = time.perf_counter() - since
                process.kill()
                return taken
    raise RuntimeError(f"the command ended before its first step: {''.join(printed[-5:])}")


def measure(rounds: int, *fields: str) -> list[dict[str, Any]]:
    """A record of cold and of warm starts."""
    taken: dict[str, list[float]] = {"cold": [], "warm": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as directory:
            for name, times in taken.items():
                times.append(seconds(pathlib.Path(directory, "cache"), pathlib.Path(directory, name), *fields))
    return [
        {"subject": name, "seconds": float(np.median(times)), "least_seconds": min(times), "most_seconds": max(times)}
        for name, times in taken.items()
    ]


def main(arguments: list[str] | None = None) -> None:
    given = command.parser("Seconds from nano's command to its first step.", rounds=2).parse_args(arguments)
    command.finish(given.out, "start-nano", measure(given.rounds), rounds=given.rounds)


if __name__ == "__main__":
    main()
