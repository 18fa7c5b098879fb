"""Python in the documents: every block compiles and calls what there is as it can be called, and runs on nano.

A page's blocks run in their order, in one session that has `backbone`, `config` and `tokens_BL` already, in a directory
with the runs that they name. tests/test_readme.py runs README's; docs/api.md's are signatures.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tiny_library
from documented import PAGES, ROOT

import infoprompt_jax as ip
from infoprompt_jax import settings
from infoprompt_jax.t5 import hub

# Why a block is not run, by a line of it. All others are.
REASONS = {
    "ip.push_to_hub(": "needs a network; tests/prompts runs it on a hub of its own",
    "FOLDER = pathlib.Path(": "is a module; tests/data/test_registered_tasks.py imports it",
    "evaluator = seqio.Evaluator(": "tests/data/test_seqio_evaluator.py does this with the backbone's predictions",
}
PYTHON = re.compile(r"^```python\n(.*?)^```", re.M | re.S)
BLOCKS = {page: PYTHON.findall(page.read_text()) for page in PAGES if page.suffix == ".md" and page.name != "api.md"}
BLOCKS = {page: blocks for page, blocks in BLOCKS.items() if blocks}
# Of every prompt that a page names.
TEMPLATE = {
    "dataset": "mine",
    "name": "follows",
    "id": "1",
    "jinja": "{{ premise }} Does it follow that {{ hypothesis }} ||| {{ answer_choices[label] }}",
    "answer_choices": "no ||| yes",
    "metric": "accuracy",
}
# A line of predictions.jsonl.
PREDICTION = {
    "row": {"text": "A ferry."},
    "prediction": "sports",
    "target": "travel",
}
# What a name of the documents is an instance of.
TYPES = {"backbone": "Backbone", "prompt": "Prompt", "library": "PromptLibrary"}
MODULES = {"ip": "infoprompt_jax"}


def written() -> list[Any]:
    """Every block with its place, and those of docstrings: lines of the package's modules that are indented code.

    What imports TensorFlow is slow.
    """
    blocks = [(page.name, block) for page, blocks in BLOCKS.items() for block in blocks]
    for path in sorted((ROOT / "infoprompt_jax").rglob("*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        code = "\n".join(re.findall(r"^    (.*)$", docstring, re.M))
        if re.search(r"^import infoprompt_jax", code, re.M):
            blocks.append((str(path.relative_to(ROOT)), code))
    slow = [[pytest.mark.slow] if "seqio_adapter" in block else [] for _, block in blocks]
    return [pytest.param(*block, marks=marks) for block, marks in zip(blocks, slow, strict=True)]


def calls(block: str) -> Iterator[tuple[ast.Call, Callable[..., Any]]]:
    """Each call of something of the package's, with what is called."""
    tree = ast.parse(block)
    modules = dict(MODULES)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("infoprompt_jax"):
            modules |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            path = ast.unparse(node.func).split(".")
            if path[0] in modules and all(map(str.isidentifier, path)):
                yield node, reached(importlib.import_module(modules[path[0]]), path[1:])
            elif path[0] in TYPES and len(path) == 2:
                yield node, method(getattr(ip, TYPES[path[0]]), path[1])


def reached(value: Any, names: list[str]) -> Any:
    for name in names:
        value = getattr(value, name)
    return value


def method(cls: type, name: str) -> Callable[..., Any]:
    """A method without its `self`, so that a call's arguments are all there are."""
    return getattr(cls, name).__get__(object.__new__(cls))


@pytest.mark.parametrize(("place", "block"), written(), ids=lambda value: value if len(value) < 60 else "")
def test_a_block_calls_what_there_is(place: str, block: str) -> None:
    """Names exist, arguments have names that the function has, and there are not too many."""
    compile(block, place, "exec")
    names = {
        n.attr for n in ast.walk(ast.parse(block)) if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "ip"
    }
    assert names <= {*ip.__all__, "__version__"}
    for call, function in calls(block):
        given = [argument for argument in call.args if not isinstance(argument, ast.Starred)]
        named = {keyword.arg: None for keyword in call.keywords if keyword.arg}
        inspect.signature(function).bind_partial(*given, **named)


def test_every_reason_has_a_block() -> None:
    for start in REASONS:
        assert any(start in block for blocks in BLOCKS.values() for block in blocks), start


@pytest.fixture(scope="module")
def session(invented: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, dict[str, Any]]:
    """The directory, and the names that a reader has."""
    place, backbone = tmp_path_factory.mktemp("session"), ip.load_backbone("nano")
    made = {"backbone": backbone.name, "fingerprint": backbone.fingerprint, "templates": [TEMPLATE]}
    for path in {path for page in BLOCKS for path in re.findall(r"runs/[\w-]+/prompts/[\w-]+", page.read_text())}:
        ip.save_prompt(place / path, ip.Prompt(tiny_library.prompt(0, backbone.config.d_model), made))
    tiny_library.random_library(place / "runs" / "nano_rospr-sources" / "library", backbone, count=4)
    for run, count, first in (("sources", 3, 0), ("more", 1, 3)):
        tiny_library.random_library(place / "runs" / run / "library", backbone, count, first=first)
    (place / "MODEL_DIRECTORY").symlink_to(hub.find("nano"))
    for folder in ("examples", "infoprompt_jax"):
        (place / folder).symlink_to(ROOT / folder)
    write_runs(place / "runs")
    config = settings.defaults()
    config.backbone.name, config.data.dir = "nano", str(invented)
    choices_BCT = np.array([[[5, 1], [6, 1]]])
    names = {"backbone": backbone, "config": config, "tokens_BL": np.array([[7, 8, 1]]), "choices_BCT": choices_BCT}
    return place, {"ip": ip, "np": np, **names}


def write_runs(runs: pathlib.Path) -> None:
    """What docs/tutorials/ reads of its runs."""
    record = {"step": 10, "member": "both-seed0", "name": "head_mi", "value": 1.5}
    members = [
        {"name": f"{preset}-seed{seed}", "test": {"accuracy": 0.5 + (seed % len(preset)) / 10}}
        for preset, seeds in (("both", range(100, 112)), ("plain", range(100, 112)))
        for seed in seeds
    ]
    for name, text in {
        "pairs/metrics.jsonl": json.dumps(record) + "\n",
        "twelve/summary.json": json.dumps({"members": members}),
        "checked/predictions.jsonl": json.dumps(PREDICTION) + "\n",
    }.items():
        (runs / name).parent.mkdir(parents=True, exist_ok=True)
        (runs / name).write_text(text)


def pages() -> list[Any]:
    """All but README.md. A page that needs torch is slow."""
    chosen = [page for page in BLOCKS if page.name != "README.md"]
    slow = [[pytest.mark.slow] if "import torch" in page.read_text() else [] for page in chosen]
    return [pytest.param(page, marks=marks, id=page.name) for page, marks in zip(chosen, slow, strict=True)]


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("page", pages())
def test_the_blocks_of_a_page_run(
    page: pathlib.Path,
    session: tuple[pathlib.Path, dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place, given = session
    monkeypatch.chdir(place)
    names = dict(given)
    for block in BLOCKS[page]:
        for name in {"torch", "peft"} & {*re.findall(r"^(?:import|from) (\w+)", block, re.M)}:
            pytest.importorskip(name)
        if not any(start in block for start in REASONS):
            exec(compile(block, str(page), "exec"), names)
            printed = capsys.readouterr().out.strip()
            assert printed if "print(" in block else names.keys() > given.keys()
