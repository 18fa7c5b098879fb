"""The input pipeline alone, rows a second from JSONL to batches, and the share of a real run that waits for it.

python -m bench.inputs [--rows 1000 10000 100000] [--out DIRECTORY]

Rows are invented sentences, tokenised with the embedded mini's vocabulary. The first time they are rendered and
tokenised; the second time they are read from the cache. Each count is measured in a process of its own. The run is
configs/nano.py, a small model: its steps are short, so that waiting would show.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

from bench import command
from bench.turns import peak_memory

ROOT = pathlib.Path(__file__).parents[1]
TEXT = "the a film story actor scene song plot house river cold bright slow long dull warm never always finds loses"


def write(path: pathlib.Path, count: int) -> None:
    """Rows like SST-2's: a sentence of 4 to 40 words and a label."""
    random = np.random.default_rng(0)
    path.parent.mkdir(parents=True)
    with path.open("w") as file:
        for row in range(count):
            words = random.choice(TEXT.split(), random.integers(4, 41))
            file.write(json.dumps({"sentence": " ".join([*words, str(row)]), "label": row % 2, "idx": row}) + "\n")


def read(data: pathlib.Path, cache: pathlib.Path) -> Any:
    """The training rows of SST-2's first template, as a run has them."""
    from bench.real import LENGTHS, vocabulary
    from infoprompt_jax import settings
    from infoprompt_jax.data.examples import examples, source_fingerprint
    from infoprompt_jax.data.tokenization import tokenize
    from infoprompt_jax.training import recorded

    config = settings.defaults()
    config.data.dir, config.task.name = str(data), "glue/sst2"
    task = recorded.tasks(config)[0]
    source = source_fingerprint(task, "train", 0)
    return tokenize(examples(task, "train"), vocabulary(""), cache, source, True, *LENGTHS)


def batches(rows: Any, count: int) -> None:
    """Makes so many batches of 32."""
    from bench.rows import stream
    from bench.synthetic import Size
    from infoprompt_jax import settings
    from infoprompt_jax.data.batches import train_batches

    data = settings.defaults().data
    for _ in train_batches([stream([rows], Size(batch=32))], 0, count, data.buckets, data.max_input_length, 2):
        pass


def timed(count: int) -> dict[str, Any]:
    """The record of one count of rows; in a process of its own, for its peak memory."""
    with tempfile.TemporaryDirectory() as directory:
        data, cache = pathlib.Path(directory, "data"), pathlib.Path(directory, "cache")
        write(data / "glue" / "sst2" / "train.jsonl", 32)
        batches(read(data, cache), 1)  # imports
        data = pathlib.Path(directory, "rows")
        write(data / "glue" / "sst2" / "train.jsonl", count)
        before = peak_memory()
        marks = [time.perf_counter()]
        for _ in range(2):
            rows = read(data, cache)
            marks.append(time.perf_counter())
        made = max(count // 32, 16)
        batches(rows, made)
        marks.append(time.perf_counter())
    first, second, batching = np.diff(marks).tolist()
    peak = peak_memory() - before
    times = {"first_seconds": first, "second_seconds": second, "batching_seconds": batching}
    rates = {"first_rows_per_second": count / first, "second_rows_per_second": count / second}
    rates |= {"batched_rows_per_second": 32 * made / batching}
    return {"subject": f"{count} rows", "seconds": first, "rows": count, "added_memory_bytes": peak, **times, **rates}


def alone(count: int) -> dict[str, Any]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(timed, (count,))


def run(*fields: str) -> dict[str, Any]:
    """The record of a run of configs/nano.py."""
    with tempfile.TemporaryDirectory() as directory:
        line = [sys.executable, "-m", "infoprompt_jax.main", f"--config={ROOT / 'configs' / 'nano.py'}"]
        since = time.perf_counter()
        subprocess.run([*line, f"--workdir={directory}/run", *fields], cwd=ROOT, check=True, capture_output=True)
        summary = json.loads(pathlib.Path(directory, "run", "summary.json").read_text())
        taken = time.perf_counter() - since
    names = ("input_wait_share", "steps_per_second", "tokens_per_second")
    return {"subject": "run", "seconds": taken, **{name: summary[name] for name in names}}


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description="Rows a second from JSONL to batches; waiting in a run.")
    options.add_argument("--rows", type=int, nargs="*", default=[1000, 10_000, 100_000])
    options.add_argument("--out", type=pathlib.Path, help="directory for the results, as JSON")
    given = options.parse_args(arguments)
    command.finish(given.out, "inputs", [*map(alone, given.rows), run("--config.train.references=False")])


if __name__ == "__main__":
    main()
