"""What a release consists of agrees: the version in three places, the citation, and the forms for issues."""

from __future__ import annotations

import pathlib
import re
import tomllib
from typing import Any

import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


@pytest.fixture(scope="module")
def citation() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def test_the_version_stands_in_three_places(citation: dict[str, Any]) -> None:
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$", changes, re.M)
    assert citation["version"] == released[0] == PROJECT["version"]
    assert re.findall(r"^## \[(.*?)\]", changes, re.M) == ["Unreleased", *released]
    assert citation["abstract"] == PROJECT["description"] and citation["title"] == PROJECT["name"]


def test_the_citation_has_what_its_format_demands(citation: dict[str, Any]) -> None:
    """Of version 1.2.0: the keys without which a file is not valid, and both papers as the README names them."""
    assert citation.keys() >= {"cff-version", "message", "title", "authors"} and citation["cff-version"] == "1.2.0"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    papers = [reference["url"].rpartition("/")[2] for reference in citation["references"]]
    assert papers == re.findall(r"^\* \*\*.*\[arXiv ([\d.]+)\]", readme, re.M)
    for reference, paper in zip(citation["references"], papers, strict=True):
        assert reference.keys() >= {"type", "title", "authors"} and reference["doi"] == f"10.48550/arXiv.{paper}"
        assert all(author.keys() == {"family-names", "given-names"} for author in reference["authors"])


@pytest.mark.parametrize("path", [path for path in FORMS if path.stem != "config"], ids=lambda path: path.stem)
def test_a_form_is_one_that_github_reads(path: pathlib.Path) -> None:
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert form.keys() == {"name", "description", "body"}
    ids = [part["id"] for part in form["body"]]
    assert len(set(ids)) == len(ids) and any(part.get("validations", {}).get("required") for part in form["body"])
    assert all(part["type"] == "textarea" and part["attributes"]["label"] for part in form["body"])
