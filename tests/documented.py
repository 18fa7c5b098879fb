"""The commands of the documents: of README, docs/, launch/ and the manuals of the configs, in their order.

A command is a line of a shell block or of an indented block that starts like one, or code within a sentence that runs a
module or installs something. `... --config.train.steps=9` stands for the command before it with this option added.
"""

from __future__ import annotations

import ast
import dataclasses
import pathlib
import re
import shlex
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parents[1]
MAIN = ("python", "-m", "infoprompt_jax.main")
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "launch" / "README.md",
    *sorted((ROOT / "configs").glob("*.py")),
    *sorted((ROOT / "examples").glob("*.py")),
]
# What a command starts with, after variables of its environment.
PROGRAMS = r"taskset|timeout|python3?|\.venv/bin/python|pip|make|git|cp|mkdir|source|export|curl|tensorboard"
PROGRAMS += r"|launch/tpu_vm\.sh|sbatch"
COMMAND = re.compile(rf"(?:[A-Z_]+=\S+ )*(?:{PROGRAMS})(?: |$)")
INLINE = re.compile(r"`((?:\.venv/bin/)?python -m [a-z][^`]*|pip install [^`]*|make [a-z][a-z-]*)`")
OPTIONS = re.compile(r"(?:\.\.\. )?--config[.=]\S+=|(?:\.\.\. )?--config=")


@dataclasses.dataclass(frozen=True)
class Command:
    """One command: its page, its words without variables of the environment, and the text around it."""

    page: pathlib.Path
    words: tuple[str, ...]
    near: str

    @property
    def arguments(self) -> list[str]:
        """Of a command that runs infoprompt_jax.main, what follows; otherwise nothing."""
        return list(self.words[3:]) if self.words[:3] == MAIN else []

    def __str__(self) -> str:
        return " ".join(self.words)


def commands(page: pathlib.Path) -> list[Command]:
    """The page's commands, each once."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".py":
        text = ast.get_docstring(ast.parse(text)) or ""
    found: list[Command] = []
    before: tuple[str, ...] = ()
    for line, near in lines(re.sub(r"\\\n *", "", text)):
        for words in split(line):
            if words[0] == "...":
                words = (*before, *words[1:])
            elif words[0].startswith("--config."):
                words = (*MAIN, f"--config=configs/{page.name}", *words)
            elif words[0].startswith("--config="):
                words = (*MAIN, *words)
            if not line.startswith("..."):
                before = words
            found.append(Command(page, words, near))
    return list({command.words: command for command in found}.values())


def lines(text: str) -> Iterator[tuple[str, str]]:
    """Each line that is a command, or each command within a paragraph, with its block and those beside it."""
    every = list(blocks(text))
    for number, block in enumerate(every):
        near = "\n".join(line for other in every[max(0, number - 1) : number + 2] for line in other)
        stripped = [line.strip() for line in block]
        if re.match("```(bash|sh|console)$", block[0]):
            yield from ((line, near) for line in stripped[1:-1] if line and not line.startswith("#"))
        elif block[0].startswith("    "):
            yield from ((line, near) for line in stripped if COMMAND.match(line) or OPTIONS.match(line))
        elif not block[0].startswith("```"):
            yield from ((line, near) for line in INLINE.findall(" ".join(stripped)))


def blocks(text: str) -> Iterator[list[str]]:
    """The lines of each fenced block, and of each part that blank lines or a change of the indent separate."""
    block: list[str] = []
    for line in text.splitlines():
        if block and block[0].startswith("```"):
            block.append(line)
            if line == "```":
                yield block
                block = []
            continue
        starts = line.startswith("```") or (bool(block) and line.startswith("    ") != block[0].startswith("    "))
        if block and (starts or not line.strip()):
            yield block
            block = []
        if line.strip():
            block.append(line)
    if block:
        yield block


def split(line: str) -> Iterator[tuple[str, ...]]:
    """The words of each command of a line, as a shell makes them; what follows two spaces is a note on it.

    Left out are the environment, `taskset`, `timeout` and redirections.
    """
    for part in re.split(r" (?:&&|\|) ", re.split(r" {2,}(?![ -])", line)[0]):
        words = shlex.split(part, comments=True)
        words = words[: words.index(">")] if ">" in words else words
        while words and re.match(r"[A-Z_]+=", words[0]):
            words = words[1:]
        if words[:1] == ["taskset"]:
            words = words[3:]
        if words[:1] == ["timeout"]:
            words = words[words.index("python") :]
        if words:
            yield ("python" if words[0].endswith("python") else words[0], *words[1:])
