"""Times the tutorials: `python -m experiments.tutorials`.

Each page of docs/tutorials is followed in a fresh folder with an empty cache, as a reader would: its shell blocks and
its Python blocks run in their order, the Python in one session. A block under a line `<!-- needs a network -->` or
`<!-- needs a TPU -->` is left out and counted. The first error ends the page, with what the block printed.

    python -m experiments.tutorials --pages=tpu,peft      some of them; the others keep their times
    python -m experiments.tutorials --report              only the table in docs/tutorials/index.md, from the file
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from experiments.pages import ROOT, TUTORIALS
from infoprompt_jax.reports import measurements
from infoprompt_jax.reports.documents import fill
from infoprompt_jax.reports.tables import markdown

RESULTS = pathlib.Path(__file__).parent / "results" / "tutorials"
NAME = "times"
BLOCK = re.compile(
    r"(?:^<!-- needs (?P<needs>[\w ]+) -->\n)?^```(?P<language>bash|python)\n(?P<text>.*?)^```", re.M | re.S
)
NOT_COPIED = {"runs", "build"}  # what commands have left
WHERE = ("processor", "cores", "load_average")  # of the machine, where and when a page was followed
STOPPED = 143  # the status of a block that stops its run with `timeout`
EXPORTS = ".exports"
CACHES = {"XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE", "JAX_COMPILATION_CACHE_DIR"}  # the reader's, beside HOME


class Block(NamedTuple):
    """A block of a page; `needs` is what it cannot run without, or empty."""

    language: str
    text: str
    needs: str


def blocks(text: str) -> list[Block]:
    return [Block(match["language"], match["text"], match["needs"] or "") for match in BLOCK.finditer(text)]


def follow(every: Sequence[Block]) -> list[float]:
    """Runs the blocks that need nothing, in the current directory; the seconds of each.

    Raises:
      subprocess.CalledProcessError: a shell block fails. A Python block raises what it raises.
    """
    names: dict[str, Any] = {}
    seconds = []
    for block in (block for block in every if not block.needs):
        start = time.perf_counter()
        if block.language == "python":
            exec(compile(block.text, "<tutorial>", "exec"), names)
        else:
            shell(block.text)
        seconds.append(time.perf_counter() - start)
    return seconds


def shell(text: str) -> None:
    """Runs a shell block, with the variables that blocks before it have exported."""
    pathlib.Path(EXPORTS).touch()
    ran = subprocess.run(["bash", "-e", "-c", f". ./{EXPORTS}\n{text}\nexport -p > {EXPORTS}"], check=False)
    if ran.returncode and not (ran.returncode == STOPPED and "timeout " in text):
        raise subprocess.CalledProcessError(ran.returncode, text)


def timed(page: pathlib.Path) -> dict[str, Any]:
    """Follows a page in a process and a folder of its own; its record."""
    every = blocks(page.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as directory:
        here = pathlib.Path(directory)
        for entry in ROOT.iterdir():
            if not entry.name.startswith(".") and entry.name not in NOT_COPIED:
                (here / entry.name).symlink_to(entry)
        path = os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]])
        kept = {name: value for name, value in os.environ.items() if name not in CACHES}
        environment = kept | {"HOME": directory, "PATH": path, "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-m", "experiments.tutorials", "--follow", str(page)]
        start = time.perf_counter()
        subprocess.run(command, cwd=here, env=environment, check=True)
        seconds = time.perf_counter() - start
        parts = json.loads((here / "seconds.json").read_text(encoding="utf-8"))
    left_out = sorted({block.needs for block in every if block.needs})
    counts = {language: [b.language for b in every if not b.needs].count(language) for language in ("bash", "python")}
    machine = measurements.machine()
    return {
        **{name: machine[name] for name in WHERE},
        "subject": page.stem,
        "title": page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# "),
        "seconds": seconds,
        "longest": max(parts),
        **counts,
        "left_out": sum(bool(block.needs) for block in every),
        "needs": left_out,
    }


def table(records: Sequence[dict[str, Any]]) -> str:
    """A line for each tutorial."""
    header = ("tutorial", "shell blocks", "Python blocks", "left out", *WHERE[:2], "load", "minutes", "longest block")
    rows = []
    for record in records:
        left_out = f"{record['left_out']}: needs {' or '.join(record['needs'])}" if record["left_out"] else "0"
        minutes = (f"{record[name] / 60:.1f}" for name in ("seconds", "longest"))
        link = f"[{record['title']}]({record['subject']}.md)"
        where = (str(record[name]) for name in WHERE)
        rows.append((link, str(record["bash"]), str(record["python"]), left_out, *where, *minutes))
    return markdown(header, rows)


def placed(content: dict[str, Any]) -> list[dict[str, Any]]:
    """A file's records, each with the machine of its own; where it names none, that of the file."""
    machine = {name: content["machine"][name] for name in WHERE}
    return [machine | record for record in content["records"]]


def report(content: dict[str, Any]) -> None:
    """Fills the table of docs/tutorials/index.md."""
    facts = (
        "Offline, compilation included. Cores are those that the page had; load is the machine's average at the "
        "end, other work included. Times on different processors do not compare."
    )
    fill(TUTORIALS, {"times": f"{facts}\n\n{table(placed(content))}"})


def measure(pages: Sequence[pathlib.Path], out: pathlib.Path) -> None:
    """Follows the pages and keeps their times, beside those of other pages."""
    kept = out / f"{NAME}.json"
    before = placed(json.loads(kept.read_text(encoding="utf-8"))) if kept.exists() else []
    records = {record["subject"]: record for record in before}
    for page in pages:
        records[page.stem] = timed(page)
        measurements.save(out, NAME, [records[name] for name in sorted(records)])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--pages", default="", help="names of pages, separated by commas; default: all")
    options.add_argument("--out", type=pathlib.Path, default=RESULTS, help=f"directory for {NAME}.json")
    options.add_argument("--report", action="store_true", help="only write the table")
    options.add_argument("--follow", type=pathlib.Path, help="a page whose blocks run here and now")
    given = options.parse_args()
    if given.follow:
        seconds = follow(blocks(given.follow.read_text(encoding="utf-8")))
        pathlib.Path("seconds.json").write_text(json.dumps(seconds), encoding="utf-8")
        return
    every = {page.stem: page for page in sorted(TUTORIALS.parent.glob("*.md")) if blocks(page.read_text("utf-8"))}
    if not given.report:
        measure([every[name] for name in (given.pages.split(",") if given.pages else every)], given.out)
    if given.out == RESULTS:
        report(json.loads((RESULTS / f"{NAME}.json").read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
