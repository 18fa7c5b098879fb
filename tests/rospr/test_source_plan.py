"""The plan of source prompts: order, names, slices that are tried, rows that are drawn."""

from __future__ import annotations

import dataclasses
import json
import logging
import pathlib
import shutil

import numpy as np
import pytest
import tiny
import tiny_sources
from tiny_sources import NAMES, OTHER, TEMPLATES, WORDS, configure, write_templates

from infoprompt_jax.data import p3, row_files
from infoprompt_jax.data.selection import find_tasks
from infoprompt_jax.data.splits import drawn
from infoprompt_jax.errors import UserError
from infoprompt_jax.prompts.saved import Prompt, save_prompt
from infoprompt_jax.rospr import source_plan
from infoprompt_jax.rospr.source_keys import text
from infoprompt_jax.training.tokenized_splits import TokenizedSplits


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tiny_sources.write(tmp_path_factory.mktemp("plan"))


def test_templates_of_a_data_set_stand_together_and_free_text_comes_last(folder: pathlib.Path) -> None:
    plan = source_plan.find(configure(folder, task__name=f"{WORDS},{OTHER},{WORDS}"))
    assert [source.name for source in plan.sources] == [
        *NAMES[:2], f"{OTHER}:bare", f"{OTHER}:Yes?", NAMES[2], f"{OTHER}:free"
    ]  # fmt: skip


def test_templates_share_the_training_rows_that_are_drawn(folder: pathlib.Path) -> None:
    config, model = configure(folder, task__train_limit=16), tiny.backbone()
    tokenized = TokenizedSplits(config, model)
    free, bare, question = find_tasks(config)
    bare, question = (
        [text(model, rows, n) for n in range(16)] for rows in map(tokenized.training_rows, (bare, question))
    )
    assert question == [f"Animals? {words}" for words in bare]
    assert len(tokenized.training_rows(free)) == 16 and len(tokenized.rows(free, "train")) == 512


def test_names_of_directories_differ(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    prompts = {name: TEMPLATES["bare"] for name in ("Is it?", "is it", "Is-it!", "...", "x" * 300, "x" * 299)}
    write_templates(tmp_path, WORDS, prompts)
    plan = source_plan.find(configure(folder, task__templates_dir=str(tmp_path)))
    members = [source.member for source in plan.sources]
    assert members[:4] == [f"generated_words_{end}" for end in ("Is_it", "is_it_2", "Is_it_3")] + ["generated_words"]
    assert len({member.lower() for member in members}) == 6 and max(map(len, members)) < 120


def test_a_plan_is_read_as_it_was_written(tmp_path: pathlib.Path) -> None:
    local_files = tuple(
        source_plan.SourceTask("a", "a/b", "t", choices, "a_t") for choices in (None, (), ("Yes", "No"), ("é",))
    )
    plan = source_plan.Plan(local_files, {"c:t": "It is not there."})
    plan.write(tmp_path / "sources.json")
    assert source_plan.read(tmp_path / "sources.json") == plan
    assert [len(group) for group in plan.groups(3)] == [3, 1]


def test_a_plan_is_of_one_first_prompt(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """The groups of a library start from the same prompt, also where it is a saved one that was replaced."""
    config = configure(folder, prompt__init=str(tmp_path / "first"))
    save_prompt(tmp_path / "first", Prompt(np.zeros((4, 64), np.float32)))
    plan = source_plan.find(config)
    source_plan.check_data(config, plan)
    source_plan.check_data(config, dataclasses.replace(plan, start=""))  # of a former version
    shutil.rmtree(tmp_path / "first")
    save_prompt(tmp_path / "first", Prompt(np.ones((4, 64), np.float32)))
    with pytest.raises(UserError, match=r"The prompt at prompt\.init=.* has changed since this job began: bring back"):
        source_plan.check_data(config, plan)


def write_news(folder: pathlib.Path, conditions: tuple[str, ...]) -> list[str]:
    """Sixteen rows and a template for each condition under which it applies to a row; the templates' names."""
    prompts = next(dataset.templates for dataset in p3.sources() if dataset.name == "ag_news")[: len(conditions)]
    rows = (json.dumps({"words": f"words {n}", "n": n, "label": n % 2}) for n in range(16))
    (folder / "data" / "ag_news").mkdir(parents=True)
    (folder / "data" / "ag_news" / "train.jsonl").write_text("\n".join(rows))
    jinja = ("{% if " + condition + " %}{{ words }}{% endif %} ||| x" for condition in conditions)
    write_templates(
        folder / "templates", "ag_news", {name: (each, "") for name, each in zip(prompts, jinja, strict=True)}
    )
    return list(prompts)


def test_a_template_is_tried_on_every_slice_that_is_read(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    not_drawn = 8 + int(np.argmin(drawn(8, 3)))
    prompts = write_news(tmp_path, ("true", "n >= 8", "n < 8", f"n in [0, {not_drawn}]", "n != 3"))
    slices = {"task__train_split": "train[8:]", "task__eval_split": "train[:8]", "task__test_split": "train[3:4]"}
    places = {"data__dir": str(tmp_path / "data"), "task__templates_dir": str(tmp_path / "templates")}
    config = configure(folder, **places, **slices, task__train_limit=3, task__name="p3")
    plan = source_plan.find(config)
    assert [source.template for source in plan.sources] == prompts[:1]
    reasons = [plan.skipped[f"ag_news:{prompt}"] for prompt in prompts[1:]]
    for reason, split in zip(reasons, ("train[:8]", "train[8:]", "train[8:]", "train[3:4]"), strict=True):
        assert reason == f"The template leaves the input or the target empty in every row of {split}."
    config.task.update(name="ag_news", template=prompts[1])
    with pytest.raises(UserError, match=rf"task\.name='ag_news' with the template '{prompts[1]}' .* train\[:8\]\."):
        source_plan.find(config)
    config.task.update(name="p3", template="all", eval_split="train[:17]")
    with pytest.raises(UserError, match=r"selects no task: .* is skipped"):
        source_plan.find(config)


def test_what_is_there_of_p3_is_logged(
    folder: pathlib.Path, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    prompts = write_news(tmp_path, ("true", "n < 8"))
    places = {"data__dir": str(tmp_path / "data"), "task__templates_dir": str(tmp_path / "templates")}
    slices = {"task__train_split": "train[8:]", "task__eval_split": "train[8:]"}
    with caplog.at_level(logging.INFO):
        source_plan.find(configure(folder, **places, **slices, task__name="p3"))
    rows = [line.split() for line in caplog.messages[0].splitlines()]
    assert ["ag_news", "TFDS", "or", "files", "7", "1"] in rows and ["36", "data", "sets", "296", "1"] in rows
    assert f"ag_news ({prompts[1]}) is skipped: The template leaves the input" in caplog.text
    assert "imdb is skipped: There is no imdb/train.jsonl" in caplog.text


def test_files_are_read_once_for_all_slices(
    folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of more data sets than are kept in memory."""
    names = ("ag_news", "imdb", "samsum", "xsum", "gigaword", "rotten_tomatoes")
    datasets = [dataset for dataset in p3.sources() if dataset.task in names]
    for dataset in datasets:
        (tmp_path / "data" / dataset.task).mkdir(parents=True)
        rows = (json.dumps({"words": f"words {n}", "label": 0}) + "\n" for n in range(8))
        (tmp_path / "data" / dataset.task / "train.jsonl").write_text("".join(rows))
        write_templates(
            tmp_path / "templates", dataset.task, {prompt: TEMPLATES["free"] for prompt in dataset.templates}
        )
    places = {"data__dir": str(tmp_path / "data"), "task__templates_dir": str(tmp_path / "templates")}
    slices = {"task__train_split": "train[4:]", "task__eval_split": "train[:4]"}
    read, files = row_files.READERS[".jsonl"], []
    monkeypatch.setitem(row_files.READERS, ".jsonl", lambda path, place: files.append(path) or read(path, place))
    plan = source_plan.find(configure(folder, **places, **slices, task__name="p3"))
    assert len({source.dataset for source in plan.sources}) == len(datasets) == 6
    assert len(files) == len(set(files)) == 6


def test_a_split_that_is_not_there_is_a_sentence(folder: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"generated/words has no split 'test', only train, validation"):
        source_plan.find(configure(folder, task__test_split="test"))
