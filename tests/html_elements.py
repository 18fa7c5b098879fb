"""A page's elements, read back, and what must hold for every page: data are text, and nothing runs or is fetched."""

from __future__ import annotations

import html.parser
import re

from infoprompt_jax.reports import pages

HOSTILE = "</style></title><script>document.title='hit'</script><img src=x onerror=\"document.title='hit'\">'&amp;"
VOID = {"meta", "img"}
TAGS = set(
    re.findall(
        r"\w+",
        "html head meta title style body h1 h2 h3 h4 nav p a b div span small table thead tbody tr th td ul li figure "
        "figcaption svg path details summary blockquote img",
    )
)


class Elements(html.parser.HTMLParser):
    """Every element as (tag, attributes, what stands in it as text)."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.open: list[tuple[str, list[str]]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), []))
        if tag not in VOID:
            self.open.append((tag, self.elements[-1][2]))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        for _, text in self.open:
            text.append(data)

    def texts(self, tag: str) -> list[str]:
        return ["".join(text) for name, _, text in self.elements if name == tag]


def assert_fetches_nothing(text: str) -> None:
    """Known elements only, links within the page, pictures inside it, and a policy that forbids all else."""
    page = Elements(text)
    assert {tag for tag, _, _ in page.elements} <= TAGS
    for tag, attributes, _ in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name in ("srcset", "action")], tag
        assert (attributes.get("href") or "#").startswith("#")
        assert tag == "img" or "src" not in attributes, tag
        assert re.fullmatch(
            r"data:image/png;base64,[A-Za-z0-9+/=]+", attributes.get("src") or "data:image/png;base64,A"
        )
    (style,) = page.texts("style")
    assert style == pages.STYLE and not re.search(r"url|@import|<", style)
    assert not re.search("https?:", text)
    policies = [a.get("content") or "" for tag, a, _ in page.elements if tag == "meta"]
    assert any(
        policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;") for policy in policies
    )
