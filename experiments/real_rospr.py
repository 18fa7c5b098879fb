"""RoSPr at T0's shape on mini: source prompts for P3's source tasks, evaluated on T0's held-out sets and BIG-bench.

    python -m experiments.real_rospr rows --shared FOLDER [--size cpu]    writes the rows (experiments/p3_rows.py)
    python -m experiments.real_rospr run --shared FOLDER [--size cpu] [--first 0] [--seeds 3] [--group "held out"]
                                                                          trains, or resumes
    python -m experiments.real_rospr report                               writes docs/rospr.md's tables

`run` writes the rows itself if they are not there. A run that is stopped or killed goes on with the same command. Per
seed, a library of source prompts is trained and evaluated on three groups of data sets, or on the one that is named:
T0's held-out sets, BIG-bench, and data sets of families that the source prompts have. What the tables need is kept as
experiments/results/real_rospr/<size>/<seed>.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterable, Sequence

from experiments import real_rospr_report
from experiments.mini_corpus import evaluated
from experiments.overlap import Overlap
from experiments.p3_rows import NEAR, SIZES, Size, Writer
from experiments.real_rospr_report import GROUPS, RESULTS
from experiments.real_rospr_result import extract
from infoprompt_jax.files import whole
from infoprompt_jax.reports import measurements

BUCKETS = (32, 48, 64, 96, 128, 192, 256)


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a size has its rows and runs, and where the shared data are."""

    shared: pathlib.Path
    directory: pathlib.Path
    size: Size

    @property
    def rows(self) -> pathlib.Path:
        return self.directory / "rows"

    def fields(self, part: str) -> list[str]:
        """The fields that name the rows and the templates of `sources` or `evaluation`."""
        return [f"data.dir={self.rows / part / 'rows'}", f"task.templates_dir={self.rows / part / 'templates'}"]

    @property
    def groups(self) -> dict[str, tuple[str, list[str]]]:
        """By group of evaluated data sets, the config's variants and fields."""
        limit = f"task.eval_limit={self.size.evaluated}"
        here = [name for name in NEAR if (self.rows / "evaluation" / "templates" / name).exists()]
        near = [f"task.name={','.join(here)}", "task.template=all"]
        return {
            "held out": ("mini", [*self.fields("evaluation"), limit]),
            "BIG-bench": ("bigbench,mini", [f"data.dir={self.shared / 'data'}", limit]),
            "near": ("mini", [*self.fields("evaluation"), *near, limit]),
        }


def job(config: str, workdir: pathlib.Path, seed: int, fields: Sequence[str]) -> None:
    """Runs a job in a separate process, so that its compiled programs are freed."""
    main = [sys.executable, "-m", "infoprompt_jax.main", f"--config=configs/{config}", f"--workdir={workdir}"]
    command = [*main, f"--config.seed={seed}", *(f"--config.{field}" for field in fields)]
    programs = {"JAX_COMPILATION_CACHE_DIR": str(workdir.parent.parent / "programs")}  # groups and seeds share them
    subprocess.run(command, check=True, env=programs | os.environ)


def write_rows(place: Place) -> None:
    """Writes the rows unless they are there; the rows of other sizes are refused."""
    facts, size = place.rows / "facts.json", dataclasses.asdict(place.size)
    if not facts.exists():
        Writer(place.shared, place.rows, place.size, Overlap(evaluated(place.shared))).write()
    elif (written := json.loads(facts.read_text()).get("size")) != size:
        raise SystemExit(f"The rows in {place.rows} have the sizes {written}, not {size}: remove {place.directory}.")


def train(place: Place, workdir: pathlib.Path, seed: int) -> None:
    """Trains the source prompts of a seed, into the library of `workdir`."""
    size = place.size
    fields = [
        "task.train_split=train",
        "task.eval_split=validation",
        f"train.steps={size.steps}",
        f"data.max_input_length={size.length}",
        f"data.max_target_length={size.answer}",
        f"data.buckets={tuple(sorted({min(bucket, size.length) for bucket in BUCKETS}))}",
    ]
    job("rospr_sources.py:mini", workdir, seed, [*place.fields("sources"), *fields])


def run(place: Place, results: pathlib.Path, seeds: Iterable[int], groups: Sequence[str]) -> None:
    """Measures the seeds on these groups of data sets; those that a seed's result has are not measured again."""
    write_rows(place)
    results.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        result, workdir = results / f"{seed}.json", place.directory / str(seed)
        done = json.loads(result.read_text()) if result.exists() else {"groups": {}}
        left = [group for group in groups if group not in done["groups"]]
        if not left:
            continue
        train(place, workdir / "sources", seed)
        for group in left:
            variants, fields = place.groups[group]
            library = f"rospr.library={workdir / 'sources' / 'library'}"
            job(f"rospr_eval.py:{variants}", workdir / group, seed, [*fields, library])
        made = extract(workdir, left, place.rows)
        about = {what: done[what] for what in ("sources", "keys", "device", "machine") if what in done}
        before = {group: about | content for group, content in done["groups"].items()}  # of that run's source prompts
        made["groups"] = before | made["groups"]
        made["missing"] = done.get("missing", {}) | made["missing"]
        device = json.loads((workdir / "sources" / "groups" / "0000" / "summary.json").read_text())["device"]
        made |= {"size": dataclasses.asdict(place.size), "device": device, "machine": measurements.machine()}
        with whole(result) as partial:
            partial.write_text(json.dumps(measurements.rounded(made)) + "\n")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("what", choices=("rows", "run", "report"))
    options.add_argument("--shared", type=pathlib.Path, help="folder with data and p3; not for report")
    options.add_argument("--size", choices=SIZES, default="cpu")
    options.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("runs/real_rospr"))
    options.add_argument("--first", type=int, default=0, help="the first seed")
    options.add_argument("--seeds", type=int, default=3, help="how many seeds")
    options.add_argument("--group", choices=GROUPS, help="evaluate on these data sets alone (default: on all three)")
    chosen = options.parse_args()
    if chosen.what != "report" and not chosen.shared:
        options.error(f"{chosen.what} needs --shared: the folder with data and p3.")
    place = Place(chosen.shared, chosen.workdir / chosen.size, SIZES[chosen.size])
    if chosen.what == "rows":
        write_rows(place)
    elif chosen.what == "run":
        groups = [chosen.group] if chosen.group else list(GROUPS)
        run(place, RESULTS / chosen.size, range(chosen.first, chosen.first + chosen.seeds), groups)
    else:
        real_rospr_report.write(RESULTS)


if __name__ == "__main__":
    main()
