"""Tasks: files and TFDS through seqio, own data, mixtures, and the sentences for what is missing or malformed."""

from __future__ import annotations

import functools
import json
import logging
import pathlib
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import ml_collections
import pytest

from infoprompt_jax.data import tasks
from infoprompt_jax.data.local_files import drawn, split_bounds
from infoprompt_jax.data.tasks import Example
from infoprompt_jax.errors import UserError
from infoprompt_jax.settings import defaults

ROWS = [
    {"text": "good, really", "label": 1},
    {"text": "bad ||| worse", "label": 0},
    {"text": 'it said "no"', "label": 0},
    {"text": "007", "label": 1},
]
OWN = {"input": "Review: {{ text }}", "target": "{{ answer_choices[label] }}", "answer_choices": "bad ||| good"}


def configure(folder: pathlib.Path | str, name: str, **task: Any) -> ml_collections.ConfigDict:
    config = defaults()
    config.data.dir = str(folder)
    config.task.update(name=name, **task)
    return config


def one_task(config: ml_collections.ConfigDict) -> tasks.Task:
    (task,) = tasks.find_tasks(config)
    return task


def write_jsonl(path: pathlib.Path, rows: Sequence[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))


def write_csv(path: pathlib.Path) -> None:
    path.parent.mkdir(parents=True)
    quoted = ['"' + row["text"].replace('"', '""') + '"' + f",{row['label']}\r\n" for row in ROWS]
    path.write_text("\ufefftext,label\r\n" + "".join(quoted), newline="")


def write_parquet(path: pathlib.Path) -> None:
    import pyarrow
    import pyarrow.parquet

    path.parent.mkdir(parents=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)


def test_choosing_tasks_needs_no_tensorflow() -> None:
    code = "import sys, infoprompt_jax.data.tasks; print({'tensorflow', 'seqio', 'pyarrow'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("suffix", "write"),
    [("jsonl", functools.partial(write_jsonl, rows=ROWS)), ("csv", write_csv), ("parquet", write_parquet)],
    ids=["jsonl", "csv", "parquet"],
)
def test_own_data_with_an_inline_prompt(
    tmp_path: pathlib.Path, suffix: str, write: Callable[[pathlib.Path], None]
) -> None:
    write(tmp_path / "mine" / f"train.{suffix}")
    task = one_task(configure(tmp_path, "mine", **OWN | {"input": "{{ label + 1 }} {{ text }}"}))
    assert task.choices == ("bad", "good") and task.metric == "accuracy"
    assert list(tasks.examples(task, "train")) == [
        Example(f"{row['label'] + 1} {row['text']}", ["bad", "good"][row["label"]], ("bad", "good"), row["label"])
        for row in ROWS
    ]


def test_free_text_has_no_choices_and_unlabelled_rows_are_left_out(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    unlabelled = [{"text": "a", "label": label} for label in (-1, None, float("nan"), -1.0)]
    write_jsonl(tmp_path / "mine" / "test.jsonl", [*unlabelled, {"text": "b", "label": 0.0}])
    free = one_task(configure(tmp_path, "mine", input="{{ text }}", target="{{ text | upper }}"))
    assert (free.choices, free.metric) == ((), "exact_match")
    assert list(tasks.examples(free, "test")) == [Example("a", "A", (), -1)] * 4 + [Example("b", "B", (), -1)]
    with caplog.at_level(logging.INFO):
        assert [e.label for e in tasks.examples(one_task(configure(tmp_path, "mine", **OWN)), "test")] == [0]
    assert "1 rows, 4 more that the template does not apply to" in caplog.text


def test_real_rte_with_public_and_own_prompts(shared: pathlib.Path) -> None:
    public = {"templates_dir": str(shared / "data" / "promptsource"), "template": "GPT-3 style"}
    task = one_task(configure(shared / "data", "super_glue/rte", **public))
    assert task.id == "super_glue/rte:GPT-3 style" and task.choices == ("True", "False")
    rows = [json.loads(line) for line in (shared / "data/super_glue/rte/train.jsonl").open()]
    expected = [f"{row['premise']}\nQuestion: {row['hypothesis']} True or False?".strip() for row in rows]
    found = list(tasks.examples(task, "train"))
    assert [e.input for e in found] == expected and [e.label for e in found] == [row["label"] for row in rows]
    own = tasks.find_tasks(configure(shared / "data", "super_glue/rte, super_glue/cb"))
    assert len(own) == 8 and len({t.id for t in own}) == 8 and {t.metric for t in own} == {"accuracy", "macro_f1"}
    assert [len(list(tasks.examples(t, "validation"))) for t in own] == [277] * 4 + [56] * 4


def test_all_takes_the_original_task_prompts_of_a_public_set(shared: pathlib.Path) -> None:
    config = configure(shared / "data", "glue/mrpc", templates_dir=str(shared / "data" / "promptsource"))
    assert [t.template for t in tasks.find_tasks(config)] == [
        "want to know", "paraphrase", "equivalent", "replace", "same thing"
    ]  # fmt: skip
    config.task.metric = "f1"
    assert {t.metric for t in tasks.find_tasks(config)} == {"f1"}


@pytest.mark.parametrize(
    "split", ["train[:90%]", "train[10:20]", "train[-5:]", "train[33%:66%]", "train[:-7]", "train"]
)
def test_slices_are_those_of_tfds(split: str) -> None:
    import tensorflow_datasets as tfds

    for rows in (2490, 56, 333):
        infos = {"train": tfds.core.SplitInfo(name="train", shard_lengths=[rows], num_bytes=0)}
        (exact,) = tfds.core.ReadInstruction.from_spec(split).to_absolute(infos)
        assert split_bounds(split, rows) == (exact.from_ or 0, exact.to or rows)


def test_a_slice_of_a_file(tmp_path: pathlib.Path) -> None:
    write_jsonl(tmp_path / "mine" / "train.jsonl", ROWS)
    task = one_task(configure(tmp_path, "mine", **OWN))
    assert [e.input for e in tasks.examples(task, "train[1:75%]")] == [f"Review: {r['text']}" for r in ROWS[1:3]]
    for wrong in ("train[3:2]", "train[:5]", "train[x:]", "train+test"):
        with pytest.raises(UserError, match="The split 'train"):
            list(tasks.examples(task, wrong))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([], "train.jsonl .*holds no rows"),
        ([ROWS[0], "{'text': 1}\n"], "train.jsonl .*line 2, is not JSON"),
        ([ROWS[0], "\n", "[1]\n"], "line 3, holds list, but a row is an object"),
        ([ROWS[0], {"text": "x", "label": 2}], r"mine, train, row 1 \(from 0\): .*answer choice 2 was asked for"),
        ([{"label": 1}], r"row 0 \(from 0\): .*column 'text', but the columns are label"),
        ([{"text": "a", "label": -1}], "None of the 1 rows of mine, train, fits .*no label.* rospr.query_split"),
    ],
)
def test_bad_rows_are_named(tmp_path: pathlib.Path, content: list, sentence: str) -> None:
    write_jsonl(tmp_path / "mine" / "train.jsonl", content)
    with pytest.raises(UserError, match=sentence) as error:
        list(tasks.examples(one_task(configure(tmp_path, "mine", **OWN)), "train"))
    assert "\n" not in str(error.value)


def test_a_target_outside_the_choices_is_named(tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_jsonl(tmp_path / "mine" / "train.jsonl", [{"word": "good"}, {"word": "awful"}])
    task = one_task(configure(tmp_path, "mine", input="x", target="{{ word }}", answer_choices="bad ||| good"))
    with pytest.raises(UserError, match=r"row 1 .*target 'awful', which is not one of its answer choices bad, good"):
        list(tasks.examples(task, "train"))
    assert "Traceback" not in capfd.readouterr().err, "TensorFlow reports no error of its own"


def test_equal_choices_of_a_row_are_one_and_rows_of_one_choice_alone_are_left_out(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As in CommonsenseQA, where a row may list an option twice, the right one too."""
    options = [["a", "b", "a"], ["b", " b", "b"], ["a", "b", "b"]]
    write_jsonl(tmp_path / "mine" / "train.jsonl", [{"options": own, "label": 2} for own in options])
    by_row = {"input": "q", "target": "{{ answer_choices[label] }}", "answer_choices": "{{ options | join('|||') }}"}
    with caplog.at_level(logging.INFO):
        found = list(tasks.examples(one_task(configure(tmp_path, "mine", **by_row)), "train"))
    assert found == [Example("q", "a", ("a", "b"), 0), Example("q", "b", ("a", "b"), 1)]
    assert "2 rows, 1 more that the template does not apply to" in caplog.text
    write_jsonl(tmp_path / "mine" / "train.jsonl", [{"options": options[1], "label": 2}])
    with pytest.raises(UserError, match=r"None of the 1 rows .* or gives no two answer choices that differ; change"):
        list(tasks.examples(one_task(configure(tmp_path, "mine", **by_row)), "train"))


def test_repeated_choices_are_refused_inline_and_reported_of_a_file(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_jsonl(tmp_path / "mine" / "train.jsonl", ROWS)
    with pytest.raises(
        UserError, match=r"task\.answer_choices='bad \|\|\| good \|\|\| bad' lists 'bad' more than once"
    ):
        tasks.find_tasks(configure(tmp_path, "mine", **OWN | {"answer_choices": "bad ||| good ||| bad"}))
    (tmp_path / "templates" / "mine").mkdir(parents=True)
    entry = {"name": "p", "jinja": "{{ text }} ||| {{ answer_choices[label] }}", "answer_choices": "a ||| b ||| a"}
    (tmp_path / "templates" / "mine" / "templates.yaml").write_text(json.dumps({"templates": {"x": entry}}))
    task = one_task(configure(tmp_path, "mine", templates_dir=str(tmp_path / "templates")))
    assert task.choices == ("a", "b") and [e.label for e in tasks.examples(task, "train")] == [1, 0, 0, 1]
    assert "templates.yaml lists 'a' for more than one label: it counts as one answer" in caplog.text


def test_hard_prompts_come_from_one_place(tmp_path: pathlib.Path) -> None:
    write_jsonl(tmp_path / "mine" / "train.jsonl", ROWS)
    with pytest.raises(
        UserError, match=r"task\.input and task\.templates_dir='T' are both set, .*own_data\.py:templates"
    ):
        tasks.find_tasks(configure(tmp_path, "mine", **OWN, templates_dir="T"))
    with pytest.raises(
        UserError, match=r"task\.answer_choices='a \|\|\| b' belongs to task\.input and task\.target, which"
    ):
        tasks.find_tasks(configure(tmp_path, "mine", answer_choices="a ||| b"))


def test_public_data_with_options_listed_twice(shared: pathlib.Path) -> None:
    """24 of CommonsenseQA's 1221 validation rows, 6 of them the right one; none is lost, and every answer is there."""
    public = {"templates_dir": str(shared / "data" / "promptsource"), "template": "question_answering"}
    task = one_task(configure(shared / "data", "commonsense_qa", **public))
    found = list(tasks.examples(task, "validation"))
    counts = [len(example.choices) for example in found]
    assert len(found) == 1221 and counts.count(4) == 24 and counts.count(5) == 1197
    assert all(len(set(e.choices)) == len(e.choices) and e.choices[e.label] == e.target for e in found)


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_a_file_of_no_bytes_holds_no_rows(suffix: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / f"train.{suffix}").touch()
    with pytest.raises(UserError, match="holds no rows"):
        list(tasks.examples(one_task(configure(tmp_path, "mine", **OWN)), "train"))


def test_a_short_csv_line_is_named(tmp_path: pathlib.Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "train.csv").write_text("text,label\na,1\nb\n")
    with pytest.raises(UserError, match=r"train.csv \(in data.dir\), line 3, has not 2 values"):
        list(tasks.examples(one_task(configure(tmp_path, "mine", **OWN)), "train"))


def test_what_is_not_there_is_answered_with_what_is(tmp_path: pathlib.Path) -> None:
    write_jsonl(tmp_path / "a" / "b" / "train.jsonl", ROWS)
    with pytest.raises(UserError, match=r"'mine' has no <split>.jsonl.* which holds a/b; change task.name"):
        tasks.find_tasks(configure(tmp_path, "mine", **OWN))
    with pytest.raises(UserError, match=r"a/b has no split 'test', only train; change task.train_split"):
        list(tasks.examples(one_task(configure(tmp_path, "a/b", **OWN)), "test"))
    with pytest.raises(UserError, match="which is not a folder"):
        tasks.find_tasks(configure(tmp_path / "nowhere", "mine", **OWN))
    with pytest.raises(UserError, match=r"story_cloze is given out by its authors"):
        tasks.find_tasks(configure(tmp_path, "story_cloze/2016", **OWN))
    with pytest.raises(UserError, match=r"Only one of task.input and task.target"):
        tasks.find_tasks(configure(tmp_path, "a/b", input="x"))
    with pytest.raises(UserError, match=r"task.name is empty"):
        tasks.find_tasks(configure(tmp_path, " , "))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with two data sets that TFDS itself has written."""
    import tiny_tfds

    folder = tmp_path_factory.mktemp("tfds")
    tiny_tfds.prepare(folder)
    return folder


def test_tfds_gives_the_rows_that_files_give(prepared: pathlib.Path, tmp_path: pathlib.Path) -> None:
    import tiny_tfds

    config = configure("", "tiny_reviews", **OWN | {"input": "{{ words | join('+') }} {{ text }} {{ label + 1 }}"})
    config.data.tfds_dir = str(prepared)
    task = one_task(config)
    write_jsonl(tmp_path / "tiny_reviews/train.jsonl", tiny_tfds.ROWS)
    config.data.dir = str(tmp_path)
    from_files = sorted(tasks.examples(one_task(config), "train"), key=str)
    assert sorted(tasks.examples(task, "train"), key=str) == from_files  # TFDS shuffles rows once, as it writes them
    assert [e in from_files for e in tasks.examples(task, "train[50%:]")] == [True, True]
    with pytest.raises(UserError, match="tiny_reviews has no split 'validation', only train, test"):
        list(tasks.examples(task, "validation"))
    with pytest.raises(UserError, match="None of the 4 rows"):
        list(tasks.examples(task, "test"))
    config = configure("", "tiny_reviews", input="{{ nothing }}", target="x")
    config.data.tfds_dir = str(prepared)
    with pytest.raises(UserError, match="column 'nothing', but the columns are label, text, words;"):
        list(tasks.examples(one_task(config), "train"))


def test_tfds_columns_become_those_of_hugging_face(prepared: pathlib.Path) -> None:
    config = configure("", "winogrande/winogrande_xl", template="gap")
    config.data.tfds_dir = str(prepared)
    found = list(tasks.examples(one_task(config), "train[:100%]"))
    assert sorted((e.input[0], e.target, e.label) for e in found) == [("0", "a", 0), ("1", "b", 1), ("2", "a", 0)]


def test_a_limit_draws_rows_of_the_slice_before_they_are_rendered(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From all of a file that is sorted by label, and the same rows for another hard prompt."""
    write_jsonl(tmp_path / "mine" / "train.jsonl", [{"text": f"{n}", "label": n // 50} for n in range(100)])
    task = one_task(configure(tmp_path, "mine", **OWN))
    every, rendered, render = list(tasks.examples(task, "train[10:]")), [], tasks.Task.render
    monkeypatch.setattr(tasks.Task, "render", lambda self, row: rendered.append(row) or render(self, row))
    found = list(tasks.examples(task, "train[10:]", 20))
    assert len(found) == len(rendered) == 20 and found == [example for example in every if example in found]
    assert {example.label for example in found} == {0, 1}
    other = one_task(configure(tmp_path, "mine", input="{{ text }}", target="x"))
    assert [f"Review: {example.input}" for example in tasks.examples(other, "train[10:]", 20)] == [
        e.input for e in found
    ]
    assert list(tasks.examples(task, "train[10:]", 90)) == list(tasks.examples(task, "train[10:]", 0)) == every
    prints = [tasks.source_fingerprint(task, "train[10:]", limit) for limit in (0, 20, 21)]
    assert len(set(prints)) == 3 and prints[0] == tasks.source_fingerprint(task, "train[10:]")


def test_a_limit_draws_rows_of_tfds(prepared: pathlib.Path) -> None:
    config = configure("", "tiny_reviews", **OWN)
    config.data.tfds_dir = str(prepared)
    every = list(tasks.examples(one_task(config), "train"))
    expected = [example for example, kept in zip(every, drawn(4, 2), strict=True) if kept]
    assert list(tasks.examples(one_task(config), "train", 2)) == expected and len(expected) == 2
    with pytest.raises(UserError, match=r"The split 'train\[:5\]' selects no rows, or more than the 4"):
        list(tasks.examples(one_task(config), "train[:5]"))


def test_without_a_network_tfds_says_so_at_once(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from infoprompt_jax.data import seqio_adapter

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        monkeypatch.setattr(seqio_adapter, "DOWNLOADS_FROM", f"https://127.0.0.1:{closed.getsockname()[1]}")
        monkeypatch.delenv("https_proxy", raising=False)
        monkeypatch.delenv("HTTPS_PROXY", raising=False)
        config = configure("", "super_glue/rte", template="entails")
        config.data.tfds_dir = str(tmp_path)
        with pytest.raises(UserError, match=r"not prepared in .* no network .*data.tfds_dir, or set data.dir"):
            list(tasks.examples(one_task(config), "train"))
        config.task.update(name="story_cloze/2016", **OWN)
        with pytest.raises(UserError, match="given out by its authors"):
            list(tasks.examples(one_task(config), "train"))
    config.task.update(name="no_such_set", **OWN)
    with pytest.raises(UserError, match=r"TFDS has no data set 'no_such_set': change task.name, or set data.dir"):
        list(tasks.examples(one_task(config), "train"))


def test_seqio_knows_the_tasks_and_tokenises_as_sentencepiece(tmp_path: pathlib.Path, vocabulary: pathlib.Path) -> None:
    import sentencepiece
    import seqio

    from infoprompt_jax.data.seqio_adapter import seqio_task

    write_jsonl(tmp_path / "mine" / "train.jsonl", ROWS)
    task = one_task(configure(tmp_path, "mine", **OWN))
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(vocabulary))
    for eos in (True, False):
        registered = seqio_task(task, seqio.SentencePieceVocabulary(str(vocabulary)), inputs_eos=eos)
        assert seqio.TaskRegistry.get(registered.name) is registered
        assert registered.name.startswith("infoprompt:mine:inline_")
        found = registered.get_dataset(split="train", shuffle=False).as_numpy_iterator()
        for row, example in zip(found, tasks.examples(task, "train"), strict=True):
            assert row["inputs"].tolist() == pieces.encode(example.input) + [1] * eos
            assert row["targets"].tolist() == [*pieces.encode(example.target), 1]
            assert row["inputs_pretokenized"].decode() == example.input and row["label"] == example.label


def test_mixture_rates_are_seqios(tmp_path: pathlib.Path) -> None:
    from infoprompt_jax.data.seqio_adapter import mixture

    sizes = {"one": 40, "two": 10}
    for name, size in sizes.items():
        write_jsonl(tmp_path / name / "train.jsonl", [{"text": name, "label": 0}] * size)
    found = tasks.find_tasks(configure(tmp_path, "one,two", **OWN))
    assert tasks.rates(found, [40, 10], temperature=2.0, cap=16) == [4.0, 10**0.5]
    assert tasks.rates(found, [40, 10]) == [40.0, 10.0]
    with pytest.raises(UserError, match=r"task.temperature is 0.0, but must be above 0"):
        tasks.rates(found, [40, 10], temperature=0.0)
    mixed = mixture(found, "both", temperature=2.0, cap=16)
    assert [mixed.get_rate(task) for task in mixed.tasks] == [4.0, 10**0.5]
    half = mixture(found, "both", split="train[:50%]")
    assert [half.get_rate(task) for task in half.tasks] == [20.0, 5.0]
    rows = half.get_dataset(split="train[:50%]", shuffle=False, num_epochs=None).take(500).as_numpy_iterator()
    share = sum(row["inputs"] == b"Review: one" for row in rows) / 500
    assert abs(share - 0.8) < 4 * (0.8 * 0.2 / 500) ** 0.5


def test_fingerprint_follows_data_prompt_and_slice(tmp_path: pathlib.Path, prepared: pathlib.Path) -> None:
    def found(split: str = "train", **own: str) -> str:
        return tasks.source_fingerprint(one_task(configure(tmp_path, "mine", **OWN | own)), split)

    write_jsonl(tmp_path / "mine" / "train.jsonl", ROWS)
    before = found()
    assert before == found() and len({before, found("train[:2]"), found(input="{{ text }}")}) == 3
    write_jsonl(tmp_path / "mine" / "train.jsonl", ROWS[::-1])
    assert before != found()
    config = configure("", "tiny_reviews", **OWN)
    config.data.tfds_dir = str(prepared)
    prints = {tasks.source_fingerprint(one_task(config), split) for split in ("train", "test", "train")}
    assert len(prints) == 2
