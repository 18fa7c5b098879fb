"""RoSPr at T0's shape on mini: its rows, the bag-of-words retriever, that a finished seed is kept, and its tables."""

from __future__ import annotations

import copy
import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
import pytest

from experiments import p3_rows, real_rospr, real_rospr_report
from experiments.overlap import Overlap
from experiments.p3_rows import SIZES, Writer
from experiments.pages import UNMEASURED
from experiments.real_rospr import Place
from experiments.word_retrieval import WordLibrary
from infoprompt_jax.data import p3
from infoprompt_jax.data.tasks import Task
from infoprompt_jax.data.template_yaml import load_templates
from infoprompt_jax.data.templates import Template
from infoprompt_jax.rospr import retrieval

TINY = SIZES["tiny"]


def lines(file: pathlib.Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.open(encoding="utf-8")]


@pytest.fixture(scope="module")
def writer(shared: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> Writer:
    """Three source data sets, of raw rows, of rendered ones and of none; and a held-out and a near data set."""
    writer = Writer(shared, tmp_path_factory.mktemp("rows"), TINY, Overlap({}))
    writer.write(("ag_news", "quail", "hotpot_qa"), ("super_glue_cb", "glue/mrpc"))
    return writer


@pytest.fixture(scope="module")
def written(writer: Writer) -> pathlib.Path:
    return writer.out


def test_rows_are_those_of_the_named_source_task(written: pathlib.Path) -> None:
    """Each template applies to its own rows only, and the data set's labels are all there."""
    facts = json.loads((written / "facts.json").read_text())
    for dataset, choices in {"ag_news": 4, "quail": None}.items():
        templates = load_templates(str(written / "sources" / "templates"), dataset)
        rows = lines(written / "sources" / "rows" / dataset / "train.jsonl")
        assert {row["template"] for row in rows} == set(templates) <= set(_source(dataset).templates)
        (template,) = templates.values()
        assert template.render(rows[0] | {"template": "another"}) is None
        examples = [Task(dataset, template, "accuracy").render(row) for row in rows]
        assert all(one is not None and one.target in one.choices for one in examples)
        assert len(rows) == facts["sources"][f"{dataset}:{template.name}"]["rows"]
        if choices:
            assert len({row["target"] for row in rows}) == choices  # the self-instruct file has two of them
    assert facts["sources"]["ag_news:classify_question_first"] == {
        "family": "topic", "answer_format": "label words", "rows": 112, "rendered_here": True,
    }  # fmt: skip
    assert [one for one in facts["missing"] if one.startswith("hotpot_qa")] and len(facts["sources"]) == 2


def _source(name: str) -> Any:
    return next(one for one in p3.sources() if one.name == name)


def test_files_with_a_single_label_are_not_read(writer: Writer) -> None:
    rows = writer.of_p3
    (only,) = {len(of) for (name, template), of in rows.items() if (name, template) == ("imdb", "Reviewer Enjoyment")}
    assert only < 200  # ReCross's rows of the training split; the other file has 200 negative ones
    assert {row["target"] for row in rows["rotten_tomatoes", "Reviewer Enjoyment Yes No"]} == {"Yes", "No"}


def test_no_evaluated_data_set_is_a_source(written: pathlib.Path) -> None:
    sources = {alias for one in p3.sources() for alias in p3.aliases(one.name)}
    held_out = [one for one in p3_rows.evaluation_sets() if one.name not in p3_rows.NEAR]
    assert len(held_out) == 11 and not sources & {alias for one in held_out for alias in p3.aliases(one.name)}
    assert sources & set(p3_rows.NEAR) == {"glue/mrpc", "ag_news", "trec"}  # whose own prompts RoSPr leaves out
    assert len(lines(written / "evaluation" / "rows" / "super_glue" / "cb" / "validation.jsonl")) == 56
    assert (written / "evaluation" / "rows" / "glue" / "mrpc" / "validation.jsonl").exists()


def test_rows_that_overlap_or_repeat_are_left_out(shared: pathlib.Path, tmp_path: pathlib.Path) -> None:
    writer = Writer(shared, tmp_path, TINY, Overlap({}))
    (template,) = writer.templates("ag_news", ["classify_with_choices"])
    kept = writer.kept(_source("ag_news"), template)
    writer = Writer(shared, tmp_path, TINY, Overlap({"test": [kept[0]["input"]]}))
    again = writer.kept(_source("ag_news"), template)
    assert kept[0]["input"] not in {row["input"] for row in again} and writer.facts["overlapping"] >= 1
    assert len(again) == len(kept) == len({row["input"] for row in kept}) == TINY.rows


def test_templates_take_turns_between_answer_formats() -> None:
    choices = {"free": "", "a": "good ||| bad", "b": "left ||| right", "yes": "Yes ||| No", "own": "{{ options }}"}
    made = [Template(name, name, "{{ x }} ||| {{ y }}", of) for name, of in choices.items()]
    assert [one.name for one in p3_rows.spread(made)] == ["a", "yes", "own", "free", "b"]
    formats = [p3_rows.format_of(one) for one in made]
    assert formats == ["free text", "label words", "label words", "yes/no", "options"]


class Instances:
    """What `WordLibrary` reads of a library: three source prompts with two instances each."""

    owners_K = np.array([0, 0, 1, 1, 2, 2], np.int32)
    texts = ("fine film", "fine actors", "river and hill", "river bank", "tax law", "tax court")

    def text(self, key: int) -> str:
        return self.texts[key]


def test_the_bag_of_words_votes_for_instances_with_the_same_words() -> None:
    words = WordLibrary(Instances())  # type: ignore[arg-type]
    queries = np.array(["A fine day", "the river"], object)
    hits = retrieval.search(words, queries, top=2)
    assert hits.owners_QN.tolist() == [[0, 0], [1, 1]] and hits.keys_QN.tolist() == [[0, 1], [2, 3]]
    assert 0 not in retrieval.search(words, queries, top=2, exclude=[0]).owners_QN


def test_a_finished_seed_is_not_trained_again(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that are there are not written again, and the first job of a new seed is its source prompts."""
    place, results = Place(tmp_path / "none", tmp_path / "runs", TINY), tmp_path / "results"
    place.rows.mkdir(parents=True)
    (place.rows / "facts.json").write_text(json.dumps({"size": dataclasses.asdict(TINY)}))
    results.mkdir()
    (results / "3.json").write_text(json.dumps({"groups": {"held out": {}}}))
    jobs: list[list[str]] = []

    def start(command: list[str], **_: object) -> None:
        jobs.append(command)
        raise InterruptedError

    monkeypatch.setattr(real_rospr.subprocess, "run", start)
    real_rospr.run(place, results, [3], ["held out"])
    with pytest.raises(InterruptedError):
        real_rospr.run(place, results, [3, 4], ["held out"])
    ((_, _, _, config, workdir, seed, *fields),) = jobs
    assert (config, seed) == ("--config=configs/rospr_sources.py:mini", "--config.seed=4")
    assert workdir == f"--workdir={place.directory}/4/sources" and "--config.train.steps=4" in fields


def test_a_group_is_added_to_a_seeds_result(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is asked for and missing is evaluated, and what was there stays, with the device it ran on."""
    place, results = Place(tmp_path / "none", tmp_path / "runs", TINY), tmp_path / "results"
    place.rows.mkdir(parents=True)
    (place.rows / "facts.json").write_text(json.dumps({"size": dataclasses.asdict(TINY)}))
    results.mkdir()
    (results / "0.json").write_text(
        json.dumps({"groups": {"held out": {"of": 1}}, "missing": {"a": "b"}, "device": "H100", "machine": 1})
    )
    summary = place.directory / "0" / "sources" / "groups" / "0000" / "summary.json"
    summary.parent.mkdir(parents=True)
    summary.write_text(json.dumps({"device": "cpu"}))
    started: list[str] = []
    monkeypatch.setattr(real_rospr, "job", lambda config, workdir, *_: started.append(f"{config} {workdir.name}"))
    monkeypatch.setattr(
        real_rospr, "extract", lambda _, groups, __: {"groups": {group: {"of": 2} for group in groups}, "missing": {}}
    )
    real_rospr.run(place, results, [0], ["held out", "near"])
    assert started == ["rospr_sources.py:mini sources", "rospr_eval.py:mini near"]
    made = json.loads((results / "0.json").read_text())
    assert made["groups"] == {"held out": {"of": 1, "device": "H100", "machine": 1}, "near": {"of": 2}}
    assert (made["missing"], made["device"]) == ({"a": "b"}, "cpu")


def task(dataset: str, none: float, gain: float) -> dict[str, Any]:
    scores = dict.fromkeys(real_rospr_report.METHODS, none + gain) | {"none": none, "words_per_query": none}
    scores |= {"words": none, "rospr": none + gain}
    shares = {name: {"answer_format": 0.5, "family": 0.25} for name in real_rospr_report.RETRIEVERS}
    return {"dataset": dataset, "template": "t", "rows": 32, "scores": scores, "shares": shares}


def result(seed: int) -> dict[str, Any]:
    """Every method but the bag of words gains four points on one data set, and two on the other."""
    kinds = {
        "format alone": {"pairs": 2, "gain": 0.03, "better": 0.5},
        "family alone": {"pairs": 1, "gain": 0.02, "better": 1},
        "neither": {"pairs": 4, "gain": 0.01, "better": 0},
    }
    relations = {name: {"every": kinds, "retrieved": {}} for name in ("encoder", "words")}
    tasks = [task("a", 0.5 + seed / 100, 0.04), task("a", 0.5, 0.04), task("b", 0.3, 0.02)]
    groups = {group: {"tasks": tasks, "relations": relations} for group in real_rospr_report.GROUPS}
    missing = {"hotpot_qa:one": "0 rows at hand", "hotpot_qa:two": "0 rows at hand", "story_cloze": "no rows at hand"}
    about = {"sources": 70, "keys": 7000, "missing": missing, "size": vars(TINY), "seed": seed}
    return copy.deepcopy({"groups": groups} | about)


def test_the_tables_of_a_result_made_by_hand() -> None:
    """Means are over templates, then over data sets; differences are paired by seed."""
    results = [result(seed) for seed in range(3)]
    accuracy = real_rospr_report.accuracy_table(results).splitlines()
    assert accuracy[2].startswith("| a | 2 | 32 | 50.5 ± 0.5 | 54.5 ± 0.5 |")
    assert accuracy[4].startswith("| mean of 2: T0's held-out sets | 3 |  | 40.2 ± 0.3 | 43.3 ± 0.3 |")
    assert accuracy[5].startswith("| minus no prompt |  |  |  | **+3.0 [3.0, 3.0]** |")
    # Over the data sets' +4 and +2: a deviation of the mean of 1, and 12.706 of them on each side.
    assert accuracy[6].startswith("| the same, over data sets |  |  |  | +3.0 [-9.7, 15.7] |")
    assert accuracy[7].startswith("| minus RoSPr |  |  |  |  |")
    retrievers = real_rospr_report.retrievers_table(results).splitlines()
    start = "| T0's held-out sets | bag of words | 40.2 ± 0.3 | 40.2 ± 0.3 | 50.0 ± 0.0 | 25.0 ± 0.0 |"
    assert retrievers[3] == f"{start} **-3.0 [-3.0, -3.0]** |"
    contrasts = real_rospr_report.contrasts_table(results).splitlines()
    assert contrasts[0] == real_rospr_report.POOLED
    assert contrasts[5] == "| T0's held-out sets | format alone | neither | +2.0 [2.0, 2.0] |"
    assert real_rospr_report.relations_table(results).count("| every | format alone | 2 | 50 |") == 2
    lacking = [{"groups": {group: {"missing": results[0]["missing"]} for group in real_rospr_report.GROUPS}}]
    missing = real_rospr_report.missing_table(lacking).splitlines()[2:]
    assert missing == ["| hotpot_qa | 2 | 0 rows at hand |", "| story_cloze | all | no rows at hand |"]


def test_contrasts_are_within_tasks_where_these_are_kept() -> None:
    """The format gains one point more than the family on a and three on b, whatever all gain there with the seed."""
    results = [result(seed) for seed in range(3)]
    for one in results:
        more = {"a": 0.01, "b": 0.03}
        gains = {name: {"format alone": one["seed"] + by, "family alone": one["seed"]} for name, by in more.items()}
        kept = [{"dataset": d, "gains": {kind: {"gain": g} for kind, g in of.items()}} for d, of in gains.items()]
        one["groups"]["near"]["by_task"] = kept
        one["groups"]["held out"]["by_task"] = [{"dataset": "c", "gains": {"neither": {"gain": 0.0}}}]
    (line,) = real_rospr_report.contrasts_table(results).splitlines()[2:]
    known = "data sets of the sources' families | format alone | family alone | 2"
    assert line == f"| {known} | **+2.0 [2.0, 2.0]** | +2.0 [-10.7, 14.7] |"
    claim = real_rospr_report.claims(results)[-1]
    assert "on the same task" in claim.measured and claim.fresh and claim.fresh.value == pytest.approx(2)


def test_a_missing_task_has_a_short_reason() -> None:
    missing = {
        "bigbench/winowhy": "BIG-bench's tasks are read from data.dir/bigbench/<task>/task.json, and more words."
    }
    table = real_rospr_report.missing_table([{"groups": {"BIG-bench": {"missing": missing}}}])
    assert table.splitlines()[2:] == ["| bigbench/winowhy | all | no task.json at hand |"]


def test_the_verdicts_lines() -> None:
    """A line for each claim and group, with the tables' effects."""
    claims = real_rospr_report.claims([result(seed) for seed in range(3)])
    effects = {f"{claim.text}, {claim.measured}": claim.fresh.value for claim in claims if claim.fresh}
    assert len(effects) == len(claims) == 4 * len(real_rospr_report.GROUPS)
    assert effects[
        "RoSPr: retrieved prompts help unseen tasks, [RoSPr - no prompt, BIG-bench](rospr.md#accuracy-on-mini)"
    ] == pytest.approx(3)
    assert {round(value, 9) for key, value in effects.items() if "VAR helps" in key or "INTER helps" in key} == {0}
    assert all(claim.first is None for claim in claims)
    assert real_rospr_report.claims([]) == []


def test_rows_of_another_size_are_refused(tmp_path: pathlib.Path) -> None:
    place = Place(tmp_path / "none", tmp_path / "runs", TINY)
    place.rows.mkdir(parents=True)
    (place.rows / "facts.json").write_text(json.dumps({"size": dataclasses.asdict(TINY) | {"rows": 1}}))
    with pytest.raises(SystemExit, match=r"have the sizes .*'rows': 1.* remove"):
        real_rospr.run(place, tmp_path / "results", [0], ["held out"])


def of_size(size: str, seed: int, *groups: str) -> dict[str, Any]:
    made = result(seed)
    kept = {group: made["groups"][group] for group in groups or made["groups"]}
    return made | {"groups": kept, "size": dataclasses.asdict(SIZES[size])}


def write_size(directory: pathlib.Path, size: str, seeds: int, *groups: str) -> None:
    (directory / size).mkdir()
    for seed in range(seeds):
        (directory / size / f"{seed}.json").write_text(json.dumps(of_size(size, seed, *groups)))


def test_blocks_are_of_the_largest_size_that_has_all_its_seeds(tmp_path: pathlib.Path) -> None:
    assert set(real_rospr_report.blocks(tmp_path).values()) == {UNMEASURED}
    for size, count in {"tiny": 3, "cpu": 3, "full": 2}.items():
        write_size(tmp_path, size, count)
    (line,) = [line for line in real_rospr_report.blocks(tmp_path)["mini accuracy"].splitlines() if line[:1] == "*"]
    titles = ", ".join(real_rospr_report.GROUPS.values())
    assert line.startswith(f"* {titles}: 70 source prompts with 7,000 keys, each trained for 80 steps")
    (tmp_path / "full" / "2.json").write_text(json.dumps(result(2)))
    with pytest.raises(ValueError, match="different sizes"):
        real_rospr_report.blocks(tmp_path)


def test_a_larger_size_may_have_one_group_alone(tmp_path: pathlib.Path) -> None:
    """Its group and what it lacks are the larger size's; the other groups stay those of the smaller one."""
    write_size(tmp_path, "cpu", 3)
    write_size(tmp_path, "wide", 3, "held out")
    for seed in range(3):
        file = tmp_path / "wide" / f"{seed}.json"
        made = json.loads(file.read_text()) | {"missing": {"winogrande:one": "0 rows at hand"}}
        made["groups"]["held out"]["tasks"] = [task("c", 0.5, 0.1)]
        made["groups"]["held out"]["by_task"] = [
            {"dataset": name, "gains": {"format alone": {"gain": gain + seed / 100}, "neither": {"gain": seed / 100}}}
            for name, gain in (("c", 0.02), ("d", 0.04))
        ]
        file.write_text(json.dumps(made))
    blocks = real_rospr_report.blocks(tmp_path)
    held_out, others = [line for line in blocks["mini accuracy"].splitlines() if line[:1] == "*"]
    assert held_out.startswith("* T0's held-out sets: ") and held_out.endswith(
        "all templates and up to 32 rows of each data set."
    )
    assert others.startswith("* BIG-bench, data sets of") and "up to 2 templates" in others
    assert blocks["mini accuracy"].count("| c | 1 | 32 | 50.0 ± 0.0 | 60.0 ± 0.0 |") == 1
    assert blocks["mini accuracy"].count("\n| a | 2 |") == 2
    assert (
        "| winogrande | 1 | 0 rows at hand |" in blocks["mini missing"]
        and "| hotpot_qa | 2 |" in blocks["mini missing"]
    )
    within, pooled = blocks["mini contrasts"].split(real_rospr_report.POOLED)
    assert "| T0's held-out sets | format alone | neither | 2 | **+3.0 [3.0, 3.0]** |" in within
    assert "| data sets of the sources' families | format alone | neither | +2.0" in pooled
    (tmp_path / "cpu" / "3.json").write_text(json.dumps(of_size("cpu", 3)))  # has the group at the smaller size alone
    with pytest.raises(ValueError, match="differ in their groups or sizes"):
        real_rospr_report.blocks(tmp_path)


def test_a_group_names_the_device_that_it_ran_on(tmp_path: pathlib.Path) -> None:
    """Groups of a seed may be measured at different times: each is of its own source prompts."""
    write_size(tmp_path, "cpu", 3)
    for seed in range(3):
        file = tmp_path / "cpu" / f"{seed}.json"
        made = json.loads(file.read_text()) | {"device": "a new one"}
        made["groups"]["held out"]["device"] = "an old one"
        file.write_text(json.dumps(made))
    accuracy = real_rospr_report.blocks(tmp_path)["mini accuracy"]
    held_out, others = [line for line in accuracy.splitlines() if line[:1] == "*"]
    assert "on an old one;" in held_out and "on a new one;" in others


def test_what_a_superseded_size_lacked_is_not_listed(tmp_path: pathlib.Path) -> None:
    write_size(tmp_path, "cpu", 3)
    write_size(tmp_path, "full", 3)
    for seed in range(3):
        file = tmp_path / "full" / f"{seed}.json"
        few = {"missing": {}, "sources": 70 + seed, "keys": 7000 + seed, "device": "ab"[seed % 2]}
        file.write_text(json.dumps(json.loads(file.read_text()) | few))
    blocks = real_rospr_report.blocks(tmp_path)
    assert "hotpot_qa" not in blocks["mini missing"]
    counted = "70 to 72 source prompts with 7,000 to 7,002 keys, each trained for 400 steps"
    assert (
        counted in blocks["mini accuracy"]
        and "of at most 256 tokens, on a, b; all templates" in blocks["mini accuracy"]
    )
