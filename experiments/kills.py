"""Kills jobs at random moments and flips single bytes of what they keep: do they end as if nothing had happened?

    python -m experiments.kills --seed 0 --kills 50 --flips 50 --out runs/kills     # kills.md and kills.json

A job is started, killed with SIGKILL at a random moment, started again, perhaps killed again, and then finished by the
same command. Everything that counts (`tiny_jobs.counted`) must be that of a run that nothing happened to, bit for bit.
A flip changes one byte of one file of a workdir or its cache, of a finished or of a killed run. When the job is then
started again, it must refuse with a sentence, name the file in a warning, or end with the same results.

Processes are forked from one that has imported JAX, and read compiled programs from a folder. Exit status 1: something
was different, or ended in a traceback.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import multiprocessing
import os
import pathlib
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from typing import Any

from experiments import tiny_jobs
from infoprompt_jax import files
from infoprompt_jax.errors import UserError

PRELOADED = ["experiments.tiny_jobs", "infoprompt_jax.training.train", "infoprompt_jax.rospr.source_prompts",
             "infoprompt_jax.rospr.evaluate", "infoprompt_jax.serving.predict"]  # fmt: skip
MOST_KILLS = 3  # of one workdir
LONGEST = 300  # seconds of one start
GOOD, BAD = ("equal", "refused"), ("different", "traceback", "hang")
ENDED = "ended.json"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a workdir ended in after its kills, or after its flip."""

    act: str  # kill or flip
    job: str
    number: int
    kills: int
    what: str
    outcome: str
    detail: str = ""


class Bench:
    """The jobs' inputs, their undisturbed results, and the processes that run them."""

    def __init__(self, folder: pathlib.Path, jobs: Sequence[str]) -> None:
        self.folder = folder
        self.context: Any = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(PRELOADED)
        if self.wait(self.start("prepare", folder)) != 0:
            raise RuntimeError((folder / ENDED).read_text())
        self.clean: dict[str, dict[str, Any]] = {}
        self.seconds: dict[str, float] = {}
        for job in jobs:
            for state in ("first", "undisturbed"):  # the first one compiles
                begin = time.monotonic()
                self.wait(self.start(job, folder / "states" / job / state))
                self.seconds[job] = time.monotonic() - begin
            outcome, detail = self.ended(job, folder / "states" / job / "undisturbed")
            if outcome:
                raise RuntimeError(f"{job}: {detail}")
            self.clean[job] = self.results(job, folder / "states" / job / "undisturbed")

    def start(self, job: str, state: pathlib.Path) -> Any:
        """A process that runs the job in state/workdir with the cache state/cache."""
        state.mkdir(parents=True, exist_ok=True)
        (state / ENDED).unlink(missing_ok=True)
        process = self.context.Process(target=child, args=(job, str(self.folder), str(state)))
        process.start()
        return process

    def wait(self, process: Any, seconds: float = LONGEST) -> int | None:
        """The exit status; None where the process did not end in time, and was killed."""
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            return None
        return process.exitcode

    def ended(self, job: str, state: pathlib.Path) -> tuple[str, str]:
        """("", "") where the last process in a state ended with results; else the outcome and why."""
        if not (state / ENDED).exists():
            return "hang", f"no end within {LONGEST} s, or the process died"
        content = json.loads((state / ENDED).read_text())
        return content.get("outcome", ""), content.get("detail", "")

    def results(self, job: str, state: pathlib.Path) -> dict[str, Any]:
        """Everything that counts: what the job returned, and what its workdir holds."""
        return {**json.loads((state / ENDED).read_text())["results"], **tiny_jobs.counted(state / "workdir")}

    def judge(self, job: str, state: pathlib.Path) -> tuple[str, str]:
        """The outcome of the last process in a state, and the names of what differs."""
        outcome, detail = self.ended(job, state)
        if outcome:
            return outcome, detail
        silent, known = tiny_jobs.differences(self.results(job, state), self.clean[job])
        if silent:
            return "different", ", ".join(silent)
        return ("refused", ", ".join(known)) if known else ("equal", "")

    def killed(self, job: str, state: pathlib.Path, moment: float) -> bool:
        """Starts the job and kills it at a moment, in seconds; whether it was still running.

        If it was not, it took less time than was measured, and that time is the measure from then on.
        """
        begin = time.monotonic()
        process = self.start(job, state)
        process.join(moment)
        running = process.exitcode is None
        if not running:
            self.seconds[job] = min(self.seconds[job], time.monotonic() - begin)
        process.kill()
        process.join()
        return running


def child(job: str, folder: str, state: str) -> None:
    """What a process does: a job, or `prepare`."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    logging.getLogger("infoprompt_jax").propagate = False  # the report is all that is printed
    from experiments.fuzz.runner import keep_programs

    keep_programs(pathlib.Path(folder, "programs"))
    ended: dict[str, Any]
    try:
        if job == "prepare":
            tiny_jobs.prepare(pathlib.Path(folder))
            ended = {}
        else:
            cache = str(pathlib.Path(state, "cache"))
            results = tiny_jobs.ended(job, pathlib.Path(folder), pathlib.Path(state, "workdir"), data__cache_dir=cache)
            ended = {"results": results}
    except UserError as error:
        ended = {"outcome": "refused", "detail": str(error)}
    except BaseException:
        ended = {"outcome": "traceback", "detail": traceback.format_exc()}
    with files.whole(pathlib.Path(state, ENDED)) as partial:
        partial.write_text(json.dumps(ended))
    os._exit(0 if "outcome" not in ended else 1)  # not what libraries do at exit, which is no part of the job


def kill_one(bench: Bench, choose: random.Random, job: str, number: int, most: int) -> Outcome:
    """Kills one workdir up to `most` times, and finishes it."""
    state = bench.folder / "kills" / str(number)
    kills, moments = 0, []
    for _ in range(min(most, choose.randint(1, MOST_KILLS))):
        moment = choose.uniform(0, bench.seconds[job])
        if not bench.killed(job, state, moment):
            break
        kills += 1
        moments.append(f"{moment:.2f}")
    bench.wait(bench.start(job, state))
    outcome, detail = bench.judge(job, state)
    if outcome == "refused":  # nothing was damaged: the same command must finish the run
        outcome = "different"
    shutil.rmtree(state, ignore_errors=True)
    return Outcome(
        "kill", job, number, kills, f"after {', '.join(moments) or 'no'} of {bench.seconds[job]:.2f} s", outcome, detail
    )


def flip_one(bench: Bench, choose: random.Random, job: str, number: int) -> Outcome:
    """Flips one byte of a finished or a killed run, and starts the job again."""
    state, kind = bench.folder / "flips" / str(number), choose.choice(["finished", "killed"])
    if kind == "finished":
        shutil.copytree(bench.folder / "states" / job / "undisturbed", state)
    else:
        bench.killed(job, state, choose.uniform(0.3, 1) * bench.seconds[job])
    found = sorted(path for path in state.rglob("*") if path.is_file() and path.stat().st_size and path.name != ENDED)
    if not found:
        return Outcome("flip", job, number, 0, f"{kind}: nothing was written", "equal")
    file = choose.choice(found)
    content = bytearray(file.read_bytes())
    place = choose.randrange(len(content))
    content[place] ^= choose.randrange(1, 256)
    file.write_bytes(bytes(content))
    bench.wait(bench.start(job, state))
    outcome, detail = bench.judge(job, state)
    what = f"{kind}: byte {place} of {file.relative_to(state)}"
    shutil.rmtree(state, ignore_errors=True)
    return Outcome("flip", job, number, 0, what, outcome, detail)


def page(outcomes: Sequence[Outcome], seed: int) -> str:
    """The report as Markdown: counts, and what was bad."""
    lines = [
        f"# Kills and flips with seed {seed}",
        "",
        "| job | kills | bit-equal after them | flips | refused | equal |",
    ]
    lines[-1] += f" {' | '.join(BAD)} |"
    lines += [f"|{' --- |' * (6 + len(BAD))}"]
    for job in [*tiny_jobs.JOBS, "all"]:
        some = [one for one in outcomes if job in (one.job, "all")]
        flips = Counter(one.outcome for one in some if one.act == "flip")
        kills = [one for one in some if one.act == "kill"]
        equal = f"{sum(one.outcome == 'equal' for one in kills)} of {len(kills)} runs"
        counts = [sum(one.kills for one in kills), equal, sum(flips.values()), flips["refused"], flips["equal"]]
        bad = Counter(one.outcome for one in some)
        lines.append(f"| {' | '.join(map(str, [job, *counts, *(bad[name] for name in BAD)]))} |")
    for one in outcomes:
        if one.outcome in BAD:
            lines += ["", f"## {one.act} {one.number}, {one.job}: {one.outcome}", "", f"    {one.what}"]
            lines += [f"    {line}" for line in one.detail.splitlines()[-12:]]
    return "\n".join([*lines, ""])


def write(out: pathlib.Path | None, outcomes: Sequence[Outcome], seed: int) -> None:
    """Writes kills.md and kills.json."""
    if out:
        with files.whole(out / "kills.md") as partial:
            partial.write_text(page(outcomes, seed))
        with files.whole(out / "kills.json") as partial:
            partial.write_text(json.dumps([dataclasses.asdict(one) for one in outcomes], indent=1))


def run(
    seed: int, kills: int, flips: int, out: pathlib.Path | None = None, jobs: Sequence[str] = tiny_jobs.JOBS
) -> list[Outcome]:
    """The outcomes of so many kills and flips, over the jobs in turn."""
    choose, outcomes = random.Random(seed), []
    with tempfile.TemporaryDirectory(prefix="kills-", ignore_cleanup_errors=True) as folder:
        bench = Bench(pathlib.Path(folder), jobs)
        done = dict.fromkeys(jobs, 0)
        while (left := kills - sum(done.values())) > 0:
            job = min(done, key=lambda job: done[job])
            outcomes.append(kill_one(bench, choose, job, len(outcomes), left))
            done[job] += outcomes[-1].kills
            write(out, outcomes, seed)
        for number in range(flips):
            outcomes.append(flip_one(bench, choose, jobs[number % len(jobs)], number))
            write(out, outcomes, seed)
    return outcomes


def _jobs(text: str) -> list[str]:
    jobs = text.split(",")
    if unknown := set(jobs) - {*tiny_jobs.JOBS}:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: known are {', '.join(tiny_jobs.JOBS)}")
    return jobs


def main(arguments: Sequence[str]) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m experiments.kills", description="Kills jobs, and flips bytes.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--flips", type=int, default=50)
    parser.add_argument("--jobs", type=_jobs, default=list(tiny_jobs.JOBS))
    parser.add_argument("--out", type=pathlib.Path, help="folder of kills.md and kills.json")
    options = parser.parse_args(arguments)
    # What killed processes leave to the tracker is expected.
    os.environ.setdefault("PYTHONWARNINGS", "ignore::UserWarning:multiprocessing.resource_tracker")
    outcomes = run(options.seed, options.kills, options.flips, options.out, options.jobs)
    print(page(outcomes, options.seed))
    return int(any(one.outcome in BAD for one in outcomes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
