"""Runs cases, and reports what each kind of input ended in.

    python -m experiments.fuzz --minutes 20 --seed 0 --out runs/fuzz     # report.md and report.json
    python -m experiments.fuzz --seed 0 --cases 300 --kinds rows,settings
    python -m experiments.fuzz --seed 0 --case rows/17                   # one case, in this process

Exit status 1: a case ended in a traceback, a hang, too much memory or a silently wrong result.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import pathlib
import sys
import time
from collections.abc import Iterator, Sequence

from experiments.fuzz import cases, report
from experiments.fuzz.cases import Outcome
from experiments.fuzz.runner import Worker

SHARES = {  # of the cases
    "rows": 6,
    "row_files": 4,
    "tables": 4,
    "settings": 8,
    "templates": 8,
    "bigbench": 3,
    "prompts": 6,
    "libraries": 6,
    "checkpoints": 6,
    "workdirs": 3,
}
WRITE_EVERY = 20.0  # seconds between reports


def numbered(kinds: Sequence[str]) -> Iterator[tuple[str, int]]:
    """(kind, number) without end; kinds take turns by their shares."""
    numbers = dict.fromkeys(kinds, 0)
    for turn in itertools.count():
        for kind in kinds:
            if turn % max(SHARES.values()) < SHARES[kind]:
                yield kind, numbers[kind]
                numbers[kind] += 1


def run(arguments: argparse.Namespace) -> list[Outcome]:
    """The outcomes of the cases that the command asks for; bad ones are shown as they come."""
    outcomes: list[Outcome] = []
    title = f"Fuzzing with seed {arguments.seed}"
    worker, end, written = Worker(), time.monotonic() + 60 * arguments.minutes, 0.0
    try:
        for kind, number in itertools.islice(numbered(arguments.kinds), arguments.cases or None):
            if time.monotonic() > end:
                break
            outcomes.append(worker.run(kind, arguments.seed, number))
            if outcomes[-1].is_bad:
                print(f"{outcomes[-1].outcome}: {outcomes[-1].command}", flush=True)
            if arguments.out and time.monotonic() - written > WRITE_EVERY:
                report.write(arguments.out, outcomes, title)
                written = time.monotonic()
    except KeyboardInterrupt:
        pass  # what was tried so far is reported
    finally:
        worker.stop()
    if arguments.out:
        report.write(arguments.out, outcomes, title)
    return outcomes


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m experiments.fuzz", description="Tries hostile inputs.")
    parser.add_argument("--minutes", type=float, default=10.0, help="time limit")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=0, help="number of cases; 0 = as many as the time allows")
    parser.add_argument("--kinds", type=lambda text: text.split(","), default=list(SHARES), help=", ".join(SHARES))
    parser.add_argument("--case", help="KIND/NUMBER: one case, in this process")
    parser.add_argument("--out", type=pathlib.Path, help="folder of report.md and report.json")
    made = parser.parse_args(arguments)
    if unknown := set(made.kinds) - SHARES.keys():
        parser.error(f"unknown kinds: {', '.join(unknown)}; known are {', '.join(SHARES)}")
    kind, _, number = (made.case or "").partition("/")
    if made.case and (kind not in SHARES or not number.isdecimal()):
        parser.error(f"--case={made.case} is not KIND/NUMBER with one of {', '.join(SHARES)}")
    return made


def main(arguments: Sequence[str]) -> int:
    """Returns the exit status."""
    options = parsed(arguments)
    if options.case:
        kind, _, number = options.case.partition("/")
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        with cases.temporary_folder() as scratch:
            cases.prepare(kind, scratch)
            outcome = cases.run(kind, options.seed, int(number))
        print(f"{outcome.outcome}: {outcome.what}\n{outcome.detail}")
        return int(outcome.is_bad)
    outcomes = run(options)
    print(report.table(outcomes))
    return int(any(outcome.is_bad for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
