"""The site builds without a warning, and on its pages every link and anchor leads somewhere and nothing is fetched."""

from __future__ import annotations

import html.parser
import json
import pathlib
import runpy
import subprocess
import sys
import urllib.parse
from typing import Any
from xml.etree import ElementTree

import pytest

pytest.importorskip("sphinx", reason="make test installs it")

ROOT = pathlib.Path(__file__).parents[1]
WIDTH = 122  # characters of a code block, with docs/site.css
SCHEMES = ("http://", "https://", "//", "mailto:")


class Page(html.parser.HTMLParser):
    """A page's anchors, its links, and what a browser loads with it."""

    def __init__(self, path: pathlib.Path) -> None:
        super().__init__()
        self.anchors, self.links, self.loaded = {"", "top"}, list[str](), list[str]()
        self.blocks, self.within = list[str](), False  # of code
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if tag == "pre":
            self.blocks.append("")
            self.within = True
        self.anchors.add(attributes.get("id", ""))
        if tag == "a":
            self.links.append(attributes.get("href", ""))
        elif tag != "meta":
            self.loaded += [attributes[name] for name in ("src", "href") if name in attributes]

    def handle_endtag(self, tag: str) -> None:
        self.within = self.within and tag != "pre"

    def handle_data(self, data: str) -> None:
        if self.within:
            self.blocks[-1] += data


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[pathlib.Path, Page]:
    """The pages of the site, as `make site` builds it."""
    out = tmp_path_factory.mktemp("site")
    printed = subprocess.run(["make", "-C", str(ROOT), "-n", "site"], capture_output=True, text=True, check=True).stdout
    (recipe,) = [line for line in printed.splitlines() if " -m sphinx " in line]
    options = recipe.partition(" -m sphinx ")[2].replace("build/doctrees", str(out / "trees")).split()[:-1]
    command = [sys.executable, "-m", "sphinx", *options, str(out / "html")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return {path: Page(path) for path in (out / "html").rglob("*.html")}


def test_links_and_anchors_lead_somewhere(site: dict[pathlib.Path, Page]) -> None:
    names = {path.name for path in site}
    assert {"index.html", "README.html", "CHANGELOG.html", "configuration.html", "quickstart.html"} <= names
    for path, page in site.items():
        for link in (link for link in page.links if not link.startswith(SCHEMES)):
            file, _, anchor = urllib.parse.unquote(link).partition("#")
            linked = (path.parent / file).resolve() if file else path
            assert linked.is_file(), f"{path.name}: {link}"
            assert linked not in site or anchor in site[linked].anchors, f"{path.name}: {link}"


def test_pages_load_files_of_the_site_alone(site: dict[pathlib.Path, Page]) -> None:
    for path, page in site.items():
        for file in page.loaded:
            if not file.startswith(("#", "data:image/png;base64,")):
                assert not file.startswith(SCHEMES), f"{path.name}: {file}"
                assert (path.parent / file.partition("?")[0]).is_file(), f"{path.name}: {file}"


def test_code_fits_the_width_of_a_page(site: dict[pathlib.Path, Page]) -> None:
    """On a screen of 1280 pixels."""
    for path, page in site.items():
        for block in page.blocks:
            wide = [line for line in block.splitlines() if len(line) > WIDTH]
            assert not wide, f"{path.name}: break {wide[0]!r} after {WIDTH} characters"


def test_the_drawn_figures_are_current() -> None:
    """And each is XML with a title."""
    folder = ROOT / "docs" / "figures"
    figures = runpy.run_path(str(folder / "draw.py"))["FIGURES"]
    assert {path.stem for path in folder.glob("*.svg")} == figures.keys()
    for name, draw in figures.items():
        current = (folder / f"{name}.svg").read_text(encoding="utf-8") == draw()
        assert current, "draw them again: python docs/figures/draw.py"
        assert ElementTree.fromstring(draw()).findtext("{http://www.w3.org/2000/svg}title")


@pytest.fixture(scope="module")
def conf() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "conf.py"))


def test_lists_become_the_navigation(conf: dict[str, Any]) -> None:
    text = "# Title\n\n[beside](b.md)\n\n## Start\n\n* [One, two](../a.md): what.\n\n## More\n\n* [C](c/d.ipynb)\n"
    trees = [tree.split() for tree in conf["navigation"](text).split("```{toctree}")]
    assert trees[1] == [":hidden:", ":caption:", "Start", "One,", "two", "<../a>", "```"]
    assert trees[2:] == [[":hidden:", ":caption:", "More", "C", "<c/d>", "```"]]


def test_a_notebook_becomes_markdown(conf: dict[str, Any]) -> None:
    outputs = [{"text": ["1\n"]}, {"data": {"text/plain": ["2"]}}, {"data": {"image/png": "aWI=\n", "text/plain": "x"}}]
    cells = [
        {"cell_type": "markdown", "source": ["# Title"]},
        {"cell_type": "code", "source": ["print(1)\n", "2"], "outputs": outputs},
    ]
    text = conf["markdown"](json.dumps({"cells": cells}))
    assert text == "# Title\n\n```python\nprint(1)\n2\n```\n\n```text\n1\n```\n\n```text\n2\n```" + (
        "\n\n![What this cell draws](data:image/png;base64,aWI=)"
    )
    long = [{"cell_type": "code", "source": [], "outputs": [{"text": ["word " * 40, "\n", "-" * 130]}]}]
    assert [len(line) for line in conf["markdown"](json.dumps({"cells": long})).splitlines()[5:-1]] == [119, 83, 130]
    fenced = [{"cell_type": "code", "source": [], "outputs": [{"text": ["```\n", "a\n", "```\n"]}]}]
    assert conf["markdown"](json.dumps({"cells": fenced})).endswith("\n\n````text\n```\na\n```\n````")


def test_a_link_to_a_folder_becomes_its_name(conf: dict[str, Any]) -> None:
    text = "[`results`](../bench/results), [data](data.md), [x](https://x.org/y)"
    assert conf["without_folders"](text, ROOT / "docs") == text.replace("[`results`](../bench/results)", "`results`")


def test_a_page_that_a_description_names_becomes_a_link(conf: dict[str, Any]) -> None:
    text = "Written by `python > docs/api.md`. See docs/data.md; (docs/int8.md), https://x.org/docs/a.md."
    links = "See [data](data.md); ([int8](int8.md)), https://x.org/docs/a.md."
    assert conf["linked"](text) == text.partition(" See")[0] + " " + links


def test_the_screenshots_are_small_and_each_has_a_place() -> None:
    """A section's picture begins with its heading."""
    taken = runpy.run_path(str(ROOT / "docs" / "figures" / "screenshots.py"))
    page = (ROOT / "docs" / "pictures.md").read_text(encoding="utf-8")
    pictures = {path.stem: path for path in (ROOT / "docs" / "figures").glob("*.png")}
    assert pictures.keys() == taken["PICTURES"].keys()
    for name, path in pictures.items():
        assert path.stat().st_size < taken["LARGEST"] and f"(figures/{name}.png)" in page
    html = '<style>s</style><h1>Page</h1><h2 id="a">One</h2>1<h2 id="b">Two</h2>2'
    assert taken["part"](html, "Two") == '<style>s</style><h2 id="b">Two</h2>2' and taken["part"](html, "") == html
    with pytest.raises(ValueError):
        taken["part"](html, "Three")
