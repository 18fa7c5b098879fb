"""How rows become text: local files of every format, left-out rows, slices, limits, errors and fingerprints."""

from __future__ import annotations

import functools
import json
import pathlib
import subprocess
import sys
from collections.abc import Callable

import invented_rows
import pytest
from tiny_data import INLINE, ROWS, configure, one_task, write_jsonl

from infoprompt_jax.data.examples import checked, examples, source_fingerprint
from infoprompt_jax.data.selection import find_tasks
from infoprompt_jax.data.tasks import Task
from infoprompt_jax.data.templates import Example
from infoprompt_jax.errors import UserError


def write_csv(path: pathlib.Path) -> None:
    path.parent.mkdir(parents=True)
    quoted = ['"' + row["text"].replace('"', '""') + '"' + f",{row['label']}\r\n" for row in ROWS]
    path.write_text("\ufefftext,label\r\n" + "".join(quoted), newline="")


def write_parquet(path: pathlib.Path) -> None:
    import pyarrow
    import pyarrow.parquet

    path.parent.mkdir(parents=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)


@pytest.mark.parametrize(
    ("suffix", "write"),
    [("jsonl", functools.partial(write_jsonl, rows=ROWS)), ("csv", write_csv), ("parquet", write_parquet)],
    ids=["jsonl", "csv", "parquet"],
)
def test_own_data_with_an_inline_template(
    tmp_path: pathlib.Path, suffix: str, write: Callable[[pathlib.Path], None]
) -> None:
    write(tmp_path / "mine" / f"train.{suffix}")
    task = one_task(configure(tmp_path, "mine", **INLINE | {"input": "{{ label + 1 }} {{ text }}"}))
    assert task.choices == ("bad", "good") and task.metric == "accuracy"
    assert list(examples(task, "train")) == [
        Example(f"{row['label'] + 1} {row['text']}", ["bad", "good"][row["label"]], ("bad", "good")) for row in ROWS
    ]


def test_free_text_has_no_choices_and_unlabelled_rows_are_left_out(
    tmp_path: pathlib.Path,
) -> None:
    unlabelled = [{"text": "a", "label": label} for label in (-1, None, "nan", -1.0)]
    write_jsonl(tmp_path / "mine" / "test.jsonl", [*unlabelled, {"text": "b", "label": 0.0}])
    free = one_task(configure(tmp_path, "mine", input="{{ text }}", target="{{ text | upper }}"))
    assert (free.choices, free.metric) == ((), "exact_match")
    assert list(examples(free, "test")) == [Example("a", "A")] * 4 + [Example("b", "B")]
    assert {example.label for example in examples(free, "test")} == {-1}
    labelled = one_task(configure(tmp_path, "mine", **INLINE))
    assert [e.label for e in examples(labelled, "test")] == [0]
    assert list(checked(labelled, "test"))[:-1] == [None] * 4


def test_all_shipped_templates_of_two_data_sets(invented: pathlib.Path) -> None:
    both = find_tasks(configure(invented, "super_glue/rte, super_glue/cb"))
    assert len(both) == 8 and len({t.id for t in both}) == 8 and {t.metric for t in both} == {"accuracy", "macro_f1"}
    for task in both:
        read = list(examples(task, "validation"))
        assert [e.label for e in read] == [row["label"] for row in invented_rows.rows(task.name, "validation")]


def test_real_rte_with_public_and_shipped_templates(shared: pathlib.Path) -> None:
    public = {"templates_dir": str(shared / "data" / "promptsource"), "template": "GPT-3 style"}
    task = one_task(configure(shared / "data", "super_glue/rte", **public))
    assert task.id == "super_glue/rte:GPT-3 style" and task.choices == ("True", "False")
    rows = [json.loads(line) for line in (shared / "data/super_glue/rte/train.jsonl").open()]
    expected = [f"{row['premise']}\nQuestion: {row['hypothesis']} True or False?".strip() for row in rows]
    read = list(examples(task, "train"))
    assert [e.input for e in read] == expected and [e.label for e in read] == [row["label"] for row in rows]
    both = find_tasks(configure(shared / "data", "super_glue/rte, super_glue/cb"))
    assert len(both) == 8 and len({t.id for t in both}) == 8 and {t.metric for t in both} == {"accuracy", "macro_f1"}
    assert [len(list(examples(t, "validation"))) for t in both] == [277] * 4 + [56] * 4


def test_a_slice_of_a_file(tmp_path: pathlib.Path) -> None:
    write_jsonl(tmp_path / "mine" / "train.jsonl", ROWS)
    task = one_task(configure(tmp_path, "mine", **INLINE))
    assert [e.input for e in examples(task, "train[1:75%]")] == [f"Review: {r['text']}" for r in ROWS[1:3]]
    for wrong in ("train[3:2]", "train[:5]", "train[x:]", "train+test"):
        with pytest.raises(UserError, match="The split 'train"):
            list(examples(task, wrong))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([], "train.jsonl .*holds no rows"),
        ([ROWS[0], "{'text': 1}\n"], "train.jsonl .*line 2, is not JSON"),
        ([ROWS[0], "\n", "[1]\n"], "line 3, holds list, but a row is an object"),
        (
            [ROWS[0], {"text": "x", "label": 2}, {"label": 1}],
            r"mine, train, row 1 \(from 0\): .*answer choice 2 .*does not exist",
        ),
        ([{"label": 1}], r"row 0 \(from 0\): .*column 'text', but the columns are label"),
        ([{"text": "a", "label": -1}], "None of the 1 rows of mine, train, fits .*no label.* rospr.query_split"),
    ],
)
def test_bad_rows_are_named(tmp_path: pathlib.Path, content: list, sentence: str) -> None:
    write_jsonl(tmp_path / "mine" / "train.jsonl", content)
    with pytest.raises(UserError, match=sentence) as error:
        list(examples(one_task(configure(tmp_path, "mine", **INLINE)), "train"))
    assert "\n" not in str(error.value)


def test_a_target_outside_the_choices_is_named(tmp_path: pathlib.Path) -> None:
    write_jsonl(tmp_path / "mine" / "train.jsonl", [{"word": "good"}, {"word": "awful"}])
    task = one_task(configure(tmp_path, "mine", input="x", target="{{ word }}", answer_choices="bad ||| good"))
    with pytest.raises(UserError, match=r"row 1 .*target 'awful', which is not one of its answer choices bad, good"):
        list(examples(task, "train"))


def test_equal_choices_of_a_row_are_one_and_rows_of_one_choice_alone_are_left_out(
    tmp_path: pathlib.Path,
) -> None:
    """As in CommonsenseQA, where a row may list an option twice, the right one too."""
    options = [["a", "b", "a"], ["b", " b", "b"], ["a", "b", "b"]]
    write_jsonl(tmp_path / "mine" / "train.jsonl", [{"options": listed, "label": 2} for listed in options])
    by_row = {"input": "q", "target": "{{ answer_choices[label] }}", "answer_choices": "{{ options | join('|||') }}"}
    read = list(checked(one_task(configure(tmp_path, "mine", **by_row)), "train"))
    assert read == [Example("q", "a", ("a", "b")), None, Example("q", "b", ("a", "b"))]
    assert [example.label for example in read if example] == [0, 1]
    write_jsonl(tmp_path / "mine" / "train.jsonl", [{"options": options[1], "label": 2}])
    with pytest.raises(UserError, match=r"None of the 1 rows .* or gives no two answer choices that differ; change"):
        list(examples(one_task(configure(tmp_path, "mine", **by_row)), "train"))


def test_public_data_with_options_listed_twice(shared: pathlib.Path) -> None:
    """24 of CommonsenseQA's 1221 validation rows, 6 of them the right one; none is lost, and every answer is there."""
    public = {"templates_dir": str(shared / "data" / "promptsource"), "template": "question_answering"}
    task = one_task(configure(shared / "data", "commonsense_qa", **public))
    read = list(examples(task, "validation"))
    counts = [len(example.choices) for example in read]
    assert len(read) == 1221 and counts.count(4) == 24 and counts.count(5) == 1197
    assert all(len(set(e.choices)) == len(e.choices) and e.choices[e.label] == e.target for e in read)


def test_a_limit_draws_rows_of_the_slice_before_they_are_rendered(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From all of a file that is sorted by label, and the same rows for another template."""
    write_jsonl(tmp_path / "mine" / "train.jsonl", [{"text": f"{n}", "label": n // 50} for n in range(100)])
    task = one_task(configure(tmp_path, "mine", **INLINE))
    every, rendered, render = list(examples(task, "train[10:]")), [], Task.render
    monkeypatch.setattr(Task, "render", lambda self, row: rendered.append(row) or render(self, row))
    read = list(examples(task, "train[10:]", 20))
    assert len(read) == len(rendered) == 20 and read == [example for example in every if example in read]
    assert {example.label for example in read} == {0, 1}
    other = one_task(configure(tmp_path, "mine", input="{{ text }}", target="x"))
    assert [f"Review: {example.input}" for example in examples(other, "train[10:]", 20)] == [e.input for e in read]
    assert list(examples(task, "train[10:]", 90)) == list(examples(task, "train[10:]", 0)) == every
    prints = [source_fingerprint(task, "train[10:]", limit) for limit in (0, 20, 21)]
    assert len(set(prints)) == 3 and prints[0] == source_fingerprint(task, "train[10:]")


def test_local_rows_are_rendered_without_tensorflow(tmp_path: pathlib.Path) -> None:
    write_jsonl(tmp_path / "mine" / "train.jsonl", ROWS)
    code = (
        "import sys, tiny_data\n"
        "from infoprompt_jax.data.examples import examples, source_fingerprint\n"
        "task = tiny_data.one_task(tiny_data.configure(sys.argv[1], 'mine', **tiny_data.INLINE))\n"
        "source_fingerprint(task, 'train')\n"
        "print(len(list(examples(task, 'train'))), {'tensorflow', 'seqio', 'pyarrow', 'jax'} & set(sys.modules))"
    )
    path = {"PYTHONPATH": f"{pathlib.Path(__file__).parents[1]}:{pathlib.Path(__file__).parents[2]}"}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, env=path)
    assert done.stdout.strip() == "4 set()", done.stderr


def test_half_a_surrogate_pair_becomes_a_question_mark(tmp_path: pathlib.Path) -> None:
    write_jsonl(tmp_path / "mine" / "train.jsonl", [{"text": "a\ud83d", "label": 1}])
    (example,) = examples(one_task(configure(tmp_path, "mine", **INLINE)), "train")
    assert example == Example("Review: a?", "good", ("bad", "good"))


def test_fingerprint_follows_data_template_and_slice(tmp_path: pathlib.Path) -> None:
    def fingerprint(split: str = "train", limit: int = 0, **changes: str) -> str:
        return source_fingerprint(one_task(configure(tmp_path, "mine", **INLINE | changes)), split, limit)

    write_jsonl(tmp_path / "mine" / "train.jsonl", ROWS)
    before = fingerprint()
    assert before == fingerprint() and len({before, fingerprint("train[:2]"), fingerprint(input="{{ text }}")}) == 3
    write_jsonl(tmp_path / "mine" / "train.jsonl", ROWS[::-1])
    assert before != fingerprint()
    (tmp_path / "mine" / "train.jsonl").write_text('{"text": "good", "label": 1}\n{"text": "bad", "label": 0}\n')
    prints = [fingerprint("train"), fingerprint("train[:1]"), fingerprint("train", 1)]
    assert [one[:16] for one in prints] == ["ee25993a4cb5dd6e", "0175e09360c99f96", "403c1b4ca9c6b91d"], (
        "tokens that earlier versions cached are read again"
    )
