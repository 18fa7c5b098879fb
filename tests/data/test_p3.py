"""P3: how many data sets and templates there are, what a config selects of them, and that those render."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import subprocess
import sys
from typing import Any

import ml_collections
import pytest

from infoprompt_jax.data import local_files, p3, row_files
from infoprompt_jax.data.datasets import Dataset
from infoprompt_jax.data.selection import available
from infoprompt_jax.data.tasks import Task
from infoprompt_jax.data.template_yaml import load_templates
from infoprompt_jax.errors import UserError
from infoprompt_jax.settings import defaults

SOURCES = {dataset.name: dataset for dataset in p3.sources()}
HELD_OUT = {dataset.name: dataset for dataset in p3.held_out()}
ROWS = [{"text": "fine", "label": 1}, {"text": "dull", "label": 0}]
ANSWERS = "{{ answer_choices[label] }}"


def configure(
    data: pathlib.Path | str, templates: pathlib.Path | str = "", tfds: str = ""
) -> ml_collections.ConfigDict:
    config = defaults()
    config.data.dir, config.data.tfds_dir, config.task.templates_dir = str(data), tfds, str(templates)
    return config


def write_rows(folder: pathlib.Path, task: str, split: str, rows: list[dict[str, Any]]) -> None:
    path = folder / task / f"{split}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_templates(folder: pathlib.Path, task: str, prompts: dict[str, tuple[str, str]]) -> None:
    entries = {
        name: {"name": name, "jinja": jinja, "answer_choices": choices} for name, (jinja, choices) in prompts.items()
    }
    (folder / task).mkdir(parents=True, exist_ok=True)
    (folder / task / "templates.yaml").write_text(json.dumps({"templates": entries}))  # JSON is YAML


def reasons(name: str, config: ml_collections.ConfigDict) -> dict[str, str]:
    dataset = (SOURCES | HELD_OUT)[name]
    return {one.template: one.reason for one in available([dataset], config, ranked=name in HELD_OUT).skipped}


def test_counts() -> None:
    assert len(SOURCES) == 36 and len(HELD_OUT) == 11
    for datasets, count in ((SOURCES, 296), (HELD_OUT, 120)):
        pairs = {(dataset.name, prompt) for dataset in datasets.values() for prompt in dataset.templates}
        assert len(pairs) == count == sum(len(dataset.templates) for dataset in datasets.values())
    beyond = [prompt for dataset in HELD_OUT.values() for prompt in dataset.beyond_t0]
    assert len(beyond) == 4 and all(set(d.beyond_t0) <= set(d.templates) for d in HELD_OUT.values())
    assert {SOURCES[name].split for name in SOURCES} == {"train"}
    assert {dataset.split for dataset in HELD_OUT.values() if dataset.task == "anli"} == {"dev_r1", "dev_r2", "dev_r3"}
    assert not {dataset.task for dataset in SOURCES.values()} & {dataset.task for dataset in HELD_OUT.values()}


@pytest.mark.parametrize(("datasets", "file"), [(SOURCES, "p3_source_prompts.tsv"), (HELD_OUT, "p3_eval_prompts.tsv")])
def test_names_are_those_of_the_authors(shared: pathlib.Path, datasets: dict[str, Dataset], file: str) -> None:
    lines = (shared / "data" / file).read_text(encoding="utf-8").splitlines()
    expected = [(line.split("\t")[0], line.split("\t")[-1]) for line in lines]
    assert [(dataset.name, prompt) for dataset in datasets.values() for prompt in dataset.templates] == expected


def test_every_prompt_is_in_the_real_templates(shared: pathlib.Path) -> None:
    for dataset in (*SOURCES.values(), *HELD_OUT.values()):
        if dataset.name != "quoref":  # whose templates are not in the folder
            templates = load_templates(str(shared / "data" / "promptsource"), dataset.task)
            assert set(dataset.templates) <= templates.keys(), dataset.name
            assert dataset.name in SOURCES or all(templates[prompt].answer_choices for prompt in dataset.templates)


@pytest.mark.parametrize("datasets", [SOURCES, HELD_OUT])
def test_selection_from_the_real_files(shared: pathlib.Path, datasets: dict[str, Dataset]) -> None:
    """Whatever lies there: a set is used if its split has a file and its task has templates."""
    data, templates, usable = shared / "data", shared / "data" / "promptsource", set()
    selection = available(tuple(datasets.values()), configure(data, templates))
    assert sorted(one.name for one in (*selection.selected, *selection.skipped)) == sorted(
        f"{name}:{prompt}" for name, dataset in datasets.items() for prompt in dataset.templates
    )
    why = {(one.dataset, one.reason) for one in selection.skipped}
    for name, dataset in datasets.items():
        files = (data / dataset.task).glob("*.*")
        splits = sorted(file.stem for file in files if file.suffix in row_files.READERS)
        if dataset.split in splits:
            assert not any("data.dir" in reason for other, reason in why if other == name)
            usable |= {name} if (templates / dataset.task / "templates.yaml").exists() else set()
        elif splits:
            assert (name, f"{dataset.task} has no split {dataset.split} in data.dir, only {', '.join(splits)}.") in why
        elif name == "story_cloze":
            assert any("given out by its authors" in reason for other, reason in why if other == name)
        else:
            assert (name, f"There is no {dataset.task}/{dataset.split}{row_files.FORMATS} in data.dir.") in why
    assert {one.dataset for one in selection.selected} == usable
    for one in selection.selected:
        assert (one.task.name, one.split) == (datasets[one.dataset].task, datasets[one.dataset].split)


def test_selection_without_the_real_templates(tmp_path: pathlib.Path) -> None:
    write_rows(tmp_path, "rotten_tomatoes", "train", ROWS)
    write_rows(tmp_path, "sciq", "validation", ROWS)
    why = reasons("rotten_tomatoes", configure(tmp_path))  # the package's own have other names
    assert set(why.values()) == {"There is no template of this name."}
    other = dataclasses.replace(SOURCES["sciq"], split="validation")
    skipped = available([other], configure(tmp_path)).skipped
    assert len(skipped) == 5 and all("no templates for sciq" in one.reason for one in skipped)


def test_reasons_that_depend_on_the_prompt(tmp_path: pathlib.Path) -> None:
    names = SOURCES["imdb"].templates
    write_rows(tmp_path, "imdb", "train", ROWS)
    prompts = {
        names[0]: ("{{ text }} ||| " + ANSWERS, "bad ||| good"),
        names[1]: ("{{ title }} ||| " + ANSWERS, "bad ||| good"),
        names[2]: ("{% if label == 2 %}{{ text }}{% endif %} ||| " + ANSWERS, "bad ||| good"),
        names[3]: ("{% if label == 0 %}{{ text }}{% endif %} ||| free text", ""),
    }
    write_templates(tmp_path, "imdb", prompts)
    why = reasons("imdb", configure(tmp_path, tmp_path))
    assert not {names[0], names[3]} & why.keys()
    assert "uses the column 'title', but the columns are text, label" in why[names[1]]
    assert why[names[2]] == "The template leaves the input or the target empty in every row of train."
    assert {why[name] for name in names[4:]} == {"There is no template of this name."}


def test_a_folder_that_is_not_there_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match="which is not a folder"):
        available(p3.sources(), configure(tmp_path / "absent"))


def test_held_out_prompts_need_answer_choices(tmp_path: pathlib.Path) -> None:
    name = HELD_OUT["super_glue_cb"].templates[0]
    write_rows(tmp_path, "super_glue/cb", "validation", ROWS)
    write_templates(tmp_path, "super_glue/cb", {name: ("{{ text }} ||| x", "")})
    assert (
        reasons("super_glue_cb", configure(tmp_path, tmp_path))[name] == "The template has no answer choices to rank."
    )


def test_files_are_reported_on_without_tensorflow(tmp_path: pathlib.Path) -> None:
    write_rows(tmp_path, "imdb", "train", ROWS)
    code = (
        "import sys; from infoprompt_jax import settings; from infoprompt_jax.data import p3, selection\n"
        "config = settings.defaults(); config.data.dir = sys.argv[1]\n"
        "print(len(selection.available(p3.sources(), config).skipped), {'tensorflow', 'seqio'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout.strip() == "296 set()", done.stderr


def test_tfds_is_reported_on(tmp_path: pathlib.Path) -> None:
    import tiny_tfds

    tiny_tfds.TinyReviews(data_dir=tmp_path).download_and_prepare()
    answers = " ||| " + ANSWERS, "bad ||| good"
    prompts = {name: (column + answers[0], answers[1]) for name, column in (("a", "{{ text }}"), ("b", "{{ x }}"))}
    write_templates(tmp_path, "tiny_reviews", prompts)
    place = ("tiny_reviews", "train")
    reviews = Dataset("reviews", "reviews of files", "training", ("a", "b", "c"), place)
    selection = available([reviews], configure("", tmp_path, str(tmp_path)))
    assert [(one.name, one.task.name, one.split) for one in selection.selected] == [("reviews:a", *place)]
    assert [one.template for one in selection.skipped] == ["b", "c"]
    assert "uses the column 'x', but the columns are label, text, words" in selection.skipped[0].reason
    config = configure("", tmp_path, str(tmp_path))
    longer, first = (dataclasses.replace(reviews, tfds=("tiny_reviews", f"train[:{stop}]")) for stop in (5, 1))
    assert "selects no rows, or more than the 4 there are" in available([longer], config).skipped[0].reason
    assert available([first], config).selected[0].split == "train[:1]"
    drawn = available([reviews], config, slices=[("train[:2]", 1)])
    assert [one.name for one in drawn.selected] == ["reviews:a"]
    elsewhere = configure("", tmp_path, str(tmp_path / "elsewhere"))
    assert all("`tfds build tiny_reviews --data_dir=" in one.reason for one in available([reviews], elsewhere).skipped)
    assert all("`tfds build imdb_reviews " in reason for reason in reasons("imdb", elsewhere).values())
    assert all("TFDS does not have it" in reason for reason in reasons("dream", elsewhere).values())
    assert HELD_OUT["anli_r2"].tfds == ("anli/r2", "validation") and HELD_OUT["anli_r2"].split == "dev_r2"


@pytest.mark.slow
def test_tfds_has_the_columns_that_real_prompts_read(shared: pathlib.Path, tmp_path: pathlib.Path) -> None:
    import tensorflow_datasets as tfds

    from infoprompt_jax.data.seqio_adapter import TFDS_COLUMNS, TFDS_NAMES

    added = {"ag_news": {"text"}, "anli": {"premise"}, "hellaswag": {"ctx", "ctx_a", "ctx_b"}, "winogrande": {"answer"}}
    assert TFDS_COLUMNS.keys() == {TFDS_NAMES.get(name, name) for name in added}
    places = {dataset: dataset.tfds[0] for dataset in (*SOURCES.values(), *HELD_OUT.values()) if dataset.tfds}
    for dataset, name in places.items():
        templates = load_templates(str(shared / "data" / "promptsource"), name)
        read = frozenset().union(*(templates[prompt].columns for prompt in dataset.templates))
        builder = tfds.builder(TFDS_NAMES.get(name, name), data_dir=tmp_path)
        assert read <= set(builder.info.features) | added.get(dataset.task.split("/")[0], set()), name


COPA_HALF = (
    "…What could happen next, C1 or C2?",
    "…As a result, C1 or C2?",
    "…which may be caused by",
    "…why? C1 or C2",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in HELD_OUT if name != "story_cloze"])
def test_every_evaluation_prompt_renders_every_row(shared: pathlib.Path, name: str) -> None:
    dataset, data = HELD_OUT[name], str(shared / "data")
    templates = load_templates(data + "/promptsource", dataset.task)
    lines = local_files.read_rows(local_files.find_files(data, dataset.task)[dataset.split])
    rows = [json.loads(line) for line in lines]
    for prompt in dataset.templates:
        task = Task(dataset.task, templates[prompt], "accuracy", data)
        rendered = [task.render(row) for row in rows]
        for_question = {
            "effect": COPA_HALF[:2],
            "cause": COPA_HALF[2:],
        }  # those four ask about effects, or about causes
        for row, example in zip(rows, rendered, strict=True):
            applies = prompt not in COPA_HALF or prompt in for_question[row["question"]]
            assert (example is not None) == applies, (prompt, row)
            assert example is None or (example.choices[example.label] == example.target and len(example.choices) > 1)
