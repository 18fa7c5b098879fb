"""The analysis of an evaluation, worked by hand."""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np
import tiny
from safetensors.numpy import save_file

from infoprompt_jax.prompts.saved import Prompt
from infoprompt_jax.rospr import analysis as rospr_analysis
from infoprompt_jax.rospr import page, relations, tables
from infoprompt_jax.rospr.library import PromptLibrary
from infoprompt_jax.rospr.library_files import Entry, Model
from infoprompt_jax.rospr.library_sources import SourcePrompt
from infoprompt_jax.rospr.records import Candidate, TargetRecord
from infoprompt_jax.settings import defaults

P = 3
# Two source prompts with two keys each; the first is a yes/no task, the second of the target's family.
KEYS = {0: [[1.0, 0.0], [0.9, 0.0]], 1: [[0.0, 1.0], [0.8, 0.0]]}


def candidate(owner: int, entry: Entry, votes: int) -> Candidate:
    known = entry.name, entry.dataset, entry.template, entry.family, entry.answer_format
    return Candidate(owner, *known, votes, 1.0, None, None, None, {})


def by_hand(directory: pathlib.Path) -> tuple[list[TargetRecord], PromptLibrary]:
    """A target whose labels are all 1, with queries along the first axis; prompt 0 is right on 3 of 4 rows, 1 on 1."""
    entries = [Entry("a", "one", "t", "sentiment", "yes/no"), Entry("b", "two", "t", "inference", "options")]
    value = Prompt(np.ones((P, 4), np.float32), {"backbone": "b", "fingerprint": "0b"})
    sources = [SourcePrompt(e, value, np.array(KEYS[m], np.float32)) for m, e in enumerate(entries)]
    models = Model("r", "0a", 2), Model("b", "0b", 4)
    library = PromptLibrary.create(directory / "library", *models, sources, mesh=tiny.one_device())
    record = TargetRecord(
        target="x:t", file="x", dataset="x", task="x", template="t", split="test", family="inference",
        answer_format="yes/no", beyond_t0=False, metric="accuracy", rows=4, cut_inputs_of_split=0, query_split="test",
        query_rows=[0, 1], made_by={}, left_out=[], scores={"none": 0.5, "rospr": 0.75}, chosen={"none": []},
        candidates=[candidate(0, entries[0], 3), candidate(1, entries[1], 1)], nearest=[],
    )  # fmt: skip
    predictions = np.array([[1, 1, 1, 0], [0, 0, 0, 1]], np.int32)
    table = {"predictions": predictions, "labels": np.ones(4, np.int32)}
    save_file(table | {"query_keys": np.array([[1, 0], [0, 1]], np.float32)}, directory / "x.safetensors")
    return [record], library


def test_the_analysis_by_hand(tmp_path: pathlib.Path) -> None:
    """Both queries together, two hits each: keys 0 and 1, then 2 and 0 (of the three zeros the first): three for 0."""
    records, library = by_hand(tmp_path)
    config = defaults()
    config.rospr.top = 2
    analysed = rospr_analysis.analyse(records, tmp_path, library, config.rospr, seed=0)
    assert analysed["retrieval"] == {"sources": ["one", "two"], "targets": ["x"], "share": [[0.75], [0.25]]}
    assert analysed["relations"]["every"] == {
        "format alone": {"pairs": 1, "gain": 0.25, "better": 1.0},
        "family alone": {"pairs": 1, "gain": -0.25, "better": 0.0},
    }
    assert analysed["relations"]["retrieved"] == {"format alone": {"pairs": 1, "gain": 0.25, "better": 1.0}}
    assert analysed["unknown_family"] == {"every": 0, "retrieved": 0}
    assert analysed["by_task"] == [{"dataset": "x", "template": "t", "gains": analysed["relations"]["every"]}]
    assert analysed["contrasts"] == [
        {"more": "format alone", "less": "family alone", "datasets": 1, "difference": 0.5, "spread": None}
    ]
    assert {row["value"]: row["mean"] for row in analysed["varied"]["top"]} == {1: 0.75, 2: 0.75, 4: 0.75}
    assert [row["value"] for row in analysed["varied"]["queries"]] == [1, 2]
    assert (
        analysed["varied"]["queries"][-1]
        == analysed["varied"]["prompts"][-1]
        == {"value": 2, "mean": 0.75, "spread": 0.0}
    )


def test_an_unknown_family_is_not_another_one(tmp_path: pathlib.Path) -> None:
    """Of a target as BIG-bench's, in no pair; the count is above each table."""
    (record,), library = by_hand(tmp_path)
    unknown = dataclasses.replace(record, family="")
    qualities = [np.array([0.75, 0.25])] * 2
    analysed, count = relations.pooled([record, unknown], qualities, library.entries)
    assert analysed == relations.pooled([record], qualities[:1], library.entries)[0]
    assert count == {"every": 2, "retrieved": 1}
    analysed, count = relations.pooled([unknown], qualities[:1], library.entries)
    assert analysed == {"every": {}, "retrieved": {}} and count == {"every": 2, "retrieved": 1}
    analysis = {"relations": analysed, "unknown_family": count}
    assert "Left out are 2 pairs" in tables.unknown_family(analysis, "every")[0]
    assert tables.unknown_family({"relations": analysed}, "every") == []
    shown = str(page.analysis(analysis)[0][1])
    assert "Left out are 2 pairs" in shown and "Left out are 1 pairs" in shown and "<table" not in shown


def test_source_prompts_are_compared_on_the_same_task(tmp_path: pathlib.Path) -> None:
    """On x, the prompt of its format gains 20 and 10 points more than that of its family, by template; on y, 30 more.

    z has no prompt of its family, so it does not count. Over all pairs it would, and y would count for more.
    """
    (record,), _ = by_hand(tmp_path)
    traits = [("inference", "options"), ("sentiment", "yes/no"), ("sentiment", "yes/no"), ("topic", "yes/no")]
    entries = [Entry(str(number), "d", "t", *of) for number, of in enumerate(traits)]
    x = dataclasses.replace(record, dataset="x", scores={"none": 0.5}, left_out=[2, 3])
    y = dataclasses.replace(record, dataset="y", scores={"none": 0.9}, left_out=[])
    z = dataclasses.replace(record, dataset="z", scores={"none": 0.5}, left_out=[0])
    records = [x, dataclasses.replace(x, template="u"), y, z]
    gains = [[0.2, 0.4, 0, 0], [0.2, 0.3, 0, 0], [-0.5, -0.2, -0.2, -0.2], [0, 0.1, 0.1, 0.1]]
    qualities = [np.array(of) + one.scores["none"] for of, one in zip(gains, records, strict=True)]
    of_tasks = relations.by_task(records, qualities, entries)
    within = relations.within(of_tasks, "format alone", "family alone")
    assert {name: round(value, 9) for name, value in within.items()} == {"x": 0.15, "y": 0.3}
    (contrast,) = relations.contrasts(of_tasks)
    assert contrast["datasets"] == 2 and np.isclose(contrast["difference"], 0.225)
    every = relations.pooled(records, qualities, entries)[0]["every"]
    assert np.isclose(every["format alone"]["gain"] - every["family alone"]["gain"], 0.4 / 8 + 0.1 / 3)
    assert tables.contrasts([contrast]) == [["format alone", "family alone", "2", "+0.2250", "0.1061"]]
    assert "+0.2250" in str(page.analysis({"contrasts": [contrast]})[0][1])


def test_the_choice_of_a_smaller_library_by_hand() -> None:
    """Without prompt 0 it is prompt 1; with the second query alone and one hit, key 2 is found, which is prompt 1's."""
    owners_K, quality_M = np.array([0, 0, 1, 1]), np.array([0.75, 0.25])
    keys_KR, queries_QR = np.array(KEYS[0] + KEYS[1]), np.eye(2)
    scores_QK = queries_QR @ keys_KR.T
    order_QK = np.argsort(-scores_QK, axis=1, kind="stable")
    scores_QK = np.take_along_axis(scores_QK, order_QK, axis=1)
    one = rospr_analysis.Searched("x", order_QK, scores_QK, quality_M, ())
    everything = np.ones(4, bool)
    assert one.top1(owners_K, everything, np.array([0, 1]), 2) == 0.75
    assert one.top1(owners_K, owners_K == 1, np.array([0, 1]), 2) == 0.25
    assert one.top1(owners_K, everything, np.array([1]), 1) == 0.25
    assert one.top1(owners_K, everything, np.array([0]), 3) == 0.75
    uneven_K = np.array([2, 0, 1, 0, 0, 2, 0])
    for seed in range(5):
        kept_K = rospr_analysis.kept_keys(uneven_K, 2, 2, [1], np.random.default_rng(seed))
        assert sorted(uneven_K[kept_K]) == [0, 0, 2, 2]
        (owner,) = uneven_K[rospr_analysis.kept_keys(uneven_K, 1, 1, [1], np.random.default_rng(seed))]
        assert owner in (0, 2)


def test_retrieval_without_the_oracle(tmp_path: pathlib.Path) -> None:
    records, library = by_hand(tmp_path)
    (tmp_path / "x.safetensors").unlink()
    assert rospr_analysis.analyse(records, tmp_path, library, defaults().rospr, 0).keys() == {"retrieval"}
