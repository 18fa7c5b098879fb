"""Whatever the documents name exists: links, headings, files, modules, config fields."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import pathlib
import re
from typing import Any

import pytest
import test_imports

import infoprompt_jax
from infoprompt_jax import reference, settings

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "launch/README.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
CHANGES = ROOT / "CHANGELOG.md"  # also names what is gone
PACKAGE = ROOT / "infoprompt_jax"
FIELDS = set(settings.flatten(settings.defaults().to_dict()))
GROUPS = {field.split(".")[0] for field in FIELDS if "." in field}
# Folders of the repository: what a page names below them is a file there.
FOLDERS = ("infoprompt_jax", "configs", "docs", "experiments", "bench", "launch", "tests")


def text_of(page: pathlib.Path) -> str:
    return page.read_text(encoding="utf-8")


def anchors(page: pathlib.Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text_of(page), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, CHANGES], ids=lambda page: page.name)
def test_links_lead_somewhere(page: pathlib.Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", text_of(page))
    for link in (link for link in links if "://" not in link):
        file, _, anchor = link.partition("#")
        linked = (page.parent / file).resolve() if file else page
        assert linked.exists(), link
        assert not anchor or anchor in anchors(linked), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_modules_exist(page: pathlib.Path) -> None:
    text = text_of(page)
    for path in re.findall(rf"(?<![\w./-])(?:{'|'.join(FOLDERS)})/[\w./-]*[\w/]", text):
        assert (ROOT / path).exists(), path
    for module in re.findall(r"python3? -m ([\w.]+)", text):
        assert importlib.util.find_spec(module), module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_config_fields_exist(page: pathlib.Path) -> None:
    """Those of commands, `--config.task.name=...`, and those named in the text, `task.name` and `task.name=...`."""
    text = text_of(page)
    named = set(re.findall(r"--config\.([a-z_.]+)=", text))
    named |= set(re.findall(rf"`((?:{'|'.join(GROUPS)})\.(?!(?:jsonl?|csv|safetensors)`)\w+)(?:=[^`]*)?`", text))
    modules = {".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in PACKAGE.glob("*/*.py")}
    assert named <= FIELDS | modules


BLOCKS = [block for page in PAGES for block in re.findall(r"^```python\n(.*?)^```", text_of(page), re.M | re.S)]
IMPORTS = sorted(set(re.findall(r"^(?:from|import) .*$", "\n".join(BLOCKS), re.M)))
WITH_TORCH = ("torch", "peft")  # which not every version of Python has


@pytest.mark.parametrize("line", IMPORTS)
def test_imports_in_python_blocks_work(line: str) -> None:
    if line.split()[1].partition(".")[0] in WITH_TORCH:
        pytest.importorskip("torch")
    names: dict[str, object] = {}
    exec(line, names)
    assert names.keys() - {"__builtins__"}


def test_pages_import_the_package() -> None:
    assert {"import infoprompt_jax as ip", "import numpy as np"} <= set(IMPORTS)


def test_the_design_lists_every_module_and_arrow() -> None:
    page = text_of(ROOT / "docs" / "design.md")
    section, _, singles = page.partition("## Rooms")[2].partition("## Arrows")[0].partition("Single modules")
    rooms = re.findall(r"^\| `(\w+)` \| [^|]* \| (.*) \|$", section, re.M)
    assert {room for room, _ in rooms} == {folder.parent.name for folder in PACKAGE.glob("*/__init__.py")}
    for room, modules in rooms:
        named = set(re.findall(r"`(\w+)`", modules))
        assert named == {path.stem for path in (PACKAGE / room).glob("*.py")} - {"__init__"}, room
    named = {name for cells in re.findall(r"^\| (`.*?) \|", singles, re.M) for name in re.findall(r"`(\w+)`", cells)}
    assert named == {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    arrows = {room: set(others.split(", ")) for room, others in re.findall(r"^(\w+) -> (.*)$", page, re.M)}
    assert arrows == {room: others for room, others in test_imports.ARROWS.items() if others}


def test_the_reference_is_current() -> None:
    current = text_of(ROOT / "docs" / "api.md") == reference.page()
    assert current, "write it again: python -m infoprompt_jax.reference > docs/api.md"


def raising(path: pathlib.Path) -> set[str]:
    """The functions of a module that raise an error in their own words, or call one of the module's that does."""
    functions = {n.name: n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef)}
    calls: dict[str, set[str]] = {}
    for name, node in functions.items():
        called = [call.func for call in ast.walk(node) if isinstance(call, ast.Call)]
        names = {getattr(one, "id", getattr(one, "attr", "")) for one in called}
        calls[name] = {one for one in names if one in functions and one.startswith("_")}
    found = {name for name, node in functions.items() if any(isinstance(one, ast.Raise) for one in ast.walk(node))}
    while more := {name for name in calls if calls[name] & found} - found:
        found |= more
    return found


def public() -> list[tuple[str, Any]]:
    """Every public function, class, method and property, as docs/api.md has them."""
    named = [(name, getattr(infoprompt_jax, name)) for name in infoprompt_jax.__all__]
    classes = [(name, value) for name, value in named if inspect.isclass(value)]
    return named + [(f"{name}.{m}", reference.function(f)) for name, cls in classes for m, f in reference.members(cls)]


@pytest.mark.parametrize(("name", "value"), public(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_public_name_has_a_docstring_with_its_errors(name: str, value: Any) -> None:
    """An error of every method may stand in the docstring of its class."""
    docstring = inspect.getdoc(value) or ""
    assert docstring.strip(), name
    if not inspect.isclass(value) and value.__name__ in raising(pathlib.Path(inspect.getfile(inspect.unwrap(value)))):
        cls = inspect.getdoc(getattr(infoprompt_jax, name.split(".")[0])) or ""
        assert "Raises:" in docstring + cls, name


def test_a_docstring_becomes_markdown() -> None:
    docstring = (
        "First.\n\nArgs:\n  a, b: one\n    and more.\n\nReturns:\n  What: it is.\n\nRaises:\n  UserError: never."
    )
    lines = reference.markdown(docstring).splitlines()
    assert lines[2:6] == ["**Args**", "", "* `a, b`: one", "  and more."]
    assert lines[-3:] == ["**Raises**", "", "* `UserError`: never."]
