"""SourceTask prompts: what a library gets from groups of members, however often the job is stopped."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import pathlib
import shutil
import signal
import weakref
from typing import Any

import jax
import ml_collections
import numpy as np
import pytest
import tiny
import tiny_runs
import tiny_sources
from tiny_sources import NAMES, OTHER, STEPS, TEMPLATES, WORDS, N, configure, write_templates

from infoprompt_jax import jobs, settings
from infoprompt_jax.command_line import read_config
from infoprompt_jax.data import p3
from infoprompt_jax.data.families import answer_format
from infoprompt_jax.errors import Stopped, UserError
from infoprompt_jax.fleet.fleet import Fleet
from infoprompt_jax.prompts.saved import load_prompt
from infoprompt_jax.rospr import source_keys, source_plan, source_prompts
from infoprompt_jax.rospr.keys import encode_keys
from infoprompt_jax.rospr.library import PromptLibrary
from infoprompt_jax.rospr.library_files import Entry
from infoprompt_jax.rospr.library_sources import SourcePrompt
from infoprompt_jax.t5.backbone import Backbone, load_backbone
from infoprompt_jax.training import experiment, train
from infoprompt_jax.training.interrupt import Interrupt

CONFIG = pathlib.Path(__file__).parents[2] / "configs" / "rospr_sources.py"
INFINITE = 1e39  # in float32
pytestmark = pytest.mark.usefixtures("programs")


class Killed(BaseException):
    """Stands for the end of the process."""


def die(*_: Any, **__: Any) -> None:
    raise Killed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Two data sets of the same rows, with three templates each."""
    return tiny_sources.write(tmp_path_factory.mktemp("sources"))


LOADS: list[str] = []  # names of the backbones that the job `done` loads


@pytest.fixture(scope="module")
def done(folder: pathlib.Path, programs: dict[str, str]) -> pathlib.Path:
    """A job that was never stopped."""

    def load(name: str, **switches: Any) -> Backbone:
        LOADS.append(name)
        return load_backbone(name, **switches)

    with pytest.MonkeyPatch.context() as patch:
        for where in (experiment, source_keys):
            patch.setattr(where, "load_backbone", load)
        jobs.run(configure(folder), str(folder / "done"))
    return folder / "done"


def summary(workdir: pathlib.Path) -> dict[str, Any]:
    return json.loads((workdir / "summary.json").read_text())


def test_a_library_of_all_templates(done: pathlib.Path, folder: pathlib.Path) -> None:
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


@pytest.mark.parametrize("fields", [{}, {"fleet__seeds": (7,)}, {"task__train_limit": 40}], ids=str)
def test_keys_are_of_the_few_rows_that_a_source_prompt_is_trained_on(
    fields: dict[str, Any], folder: pathlib.Path
) -> None:
    """With as many instances as shots, of all of them."""
    config = configure(folder, task__shots=4, rospr__instances=4, **fields)
    plan, model = source_plan.find(config), tiny.backbone()
    encoded = source_keys.encode_instances(config, plan.sources, model)
    for group in plan.groups(2):
        built = experiment.build(source_prompts.group_config(config, group), model)
        for source, stream in zip(group, built.streams, strict=True):
            (rows,), (numbers,) = stream.rows, stream.numbers
            trained_on = [source_keys.text(model, rows, number) for number in numbers]
            assert len(set(trained_on)) == 4 and sorted(encoded.texts[source.name]) == sorted(trained_on)


def test_choices_that_rows_make_alike_have_a_format(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """As an evaluation task's do: they come from the rows, not only from the template."""
    made = "{% if words %}Yes ||| No{% endif %}"
    write_templates(tmp_path, WORDS, {"made": ("{{ words }} ||| {{ answer_choices[label] }}", made)})
    config = configure(folder, task__templates_dir=str(tmp_path))
    plan = source_plan.find(config)
    encoded = source_keys.encode_instances(config, plan.sources, tiny.backbone())
    assert plan.sources[0].choices is None and encoded.choices == {f"{WORDS}:made": ("No", "Yes")}
    entry = source_prompts.entry(plan.sources[0], encoded.choices[f"{WORDS}:made"], {})
    assert (entry.answer_format, entry.choices) == ("yes/no", ("No", "Yes"))


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
        with monkeypatch.context() as patch, pytest.raises(Stopped):
            signalled = tiny_runs.before_step(step, lambda: os.kill(os.getpid(), signal.SIGTERM))
            patch.setattr(Fleet, "step", signalled)
            jobs.run(config, str(tmp_path))

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
    measured, expected = (PromptLibrary.load(path / "library") for path in (tmp_path, done))
    assert measured.entries == expected.entries
    for segment, other in zip(measured.segments, expected.segments, strict=True):
        assert segment.keys() == other.keys()
        for name in segment:
            np.testing.assert_array_equal(segment[name], other[name], err_msg=name)


def stop_where_a_group_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has each group receive SIGTERM after its last evaluation, when its summary is written."""
    finish = train.finish

    def signalled(*arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        finish(*arguments)

    monkeypatch.setattr(train, "finish", signalled)


def test_a_stop_where_a_group_is_written_is_heeded_before_the_next(
    folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_where_a_group_is_written(monkeypatch)
    with pytest.raises(Stopped, match=r"^Stopped after 1 of 2 groups; the same command resumes\.$"):
        jobs.run(configure(folder), str(tmp_path))
    assert len(PromptLibrary.load(tmp_path / "library")) == 2 and not (tmp_path / "groups/0001").exists()


def test_a_job_whose_data_changed_between_two_groups_is_refused(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where only the groups that are finished have read them."""
    config = configure(tiny_sources.write(tmp_path))
    with monkeypatch.context() as patch, pytest.raises(Stopped, match="after 1 of"):
        stop_where_a_group_is_written(patch)
        jobs.run(config, str(tmp_path / "run"))
    for changed, old, new in (
        (f"data/{WORDS}/validation.jsonl", '"label": 0', '"label": 1'),
        (f"templates/{WORDS}/templates.yaml", "Animals?", "Gadgets?"),
    ):
        before = (tmp_path / changed).read_text()
        assert old in before
        (tmp_path / changed).write_text(before.replace(old, new, 1))
        with pytest.raises(UserError, match=r"generated/words:.* have changed since this job began: bring back"):
            jobs.run(config, str(tmp_path / "run"))
        (tmp_path / changed).write_text(before)
    jobs.run(config, str(tmp_path / "run"))
    assert len(PromptLibrary.load(tmp_path / "run" / "library")) == 3


def test_a_stop_while_a_group_is_put_together_is_heeded_at_its_first_step(
    folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, before = experiment.build, signal.getsignal(signal.SIGTERM)

    def build_and_stop(*arguments: Any) -> experiment.Experiment:
        os.kill(os.getpid(), signal.SIGTERM)
        return build(*arguments)

    monkeypatch.setattr(train, "build", build_and_stop)
    with pytest.raises(Stopped, match=f"^Stopped at step 0 of {STEPS}; the same command resumes\\.$"):
        jobs.run(configure(folder), str(tmp_path))
    assert signal.getsignal(signal.SIGTERM) == before
    assert Interrupt.entered == []


@pytest.mark.slow
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
    done: pathlib.Path,
    folder: pathlib.Path,
    tmp_path: pathlib.Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(source_prompts, "encode_instances", die)
    with caplog.at_level("INFO", logger="infoprompt_jax"):
        shown = jobs.run(configure(folder), str(done))
    assert "This run is done" in caplog.text
    (words,) = [line for line in shown.splitlines() if line.startswith(WORDS)]
    measured = [source["metrics"] for source in summary(done)["sources"] if source["dataset"] == WORDS]
    mean = np.mean([metrics["accuracy"] for metrics in measured[:2]])
    assert words.split() == [WORDS, "accuracy", f"{mean:.4f},", "exact_match",
                             f"{measured[2]['exact_match']:.4f}", "3", str(3 * N)]  # fmt: skip
    assert "more prompt" not in caplog.text and "have changed since the run" not in caplog.text
    other = configure(folder)
    file = pathlib.Path(shutil.copytree(other.data.dir, tmp_path / "data"), WORDS, "train.jsonl")
    file.write_text("".join(file.read_text().splitlines(keepends=True)[1:]))
    other.data.dir = str(tmp_path / "data")
    jobs.run(other, str(done))
    assert f"the template of {WORDS}:" in caplog.text and "have changed since the run" in caplog.text


def test_a_library_that_was_appended_to_is_named(
    done: pathlib.Path, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    library = PromptLibrary.load(shutil.copytree(done / "library", tmp_path / "library"))
    prompt = load_prompt(next((done / "groups" / "0000" / "prompts").iterdir()))
    library.append(library.manifest.retriever, [SourcePrompt(Entry("another"), prompt, library.keys_KR[:2])])
    source_prompts.warn_of_appended(tmp_path / "library", len(library))
    assert "library holds 1 more prompt than this run trained" in caplog.text


@pytest.fixture
def any_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a learning rate be infinite, which makes a loss NaN in the first step."""
    field = dataclasses.replace(settings.FIELDS["train.learning_rate"], between=(0, INFINITE))
    monkeypatch.setitem(settings.FIELDS, "train.learning_rate", field)


@pytest.mark.slow
@pytest.mark.usefixtures("any_rate")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_members_whose_loss_became_nan_are_left_out(
    folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of the first group; and the second group, which had no other."""
    made = source_prompts.group_config

    def diverging(*arguments: Any) -> ml_collections.ConfigDict:
        changed = made(*arguments)
        changed.fleet.members = tuple(
            member | ({} if member["task.template"] == "Yes?" else {"train.learning_rate": INFINITE})
            for member in changed.fleet.members
        )
        return changed

    monkeypatch.setattr(source_prompts, "group_config", diverging)
    shown = jobs.run(configure(folder), str(tmp_path))
    assert [entry.name for entry in PromptLibrary.load(tmp_path / "library").entries] == [NAMES[1]]
    failed = {one["name"]: one["failed_at_step"] for one in summary(tmp_path)["failed"]}
    assert failed == {NAMES[0]: 2, NAMES[2]: 2}
    assert f"{NAMES[0]} is left out: its loss was not finite at step 2" in shown


@pytest.mark.usefixtures("any_rate")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_job_without_a_prompt_left_ends_with_a_sentence(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    config = configure(folder, task__template="bare", train__learning_rate=INFINITE)
    for _ in range(2):
        with pytest.raises(UserError, match=r"every source prompt became NaN or infinite: lower train\.learning_rate"):
            jobs.run(config, str(tmp_path))
    assert not (tmp_path / "summary.json").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"fleet__seeds": (0, 1)}, r"fleet\.seeds=\(0, 1\) has 2 entries, .* leave at most 1\."),
        ({"fleet__presets": ("plain", "both")}, r"fleet\.presets=.* leave at most 1\."),
        ({"fleet__members": ({"name": "a"},)}, r"fleet\.members=.* leave at most 0\."),
        ({"prompt__kind": "instance"}, r"prompt\.kind='instance' trains more .* set it to 'static'\."),
        ({"train__task_loss": "verbalizer"}, r"train\.task_loss='verbalizer' .* 'lm' or 'choices'\."),
        ({"prompt__length": 0}, r"prompt\.length=0 leaves nothing to train"),
        ({"task__name": "generated/absent"}, r"There is no file .*/generated/absent/<split>\.jsonl"),
        ({"task__template": "absent"}, r"'absent' is not a template of"),
        (
            {"task__name": "p3"},
            r"selects no task: adversarial_qa:generate_question is skipped because: There is no adv",
        ),
        ({"rospr__retriever": "/absent"}, r"/absent"),
        ({"fleet__over": "members", "mesh__model": 4}, r"= 2 devices, but there are 1 members"),  # in the last group
    ],
)
def test_refusals(fields: dict[str, Any], message: str, folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=message):
        jobs.run(configure(folder, **fields), str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_the_backbone_is_loaded_once(done: pathlib.Path) -> None:
    assert LOADS == ["random"] and (done / "groups/0001").is_dir()


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


def test_a_row_that_one_of_p3s_prompts_cannot_render_costs_that_prompt_alone(
    folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """The row is the 301st of its split: the plan has seen that the prompt renders the first."""
    prompts = next(dataset.templates for dataset in p3.sources() if dataset.name == "ag_news")[:2]
    lines = (folder / "data" / WORDS / "train.jsonl").read_text().splitlines()
    rows = [json.loads(line) | {"extra": "more"} for line in lines]
    del rows[300]["extra"]
    (tmp_path / "data" / "ag_news").mkdir(parents=True)
    (tmp_path / "data" / "ag_news" / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    jinja, choices = TEMPLATES["bare"]
    made = {prompts[0]: (jinja, choices), prompts[1]: ("{{ extra }} " + jinja, choices)}
    write_templates(tmp_path / "templates", "ag_news", made)
    places = {"data__dir": str(tmp_path / "data"), "task__templates_dir": str(tmp_path / "templates")}
    config = configure(folder, **places, task__train_split="train[8:]", task__eval_split="train[:8]", task__name="p3")
    jobs.run(config, str(tmp_path / "run"))
    measured = summary(tmp_path / "run")
    assert [source["name"] for source in measured["sources"]] == [f"ag_news:{prompts[0]}"]
    (reason,) = (one["reason"] for one in measured["skipped"] if one["name"] == f"ag_news:{prompts[1]}")
    assert "row 292 (from 0)" in reason and "'extra'" in reason
    config.task.update(name="ag_news", template=prompts[1])
    with pytest.raises(UserError, match="row 292"):
        jobs.run(config, str(tmp_path / "named"))
    assert not (tmp_path / "named").exists()


def test_one_seed_is_every_members(folder: pathlib.Path) -> None:
    config = configure(folder, fleet__seeds=(7,))
    source_prompts.check(config)
    group = source_plan.find(config).groups(2)[0]
    assert source_prompts.group_config(config, group).fleet.seeds == (7,)


def test_the_plan_stands_although_data_come_and_go(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """A job that knew one data set of P3 when it was stopped goes on with only that one."""
    data, templates = tmp_path / "data", tmp_path / "templates"
    for name in ("ag_news", "imdb"):
        shutil.copytree(folder / "data" / WORDS, data / name)
        prompts = next(dataset.templates for dataset in p3.sources() if dataset.name == name)
        write_templates(templates, name, {prompt: TEMPLATES["bare"] for prompt in prompts[:2]})
    (data / "imdb").rename(tmp_path / "imdb")
    fields = {"task__name": "p3", "data__dir": str(data), "task__templates_dir": str(templates)}
    config = configure(folder, **fields, task__train_split="train[8:]", task__eval_split="train[:8]")
    plan = source_plan.find(config)
    assert [source.name for source in plan.sources] == [
        "ag_news:classify_question_first", "ag_news:classify_with_choices_question_first"
    ]  # fmt: skip
    assert len(plan.skipped) == 294 and "no template of this name" in plan.skipped["ag_news:recommend"]
    jobs.run(config, str(tmp_path / "run"))
    (tmp_path / "run" / "summary.json").unlink()
    (tmp_path / "imdb").rename(data / "imdb")
    assert len(source_plan.find(config).sources) == 4
    jobs.run(config, str(tmp_path / "run"))
    assert len(summary(tmp_path / "run")["sources"]) == 2 and len(summary(tmp_path / "run")["skipped"]) == 294


def test_p3_on_real_rows(shared: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """As far as there are any, which is only for validation: with choices, options of the rows, and free text."""
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
