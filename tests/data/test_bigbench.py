"""BIG-bench tasks: the text they ask in, the order of their choices, ties, sub-tasks, and no training on them."""

from __future__ import annotations

import collections
import hashlib
import json
import pathlib
from typing import Any

import ml_collections
import pytest

from infoprompt_jax.data import bigbench, local_files
from infoprompt_jax.data.examples import examples, source_fingerprint
from infoprompt_jax.data.selection import find_tasks
from infoprompt_jax.errors import UserError
from infoprompt_jax.settings import defaults
from infoprompt_jax.training import experiment

QUESTION = {"input": "Which is a metal?", "target_scores": {"iron": 1, "oak": 0, "wool": 0}}


def configure(folder: pathlib.Path, name: str, job: str = "evaluate") -> ml_collections.ConfigDict:
    config = defaults()
    config.data.dir, config.task.name, config.job = str(folder), name, job
    return config


def write(folder: pathlib.Path, examples: Any, task: str = "metals", **layout: Any) -> None:
    path = folder / "bigbench" / task / "task.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"examples": examples, **layout}))


def rows(folder: pathlib.Path, task: str = "metals") -> list[dict[str, Any]]:
    return [
        json.loads(row)
        for row in local_files.read_rows(local_files.find_files(folder, f"bigbench/{task}")["validation"])
    ]


@pytest.mark.parametrize(
    ("layout", "text"),
    [
        ({}, "\nQ: Which is a metal?\n  choice: {0}\n  choice: {1}\n  choice: {2}\nA: "),
        ({"append_choices_to_input": False}, "\nQ: Which is a metal?\nA: "),
        (  # as BIG-bench takes it
            {"append_choices_to_input": "false", "choice_prefix": "\n- "},
            "\nQ: Which is a metal?\n- {0}\n- {1}\n- {2}\nA: ",
        ),
        (
            {"task_prefix": "Choose.", "example_input_prefix": "\n", "example_output_prefix": "\nIt is "},
            "Choose.\nWhich is a metal?\n  choice: {0}\n  choice: {1}\n  choice: {2}\nIt is ",
        ),
    ],
    ids=["defaults", "no options", "text for false", "prefixes"],
)
def test_the_text_a_question_is_asked_in(tmp_path: pathlib.Path, layout: dict[str, Any], text: str) -> None:
    write(tmp_path, [QUESTION], **layout)
    (row,) = rows(tmp_path)
    assert row["inputs"] == text.format(*row["choices"])
    assert (row["input"], row["targets"], row["subtask"], row["idx"]) == ("Which is a metal?", "iron", "", 0)
    assert sorted(row["choices"]) == ["iron", "oak", "wool"] and row["choices"][row["label"]] == "iron"


def test_order_of_choices_depends_on_the_row_alone(tmp_path: pathlib.Path) -> None:
    questions = [{"input": f"{n} + 1?", "target_scores": {str(n + 1): 1, "no": 0, "a": 0, "b": 0}} for n in range(400)]
    write(tmp_path, questions)
    before = {row["input"]: row["choices"] for row in rows(tmp_path)}
    labels = collections.Counter(row["label"] for row in rows(tmp_path))
    assert sorted(labels) == [0, 1, 2, 3] and all(70 <= count <= 130 for count in labels.values())  # sigma is 8.7
    turned = [question | {"target_scores": dict(reversed(question["target_scores"].items()))} for question in questions]
    write(tmp_path, turned[::-2])
    assert all(row["choices"] == before[row["input"]] for row in rows(tmp_path))


def test_order_of_choices_is_the_same_everywhere() -> None:
    # SHA-256 of `[0, "Which is a metal?", "iron"]`, and so on, by sha256sum: 46..., 44... and 9d... in this order.
    assert bigbench.shuffled("Which is a metal?", ["iron", "oak", "wool"]) == ["oak", "iron", "wool"]


def test_of_several_best_answers_the_first_is_kept(tmp_path: pathlib.Path) -> None:
    write(tmp_path, [{"input": "?", "target_scores": {"low": 0.2, "first": 0.5, "second": 0.5, "none": -1}}])
    (row,) = rows(tmp_path)
    assert sorted(row["choices"]) == ["first", "low", "none"] and row["targets"] == "first"
    assert "second" not in row["inputs"]


def test_subtasks_are_one_data_set_and_several(tmp_path: pathlib.Path) -> None:
    write(tmp_path, [QUESTION], "metals/pure")
    write(tmp_path, [QUESTION, QUESTION], "metals/alloys", choice_prefix="\n* ")
    assert [(row["subtask"], row["idx"]) for row in rows(tmp_path)] == [("alloys", 0), ("pure", 0), ("alloys", 1)]
    assert [(row["subtask"], row["idx"]) for row in rows(tmp_path, "metals/pure")] == [("", 0)]
    assert rows(tmp_path)[0]["inputs"] != rows(tmp_path)[1]["inputs"]


def questions(name: str, count: int) -> list[dict[str, Any]]:
    return [{"input": f"{name} {n}?", "target_scores": {"yes": n % 2, "no": 1 - n % 2}} for n in range(count)]


def test_the_first_rows_are_of_all_subtasks(tmp_path: pathlib.Path) -> None:
    """Each by its share: what `task.eval_limit` evaluates says the same as all rows would."""
    sizes = {"alloys": 9, "ores": 3, "pure": 6}
    for name, count in sizes.items():
        write(tmp_path, questions(name, count), f"metals/{name}")
    found = [(row["subtask"], row["idx"]) for row in rows(tmp_path)]
    assert found[:6] == [("alloys", 0), ("pure", 0), ("alloys", 1), ("ores", 0), ("pure", 1), ("alloys", 2)]
    assert [one for one in found if one[0] == "pure"] == [("pure", n) for n in range(6)]
    for limit in range(1, 19):
        counts = collections.Counter(name for name, _ in found[:limit])
        assert all(abs(counts[name] - limit * size / 18) <= 1 for name, size in sizes.items())


def test_rows_that_were_kept_in_another_order_are_not_read(tmp_path: pathlib.Path) -> None:
    """Tokens are kept by the fingerprint, and a run with another one does not resume: only sub-tasks have a new one."""
    (tmp_path / "pure").mkdir()
    for folder, tasks in ((tmp_path, ("metals/alloys", "metals/pure")), (tmp_path / "pure", ("metals/pure",))):
        for task in tasks:
            write(folder, questions(task, 2), task)
    whole, one = (local_files.LocalSource(str(place), "bigbench/metals") for place in (tmp_path, tmp_path / "pure"))
    texts = [(tmp_path / "bigbench" / "metals" / name / "task.json").read_bytes() for name in ("alloys", "pure")]
    assert whole.fingerprint("validation") != hashlib.sha256(b"".join(texts)).hexdigest()
    assert one.fingerprint("validation") == hashlib.sha256(texts[1]).hexdigest()


def test_an_evaluation_of_few_rows_reads_all_subtasks(tmp_path: pathlib.Path) -> None:
    """By `task.eval_limit`; each sub-task has an answer of its own."""
    for name, right in (("a", "yes"), ("b", "no")):
        examples = [{"input": f"{name} {n}?", "target_scores": {"yes": 0, "no": 0, right: 1}} for n in range(12)]
        write(tmp_path, examples, f"metals/{name}")
    config = configure(tmp_path, "bigbench/metals")
    config.backbone.name, config.prompt.length, config.data.cache_dir = "random", 0, str(tmp_path / "cache")
    config.task.update(template="as asked", eval_limit=8)
    built = experiment.build(config)
    ((tokenized,),) = built.splits["eval"].rows
    assert len(tokenized) == 24 and built.examples() == {"validation": 8}
    assert collections.Counter(tokenized.target_text(row) for row in range(8)) == {"yes": 4, "no": 4}


def test_a_changed_file_is_read_again_and_has_another_fingerprint(tmp_path: pathlib.Path) -> None:
    write(tmp_path, [QUESTION], "metals/pure")
    (task,) = find_tasks(configure(tmp_path, "bigbench/metals"))
    before = source_fingerprint(task, "validation")
    assert len(rows(tmp_path)) == 1 and before == source_fingerprint(task, "validation")
    write(tmp_path, [QUESTION], "metals/alloys")
    assert len(rows(tmp_path)) == 2 and before != source_fingerprint(task, "validation")


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "free text": ([{"input": "2 + 2?", "target": ["4"]}], {}, r"example 0 \(from 0\), has no `target_scores`: only"),
    "no question": ([QUESTION, {"target_scores": {"a": 1}}], {}, r"example 1 \(from 0\), has no `input` text"),
    "no wrong answer": ([{"input": "?", "target_scores": {"a": 1, "b": 1}}], {}, "the score of every choice is 1"),
    "score": ([{"input": "?", "target_scores": {"a": "1", "b": 0}}], {}, "has the score '1' in `target_scores`"),
    "no score": ([{"input": "?", "target_scores": {"a": None, "b": 0}}], {}, "has the score None in `target_scores`"),
    "true for a score": ([{"input": "?", "target_scores": {"a": True, "b": 0}}], {}, "has the score True in"),
    "no right answer": ([{"input": "?", "target_scores": {"a": 0, "b": 0}}], {}, "the score of every choice is 0"),
    "one choice": ([{"input": "?", "target_scores": {"a": 1}}], {}, "has no wrong answer"),
    "NaN": ([{"input": "?", "target_scores": {"a": float("nan"), "b": 0}}], {}, "NaN is not a finite number, line 1"),
    "infinity": ([{"input": "?", "target_scores": {"a": float("inf")}}], {}, "Infinity is not a finite number, line 1"),
    "same choices": ([{"input": "?", "target_scores": {"a": 1, "a ": 0}}], {}, "or two that are the same"),
    "empty choice": ([{"input": "?", "target_scores": {"a": 1, " ": 0}}], {}, "has a choice that is empty"),
    "prefix": ([QUESTION], {"choice_prefix": True}, "holds choice_prefix=True, but a text was expected"),
    "examples": ({"a": 1}, {}, "has no list of `examples`"),
    "none": ([], {}, "holds no rows"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_multiple_choice_is_refused(tmp_path: pathlib.Path, case: str) -> None:
    examples, layout, sentence = REFUSED[case]
    write(tmp_path, examples, **layout)
    with pytest.raises(UserError, match=sentence):
        rows(tmp_path)


def test_damaged_json_is_refused(tmp_path: pathlib.Path) -> None:
    write(tmp_path, [QUESTION])
    path = tmp_path / "bigbench" / "metals" / "task.json"
    path.write_text(path.read_text()[:30])
    with pytest.raises(UserError, match=r"task.json \(in data.dir\) cannot be read: it is not JSON"):
        rows(tmp_path)


def test_an_answer_that_is_there_twice_is_refused(tmp_path: pathlib.Path) -> None:
    write(tmp_path, [QUESTION])
    path = tmp_path / "bigbench" / "metals" / "task.json"
    path.write_text(path.read_text().replace('"oak"', '"iron"'))
    with pytest.raises(UserError, match=r"task.json \(in data.dir\) .*an object has the key 'iron' twice, line 1"):
        rows(tmp_path)


def test_training_is_refused(tmp_path: pathlib.Path) -> None:
    write(tmp_path, [QUESTION])
    config = configure(tmp_path, "bigbench/metals", job="train")
    config.task.train_split = "validation[:50%]"  # another name for the same rows is no way around
    with pytest.raises(UserError, match="keeps BIG-bench out of training data"):
        find_tasks(config)
    config.job = "evaluate"
    (task,) = find_tasks(config)
    with pytest.raises(UserError, match="bigbench/metals has no rows to train on"):
        source_fingerprint(task, "train")


@pytest.mark.parametrize("name", ["bigbench/absent", "bigbench", "bigbench/"])
def test_absent_tasks_say_where_to_get_them(tmp_path: pathlib.Path, name: str) -> None:
    write(tmp_path, [QUESTION])
    with pytest.raises(UserError, match="bigbench/benchmark_tasks of https://github"):
        find_tasks(configure(tmp_path, name))


def test_a_task_becomes_text(tmp_path: pathlib.Path) -> None:
    odd = {"input": "Pipes?", "target_scores": {"a ||| b": 1, "c": 0}}
    write(tmp_path, [QUESTION, odd])
    (task,) = find_tasks(configure(tmp_path, "bigbench/metals"))
    first, second = examples(task, "validation")
    assert first.input == rows(tmp_path)[0]["inputs"].strip() and first.target == "iron"
    assert first.choices[first.label] == "iron" and task.metric == "accuracy" and task.template.name == "as asked"
    assert sorted(second.choices) == ["a ||| b", "c"] and second.choices[second.label] == "a ||| b"


REAL = {
    "code_line_description": 60,
    "conceptual_combinations": 103,
    "hindu_knowledge": 175,
    "known_unknowns": 46,
    "logic_grid_puzzle": 1000,
    "misconceptions": 219,
    "novel_concepts": 32,
}


@pytest.mark.parametrize("name", REAL)
def test_real_tasks(shared: pathlib.Path, name: str) -> None:
    (task,) = find_tasks(configure(shared / "data", f"bigbench/{name}"))
    found = rows(shared / "data", name)
    rendered = [task.render(row) for row in found]
    assert name in bigbench.TASKS and len(found) == REAL[name]
    folder = shared / "data" / "bigbench" / name
    originals = {
        ("" if file.parent == folder else file.parent.name, index): example
        for file in bigbench.task_files(folder)
        for index, example in enumerate(json.loads(file.read_text())["examples"])
    }
    subtasks = collections.Counter(row["subtask"] for row in found)
    assert len({row["subtask"] for row in found[: 2 * len(subtasks)]}) == len(subtasks)
    assert len(originals) == len(found)
    for row, example in zip(found, rendered, strict=True):
        original = originals[row["subtask"], row["idx"]]
        scores = original["target_scores"]
        assert example is not None and example.choices == tuple(row["choices"])
        assert next(c for c in scores if scores[c] == max(scores.values())) == example.choices[example.label]
        assert sum(scores[choice] == max(scores.values()) for choice in row["choices"]) == 1
        assert original["input"].strip() in example.input
    firsts = collections.Counter(row["label"] for row in found if len(row["choices"]) == 4)
    assert not firsts or max(firsts.values()) < 0.5 * sum(firsts.values())  # conceptual_combinations: all first


def test_the_real_text_of_a_task_with_a_prefix(shared: pathlib.Path) -> None:
    row = rows(shared / "data", "misconceptions")[0]
    assert row["inputs"] == (
        "Is the following statement true or false? Output T for true and F for false."
        "\nQ: Twinkies are edible for decades or longer.\nA: "
    )
    assert row["targets"] == "F"
