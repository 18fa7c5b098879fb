"""Several tasks tokenised together: the same rows as each alone, for one read of the cache."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import tiny_runs

from infoprompt_jax.data.families import same_choices
from infoprompt_jax.data.rows import Rows
from infoprompt_jax.data.selection import find_tasks
from infoprompt_jax.data.templates import Example
from infoprompt_jax.data.tokenization import Part, partial_folder, tokenize_parts
from infoprompt_jax.errors import UserError
from infoprompt_jax.fleet.members import expand
from infoprompt_jax.t5.backbone import load_backbone
from infoprompt_jax.t5.tokenizer import load_tokenizer
from infoprompt_jax.training import tokenized_splits
from infoprompt_jax.training.tokenized_splits import TokenizedSplits

BYTES = load_tokenizer("bytes")
PARTS = {
    "words": [Example("abc", "Yes", ("No", "Yes")), Example("much too long", "No", ("No", "Yes"))],
    "free": [Example("x", "far too long a target"), Example("", "y")],
    "one row": [Example("abc", "B", ("A", "B", "No")), Example("abc", "B", ("A", "B", "No"))],
}
OPENED: list[str] = []  # by this process, while a test watches
WATCHING: list[bool] = []


def watch(event: str, arguments: tuple) -> None:
    if WATCHING and event == "open":
        OPENED.append(str(arguments[0]))


sys.addaudithook(watch)


def parts(**examples: list[Example]) -> list[Part]:
    return [Part(iter(rows), f"fingerprint of {name}", name) for name, rows in (examples or PARTS).items()]


def make(directory: pathlib.Path, *made: Part) -> list[Rows]:
    return tokenize_parts(made, BYTES, directory, True, 8, 12)


def facts(rows: Rows) -> dict[str, object]:
    """All that a reader can learn of the rows."""
    numbers = np.arange(len(rows))
    lengths = rows.max_input_length, rows.max_target_length, rows.max_choices
    batch = {name: values.tolist() for name, values in rows.gather(numbers, *lengths).items()}
    again = rows.take(numbers[::-1])
    return batch | {
        "lengths": lengths,
        "names": (rows.name, rows.fingerprint),
        "content": rows.content,
        "cut": (rows.truncated_inputs, rows.truncated_answers),
        "texts": [rows.target_text(row) for row in numbers],
        "counts": rows.choice_counts(numbers).tolist(),
        "choices": same_choices(None, rows, BYTES),
        "reversed": again.gather(numbers[::-1], *lengths)["inputs"].tolist(),
    }


def refuse() -> Iterator[Example]:
    raise AssertionError("the examples were read again")
    yield


def test_parts_are_what_each_is_alone(tmp_path: pathlib.Path) -> None:
    many = {**PARTS, "reversed": PARTS["words"][::-1]}  # whose targets another part has in another order
    together = make(tmp_path / "together", *parts(**many))
    alone = [make(tmp_path / "alone", part)[0] for part in parts(**many)]
    assert [facts(rows) for rows in together] == [facts(rows) for rows in alone]
    assert [rows.truncated_inputs for rows in together] == [1, 0, 0, 1]


def test_parts_are_one_folder_that_is_read_again_for_the_same_parts(tmp_path: pathlib.Path) -> None:
    first = make(tmp_path, *parts())
    again = make(tmp_path, *(Part(refuse(), f"fingerprint of {name}", name) for name in PARTS))
    assert [facts(rows) for rows in again] == [facts(rows) for rows in first]
    assert len(os.listdir(tmp_path)) == 1
    with pytest.raises(AssertionError, match="read again"):
        make(tmp_path, *(Part(refuse(), f"fingerprint of {name}", name) for name in reversed(PARTS)))


def test_another_run_may_end_while_its_folder_is_looked_at(tmp_path: pathlib.Path) -> None:
    """A link to nothing stands in for a folder that is removed between its name's reading and its own."""
    (tmp_path / ".partial-gone").symlink_to(tmp_path / "nothing")
    with partial_folder(tmp_path) as partial:
        assert partial.parent == tmp_path and partial.is_dir()


def test_errors_name_the_part(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"^empty holds 0 examples"):
        make(tmp_path, *parts(words=PARTS["words"], empty=[], free=PARTS["free"]))
    alike = [Example("x", "a" * 20, ("a" * 20, "a" * 21))]
    with pytest.raises(UserError, match=r"^alike: the answer choices .* are the same once they are cut"):
        make(tmp_path, *parts(words=PARTS["words"], alike=alike, free=PARTS["free"]))
    assert not os.listdir(tmp_path)


def many(directory: pathlib.Path, count: int) -> list:
    """The tasks of so many templates of one data set, in a mixture; and their config."""
    config = tiny_runs.config(directory, task__template="all")
    entry = tiny_runs.TEMPLATES.splitlines()[2:8]
    lines = [
        line.replace("a:", f"t{n}:", 1) if line == "  a: !Template" else line for n in range(count) for line in entry
    ]
    text = "\n".join(tiny_runs.TEMPLATES.splitlines()[:2] + lines)
    for n in range(count):
        text = text.replace("name: bare", f"name: n{n}", 1).replace("id: a", f"id: i{n}", 1)
    (directory / "templates" / "generated" / "words" / "templates.yaml").write_text(text)
    return [config, find_tasks(config)]


def test_a_template_costs_no_file(tmp_path: pathlib.Path) -> None:
    """However many there are: the data file is opened twice, for its hash and its rows, and the cache is read once."""
    opened = {}
    for count in (2, 30):
        config, tasks = many(tmp_path / str(count), count)
        model = load_backbone("random")
        for when in ("cold", "warm"):
            OPENED.clear()
            WATCHING.append(True)
            rows = TokenizedSplits(config, model).rows_of(tasks, "train")
            WATCHING.clear()
            assert len(rows) == count and len(os.listdir(tmp_path / str(count) / "cache" / "rows")) == 1
            kinds = "/data/generated/words/train.jsonl", "/cache/rows/"
            opened[count, when] = tuple(sum(kind in name for name in OPENED) for kind in kinds)
    assert opened[2, "cold"][0] == opened[30, "cold"][0] == 2 and opened[30, "warm"][0] == 0
    assert opened[2, "cold"] == opened[30, "cold"] and opened[2, "warm"] == opened[30, "warm"]


def test_tasks_beyond_the_room_of_one_folder_take_several(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, tasks = many(tmp_path, 5)
    model = load_backbone("random")
    once = TokenizedSplits(config, model).rows_of(tasks, "train")
    size = (tmp_path / "data" / "generated" / "words" / "train.jsonl").stat().st_size
    monkeypatch.setattr(tokenized_splits, "TOGETHER", 2 * size)
    several = TokenizedSplits(config, model)
    assert [facts(rows) for rows in several.rows_of(tasks, "train")] == [facts(rows) for rows in once]
    assert len(os.listdir(tmp_path / "cache" / "rows")) == 1 + 3
    monkeypatch.setattr(tokenized_splits, "TOGETHER", 1)
    assert [facts(rows) for rows in TokenizedSplits(config, model).rows_of(tasks[:2], "train")] == [
        facts(rows) for rows in once[:2]
    ]
    assert several.rows(tasks[0], "train") is several.rows_of(tasks, "train")[0]


def test_templates_of_one_name_have_rows_of_their_own(tmp_path: pathlib.Path) -> None:
    """As prompts of two runs may record them, which one job evaluates."""
    config, (task, *_) = many(tmp_path, 1)
    jinja = "Reworded: " + task.template.jinja
    reworded = dataclasses.replace(task, template=dataclasses.replace(task.template, jinja=jinja))
    tokenized = TokenizedSplits(config, load_backbone("random"))
    assert task.id == reworded.id
    assert (tokenized.rows(task, "train").input_lengths < tokenized.rows(reworded, "train").input_lengths).all()


def test_templates_that_draw_different_shots_are_reported(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One that leaves out rows numbers them anew: its 8 are others."""
    config, tasks = many(tmp_path, 2)
    (member,) = expand(config)
    member.config.task.shots = 8
    splits = TokenizedSplits(config, load_backbone("random"))
    splits.stream(member, tasks)
    assert "templates" not in caplog.text
    jinja = tasks[1].template.jinja.replace("|||", "||| {% if 'ant' in words %}") + "{% endif %}"
    some = dataclasses.replace(tasks[1], template=dataclasses.replace(tasks[1].template, jinja=jinja, name="some"))
    splits.stream(member, [tasks[0], some])
    assert "the templates of generated/words leave out different rows" in caplog.text
