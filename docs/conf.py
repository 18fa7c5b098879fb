"""The site: `make site` builds it with Sphinx into build/site from README.md, docs/, notebooks/ and a few other pages.

The pages stay plain Markdown, which GitHub shows as it is. Three things happen on their way into the site: the lists of
docs/index.md become the navigation, notebooks become Markdown, and a link to a folder becomes the folder's name.
"""

from __future__ import annotations

import json
import pathlib
import re
import textwrap
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]

project = "infoprompt_jax"
html_title = project
html_show_copyright = False
language = "en"

# The sources are the repository's root, so that links between its pages hold on the site as they do on GitHub.
root_doc = "docs/index"
FOLDERS = ("docs", "launch", "notebooks", "experiments")
include_patterns = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"]
include_patterns += ["docs/**.md", "launch/**.md", "notebooks/**.ipynb", "experiments/**.md"]
exclude_patterns = [path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in FOLDERS]  # not walked
source_suffix = {".md": "markdown", ".ipynb": "markdown"}

extensions = ["myst_parser"]
myst_heading_anchors = 4  # as GitHub makes them
nitpicky = True
highlight_language = "none"  # of blocks that name no language
smartquotes = False  # "" is a value of fields
GENERATED = {"docs/configuration", "docs/api"}  # from texts that also appear where there are no links
LINE = 120  # characters of what a notebook prints, in a line

html_theme = "furo"
html_copy_source = False
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b6e6e", "color-brand-content": "#0b6e6e"},
    "dark_css_variables": {"color-brand-primary": "#5cc8c0", "color-brand-content": "#5cc8c0"},
}


def navigation(text: str) -> str:
    """A hidden table of contents for each section of docs/index.md, of the pages in its list."""
    trees = []
    for section in text.split("\n## ")[1:]:
        pages = re.findall(r"^\* \[(.+?)\]\(([^)#]+)\)", section, re.M)
        entries = [f"{title} <{page.rpartition('.')[0]}>" for title, page in pages]
        trees += ["```{toctree}", ":hidden:", f":caption: {section.splitlines()[0]}", "", *entries, "```", ""]
    return "\n".join(trees)


def markdown(notebook: str) -> str:
    """A notebook's cells, with what they print and draw."""
    blocks = []
    for cell in json.loads(notebook)["cells"]:
        text = "".join(cell["source"])
        blocks.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {"text/plain": output.get("text", [])})
            if "image/png" in data:
                blocks.append(f"![What this cell draws](data:image/png;base64,{''.join(data['image/png'].split())})")
                continue
            printed = "\n".join(map(wrapped, "".join(data.get("text/plain", [])).splitlines()))
            fence = "`" * max(3, 1 + max(map(len, re.findall("`+", printed)), default=0))
            blocks.append(f"{fence}text\n{printed.rstrip()}\n{fence}")
    return "\n\n".join(blocks)


def wrapped(line: str) -> str:
    """A printed line that no screen has room for, such as a warning, in several."""
    return line if len(line) <= LINE else textwrap.fill(line, LINE, subsequent_indent="    ", break_long_words=False)


def without_folders(text: str, folder: pathlib.Path) -> str:
    """The text with links to folders, which the site does not have, replaced by their names."""

    def name(match: re.Match[str]) -> str:
        return match[1] if (folder / match[2]).is_dir() else match[0]

    return re.sub(r"\[([^\]]+)\]\(([^)\s:#]+)\)", name, text)


def linked(text: str) -> str:
    """The text with links where a docstring or a field's description names a page: docs/data.md."""
    return re.sub(r"(?<![\w/`])(?<!> )docs/([\w-]+)\.md(?!`)", r"[\1](\1.md)", text)


def read(app: Any, page: str, source: list[str]) -> None:
    """Changes a page's text before Sphinx parses it."""
    if page.startswith("notebooks/"):
        source[0] = markdown(source[0])
    source[0] = without_folders(source[0], (ROOT / page).parent)
    if page in GENERATED:
        source[0] = linked(source[0])
    if page == root_doc:
        source[0] += "\n" + navigation(source[0])


def first_page(app: Any, error: Exception | None) -> None:
    """The address of the site itself leads to docs/index.html."""
    if error is None:
        start = '<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url=docs/index.html">\n'
        title, link = f"<title>{project}</title>\n", '<a href="docs/index.html">The documentation</a>\n'
        (pathlib.Path(app.outdir) / "index.html").write_text(start + title + link, encoding="utf-8")


def setup(app: Any) -> None:
    app.connect("source-read", read)
    app.connect("build-finished", first_page)
