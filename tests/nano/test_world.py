"""The nano world: texts say what their labels say, splits and held-out prompts do not leak, words alone do not tell."""

from __future__ import annotations

import collections
import functools
import hashlib
import json
import os
import pathlib
import random
import re
import subprocess
import sys

import pytest
from world_rules import RULES, Row, content

from infoprompt_jax.data.examples import examples
from infoprompt_jax.data.selection import find_tasks
from infoprompt_jax.data.template_yaml import load_templates
from infoprompt_jax.data.templates import Template
from infoprompt_jax.errors import UserError
from infoprompt_jax.nano import lexicon, world
from infoprompt_jax.settings import defaults

COUNTS = {"train": 1500, "validation": 300, "test": 500}  # so many that a split which follows nothing would overlap
LONGEST = 55  # words and punctuation marks of an input, where the backbone reads 64 tokens
HELD_OUT = {"natural language inference", "sentence completion", "coreference", "word sense"}
FIELDS = {
    "remarks": "text label",
    "films": "text label",
    "meals": "text aspect label",
    "headlines": "text label",
    "same_topic": "sentence1 sentence2 label",
    "rewordings": "sentence1 sentence2 label",
    "twin_questions": "question1 question2 label",
    "questions": "text label",
    "tastes": "context question answer",
    "stories": "context question answer",
    "profiles": "context question answer",
    "which_kind": "question choices label",
    "story_choice": "context question choices label",
    "claims": "evidence claim label",
    "common_facts": "text label",
    "relations": "sentence entity1 entity2 label",
    "grammar": "sentence label",
    "quantities": "text question choices label",
    "order": "text question choices label",
    "concepts": "concepts target",
    "entailment": "premise hypothesis label",
    "inference": "premise hypothesis label",
    "causes": "premise question choice1 choice2 label",
    "endings": "ctx endings label",
    "pronouns": "sentence option1 option2 label",
    "senses": "word sentence1 sentence2 label",
}
TYPES = {"label": int, "choices": list, "endings": list, "concepts": list}  # of all other fields: str
LABELS = {
    "headlines": 6,
    "questions": 6,
    "relations": 6,
    "which_kind": 4,
    "endings": 4,
    "story_choice": 3,
    "inference": 3,
}

every_set = pytest.mark.parametrize("dataset", world.DATASETS)


@functools.cache
def sample(dataset: str, split: str) -> list[Row]:
    return world.rows(dataset, split, COUNTS[split])


@functools.cache
def prompts(dataset: str) -> dict[str, Template]:
    return load_templates(None, world.PREFIX + dataset)


def answer(row: Row) -> int | str:
    return next(row[field] for field in ("label", "answer", "target") if field in row)


def fingerprint() -> str:
    """Of the first rows of everything and of some text."""
    draw = random.Random(0)
    rows = [world.rows(name, split, 50) for name in world.DATASETS for split in world.ROWS]
    return hashlib.sha256(json.dumps([rows, [world.text(draw) for _ in range(500)]]).encode()).hexdigest()


def test_rows_and_text_are_the_same_in_every_process() -> None:
    code = "import test_world; print(test_world.fingerprint())"
    places = [str(pathlib.Path(__file__).parent), *filter(None, sys.path)]
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(places)}
    again = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert fingerprint() == again.stdout.strip()


def test_a_word_has_one_meaning_in_the_tables() -> None:
    for table in (lexicon.KINDS, lexicon.TOPICS, {"good": lexicon.GOOD, "bad": lexicon.BAD}):
        counts = collections.Counter(word for words in table.values() for word in words)
        assert set(counts.values()) == {1}
    for side in zip(*lexicon.CAUSES, strict=True):
        assert len(set(side)) == len(lexicon.CAUSES), "a consequence follows from one cause"


def test_families() -> None:
    families = {out: {d.family for d in world.DATASETS.values() if d.held_out == out} for out in (False, True)}
    assert len(world.HELD_IN) >= 14 and len(families[False]) >= 9
    assert families[True] == HELD_OUT and not HELD_OUT & families[False]
    assert {*world.HELD_IN, *world.HELD_OUT} == set(world.DATASETS) == set(RULES) == set(FIELDS)


@every_set
def test_the_text_says_what_the_label_says(dataset: str) -> None:
    for split in COUNTS:
        for row in sample(dataset, split)[:150]:
            assert RULES[dataset](row) == answer(row), row


@every_set
def test_fields(dataset: str) -> None:
    for row in sample(dataset, "train"):
        assert list(row) == FIELDS[dataset].split()
        assert all(type(value) is TYPES.get(field, str) and value != "" for field, value in row.items())
        choices = row.get("choices", row.get("endings", ()))
        assert len(set(choices)) == len(choices)
        assert all(isinstance(choice, str) for choice in choices)
        counts = (0, 2, 3) if dataset == "story_choice" else (0, LABELS.get(dataset, 2))  # as many as there are events
        assert "label" not in row or len(choices) in counts
        assert row.get("choice1") is None or row["choice1"] != row["choice2"]
        assert row.get("option1") is None or row["option1"] != row["option2"]


@every_set
def test_labels_are_balanced(dataset: str) -> None:
    for split, slack in (("train", 0.3), ("test", 0.5)):
        rows = sample(dataset, split)
        assert len(rows) == COUNTS[split]
        if dataset == "story_choice":  # the third choice is there in every other row
            rows = [row for row in rows if len(row["choices"]) == 3]
        if "label" in rows[0]:
            counts = collections.Counter(row["label"] for row in rows)
            assert sorted(counts) == list(range(LABELS.get(dataset, 2)))
            shares = [count * len(counts) / len(rows) for count in counts.values()]
            assert 1 - slack < min(shares) and max(shares) < 1 + slack


@every_set
def test_splits_have_nothing_in_common(dataset: str) -> None:
    found = {split: {content(dataset, row) for row in sample(dataset, split)} for split in COUNTS}
    if dataset not in ("causes", "senses"):  # there a content is that of many rows
        assert all(len(found[split]) > 0.8 * count for split, count in COUNTS.items())  # the rest: options reordered
    for split, count in COUNTS.items():
        whole = {tuple(str(row[field]) for field in sorted(row.keys() - {"label"})) for row in sample(dataset, split)}
        assert len(whole) == count
    assert found["train"].isdisjoint(found["validation"] | found["test"])
    assert found["validation"].isdisjoint(found["test"])


@every_set
def test_words_alone_give_the_label_away_only_where_they_may(dataset: str) -> None:
    pytest.importorskip("sklearn")
    from experiments.world import bag_of_words, majority

    train, test = sample(dataset, "train"), sample(dataset, "test")
    if "label" not in train[0]:
        return
    accuracy = bag_of_words(train, test)
    assert accuracy > 0.9 if world.DATASETS[dataset].lexical else accuracy < majority(test) + 0.08


def test_choices_alone_and_what_the_text_tells() -> None:
    """By hand: what is said of a right and of a wrong answer, and a baseline that reads the choices."""
    pytest.importorskip("sklearn")
    from experiments import world as measured

    causes = {"premise": "Ann was ill.", "question": "effect", "choice1": "She slept.", "choice2": "She ran."}
    assert "Ann was ill, so she slept." in measured.statements("causes", causes, 0)
    because = causes | {"question": "cause"}
    assert "Ann was ill because she ran." in measured.statements("causes", because, 1)
    endings = {"ctx": "Ann lives in Rome. She was ill.", "endings": ["She ran.", "She slept."]}
    assert "Ann was ill. Then she slept." in measured.statements("endings", endings, 1)
    pronouns = {"sentence": "Ann paid Ben because _ had a debt.", "option1": "Ann", "option2": "Ben"}
    assert measured.statements("pronouns", pronouns, 0) == ["Ann paid Ben because Ann had a debt."]
    senses = {"sentence1": "I sat by the bank.", "sentence2": "The bank was wet.", "label": 1}
    assert measured.statements("senses", senses, 1)[1] == "The bank was wet. I sat by the bank."
    leaky = [{"choices": ["right a", "wrong b"], "label": 0}, {"choices": ["wrong a", "right b"], "label": 1}]
    assert measured.choices_alone("order", leaky * 5, leaky) == 1.0
    assert measured.stated("causes", sample("causes", "test")[:100], right=True) > 0.9
    assert measured.stated("causes", sample("causes", "test")[:100], right=False) == 0.0


@every_set
def test_templates(dataset: str) -> None:
    assert 3 <= len(prompts(dataset)) <= 6
    for template in prompts(dataset).values():
        found = [rendered for row in sample(dataset, "train")[:60] if (rendered := template.render(row))]
        assert len(found) == 60 or (not template.metadata.original_task and len(found) > 20)
        for text in found:
            assert len(re.findall(r"\w+|[^\w\s]", text.input)) <= LONGEST
            assert bool(text.choices) == bool(template.answer_choices)
            if text.choices:
                assert text.target in text.choices and len(set(text.choices)) == len(text.choices)
            assert "{" not in text.input + text.target


def test_prompts_differ() -> None:
    found = [(dataset, template) for dataset in world.DATASETS for template in prompts(dataset).values()]
    assert len({template.id for _, template in found}) == len(found)
    assert len({(dataset, template.jinja) for dataset, template in found}) == len(found)


def phrases(template: Template) -> set[str]:
    """What a template itself says, in pieces of three words or more; naming the choices (true or false?) is none."""
    asked = template.jinja.split("|||")[0].lower()
    pieces = [piece.strip() for piece in re.split(r"\{\{.*?\}\}|\{%.*?%\}|\n", asked)]
    choices = {"or", "the", *re.findall(r"\w+", template.answer_choices.lower())}
    return {piece for piece in pieces if len(piece.split()) >= 3 and not set(re.findall(r"\w+", piece)) <= choices}


def test_held_out_prompts_are_kept_out_of_pretraining() -> None:
    held_out = {phrase for name in world.HELD_OUT for t in prompts(name).values() for phrase in phrases(t)}
    assert {"does it follow that", "which ending is right?", "mean the same in both?"} <= held_out
    draw = random.Random(1)
    seen = [t.jinja for name in world.HELD_IN for t in prompts(name).values()]
    seen += [world.text(draw) for _ in range(2000)]
    together = "\n".join(seen).lower()
    assert not [phrase for phrase in held_out if phrase in together]


def test_a_line_of_text_is_of_sentences() -> None:
    draw = random.Random(2)
    for line in (world.text(draw) for _ in range(1000)):
        assert re.fullmatch(r"([A-Z][\w ,']+[.!] ?){1,6}", line), line


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for split in world.ROWS:
        monkeypatch.setitem(world.ROWS, split, 5)


@pytest.mark.usefixtures("small")
def test_files_are_written_once_and_only_those_asked_for(tmp_path: pathlib.Path) -> None:
    folder = world.folder(str(tmp_path), "nano/films")
    files = sorted(path.relative_to(folder).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert files == ["nano/films/test.jsonl", "nano/films/train.jsonl", "nano/films/validation.jsonl"]
    test, train = (folder / "nano" / "films" / f"{split}.jsonl" for split in ("test", "train"))
    assert [json.loads(line) for line in test.read_text().splitlines()] == world.rows("films", "test", 5)
    assert len(train.read_text().splitlines()) == 5 * world.PRETRAINED_ON
    test.write_text("kept")
    train.unlink()
    assert world.folder(str(tmp_path)) == folder
    assert test.read_text() == "kept" and train.exists()
    assert sum(path.is_file() for path in tmp_path.rglob("*")) == 3 * len(world.DATASETS)


def test_an_unknown_data_set_is_answered_with_those_there_are(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"task.name='nano/songs' is not .*: remarks, films, .*, senses\.$"):
        world.folder(str(tmp_path), "nano/songs")
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("small")
def test_rows_reach_the_pipeline(tmp_path: pathlib.Path) -> None:
    config = defaults()
    config.task.update(name="nano/films", template="sentiment")
    config.data.update(dir="", cache_dir=str(tmp_path))
    (task,) = find_tasks(config)
    found = list(examples(task, "test"))
    rows = world.rows("films", "test", 5)
    assert [e.input for e in found] == [f"{row['text']}\nIs this review negative or positive?" for row in rows]
    assert [(e.label, e.target) for e in found] == [(r["label"], ("negative", "positive")[r["label"]]) for r in rows]


@pytest.mark.usefixtures("small")
def test_the_table_of_data_sets() -> None:
    pytest.importorskip("sklearn")
    from experiments.world import record

    found = record("senses")
    assert (found["held_out"], found["train"], found["test"]) == (True, 5, 5)
    assert found["hard_prompts"] == len(prompts("senses")) and found["chance"] == 0.5 <= found["majority"] <= 1
    assert 0 <= found["bag_of_words"] <= 1
    assert record("concepts")["bag_of_words"] is None
