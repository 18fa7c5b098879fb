"""Source prompts: what a library gets from groups of members, however often the job is stopped; the plan; the kinds."""

from __future__ import annotations

import gc
import json
import os
import pathlib
import shutil
import signal
import weakref
from typing import Any

import generated_words
import jax
import ml_collections
import numpy as np
import pytest
import tiny
import tiny_runs

from infoprompt_jax import experiment, jobs, p3, source_keys, source_plan, source_prompts, train
from infoprompt_jax.backbone import Backbone, load_backbone
from infoprompt_jax.command_line import read_config
from infoprompt_jax.errors import UserError
from infoprompt_jax.experiment import TokenizedSplits
from infoprompt_jax.fleet import Fleet
from infoprompt_jax.keys import encode_keys
from infoprompt_jax.library import PromptLibrary
from infoprompt_jax.nano import world
from infoprompt_jax.prompt_files import load_prompt
from infoprompt_jax.source_keys import text
from infoprompt_jax.sources import drawn
from infoprompt_jax.task_kinds import answer_format, family
from infoprompt_jax.tasks import find_tasks

CONFIG = pathlib.Path(__file__).parent.parent / "configs" / "rospr_sources.py"
STEPS, N = 4, 3
INFINITE = 1e39  # in float32
WORDS, OTHER = "generated/words", "generated/other"
TEMPLATES = {
    "free": ("Name them: {{ words }} ||| {{ words.split()[0] }}", ""),
    "bare": ("{{ words }} ||| {{ answer_choices[label] }}", "animals ||| gadgets"),
    "Yes?": ("Animals? {{ words }} ||| {{ answer_choices[label] }}", "Yes ||| No"),
}
NAMES = [f"{WORDS}:{template}" for template in ("bare", "Yes?", "free")]

pytestmark = pytest.mark.usefixtures("programs")


class Killed(BaseException):
    """Stands for the end of the process."""


def die(*_: Any, **__: Any) -> None:
    raise Killed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Two data sets of the same rows, with three hard prompts each."""
    path = tmp_path_factory.mktemp("sources")
    generated_words.write(path / "data")
    shutil.copytree(path / "data" / WORDS, path / "data" / OTHER)
    for name in (WORDS, OTHER):
        write_templates(path / "templates", name, TEMPLATES)
    return path


def write_templates(folder: pathlib.Path, task: str, prompts: dict[str, tuple[str, str]]) -> None:
    entries = {
        name: {"name": name, "jinja": jinja, "answer_choices": choices} for name, (jinja, choices) in prompts.items()
    }
    (folder / task).mkdir(parents=True)
    (folder / task / "templates.yaml").write_text(json.dumps({"templates": entries}))  # JSON is YAML


def configure(folder: pathlib.Path, **fields: Any) -> ml_collections.ConfigDict:
    """Three hard prompts in two groups, of two and of one."""
    config = tiny_runs.config(
        folder,
        job="rospr_sources",
        task__name=WORDS,
        task__eval_limit=4,
        train__steps=STEPS,
        train__eval_every=0,
        infoprompt__gamma=0.0,
        infoprompt__beta=0.0,
        rospr__group=2,
        rospr__instances=N,
        scoring__max_length=2,
    )
    config.update_from_flattened_dict({name.replace("__", "."): value for name, value in fields.items()})
    return config


@pytest.fixture(scope="module")
def done(folder: pathlib.Path, programs: dict[str, str]) -> pathlib.Path:
    """A job that was never stopped."""
    jobs.run(configure(folder), str(folder / "done"))
    return folder / "done"


def summary(workdir: pathlib.Path) -> dict[str, Any]:
    return json.loads((workdir / "summary.json").read_text())


def test_a_library_of_all_hard_prompts(done: pathlib.Path, folder: pathlib.Path) -> None:
    """Two groups' worth; keys and texts are of rows that were trained on."""
    library = PromptLibrary.load(done / "library")
    assert [entry.name for entry in library.entries] == NAMES
    assert [e.answer_format for e in library.entries] == ["label words", "yes/no", "free text"]
    assert [next(iter(e.metrics)) for e in library.entries] == ["accuracy", "accuracy", "exact_match"]
    assert library.entries[1].choices == ("Yes", "No") and library.entries[2].choices == ()
    assert len(list((done / "groups").iterdir())) == 2 and len(library.manifest.segments) == 2
    rows = [json.loads(line) for line in (folder / "data" / WORDS / "train.jsonl").open()]
    texts = [library.text(key) for key in range(len(NAMES) * N)]
    assert set(texts[N : 2 * N]) <= {f"Animals? {row['words']}" for row in rows}
    assert len(set(texts)) == len(texts)
    model = tiny.backbone()
    tokens = [np.append(model.tokenizer.encode([text])[0], 1) for text in texts]
    padded = np.stack([np.pad(ids, (0, 64 - len(ids))) for ids in tokens])
    np.testing.assert_allclose(library.keys_KR, encode_keys(model, padded), rtol=1e-4, atol=1e-5)
    assert library.owners_K.tolist() == [owner for owner in range(len(NAMES)) for _ in range(N)]
    assert all(name in (done / "report.html").read_text() for name in NAMES)


def test_a_source_prompt_is_what_training_it_alone_gives(
    done: pathlib.Path, folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    alone = configure(folder, job="train", task__template="Yes?")
    train.train(alone, tmp_path)
    library = PromptLibrary.load(done / "library")
    expected = load_prompt(tmp_path / "prompts" / "run").value_PD
    np.testing.assert_allclose(library.prompts(1), expected, rtol=1e-3, atol=1e-4)
    assert not np.allclose(library.prompts(0), expected, atol=0.01)


def test_a_job_stopped_everywhere_gives_the_same_library(
    done: pathlib.Path, folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the first group; before its prompts are added; in the second; before its prompts are; before the summary."""
    config = configure(folder)

    def stop(step: int) -> None:
        with monkeypatch.context() as patch, pytest.raises(SystemExit) as end:
            signalled = tiny_runs.before_step(step, lambda: os.kill(os.getpid(), signal.SIGTERM))
            patch.setattr(Fleet, "step", signalled)
            jobs.run(config, str(tmp_path))
        assert end.value.code == 143

    def kill(where: Any, name: str) -> None:
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(where, name, die)
            jobs.run(config, str(tmp_path))

    stop(1)
    assert not (tmp_path / "library").exists() and (tmp_path / "groups/0000/checkpoints/2").is_dir()
    kill(PromptLibrary, "create")
    assert (tmp_path / "groups/0000/summary.json").exists() and not (tmp_path / "library").exists()
    stop(2)
    kill(PromptLibrary, "append")
    assert len(PromptLibrary.load(tmp_path / "library")) == 2 and (tmp_path / "groups/0001/summary.json").exists()
    kill(source_prompts, "summarize")
    jobs.run(config, str(tmp_path))
    found, expected = (PromptLibrary.load(path / "library") for path in (tmp_path, done))
    assert found.entries == expected.entries
    for segment, other in zip(found.segments, expected.segments, strict=True):
        assert segment.keys() == other.keys()
        for name in segment:
            np.testing.assert_array_equal(segment[name], other[name], err_msg=name)


def test_a_stop_in_the_last_step_of_a_group_is_heeded_before_the_next(
    folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    signalled = tiny_runs.before_step(STEPS - 1, lambda: os.kill(os.getpid(), signal.SIGTERM))
    monkeypatch.setattr(Fleet, "step", signalled)
    with pytest.raises(SystemExit) as end:
        jobs.run(configure(folder), str(tmp_path))
    assert end.value.code == 143
    assert capsys.readouterr().err.splitlines()[-1] == "Stopped after 1 of 2 groups; the same command resumes."
    assert len(PromptLibrary.load(tmp_path / "library")) == 2 and not (tmp_path / "groups/0001").exists()


def test_a_job_that_ran_out_of_memory_goes_on_with_less(
    folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Fleet, "step", tiny_runs.before_step(1, die))
        jobs.run(configure(folder, task__name=OTHER), str(tmp_path))
    less = configure(folder, task__name=OTHER, train__eval_batch_size=8, fleet__at_once=1)
    jobs.run(less, str(tmp_path))
    assert len(PromptLibrary.load(tmp_path / "library")) == 3
    less.train.learning_rate = 0.1
    with pytest.raises(UserError, match=r"holds a run with train\.learning_rate=0\.3, this one has 0\.1"):
        jobs.run(less, str(tmp_path))


def test_a_second_call_says_done(
    done: pathlib.Path, folder: pathlib.Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_prompts, "encode_instances", die)
    with caplog.at_level("INFO", logger="infoprompt_jax"):
        shown = jobs.run(configure(folder), str(done))
    assert "This run is done" in caplog.text
    (words,) = [line for line in shown.splitlines() if line.startswith(WORDS)]
    found = [source["metrics"] for source in summary(done)["sources"] if source["dataset"] == WORDS]
    mean = np.mean([metrics["accuracy"] for metrics in found[:2]])
    assert words.split() == [WORDS, "3", "accuracy", f"{mean:.4f},", "exact_match",
                             f"{found[2]['exact_match']:.4f}", str(3 * N)]  # fmt: skip


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_members_whose_loss_became_nan_are_left_out(
    folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of the first group; and the second group, which had no other."""
    made = source_prompts.group_config

    def diverging(*arguments: Any) -> ml_collections.ConfigDict:
        own = made(*arguments)
        own.fleet.members = tuple(
            member | ({} if member["task.template"] == "Yes?" else {"train.learning_rate": INFINITE})
            for member in own.fleet.members
        )
        return own

    monkeypatch.setattr(source_prompts, "group_config", diverging)
    shown = jobs.run(configure(folder), str(tmp_path))
    assert [entry.name for entry in PromptLibrary.load(tmp_path / "library").entries] == [NAMES[1]]
    failed = {one["name"]: one["failed_at_step"] for one in summary(tmp_path)["failed"]}
    assert failed == {NAMES[0]: 2, NAMES[2]: 2}
    assert f"{NAMES[0]} is left out: its loss was not finite at step 2" in shown


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_job_without_a_prompt_left_ends_with_a_sentence(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    config = configure(folder, task__template="bare", train__learning_rate=INFINITE)
    for _ in range(2):
        with pytest.raises(UserError, match=r"every source prompt became NaN or infinite: lower train\.learning_rate"):
            jobs.run(config, str(tmp_path))
    assert not (tmp_path / "summary.json").exists()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"fleet__seeds": (0, 1)}, r"fleet\.seeds=\(0, 1\) has 2 entries, .* leave at most 1\."),
        ({"fleet__variants": ("plain", "both")}, r"fleet\.variants=.* leave at most 1\."),
        ({"fleet__members": ({"name": "a"},)}, r"fleet\.members=.* leave at most 0\."),
        ({"prompt__kind": "instance"}, r"prompt\.kind='instance' trains more .* set it to 'static'\."),
        ({"train__task_loss": "verbalizer"}, r"train\.task_loss='verbalizer' .* 'lm' or 'choices'\."),
        ({"prompt__length": 0}, r"prompt\.length=0 leaves nothing to train"),
        ({"task__name": "generated/absent"}, r"'generated/absent' has no <split>\.jsonl"),
        ({"task__template": "absent"}, r"'absent' is not a template of"),
        ({"task__name": "p3"}, r"is no source: adversarial_qa:generate_question is skipped because: There is no adv"),
        ({"rospr__retriever": "/absent"}, r"/absent"),
    ],
)
def test_refusals(fields: dict[str, Any], said: str, folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=said):
        jobs.run(configure(folder, **fields), str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_hard_prompts_of_a_data_set_stand_together_and_free_text_comes_last(folder: pathlib.Path) -> None:
    plan = source_plan.find(configure(folder, task__name=f"{WORDS},{OTHER},{WORDS}"))
    assert [source.name for source in plan.sources] == [
        *NAMES[:2], f"{OTHER}:bare", f"{OTHER}:Yes?", NAMES[2], f"{OTHER}:free"
    ]  # fmt: skip


def test_hard_prompts_share_the_training_rows_that_are_drawn(folder: pathlib.Path) -> None:
    config, model = configure(folder, task__train_limit=16), tiny.backbone()
    tokenized = TokenizedSplits(config, model)
    free, bare, asked = find_tasks(config)
    bare, asked = ([text(model, rows, n) for n in range(16)] for rows in map(tokenized.training, (bare, asked)))
    assert asked == [f"Animals? {words}" for words in bare]
    assert len(tokenized.training(free)) == 16 and len(tokenized(free, "train")) == 512


def test_the_backbone_is_loaded_once(
    folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[str] = []

    def load(name: str, **switches: Any) -> Backbone:
        loads.append(name)
        return load_backbone(name, **switches)

    for where in (experiment, source_keys):
        monkeypatch.setattr(where, "load_backbone", load)
    jobs.run(configure(folder), str(tmp_path))
    assert loads == ["random"] and (tmp_path / "groups/0001").is_dir()


def test_another_retriever_is_gone_when_the_backbone_is_loaded(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[tuple[str, weakref.ref]] = []

    def load(name: str, **switches: Any) -> Backbone:
        gc.collect()
        assert all(weights() is None for _, weights in loads)
        made = load_backbone(name, **switches)
        loads.append((name, weakref.ref(jax.tree.leaves(made.frozen)[0])))
        return made

    for where in (experiment, source_keys):
        monkeypatch.setattr(where, "load_backbone", load)
    config = configure(folder, task__template="bare", rospr__retriever="nano")
    encoded, model = source_prompts.encode_and_load(config, source_plan.find(config).sources)
    assert [name for name, _ in loads] == ["nano", "random"] == [encoded.retriever.name, model.name]


def test_a_row_that_cannot_be_rendered_is_found_before_anything_is_trained(
    folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """Also one that is evaluated on; the directory is left to the mended config."""
    shutil.copytree(folder / "data" / WORDS, tmp_path / "data" / WORDS)
    with (tmp_path / "data" / WORDS / "validation.jsonl").open("a") as rows:
        rows.write('{"label": 0}\n')
    with pytest.raises(UserError, match=r"validation, row 128 \(from 0\).* the columns are label"):
        jobs.run(configure(folder, data__dir=str(tmp_path / "data")), str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_one_seed_is_every_members(folder: pathlib.Path) -> None:
    config = configure(folder, fleet__seeds=(7,))
    source_prompts.check(config)
    group = source_plan.find(config).groups(2)[0]
    assert source_prompts.group_config(config, group).fleet.seeds == (7,)


def test_names_of_directories_differ(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    prompts = {name: TEMPLATES["bare"] for name in ("Is it?", "is it", "Is-it!", "...", "x" * 300, "x" * 299)}
    write_templates(tmp_path, WORDS, prompts)
    plan = source_plan.find(configure(folder, task__templates_dir=str(tmp_path)))
    members = [source.member for source in plan.sources]
    assert members[:4] == [f"generated_words_{end}" for end in ("Is_it", "is_it_2", "Is_it_3")] + ["generated_words"]
    assert len({member.lower() for member in members}) == 6 and max(map(len, members)) < 120


def test_a_plan_is_read_as_it_was_written(tmp_path: pathlib.Path) -> None:
    sources = tuple(
        source_plan.Source("a", "a/b", "t", choices, "a_t") for choices in (None, (), ("Yes", "No"), ("é",))
    )
    plan = source_plan.Plan(sources, {"c:t": "It is not there."})
    plan.write(tmp_path / "sources.json")
    assert source_plan.read(tmp_path / "sources.json") == plan
    assert [len(group) for group in plan.groups(3)] == [3, 1]


def test_the_plan_stands_although_data_come_and_go(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """A job that knew one data set of P3 when it was stopped goes on with it alone."""
    data, templates = tmp_path / "data", tmp_path / "templates"
    for name in ("ag_news", "imdb"):
        shutil.copytree(folder / "data" / WORDS, data / name)
        prompts = next(dataset.prompts for dataset in p3.sources() if dataset.name == name)
        write_templates(templates, name, {prompt: TEMPLATES["bare"] for prompt in prompts[:2]})
    (data / "imdb").rename(tmp_path / "imdb")
    fields = {"task__name": "p3", "data__dir": str(data), "task__templates_dir": str(templates)}
    config = configure(folder, **fields, task__train_split="train[8:]", task__eval_split="train[:8]")
    plan = source_plan.find(config)
    assert [source.name for source in plan.sources] == [
        "ag_news:classify_question_first", "ag_news:classify_with_choices_question_first"
    ]  # fmt: skip
    assert len(plan.skipped) == 294 and "no prompt of this name" in plan.skipped["ag_news:recommend"]
    jobs.run(config, str(tmp_path / "run"))
    (tmp_path / "run" / "summary.json").unlink()
    (tmp_path / "imdb").rename(data / "imdb")
    assert len(source_plan.find(config).sources) == 4
    jobs.run(config, str(tmp_path / "run"))
    assert len(summary(tmp_path / "run")["sources"]) == 2 and len(summary(tmp_path / "run")["skipped"]) == 294


def write_news(folder: pathlib.Path, conditions: tuple[str, ...]) -> list[str]:
    """Sixteen rows and a hard prompt for each condition under which it applies to a row; the prompts' names."""
    prompts = next(dataset.prompts for dataset in p3.sources() if dataset.name == "ag_news")[: len(conditions)]
    rows = (json.dumps({"words": f"words {n}", "n": n, "label": n % 2}) for n in range(16))
    (folder / "data" / "ag_news").mkdir(parents=True)
    (folder / "data" / "ag_news" / "train.jsonl").write_text("\n".join(rows))
    jinja = ("{% if " + condition + " %}{{ words }}{% endif %} ||| x" for condition in conditions)
    write_templates(
        folder / "templates", "ag_news", {name: (each, "") for name, each in zip(prompts, jinja, strict=True)}
    )
    return list(prompts)


def test_a_hard_prompt_is_tried_on_every_slice_that_is_read(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    not_drawn = 8 + int(np.argmin(drawn(8, 3)))
    prompts = write_news(tmp_path, ("true", "n >= 8", "n < 8", f"n in [0, {not_drawn}]", "n != 3"))
    slices = {"task__train_split": "train[8:]", "task__eval_split": "train[:8]", "task__test_split": "train[3:4]"}
    places = {"data__dir": str(tmp_path / "data"), "task__templates_dir": str(tmp_path / "templates")}
    config = configure(folder, **places, **slices, task__train_limit=3, task__name="p3")
    plan = source_plan.find(config)
    assert [source.template for source in plan.sources] == prompts[:1]
    reasons = [plan.skipped[f"ag_news:{prompt}"] for prompt in prompts[1:]]
    for reason, split in zip(reasons, ("train[:8]", "train[8:]", "train[8:]", "train[3:4]"), strict=True):
        assert reason == f"The prompt leaves the input or the target of every row of {split} empty."
    config.task.update(name="ag_news", template=prompts[1])
    with pytest.raises(
        UserError, match=rf"task\.name='ag_news' with the hard prompt '{prompts[1]}' .* train\[:8\] empty"
    ):
        source_plan.find(config)
    config.task.update(name="p3", template="all", eval_split="train[:17]")
    with pytest.raises(UserError, match=r"is no source: .* is skipped"):
        source_plan.find(config)


def test_a_split_that_is_not_there_is_a_sentence(folder: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"generated/words has no split test in data\.dir, only train, validation"):
        source_plan.find(configure(folder, task__test_split="test"))


def test_p3_on_real_rows(shared: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """As far as there are any, which is for validation alone: with choices, options of the rows, and free text."""
    config = read_config(f"{CONFIG}:p3,smoke")
    config.data.update(dir=str(shared / "data"), cache_dir=str(tmp_path), max_input_length=64, buckets=(64,))
    config.task.templates_dir = str(shared / "data" / "promptsource")
    config.task.update(train_split="validation[4:20]", eval_split="validation[:4]")
    plan = source_plan.find(config)
    datasets = {source.dataset for source in plan.sources}
    assert {"commonsense_qa", "cosmos_qa", "social_i_qa"} <= datasets and len(plan.sources) + len(plan.skipped) == 296
    assert {answer_format(source.choices) for source in plan.sources} >= {"options", "letters", "free text"}
    config.backbone.update(name="random", dtype="float32")
    config.task.name, config.task.template = "cosmos_qa", "only_question_answer"
    config.train.update(steps=1, batch_size=8, eval_batch_size=8, accumulate=1)
    jobs.run(config, str(tmp_path / "run"))
    (source,) = summary(tmp_path / "run")["sources"]
    assert (source["family"], source["keys"]) == ("multiple-choice QA", 4)


def test_every_data_set_of_p3_and_of_the_world_has_a_family() -> None:
    for dataset in (*p3.sources(), *p3.held_out()):
        assert family(dataset.task) and family(dataset.task.split("/")[0]) in ("", family(dataset.task)), dataset.name
        assert dataset.tfds is None or family(dataset.tfds[0]) == family(dataset.task)
    assert all(family(world.PREFIX + name) == dataset.family for name, dataset in world.DATASETS.items())
    assert family("glue/sst2") == family("mine") == ""


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        ((), "free text"),
        (None, "options"),
        (("No", "Yes"), "yes/no"),
        (("Not at all", "No", "Maybe", "Yes", "Definitely"), "yes/no"),
        (("True", "Neither", "False"), "true/false"),
        (("A", "B", "C", "D"), "letters"),
        (("1", "2", "3", "4", "5"), "letters"),
        (("Ending 2", "Ending 1"), "letters"),
        (("1 star", "2 stars"), "label words"),
        (("B", "C"), "label words"),
        (("negative", "positive"), "label words"),
        (("not duplicate", "duplicate"), "label words"),
    ],
)
def test_formats_of_answers(choices: tuple[str, ...] | None, expected: str) -> None:
    assert answer_format(choices) == expected
