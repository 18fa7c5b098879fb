"""Records and results as types: what they are made of by hand, and that their files give them back."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import pytest

from infoprompt_jax.checksums import write_json
from infoprompt_jax.rospr import records, tables
from infoprompt_jax.rospr.records import Candidate, Nearest, Part, TargetRecord
from infoprompt_jax.rospr.results import LibrarySize, Results, SkippedTask

LIBRARY = LibrarySize("runs/library", 3, 24)
SCORED = Candidate(2, "b:t", "b", "t", "qa", "yes/no", 5, 0.25, [3, 1], 0.0625, 68.9, {"inter": 0.75})
BEYOND = Candidate(0, "a:t", "a", "t", "", "", 1, None, None, None, None, {})


def record(
    dataset: str, template: str, scores: dict[str, float], rows: int = 8, beyond_t0: bool = False
) -> TargetRecord:
    return TargetRecord(
        target=f"{dataset}:{template}", file=f"{dataset}-0a", dataset=dataset, task=f"p3/{dataset}", template=template,
        split="validation", family="inference", answer_format="yes/no", beyond_t0=beyond_t0, metric="accuracy",
        rows=rows, cut_inputs_of_split=1, query_split="validation", query_rows=[0, 3], made_by={"library": "0a"},
        left_out=[1], scores=scores,
        chosen={"inter": [Part("b:t", 0.75), Part("a:t", 0.25)], "per_query": [Part("b:t", rows=5)], "none": []},
        candidates=[SCORED, BEYOND], nearest=[Nearest(7, "an instance", 0.5, 3, "a query \ud800")],
    )  # fmt: skip


def test_a_record_is_read_back_from_its_file(tmp_path: pathlib.Path) -> None:
    made = record("rte", "t", {"none": 0.5, "inter": 0.75})
    write_json(tmp_path / "record.json", made.to_json())
    content = json.loads((tmp_path / "record.json").read_text(encoding="utf-8"))
    assert list(content) == ["checksum", *(field.name for field in dataclasses.fields(TargetRecord))]
    assert content["chosen"]["inter"][0] == {"name": "b:t", "weight": 0.75}
    assert content["chosen"]["per_query"] == [{"name": "b:t", "rows": 5}]
    assert records.read_record(tmp_path / "record.json") == made


@pytest.mark.parametrize("wrong", ["missing", "unknown", "no object"])
def test_what_is_no_record_is_refused(wrong: str) -> None:
    content = record("rte", "t", {"none": 0.5}).to_json()
    if wrong == "missing":
        del content["made_by"]
    elif wrong == "unknown":
        content["candidates"][0]["votez"] = 1
    with pytest.raises((KeyError, TypeError)):
        TargetRecord.from_json(["record"] if wrong == "no object" else content)


def made(*of: TargetRecord) -> Results:
    return Results.of(of, [SkippedTask("copa", "no file")], LIBRARY, {"retrieval": {"sources": []}})


def test_results_are_read_back_from_their_file(tmp_path: pathlib.Path) -> None:
    results = made(record("rte", "t", {"none": 0.5, "inter": 0.75}), record("cb", "t", {"none": 0.5, "inter": 0.25}))
    write_json(tmp_path / "results.json", results.to_json())
    content = json.loads((tmp_path / "results.json").read_text())
    assert list(content) == ["checksum", "library", "datasets", "mean", "better", "targets", "skipped", "analysis"]
    assert content["better"] == {"inter": 1} and content["mean"] == {"none": 0.5, "inter": 0.5}
    assert Results.from_json(content) == results


def test_names_in_results_md_are_text() -> None:
    votes = {"sources": ["s|\n<b>"], "targets": ["<i>"], "share": [[1.0]]}
    hostile = dataclasses.replace(record("<script>", "`t`", {"none": 0.5, "inter": 0.5}), target="<script>:`t`\n|")
    skipped = [SkippedTask("[a](b)", "why\n# not")]
    shown = tables.page(Results.of([hostile], skipped, LIBRARY, {"retrieval": votes}))
    assert not set("<`[") & set(shown) and "&#60;script&#62;" not in shown
    assert "| &#60;script>:&#96;t&#96; &#124; |" in shown and "| s&#124; &#60;b> |" in shown
    assert "| &#91;a&#93;(b) | why # not |" in shown


def test_without_no_prompt_nothing_is_better() -> None:
    assert "better" not in made(record("rte", "t", {"rospr": 0.5})).to_json()


def test_the_mean_of_t0s_own_templates_stands_apart() -> None:
    """HellaSwag with 0.5 and, of a template beyond T0's, 0.9 on part of its rows; ANLI with 0.3; another data set."""
    hellaswag, beyond = record("hellaswag", "0", {"none": 0.5}), record("hellaswag", "1", {"none": 0.9}, 4, True)
    others = record("anli_r1", "2", {"none": 0.3}), record("a", "3", {"none": 0.0})
    results = made(hellaswag, beyond, *others)
    assert results.mean["none"] == pytest.approx(1 / 3)
    assert results.mean_of_t0 is not None and results.mean_of_t0["none"] == pytest.approx(0.4)
    shown = tables.table(results.summary())
    assert "4-8" in shown and "of T0's" in shown and "3 source prompts with 24 keys, runs/library" in shown
    assert "1 skipped; results.md has the reasons." in shown
    assert made(hellaswag, dataclasses.replace(beyond, beyond_t0=False), *others).mean_of_t0 is None
