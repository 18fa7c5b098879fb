"""The job `predict`: from a command line and a file of rows to predictions, in one go or in several."""

from __future__ import annotations

import io
import json
import logging
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import tiny
import tiny_library
import tiny_runs

import infoprompt_jax as ip
from infoprompt_jax import jobs
from infoprompt_jax.command_line import parse
from infoprompt_jax.errors import Stopped, UserError
from infoprompt_jax.serving import predict
from infoprompt_jax.serving.engine import Engine
from infoprompt_jax.serving.predict import row_file

ROOT = pathlib.Path(__file__).parents[2]
TEMPLATES = ("bare", "question")

pytestmark = pytest.mark.usefixtures("programs")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A directory with two members' prompts, trained on two templates, and the rows that they were evaluated on."""
    folder = tmp_path_factory.mktemp("trained")
    plain = {"infoprompt__gamma": 0.0, "infoprompt__beta": 0.0, "train__steps": 4, "train__learning_rate": 3.0}
    config = tiny_runs.config(folder, fleet__seeds=(0, 1), task__eval_limit=0, **plain)
    jobs.run(config, str(folder / "run"))
    rows = [json.loads(line) for line in validation(folder).read_text().splitlines()]
    write(folder / "unlabelled.jsonl", [{"words": row["words"]} for row in rows])
    return folder


def validation(folder: pathlib.Path) -> pathlib.Path:
    return folder / "data" / "generated" / "words" / "validation.jsonl"


def write(path: pathlib.Path, rows: Sequence[dict[str, Any]]) -> pathlib.Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(workdir: pathlib.Path, rows: pathlib.Path, *arguments: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The lines and the summary of the job, as a command line starts it."""
    command = ["main", f"--config={ROOT}/configs/predict.py", f"--config.data.file={rows}", f"--workdir={workdir}"]
    config, workdir_ = parse([*command, "--config.train.eval_batch_size=16", *arguments])
    jobs.run(config, workdir_)
    lines = [json.loads(line) for line in (workdir / "predictions.jsonl").read_text().splitlines()]
    return lines, json.loads((workdir / "summary.json").read_text())


def of(trained: pathlib.Path, member: str = "run-seed0") -> str:
    return f"--config.prompt.init={trained / 'run' / 'prompts' / member}"


def test_a_prompt_predicts_as_its_run_evaluated_it(trained: pathlib.Path, tmp_path: pathlib.Path) -> None:
    lines, summary = run(tmp_path / "a", validation(trained), of(trained))
    (member, _) = json.loads((trained / "run" / "summary.json").read_text())["members"]
    values = {one["template"]: one["value"] for one in summary["results"]}
    assert values["bare"] == pytest.approx(member["best"]["accuracy/generated/words:bare"])
    assert values["question"] == pytest.approx(member["best"]["accuracy/generated/words:question"])
    rows = [json.loads(line) for line in validation(trained).read_text().splitlines()]
    assert [line["row"] for line in lines] == rows and [line["number"] for line in lines] == list(range(len(rows)))
    for line in lines:
        scores = [list(line["templates"][template]["scores"].values()) for template in TEMPLATES]
        np.testing.assert_allclose(list(line["scores"].values()), np.mean(scores, axis=0), rtol=1e-4)
        assert line["prediction"] == max(line["scores"], key=line["scores"].get)
        assert line["target"] == ("animals", "gadgets")[line["row"]["label"]]
    right = np.mean([line["prediction"] == line["target"] for line in lines])
    assert values["mean over templates"] == pytest.approx(right)


def test_rows_without_a_label_get_the_same_predictions(trained: pathlib.Path, tmp_path: pathlib.Path) -> None:
    labelled, _ = run(tmp_path / "a", validation(trained), of(trained))
    lines, summary = run(tmp_path / "b", trained / "unlabelled.jsonl", of(trained))
    assert [line["scores"] for line in lines] == [line["scores"] for line in labelled]
    assert all("target" not in line and line["templates"].keys() == set(TEMPLATES) for line in lines)
    assert [one["labelled"] for one in summary["results"]] == [0, 0, 0]


def stopping(monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    """Sends SIGTERM before that call of the engine."""
    answers, count = Engine.answers, iter(range(calls))

    def counted(self: Engine, questions: Any) -> Any:
        if next(count, None) is None:
            os.kill(os.getpid(), signal.SIGTERM)
        return answers(self, questions)

    monkeypatch.setattr(Engine, "answers", counted)


def test_a_stopped_job_goes_on_and_ends_as_in_one_go(
    trained: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "CHUNK", 30)
    run(tmp_path / "whole", validation(trained), of(trained))
    with monkeypatch.context() as patch:
        stopping(patch, 2)
        with pytest.raises(Stopped, match="after 60 rows"):
            run(tmp_path / "parts", validation(trained), of(trained))
    assert not (tmp_path / "parts" / "predictions.jsonl").exists()
    with (tmp_path / "parts" / ".predictions.jsonl").open("a") as file:
        file.write('{"number": 60, "row"')  # of a chunk that was cut off
    _, summary = run(tmp_path / "parts", validation(trained), of(trained))
    whole, parts = ((tmp_path / name / "predictions.jsonl").read_bytes() for name in ("whole", "parts"))
    assert parts == whole and summary["rows"] == 128


def test_its_speed_is_that_of_batches_until_rows_are_written(
    trained: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(predict, "CHUNK", 60)
    monkeypatch.setattr(predict.Rhythm, "due", lambda self: True)
    with caplog.at_level(logging.INFO, logger="infoprompt_jax"):
        run(tmp_path / "run", validation(trained), of(trained))
    lines = [message for message in caplog.messages if "are written" in message]
    assert lines[0] == "0 rows are written; batch 1 is next."
    assert re.fullmatch(r"0 rows are written, [1-9][\d.,]* batches/\w+; batch 2 is next.", lines[1])
    assert re.fullmatch(r"60 rows are written, [1-9][\d.,]* rows/\w+; batch \d+ is next.", lines[-2])


KILLED = """
import os, signal, sys
from infoprompt_jax import jobs
from infoprompt_jax.command_line import parse
from infoprompt_jax.serving import predict

predict.CHUNK = 30
writes = iter(range(int(sys.argv[1])))

def kill(event, arguments):
    if event == "os.rename" and str(arguments[1]).endswith("progress.json") and next(writes, None) is None:
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill)
jobs.run(*parse(["main", *sys.argv[2:]]))
"""


@pytest.mark.slow
def test_killed_at_any_write_of_its_progress_it_ends_as_in_one_go(
    trained: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [f"--config={ROOT}/configs/predict.py", f"--config.data.file={validation(trained)}", of(trained)]
    arguments += [f"--workdir={tmp_path / 'parts'}", "--config.train.eval_batch_size=16"]
    for write_number in (0, 2, 1):
        command = [sys.executable, "-c", KILLED, str(write_number), *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    monkeypatch.setattr(predict, "CHUNK", 30)
    run(tmp_path / "whole", validation(trained), of(trained))
    run(tmp_path / "parts", validation(trained), of(trained))
    whole, parts = ((tmp_path / name / "predictions.jsonl").read_bytes() for name in ("whole", "parts"))
    assert parts == whole


def test_predictions_that_were_lost_are_made_again(
    trained: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of a workdir often lacks the files whose names start with a dot."""
    rows = validation(trained)
    whole, _ = run(tmp_path / "whole", rows, of(trained))
    monkeypatch.setattr(predict, "CHUNK", 10)
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stopping(patch, 2)
        run(tmp_path / "parts", rows, of(trained))
    (tmp_path / "parts" / ".predictions.jsonl").unlink()
    assert len(run(tmp_path / "parts", rows, of(trained))[0]) == len(whole)
    (tmp_path / "parts" / "predictions.jsonl").unlink()  # of a job that is done
    assert len(run(tmp_path / "parts", rows, of(trained))[0]) == len(whole)


@pytest.mark.parametrize("size", [None, 40])
def test_predictions_of_which_nothing_is_recorded_are_made_again(
    size: int | None, trained: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """They may be another prompt's, as here."""
    rows, prompts, here = validation(trained), trained / "run" / "prompts", tmp_path / "prompt"
    shutil.copytree(prompts / "run-seed0", here)
    first, _ = run(tmp_path / "done", rows, f"--config.prompt.init={here}")
    (tmp_path / "done" / "summary.json").unlink()
    progress = tmp_path / "done" / "progress.json"
    progress.unlink() if size is None else progress.write_bytes(progress.read_bytes()[:size])
    shutil.rmtree(here)
    shutil.copytree(prompts / "run-seed1", here)
    again, _ = run(tmp_path / "done", rows, f"--config.prompt.init={here}")
    assert len(again) == len(first) and again != first


def test_a_workdir_keeps_the_predictions_of_its_rows(trained: pathlib.Path, tmp_path: pathlib.Path) -> None:
    rows = write(tmp_path / "rows.jsonl", [{"words": "ant bat"}])
    first, _ = run(tmp_path / "done", rows, of(trained))
    assert run(tmp_path / "done", rows, of(trained))[0] == first
    write(rows, [{"words": "axe bit"}])
    with pytest.raises(UserError, match=r"predictions made from other rows .* choose another --workdir"):
        run(tmp_path / "done", rows, of(trained))


def test_each_row_is_read_with_the_prompt_that_its_column_names(trained: pathlib.Path, tmp_path: pathlib.Path) -> None:
    texts = [row["words"] for row in map(json.loads, validation(trained).read_text().splitlines())][:20]
    members = ["run-seed0" if i % 3 else "run-seed1" for i in range(len(texts))]
    rows = [{"words": text, "which": member} for text, member in zip(texts, members, strict=True)]
    mixed, summary = run(
        tmp_path / "mixed", write(tmp_path / "mixed.jsonl", rows),
        f"--config.prompt.init={trained / 'run' / 'prompts'}", "--config.prompt.by=which",
    )  # fmt: skip
    alone = {m: run(tmp_path / m, tmp_path / "mixed.jsonl", of(trained, m))[0] for m in ("run-seed0", "run-seed1")}
    for number, (line, member) in enumerate(zip(mixed, members, strict=True)):
        expected = alone[member][number]
        assert line["templates"]["bare"]["prompt"] == member
        np.testing.assert_allclose(list(line["scores"].values()), list(expected["scores"].values()), rtol=1e-4)
    assert [line["scores"] for line in alone["run-seed0"]] != [line["scores"] for line in alone["run-seed1"]]
    counts = {(one["prompt"], one["template"]): one["rows"] for one in summary["results"]}
    assert all(counts[m, t] == members.count(m) for m in ("run-seed0", "run-seed1") for t in TEMPLATES)


def test_a_prompt_of_several_data_sets_costs_its_own_rows_alone(trained: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """It lies in a fleet's folder beside the others; a column cannot say which of its templates reads a row."""
    shutil.copytree(trained / "run" / "prompts", tmp_path / "prompts")
    other = ip.load_prompt(tmp_path / "prompts" / "run-seed1")
    other.metadata["templates"] += [{**other.metadata["templates"][0], "dataset": "another"}]
    ip.save_prompt(tmp_path / "prompts" / "run-seed1", other)
    rows = [{"words": "ant bat", "which": f"run-seed{seed}"} for seed in (0, 1)]
    options = [f"--config.prompt.init={tmp_path / 'prompts'}", "--config.prompt.by=which"]
    lines, _ = run(tmp_path / "out", write(tmp_path / "first.jsonl", rows[:1]), *options)
    assert lines[0]["prediction"] and lines[0]["templates"]["bare"]["prompt"] == "run-seed0"
    with pytest.raises(
        UserError, match=r"Row 1 .*/run-seed1': The templates .* data sets, generated/words, another: set"
    ):
        run(tmp_path / "both", write(tmp_path / "both.jsonl", rows), *options)
    shutil.rmtree(tmp_path / "prompts" / "run-seed0")
    with pytest.raises(
        UserError, match=r"several data sets, .* and prompt\.init to this prompt alone, without prompt\.by"
    ):
        run(tmp_path / "none", tmp_path / "first.jsonl", *options)


def test_a_librarys_prompts_are_retrieved_row_by_row(tmp_path: pathlib.Path) -> None:
    model = tiny.backbone()
    library = tiny_library.random_library(tmp_path / "library", model, count=4)
    rows = [{"text": f"{word} {word}"} for word in ("ant", "bat", "axe", "drill", "eel", "level")]
    lines, _ = run(
        tmp_path / "out", write(tmp_path / "rows.jsonl", rows), f"--config.rospr.library={library}",
        "--config.backbone.name=random", "--config.rospr.top=3", "--config.data.buckets=(16,)",
        "--config.task.input={{ text }}?", "--config.task.answer_choices=animals ||| gadgets",
        "--config.data.max_input_length=16",
    )  # fmt: skip
    opened = ip.PromptLibrary.load(library)
    names = [entry.name for entry in opened.entries]
    texts = [f"{row['text']}?" for row in rows]
    tokens = [np.pad([*ids, 1], (0, 16))[:16] for ids in model.tokenizer.encode(texts)]
    for text, ids, line in zip(texts, tokens, lines, strict=True):
        winner = opened.retrieve(ip.encode_keys(model, ids[None]), top=3)
        (entry,) = line["templates"].values()
        assert entry["prompt"] == names[int(winner.owners[0])]
        (expected,) = ip.predict(model, [text], prompt=winner.prompt_PD, choices=["animals", "gadgets"])
        np.testing.assert_allclose(list(entry["scores"].values()), list(expected["scores"].values()), rtol=1e-4)
    assert len({entry["prompt"] for line in lines for entry in line["templates"].values()}) > 1


def test_without_a_prompt_the_backbone_answers_alone(tmp_path: pathlib.Path) -> None:
    rows = write(tmp_path / "rows.jsonl", [{"text": "ant bat", "label": 1}, {"text": "axe", "label": None}])
    lines, summary = run(
        tmp_path / "out", rows, "--config.backbone.name=random", "--config.task.input={{ text }}",
        "--config.task.answer_choices=animals ||| gadgets", "--config.scoring.normalize=tokens",
    )  # fmt: skip
    model = tiny.backbone()
    expected = ip.predict(model, ["ant bat", "axe"], choices=["animals", "gadgets"], normalize="tokens")
    for line, one in zip(lines, expected, strict=True):
        assert line["scores"] == pytest.approx(one["scores"], abs=1e-4)  # other batches
    assert [line.get("target") for line in lines] == ["gadgets", None]
    assert [one["labelled"] for one in summary["results"]] == [1]


def test_free_text_is_generated(tmp_path: pathlib.Path) -> None:
    rows = write(tmp_path / "rows.jsonl", [{"text": "ant"}, {"text": "bat"}])
    lines, _ = run(
        tmp_path / "out", rows, "--config.backbone.name=random", "--config.task.input={{ text }}",
        "--config.scoring.max_length=5",
    )  # fmt: skip
    model = tiny.backbone()
    tokens = np.array([[*ids, 1] for ids in model.tokenizer.encode(["ant", "bat"])])
    expected = [model.tokenizer.decode(row) for row in np.asarray(model.generate(tokens, max_length=5))]
    assert [(line["prediction"], line["scores"]) for line in lines] == [(text, {}) for text in expected]


@pytest.mark.parametrize("changed", ["static", "all", "config.json"])
def test_evaluation_takes_the_template_from_the_prompt(
    changed: str, trained: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """Of one prompt, and of all the prompts of a run, each for its own member."""
    init = of(trained) if changed == "static" else f"--config.prompt.init={trained / 'run' / 'prompts'}"
    command = ["main", f"--config={ROOT}/configs/predict.py", "--config.job=evaluate", init]
    command += [f"--config.data.dir={trained / 'data'}", "--config.data.buckets=(64,)"]
    command += [] if changed == "static" else ["--config.fleet.seeds=(0,1)"]
    if changed == "config.json":
        command = ["main", f"--config={trained / 'run' / 'config.json'}", "--config.job=evaluate"]
    config, workdir = parse([*command, f"--workdir={tmp_path}"])
    jobs.run(config, workdir)
    members = json.loads((tmp_path / "summary.json").read_text())["members"]
    expected = json.loads((trained / "run" / "summary.json").read_text())["members"]
    assert [m["best"] for m in members] == [m["best"] for m in expected[: len(members)]]


def test_an_unfinished_run_has_no_prompts_to_use(trained: pathlib.Path, tmp_path: pathlib.Path) -> None:
    saved = tmp_path / "config.json"
    saved.write_bytes((trained / "run" / "config.json").read_bytes())
    for job in ("evaluate", "predict"):
        with pytest.raises(UserError, match=f"{tmp_path} holds no prompts, .*: complete the run with --config={saved}"):
            parse(["main", f"--config={saved}", f"--config.job={job}"])
    config, _ = parse(["main", f"--config={saved}", "--config.job=evaluate", "--config.prompt.length=0"])
    assert config.prompt.length == 0


def test_the_log_names_what_comes_from_the_prompt(trained: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        parse(
            [
                "main",
                f"--config={ROOT}/configs/own_data.py",
                "--config.job=evaluate",
                "--config.task.name=",
                of(trained),
            ]
        )
    (line,) = [one for one in caplog.messages if one.startswith("From prompt.init: ")]
    assert 'backbone.name="random"' in line and line.endswith(", the templates") and "task.input" not in line


def test_what_is_typed_counts_before_what_the_prompt_records(trained: pathlib.Path) -> None:
    line = ["main", f"--config={ROOT}/configs/own_data.py", "--config.job=predict", of(trained)]
    config, workdir = parse([*line, "--config.scoring.normalize=tokens"])
    assert (config.backbone.name, config.prompt.length, config.data.max_input_length) == ("random", 4, 64)
    assert (config.task.name, config.task.template, config.task.input) == ("generated/words", "", "")
    assert config.scoring.normalize == "tokens" and workdir == "runs/own_data-predict"
    config, _ = parse([*line, "--config.task.input={{ words }}", "--config.backbone.name=nano"])
    assert (config.backbone.name, config.task.input) == ("nano", "{{ words }}")


def test_an_evaluation_of_another_data_set_keeps_its_templates(trained: pathlib.Path) -> None:
    config, _ = parse(["main", f"--config={ROOT}/configs/cb.py", "--config.job=evaluate", of(trained)])
    assert (config.task.name, config.task.template, config.prompt.length) == ("super_glue/cb", "all", 4)


REFUSED: dict[str, tuple[Callable[[pathlib.Path], list[str]], str]] = {
    "no rows": (lambda _: ["--config.data.file="], "data.file is empty: set it to a file of rows"),
    "no file": (lambda _: ["--config.data.file=nowhere.jsonl"], "data.file='nowhere.jsonl' cannot be read"),
    "an untrained prompt": (
        lambda _: ["--config.prompt.init=vocabulary", "--config.prompt.length=4"],
        "would use an untrained prompt, prompt.init='vocabulary': set prompt.init to a saved",
    ),
    "an untrained prompt's evaluation": (
        lambda _: ["--config.prompt.init=vocabulary", "--config.prompt.length=4", "--config.job=evaluate"],
        "job=evaluate would use an untrained prompt",
    ),
    "a directory without prompts": (
        lambda folder: [f"--config.prompt.init={folder / 'run' / 'prompts' / 'run-seed0'}", "--config.prompt.by=which"],
        "needs a directory of prompts in prompt.init",
    ),
    "several prompts": (
        lambda folder: [f"--config.prompt.init={folder / 'run' / 'prompts'}"],
        r"holds several prompts: set prompt.init to one of .*run-seed0, .*run-seed1, or prompt.by",
    ),
    "no such column": (
        lambda folder: [f"--config.prompt.init={folder / 'run' / 'prompts'}", "--config.prompt.by=which"],
        r"Row 0 \(from 0\): it has no column 'which', which prompt.by names",
    ),
    "no such prompt": (
        lambda folder: [f"--config.prompt.init={folder / 'run' / 'prompts'}", "--config.prompt.by=words"],
        "prompt.init holds the prompts run-seed0, run-seed1",
    ),
    "a library, too": (lambda _: ["--config.rospr.library=library"], "but prompt.init or prompt.by names one, too"),
    "no prompt, no template": (lambda _: [], "No template is set: set task.input and task.answer_choices for your own"),
    "another column": (
        lambda _: ["--config.task.input={{ text }}", "--config.task.answer_choices=a ||| b"],
        r"Row 0 \(from 0\): .* uses the column 'text', but the columns are words",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    case: str, trained: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    arguments, sentence = REFUSED[case]
    prompt = [] if "prompt" in case else [of(trained)]
    with pytest.raises(UserError, match=sentence):
        run(
            tmp_path / "out", trained / "unlabelled.jsonl", "--config.backbone.name=random",
            f"--config.data.dir={trained / 'data'}", *prompt, *arguments(trained),
        )  # fmt: skip
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "suffix"), [(b'{"a": 1}\n', ".jsonl"), (b'\xef\xbb\xbf [{"a": 1}]', ".json"), (b"a;b\n1;2\n", ".csv")]
)
def test_standard_input_is_read_by_its_first_character(content: bytes, suffix: str) -> None:
    class Pipe(io.BytesIO):
        def isatty(self) -> bool:
            return False

    with row_file("-", Pipe(content)) as path:
        assert path.suffix == suffix and path.read_bytes() == content
    assert not path.exists()
