"""What a config selects: data sets, templates and metrics, and the sentences for what is not there."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import pytest
from tiny_data import INLINE, ROWS, configure, one_task, write_jsonl

from infoprompt_jax.data.datasets import Dataset
from infoprompt_jax.data.examples import examples
from infoprompt_jax.data.selection import find_tasks, select
from infoprompt_jax.errors import UserError


def test_choosing_tasks_needs_no_tensorflow() -> None:
    code = "import sys, infoprompt_jax.data.selection; print({'tensorflow', 'seqio', 'pyarrow'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def test_all_takes_the_original_task_prompts_of_a_public_set(shared: pathlib.Path) -> None:
    config = configure(shared / "data", "glue/mrpc", templates_dir=str(shared / "data" / "promptsource"))
    assert [t.template.name for t in find_tasks(config)] == [
        "want to know", "paraphrase", "equivalent", "replace", "same thing"
    ]  # fmt: skip
    config.task.metric = "f1"
    assert {t.metric for t in find_tasks(config)} == {"f1"}


def test_repeated_choices_are_refused_inline_and_count_once_in_a_file(tmp_path: pathlib.Path) -> None:
    write_jsonl(tmp_path / "mine" / "train.jsonl", ROWS)
    with pytest.raises(
        UserError, match=r"task\.answer_choices='bad \|\|\| good \|\|\| bad' lists 'bad' more than once"
    ):
        find_tasks(configure(tmp_path, "mine", **INLINE | {"answer_choices": "bad ||| good ||| bad"}))
    (tmp_path / "templates" / "mine").mkdir(parents=True)
    entry = {"name": "p", "jinja": "{{ text }} ||| {{ answer_choices[label] }}", "answer_choices": "a ||| b ||| a"}
    (tmp_path / "templates" / "mine" / "templates.yaml").write_text(json.dumps({"templates": {"x": entry}}))
    task = one_task(configure(tmp_path, "mine", templates_dir=str(tmp_path / "templates")))
    assert task.choices == ("a", "b") and [e.label for e in examples(task, "train")] == [1, 0, 0, 1]


def test_a_data_set_has_one_name_however_it_is_written(tmp_path: pathlib.Path) -> None:
    """Its metric, and what RoSPr leaves out, follow from the name."""
    write_jsonl(tmp_path / "glue" / "cola" / "train.jsonl", ROWS)
    for name in ("glue/cola", "glue/cola/", "./glue//cola"):
        task = one_task(configure(tmp_path, name, **INLINE))
        assert (task.name, task.metric) == ("glue/cola", "matthews")


def test_templates_come_from_one_place(tmp_path: pathlib.Path) -> None:
    write_jsonl(tmp_path / "mine" / "train.jsonl", ROWS)
    with pytest.raises(
        UserError, match=r"task\.input and task\.templates_dir='T' are both set, .*own_data\.py:templates"
    ):
        find_tasks(configure(tmp_path, "mine", **INLINE, templates_dir="T"))
    with pytest.raises(
        UserError, match=r"task\.answer_choices='a \|\|\| b' belongs to task\.input and task\.target, which"
    ):
        find_tasks(configure(tmp_path, "mine", answer_choices="a ||| b"))


def test_what_is_not_there_is_answered_with_what_is(tmp_path: pathlib.Path) -> None:
    write_jsonl(tmp_path / "a" / "b" / "train.jsonl", ROWS)
    with pytest.raises(
        UserError, match=r"There is no file .*/mine/<split>.jsonl.* holds a/b; change data.dir or task.name"
    ):
        find_tasks(configure(tmp_path, "mine", **INLINE))
    with pytest.raises(UserError, match=r"a/b has no split 'test', only train; change task.train_split"):
        list(examples(one_task(configure(tmp_path, "a/b", **INLINE)), "test"))
    with pytest.raises(UserError, match="which is not a folder"):
        find_tasks(configure(tmp_path / "nowhere", "mine", **INLINE))
    with pytest.raises(UserError, match=r"story_cloze is given out by its authors"):
        find_tasks(configure(tmp_path, "story_cloze/2016", **INLINE))
    with pytest.raises(UserError, match=r"Only one of task.input and task.target"):
        find_tasks(configure(tmp_path, "a/b", input="x"))
    with pytest.raises(UserError, match=r"task.name is empty"):
        find_tasks(configure(tmp_path, " , "))


def test_every_template_includes_those_of_other_tasks(tmp_path: pathlib.Path) -> None:
    write_jsonl(tmp_path / "mine" / "train.jsonl", ROWS)
    entries = {
        name: {"name": name, "jinja": "{{ text }} ||| x", "metadata": {"original_task": name == "original"}}
        for name in ("original", "other")
    }
    (tmp_path / "mine" / "templates.yaml").write_text(json.dumps({"templates": entries}))
    config = configure(tmp_path, "mine", templates_dir=str(tmp_path))
    assert [task.template.name for task in find_tasks(config)] == ["original"]
    assert [task.template.name for task in find_tasks(config, every_template=True)] == ["original", "other"]


def test_a_word_stands_for_a_collection_of_which_absent_data_sets_are_skipped(tmp_path: pathlib.Path) -> None:
    write_jsonl(tmp_path / "mine" / "validation.jsonl", ROWS)
    mine = [Dataset("shown", "mine", "validation"), Dataset("absent", "absent", "validation")]
    selection = select(configure(tmp_path, "all of mine,mine", **INLINE), {"all of mine": mine})
    assert [(one.dataset, one.task.name, one.requested) for one in selection.selected] == [
        ("shown", "mine", False),
        ("mine", "mine", True),
    ]
    assert [(one.dataset, one.reason) for one in selection.skipped] == [
        ("absent", "There is no absent/validation.jsonl, .json, .csv, .tsv, .parquet or .txt in data.dir.")
    ]
    with pytest.raises(UserError, match=r"'all of mine' with .* selects no task: absent is skipped because: There is"):
        select(configure(tmp_path, "all of mine", **INLINE), {"all of mine": mine[1:]})


def test_a_template_must_apply_to_every_slice(tmp_path: pathlib.Path) -> None:
    write_jsonl(tmp_path / "mine" / "train.jsonl", ROWS)
    config = configure(tmp_path, "mine", input="{% if label %}{{ text }}{% endif %}", target="x")
    assert len(select(config, slices=[("train[:2]", 0), ("train[2:]", 0)]).selected) == 1
    with pytest.raises(UserError, match=r"cannot be used: The template leaves .* empty in every row of train\[1:3\]\."):
        select(config, slices=[("train", 0), ("train[1:3]", 0)])
