"""What TPU slices hold: `python -m bench.capacity` compiles the plan's cases for devices that are not there.

Each case has a file in bench/results/capacity. A case whose file is there is not compiled again, so that the plan can
be finished in pieces. `python -m bench.capacity_page > docs/capacity.md` makes the page from these files.
"""

from __future__ import annotations

import argparse
import fnmatch
import pathlib
import sys
from typing import Any

from infoprompt_jax.devices import describe_only

describe_only()  # before JAX is imported

from infoprompt_jax.capacity.case import Case, answer  # noqa: E402
from infoprompt_jax.reports import measurements  # noqa: E402
from infoprompt_jax.variants import VARIANTS  # noqa: E402

RESULTS = pathlib.Path(__file__).parent / "results" / "capacity"


def case(
    size: str, topology: str, batch: int, remat: str = "dots", weights: str = "full", job: str = "train", **named: Any
) -> tuple[str, Case]:
    """A name and a case of 512 input and 64 target tokens, with a prompt of 100 and both terms of InfoPrompt."""
    parts = [size, *(["int8"] if weights == "int8" else []), job if job == "score" else remat, topology, f"b{batch}"]
    fields = (("backbone.remat", remat), ("backbone.weights", weights), *VARIANTS["infoprompt"].items())
    one = Case(f"google/t5-{size}-lm-adapt", topology, job=job, batch=batch, fields=fields, **named)
    return "-".join(parts).replace(":", "-"), one


# In the order of importance.
PLAN: dict[str, Case] = dict(
    [
        case("xxl", "v5e:4x4", 64, "full", mesh=(1, 16, 1)),
        case("xxl", "v5e:4x4", 64, "narrow", mesh=(1, 16, 1)),
        case("xxl", "v5e:1x1", 8, weights="int8", job="score"),
        case("xxl", "v5e:1x1", 32, weights="int8", job="score"),
        case("xxl", "v5e:1x1", 1, "full", weights="int8"),
        case("xxl", "v5e:1x1", 14, "full", weights="int8"),
        case("xl", "v5e:1x1", 24, "full"),
        case("xl", "v5e:1x1", 48, "full"),
        case("xl", "v5e:1x1", 56, "full"),
        case("xl", "v5e:1x1", 64, "full"),
        case("xl", "v5e:1x1", 8),
        case("xxl", "v5e:16x16", 1024, "full", mesh=(16, 16, 1)),
        case("xxl", "v5e:4x4", 64, mesh=(1, 16, 1)),
        case("xxl", "v5e:1x1", 12, "full", weights="int8"),
        case("small", "v5e:1x1", 64),
        case("base", "v5e:1x1", 32),
        case("large", "v5e:1x1", 16),
        case("xl", "v6e:2x4", 896, "full", mesh=(8, 1, 1)),  # what the page estimates, on other chips
        case("xl", "v4:2x2x1", 448, "full", mesh=(4, 1, 1)),
        case("xxl", "v5p:2x2x2", 1024, "full", mesh=(8, 1, 1)),
        case("xxl", "v5e:4x4", 16, "full", mesh=(1, 16, 1)),
        case("small", "v5e:1x1", 8),
        case("base", "v5e:1x1", 4),
        case("large", "v5e:1x1", 4),
        case("xl", "v5e:1x1", 2),
        case("xxl", "v5e:4x4", 16, mesh=(1, 16, 1)),
    ]
)


def main(arguments: list[str]) -> None:
    """Compiles what has no file yet; `--only` names cases by patterns."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[2])
    options.add_argument("--only", nargs="*", default=["*"], help="patterns of cases' names, as in 'xl-*'")
    options.add_argument("--list", action="store_true", help="print the cases' names and stop")
    given = options.parse_args(arguments)
    for name, one in PLAN.items():
        if not any(fnmatch.fnmatch(name, pattern) for pattern in given.only):
            continue
        there = (RESULTS / f"{name}.json").exists()
        print(f"{name}{' (done)' if there else ''}", flush=True)
        if not (there or given.list):
            record = answer(one, lambda line: print("  ", line, flush=True))
            measurements.save(RESULTS, name, [record])


if __name__ == "__main__":
    main(sys.argv[1:])
