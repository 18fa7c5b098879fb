"""seqio's examples of a task equal our own; TFDS data sets, registered tasks and mixtures."""

from __future__ import annotations

import pathlib
import socket

import pytest
from tiny_data import INLINE, ROWS, configure, one_task, write_jsonl

from infoprompt_jax.data.batches import mixing_rates
from infoprompt_jax.data.examples import examples, source_fingerprint
from infoprompt_jax.data.selection import find_tasks
from infoprompt_jax.data.splits import drawn
from infoprompt_jax.data.tasks import Task
from infoprompt_jax.data.templates import Example
from infoprompt_jax.errors import UserError


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with two data sets that TFDS itself has written."""
    import tiny_tfds

    folder = tmp_path_factory.mktemp("tfds")
    tiny_tfds.prepare(folder)
    return folder


def test_tfds_gives_the_rows_that_files_give(prepared: pathlib.Path, tmp_path: pathlib.Path) -> None:
    import tiny_tfds

    config = configure("", "tiny_reviews", **INLINE | {"input": "{{ words | join('+') }} {{ text }} {{ label + 1 }}"})
    config.data.tfds_dir = str(prepared)
    task = one_task(config)
    write_jsonl(tmp_path / "tiny_reviews/train.jsonl", tiny_tfds.ROWS)
    config.data.dir = str(tmp_path)
    from_files = sorted(examples(one_task(config), "train"), key=str)
    assert sorted(examples(task, "train"), key=str) == from_files  # TFDS shuffles rows once, as it writes them
    assert [e in from_files for e in examples(task, "train[50%:]")] == [True, True]
    assert as_seqio_reads(task, "train[1:]") == as_read(task, "train[1:]")
    with pytest.raises(UserError, match="tiny_reviews has no split 'validation', only train, test"):
        list(examples(task, "validation"))
    with pytest.raises(UserError, match="None of the 4 rows"):
        list(examples(task, "test"))
    config = configure("", "tiny_reviews", input="{{ nothing }}", target="x")
    config.data.tfds_dir = str(prepared)
    with pytest.raises(UserError, match="column 'nothing', but the columns are label, text, words:"):
        list(examples(one_task(config), "train"))


def as_seqio_reads(task: Task, split: str) -> list[tuple[Example, int]]:
    """The examples of the registered task, and their labels."""
    from infoprompt_jax.data.seqio_adapter import seqio_task

    rows = seqio_task(task).get_dataset(split=split, shuffle=False).as_numpy_iterator()
    return [
        (
            Example(
                row["inputs"].decode(), row["targets"].decode(), tuple(choice.decode() for choice in row["choices"])
            ),
            int(row["label"]),
        )
        for row in rows
    ]


def as_read(task: Task, split: str) -> list[tuple[Example, int]]:
    return [(example, example.label) for example in examples(task, split)]


OPTIONS = {"input": "{{ q }}", "target": "{{ answer_choices[label] }}", "answer_choices": "{{ options | join('|||') }}"}


@pytest.mark.parametrize("fields", [INLINE, {"input": "{{ text }}", "target": "{{ text | upper }}"}, OPTIONS])
def test_seqio_gives_the_examples_that_python_gives(tmp_path: pathlib.Path, fields: dict[str, str]) -> None:
    """Of rows without a label, without two choices, with separators, with half a surrogate pair and beyond ASCII."""
    rows = [{**row, "q": "?", "options": ["a|||b", "ç", "a|||b"][: 2 + row["label"]]} for row in ROWS]
    rows += [{"text": "no label", "label": -1, "q": "?", "options": ["a", "b"]}]
    rows += [{"text": "é ø \ud83d 🙂", "label": 0, "q": "?", "options": ["a", " a"]}]
    write_jsonl(tmp_path / "mine" / "train.jsonl", rows)
    task = one_task(configure(tmp_path, "mine", **fields))
    read = as_read(task, "train[1:]")
    assert read and as_seqio_reads(task, "train[1:]") == read


@pytest.mark.parametrize(
    ("name", "template"),
    [("super_glue/rte", "entails"), ("hellaswag", "continue"), ("bigbench/novel_concepts", "all")],
)
def test_seqio_gives_the_examples_of_shipped_templates(invented: pathlib.Path, name: str, template: str) -> None:
    config = configure(invented, name, template=template)
    config.job = "evaluate"  # BIG-bench's tasks are for nothing else
    task = one_task(config)
    read = as_read(task, "validation[:20]")
    assert len(read) == 20 and as_seqio_reads(task, "validation[:20]") == read


@pytest.mark.parametrize(
    ("name", "template", "split"),
    [
        ("super_glue/rte", "GPT-3 style", "validation"),
        ("commonsense_qa", "question_answering", "validation[:300]"),
        ("hellaswag", "complete_first_then", "validation[:200]"),
        ("bigbench/hindu_knowledge", "all", "validation"),
    ],
)
def test_seqio_gives_the_examples_that_python_gives_of_real_rows(
    shared: pathlib.Path, name: str, template: str, split: str
) -> None:
    public = {"templates_dir": str(shared / "data" / "promptsource"), "template": template}
    config = configure(shared / "data", name, **public)
    config.job = "evaluate"  # BIG-bench's tasks are for nothing else
    task = one_task(config)
    assert as_seqio_reads(task, split) == as_read(task, split)


def test_tfds_columns_become_those_of_hugging_face(prepared: pathlib.Path) -> None:
    config = configure("", "winogrande/winogrande_xl", template="gap")
    config.data.tfds_dir = str(prepared)
    read = list(examples(one_task(config), "train[:100%]"))
    assert sorted((e.input[0], e.target, e.label) for e in read) == [("0", "a", 0), ("1", "b", 1), ("2", "a", 0)]


def test_a_limit_draws_rows_of_tfds(prepared: pathlib.Path) -> None:
    config = configure("", "tiny_reviews", **INLINE)
    config.data.tfds_dir = str(prepared)
    every = list(examples(one_task(config), "train"))
    expected = [example for example, kept in zip(every, drawn(4, 2), strict=True) if kept]
    assert list(examples(one_task(config), "train", 2)) == expected and len(expected) == 2
    with pytest.raises(UserError, match=r"The split 'train\[:5\]' selects no rows, or more than the 4"):
        list(examples(one_task(config), "train[:5]"))


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
            list(examples(one_task(config), "train"))
        config.task.update(name="story_cloze/2016", **INLINE)
        with pytest.raises(UserError, match="given out by its authors"):
            list(examples(one_task(config), "train"))
    config.task.update(name="no_such_set", **INLINE)
    with pytest.raises(UserError, match=r"TFDS has no data set 'no_such_set': change task.name, or set data.dir"):
        list(examples(one_task(config), "train"))


def test_seqio_knows_the_tasks_and_tokenises_as_sentencepiece(tmp_path: pathlib.Path, vocabulary: pathlib.Path) -> None:
    import sentencepiece
    import seqio

    from infoprompt_jax.data.seqio_adapter import seqio_task

    write_jsonl(tmp_path / "mine" / "train.jsonl", ROWS)
    task = one_task(configure(tmp_path, "mine", **INLINE))
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(vocabulary))
    for eos in (True, False):
        registered = seqio_task(task, seqio.SentencePieceVocabulary(str(vocabulary)), inputs_eos=eos)
        assert seqio.TaskRegistry.get(registered.name) is registered
        assert registered.name.startswith("infoprompt:mine:inline_")
        rows = registered.get_dataset(split="train", shuffle=False).as_numpy_iterator()
        for row, example in zip(rows, examples(task, "train"), strict=True):
            assert row["inputs"].tolist() == pieces.encode(example.input) + [1] * eos
            assert row["targets"].tolist() == [*pieces.encode(example.target), 1]
            assert row["inputs_pretokenized"].decode() == example.input and row["label"] == example.label


def test_mixture_rates_are_seqios(tmp_path: pathlib.Path) -> None:
    from infoprompt_jax.data.seqio_adapter import mixture

    sizes = {"one": 40, "two": 10}
    for name, size in sizes.items():
        write_jsonl(tmp_path / name / "train.jsonl", [{"text": name, "label": 0}] * size)
    both = find_tasks(configure(tmp_path, "one,two", **INLINE))
    mixed = mixture(both, "both", temperature=2.0, cap=16)
    rates = [mixed.get_rate(task) for task in mixed.tasks]
    assert rates == [4.0, 10**0.5] == mixing_rates([40, 10], temperature=2.0, cap=16)
    half = mixture(both, "both", split="train[:50%]")
    assert [half.get_rate(task) for task in half.tasks] == [20.0, 5.0] == mixing_rates([20, 5])
    rows = half.get_dataset(split="train[:50%]", shuffle=False, num_epochs=None).take(500).as_numpy_iterator()
    share = sum(row["inputs"] == b"Review: one" for row in rows) / 500
    assert abs(share - 0.8) < 4 * (0.8 * 0.2 / 500) ** 0.5


def test_fingerprints_of_tfds_follow_the_split(prepared: pathlib.Path) -> None:
    config = configure("", "tiny_reviews", **INLINE)
    config.data.tfds_dir = str(prepared)
    prints = {source_fingerprint(one_task(config), split) for split in ("train", "test", "train")}
    assert len(prints) == 2
