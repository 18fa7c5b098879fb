"""HTML pages in one file, without requests to the network, without scripts, with data only as text.

Everything is made by `tag`, which escapes all that `tag` did not make: a template that contains <script> is shown, not
run. As a second barrier, the page's content security policy forbids browsers to load or run anything.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from markupsafe import Markup

from infoprompt_jax.files import whole

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
STYLE = Markup("""
:root { color-scheme: light }
body { font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; color: #1a1a1a; background: #fff;
       max-width: 72rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere }
h1 { font-size: 1.6rem; line-height: 1.2 }
h2 { font-size: 1.3rem; margin: 2.5rem 0 .5rem } h3 { margin: 1.5rem 0 .4rem }
p { max-width: 48rem } a { color: #00588a } small, figcaption { color: #555; font-size: .875rem }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; margin: 1rem 0 }
.wide { overflow-x: auto; margin: .5rem 0 1rem }
table { border-collapse: collapse; font-size: .875rem; overflow-wrap: normal }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top }
thead th { border-bottom: 2px solid #888; vertical-align: bottom; line-height: 1.25 }
.figure { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
thead .figure { white-space: normal }
.name { min-width: 7rem }
td small { display: block; white-space: nowrap }
.wide tr > :first-child { position: sticky; left: 0; z-index: 1; background: #fff }
.side { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: .5rem 1.5rem;
        margin: .5rem 0 1.2rem }
figure { margin: .5rem 0 1rem } figure img { max-width: 100% }
svg.map { width: 100%; background: #fafafa; border: 1px solid #ddd }
svg.map path { stroke: #fff; stroke-width: .8 }
svg.map a:hover path, svg.map a:focus path { stroke: #000; stroke-width: 2 }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; list-style: none; padding: 0; margin: .5rem 0 }
.legend svg { width: 1em; height: 1em; vertical-align: -.12em; margin-right: .35em }
.heat td { text-align: center; padding: .2rem .3rem; min-width: 2.3rem; border: 1px solid #eee }
.heat th { border: 0; padding: .2rem .5rem; font-weight: normal }
.heat tbody th { text-align: right; white-space: nowrap }
.heat thead th { writing-mode: vertical-rl; transform: rotate(180deg); white-space: nowrap; padding: .5rem .2rem }
.heat thead td { border: 0 }
details { border-top: 1px solid #ddd; padding: .4rem 0 }
summary { cursor: pointer } summary small { margin-left: .8rem; font-variant-numeric: tabular-nums }
blockquote { margin: 0; padding: .4rem .7rem; background: #f6f6f6; border-left: 3px solid #0072B2; font-size: .875rem;
             white-space: pre-wrap; max-height: 14rem; overflow: auto }
:target { background: #fff0b3; outline: 4px solid #fff0b3 }
""")


VOID = ("img",)  # elements that hold nothing, and have no end


def tag(name: str, *content: object, **attributes: object) -> Markup:
    """An element with attributes (`class_` is the attribute class); text in it is escaped."""
    pairs = (Markup(' {}="{}"').format(key.rstrip("_"), value) for key, value in attributes.items())
    end = Markup("") if name in VOID else Markup("</{}>").format(name)
    return Markup("<{}{}>{}{}").format(name, Markup("").join(pairs), join(content), end)


def join(parts: Iterable[object], separator: str = "") -> Markup:
    """The parts, escaped, in one text."""
    return Markup(separator).join(parts)  # type: ignore[arg-type]  (it escapes all that is not Markup)


def table(header: Sequence[object], rows: Iterable[Sequence[object]], names: int = 1) -> Markup:
    """A table that scrolls sideways; the first `names` columns are text, the others numbers."""

    def cells(kind: str, row: Sequence[object]) -> Markup:
        return tag("tr", *(tag(kind, x, class_="name" if i < names else "figure") for i, x in enumerate(row)))

    body = (cells("td", row) for row in rows)
    return tag("div", tag("table", tag("thead", cells("th", header)), tag("tbody", *body)), class_="wide")


def fold(summary: object, *content: object) -> Markup:
    """Content that is shown after a click on `summary`."""
    return tag("details", tag("summary", summary), *content)


def bullets(items: Iterable[object], **attributes: Any) -> Markup:
    """A list."""
    return tag("ul", *(tag("li", item) for item in items), **attributes)


def write(path: str | pathlib.Path, title: str, sections: Iterable[tuple[str, Sequence[object]]]) -> None:
    """Writes a page, whole or not at all.

    Args:
      path: the HTML file.
      title: its title and first heading.
      sections: (heading, content) each; links to them follow the title.
    """
    sections = list(sections)
    links = (tag("a", heading, href=f"#section-{number}") for number, (heading, _) in enumerate(sections))
    body = (join([tag("h2", h, id=f"section-{n}"), *content, "\n"]) for n, (h, content) in enumerate(sections))
    head = Markup(
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="{}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<title>{}</title><style>{}</style></head>\n"
    ).format(POLICY, title, STYLE)
    page = join([head, tag("body", tag("h1", title), tag("nav", *links), "\n", *body), Markup("</html>\n")])
    with whole(path) as partial:
        partial.write_bytes(page.encode("utf-8", "replace"))  # instances may have lone surrogates
