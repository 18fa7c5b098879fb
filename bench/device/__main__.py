"""The command: `python -m bench.device --minutes 8 --out DIRECTORY`, and `python -m bench.device report`.

A second run into the same directory measures the cases that the first had no time for or that failed.
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import pathlib
import signal
import sys

from bench.device import plan, report, run, tables
from bench.device.cases import Case, Group, toy


def chosen(patterns: list[str]) -> list[Group]:
    """The groups with the cases whose name or topic matches one of the patterns; all cases if there is no pattern."""
    groups = []
    for group in plan.groups():
        cases = tuple(case for case in group.cases if not patterns or any(matches(case, p) for p in patterns))
        if cases:
            groups.append(dataclasses.replace(group, cases=cases))
    return groups


def matches(case: Case, pattern: str) -> bool:
    return fnmatch.fnmatch(case.name, pattern) or case.topic == pattern


def main(arguments: list[str]) -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--minutes", type=float, default=8.0, help="time limit of the whole run")
    options.add_argument("--out", type=pathlib.Path, required=True, help="directory for the results")
    options.add_argument(
        "--only", nargs="*", default=[], help="topics, as in int8, or patterns of cases' names, as in 'xl-train-*'"
    )
    options.add_argument("--toy", action="store_true", help="tiny sizes, to try the command")
    options.add_argument("--list", action="store_true", help="print the cases' names and stop")
    given = options.parse_args(arguments)
    groups = chosen(given.only)
    if given.list:
        print("\n".join(f"{group.name:14} {case.name}" for group in groups for case in group.cases))
        return
    if not groups:
        sys.exit(f"No case matches {' '.join(given.only)}: see the names with --list.")
    cases = [case for group in plan.groups() for case in group.cases]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the cases measured so far are joined
    try:
        least = 1.0 if given.toy else run.LEAST_SECONDS
        measured = run.Run(given.out, given.minutes, least)
        run.measure([toy(group) for group in groups] if given.toy else groups, measured)
    finally:
        content = tables.write(given.out, cases, minutes=given.minutes, toy=given.toy)
        summary = tables.sections(content["records"])
        (given.out / "summary.md").write_text(summary + "\n", encoding="utf-8")
        print(f"\n{content['device']}\n\n{summary}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["report"]:
        report.main()
    else:
        main(sys.argv[1:])
