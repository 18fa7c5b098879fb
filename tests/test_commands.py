"""Every command in the documents runs: each is parsed and checked, and run for real, shrunk, or its reason stands here.

Fast: options are parsed, and a config is built and checked, with small made files in the place of DATA and its like.
Slow: the commands of a page run in their order, in one directory, on nano; what runs once without an option is shrunk
by options that are added.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import pathlib
import re
import runpy
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from documented import PAGES, ROOT, Command, commands

import infoprompt_jax as ip
from infoprompt_jax import main, settings
from infoprompt_jax.command_line import parse, read_config
from infoprompt_jax.errors import UserError
from infoprompt_jax.t5 import hub

# Why a command is not run, by the start of the command. All others are.
REASONS = {
    "pip install": "needs a network: the package index",
    "make lint": "makes an environment, from the package index",
    "make test": "makes an environment, from the package index; these are the tests",
    "make site": "makes an environment, from the package index; tests/test_site.py",
    "make bench": "makes an environment, from the package index",
    "make wheel": "makes an environment, from the package index; tests/test_wheel.py",
    "make screenshots": "needs Chromium and finished runs; tests/test_site.py",
    "make notebooks": "makes an environment, from the package index; tests/test_notebooks.py",
    "source .venv/bin/activate": "changes the shell",
    "export TPU_": "changes the shell",
    "export PYTHONPATH": "changes the shell",
    "export XLA_FLAGS": "changes the shell",
    "unset XLA_FLAGS": "changes the shell",
    "python -m infoprompt_jax.capacity": "needs the compiler for TPUs; tests/capacity",
    "python -m experiments.mini_rerun": "takes minutes a step; tests/experiments has its parts",
    "python -m experiments.mini_trials": "reads SST-2's rows, and takes minutes; tests/experiments",
    "python -m experiments.mini_corpus": "reads data sets that one has; tests/pretraining",
    "python -m experiments.mini_zero_shot": "reads data sets that one has; tests/experiments",
    "python -m experiments.own_rows": "reads data sets that one has; tests/experiments",
    "python -m infoprompt_jax.main --config=configs/mini_pretrain.py": "needs that corpus; tests/pretraining",
    "launch/tpu_vm.sh": "needs a TPU; tests/test_launch.py",
    "gcloud storage": "needs a Google Cloud account",
    "sbatch": "needs a SLURM cluster; tests/test_slurm.py",
    "python -m infoprompt_jax.main --config=configs/rospr_sources.py": "P3's rows are downloaded; below: your own data",
    "python -m infoprompt_jax.main --config=configs/rospr_eval.py": "P3's rows are downloaded; below: your own data",
    "python -m bench": "measures minutes of time; tests/bench",
    "python -m experiments.fuzz": "takes minutes; tests/experiments",
    "python -m experiments.kills": "takes minutes; tests/experiments",
    "python -m experiments.claims run": "takes a day; tests/experiments",
    "python -m experiments.rospr run": "takes an hour; tests/experiments",
    "python -m experiments.forms run": "takes hours; tests/experiments",
    "python -m experiments.forms report": "writes into docs/; tests/experiments",
    "python -m experiments.real run": "takes hours; tests/experiments",
    "python -m experiments.real report": "writes into docs/; tests/experiments",
    "python -m experiments.real_rospr": "reads data sets that one has, and takes hours; tests/experiments",
    "python -m experiments.critics run": "takes minutes; tests/experiments",
    "python -m experiments.critics report": "writes into docs/; tests/experiments",
    "python -m experiments.nano_run": "measures minutes of time",
    "python -m experiments.tutorials": "takes minutes; tests/experiments",
    "python -m experiments.world": "takes minutes",
    "python -m experiments.claims report": "writes into docs/; tests/experiments",
    "python -m experiments.rospr report": "writes into docs/; tests/experiments",
    "python -m experiments.nano_page": "writes into docs/",
    "python -m experiments.mini_page": "writes into docs/",
    "python -m infoprompt_jax.rospr.page": "tests/rospr/test_page.py",
    "python -m examples.train": "tests/test_examples.py",
    "python -m examples.predict": "tests/test_examples.py",
    "python -m examples.retrieval": "tests/test_examples.py",
    "python -m examples.estimator": "tests/test_examples.py",
    "python -m examples.metric": "tests/test_examples.py",
    "python -m examples.seqio_mixture": "tests/test_examples.py",
    "python -m examples.serve": "serves until it is stopped; tests/serving/test_server.py",
    "python -m infoprompt_jax.serving": "serves until it is stopped; tests/serving/test_server.py",
    "curl localhost:8000": "a request to that server; tests/serving/test_server.py",
    "cp build/device/device.json": "copies what an accelerator measured",
    "mkdir -p build/before": "makes another checkout, to measure against",
    "git archive": "makes another checkout, to measure against",
    "tar -x": "makes another checkout, to measure against",
}
# Beginnings of words.
REASONS_OF_WORDS = {
    "--config.mesh.coordinator=": "waits for other processes; tests/test_several_hosts.py",
    "--config.prompt.init=runs/exported/": "needs what the page's Python makes; experiments.tutorials",
    "--config.rospr.library=runs/merged/": "needs what the page's Python makes; experiments.tutorials",
    "--workdir=gs://": "needs a bucket; tests/training/test_bucket_runs.py",
    "--config=gs://": "needs a bucket; tests/training/test_bucket_runs.py",
}
MY_TASKS = """\
import seqio, tensorflow as tf
text = {"inputs": "one", "targets": "two"}
rows = tf.data.Dataset.from_tensors(text).repeat(8)
source = seqio.FunctionDataSource(lambda split, shuffle_files: rows, ["train", "validation"])
features = {key: seqio.Feature(seqio.PassThroughVocabulary(9), dtype=tf.string, rank=0) for key in text}
seqio.TaskRegistry.add("my_task", source=source, preprocessors=[], output_features=features)
seqio.MixtureRegistry.add("my_mixture", ["my_task"], default_rate=1)
"""
RUN_HERE = "runs/own"  # of a command's workdir: it runs, although its config alone does not
PRINTING = ("infoprompt_jax.settings", "infoprompt_jax.reference", "infoprompt_jax.nano.world")
# What is added to a command that does not set the field itself; a command that sets more steps takes MORE_STEPS.
SHRUNK = {
    "train.steps": "2",
    "train.batch_size": "8",
    "train.eval_batch_size": "8",
    "train.eval_every": "1",
    "train.accumulate": "1",
    "task.eval_limit": "4",
    "task.train_limit": "64",
    "pretrain.lines": "500",
    "rospr.instances": "4",
    "rospr.queries": "4",
    "backbone.unroll": "1",
}
MORE_STEPS = "4"
PLACES = re.compile(r"(?<==)(DATA|TEMPLATES|MODEL_DIRECTORY|D|T)$|(?<=:)(TASK)$|^(DIRECTORY)$")
EVERY = [command for page in PAGES for command in commands(page)]


def reason(command: Command) -> str | None:
    """Why a command is not run; None if it is."""
    if any(RUN_HERE in word for word in command.words):
        return None
    of_words = (
        REASONS_OF_WORDS[start] for word in command.words for start in REASONS_OF_WORDS if word.startswith(start)
    )
    return next((REASONS[start] for start in REASONS if str(command).startswith(start)), None) or next(of_words, None)


def runs(command: Command) -> bool:
    """Whether this test can run a command of this kind."""
    module = command.words[2] if command.words[:2] == ("python", "-m") else ""
    return bool(command.arguments) or module in PRINTING or str(command) == "make run"


@pytest.fixture(scope="module")
def place(invented: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A directory with the configs, and what the documents call DATA, D, TEMPLATES, T and MODEL_DIRECTORY."""
    path = tmp_path_factory.mktemp("place")
    shutil.copytree(invented, path / "DATA")
    for name in ("configs", "examples"):
        (path / name).symlink_to(ROOT / name)
    (path / "MODEL_DIRECTORY").symlink_to(hub.find("nano"))
    (template,) = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs" / "data.md").read_text(), re.M | re.S)
    rows = [{"review": f"Late by {n} days, but it works.", "stars": ("good", "bad")[n % 2]} for n in range(24)]
    for name in ("mine", "a", "b", "c", "unseen"):
        for split in ("train", "validation"):
            (path / "DATA" / name).mkdir(exist_ok=True)
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (path / "DATA" / name / f"{split}.jsonl").write_text(text)
        (path / "TEMPLATES" / name).mkdir(parents=True)
        (path / "TEMPLATES" / name / "templates.yaml").write_text(template.replace("dataset: mine", f"dataset: {name}"))
    for letter, name in (("D", "DATA"), ("T", "TEMPLATES")):
        (path / letter).symlink_to(path / name)
    (path / "my_tasks.py").write_text(MY_TASKS)
    row = {"premise": "Ann sold a red boat.", "hypothesis": "Ann sold a boat.", "text": "The film was charming."}
    row["which"] = "plain-seed0"
    (path / "rows.csv").write_text("review\nIt works.\n")
    (path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    return path


@pytest.fixture(scope="module")
def finished(place: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The same directory with what commands before have left: a config.json and a prompt of each run."""
    path = tmp_path_factory.mktemp("finished")
    for entry in place.iterdir():
        (path / entry.name).symlink_to(entry)
    backbone = ip.load_backbone("nano")
    made = {"backbone": backbone.name, "fingerprint": backbone.fingerprint}
    for name, member in re.findall(r"runs/(\w+)/(?:prompts/([\w-]+)|config\.json)", " ".join(map(str, EVERY))):
        run = path / "runs" / name
        if not run.exists():
            run.mkdir(parents=True)
            config = f"{ROOT}/configs/{name}.py"
            config = read_config(config) if pathlib.Path(config).exists() else settings.defaults()
            (run / "config.json").write_text(config.to_json())
        if member:
            ip.save_prompt(run / "prompts" / member, ip.Prompt(np.zeros((4, backbone.config.d_model)), made))
    for name in re.findall(r"--config\.prompt\.init=(runs/exported/\w+)", " ".join(map(str, EVERY))):
        ip.save_prompt(path / name, ip.Prompt(np.zeros((4, backbone.config.d_model))), format="peft")
    return path


def filled(words: list[str], place: pathlib.Path) -> list[str]:
    """The words with made files in the place of the names that stand for a reader's own."""

    def made(match: re.Match[str]) -> str:
        name = next(filter(None, match.groups()))
        return "causes" if name == "TASK" else str(place / name)

    return [PLACES.sub(made, word) for word in words]


def expanded(word: str) -> list[str]:
    """`{a,b}-c` as a shell expands it."""
    match = re.search(r"\{([\w,]+)\}", word)
    return [word.replace(match[0], one) for one in match[1].split(",")] if match else [word]


class Understood(Exception):  # noqa: N818
    """The options of a command were parsed; it is not run."""


def options_are_parsed(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starts a module as the command does, up to where its options are parsed."""
    name = "parse_known_args" if command.words[2] == "infoprompt_jax.capacity" else "parse_args"
    parse = getattr(argparse.ArgumentParser, name)

    def understand(*arguments: Any, **keywords: Any) -> None:
        parse(*arguments, **keywords)
        raise Understood

    monkeypatch.setattr(argparse.ArgumentParser, name, understand)
    with pytest.raises(Understood):
        start([one for word in command.words for one in expanded(word)], monkeypatch)


def start(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs `python -m MODULE ...` in this process."""
    monkeypatch.setattr(sys, "argv", words[2:])
    runpy.run_module(words[2], run_name="__main__", alter_sys=True)


WITHOUT_OPTIONS = (
    *(start for start, why in REASONS.items() if why == "tests/test_examples.py"),
    "python -m examples.serve",
    "python -m experiments.nano_page",
    "python -m experiments.mini_page",
    "python -m bench.device report",
    "python -m bench report",
    "python -m bench.capacity_page",
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_are_understood(
    page: pathlib.Path, finished: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    for command in commands(page):
        if "--config=gs:" in str(command):  # is read where it lies
            continue
        if command.arguments:
            options = filled(command.arguments, finished)
            assert settings.check(parse(["main", *options])[0]).backbone.name, command
        elif command.words[0] == "make":
            ran = subprocess.run(["make", "-C", str(ROOT), "-n", *command.words[1:]], capture_output=True, check=False)
            assert ran.returncode == 0, command
        elif command.words[:2] == ("python", "-m") and not {*command.words} & {*PRINTING}:
            assert importlib.util.find_spec(command.words[2]), command
            if str(command) not in WITHOUT_OPTIONS:
                with monkeypatch.context() as patch:
                    options_are_parsed(command, patch)


DOCSTRINGS = [path for room in ("infoprompt_jax", "experiments", "bench") for path in (ROOT / room).rglob("*.py")]


def test_docstrings_name_commands_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their modules and configs exist, and so do their options, of which [...] may be left out."""
    monkeypatch.chdir(ROOT)
    for command in (command for path in DOCSTRINGS for command in commands(path)):
        if command.arguments and "[" not in str(command):
            config = next(word.partition("=")[2] for word in command.arguments if word.startswith("--config="))
            assert settings.check(read_config(config)).job, command
        elif command.words[:2] == ("python", "-m") and not command.arguments:
            spec = importlib.util.find_spec(command.words[2])
            assert spec and spec.origin, command
            source = "\n".join(path.read_text() for path in pathlib.Path(spec.origin).parent.glob("*.py"))
            for option in re.findall(r"--([a-z]+)", str(command)):
                assert re.search(rf'"--{option}"|^    {option}: ', source, re.M), command  # a field, of bench.search


def test_every_command_is_run_or_has_a_reason() -> None:
    """And every reason has a command."""
    for command in EVERY:
        assert runs(command) or reason(command), f"{command.page.name} has a new command: {command}"
    for start in REASONS:
        assert any(str(command).startswith(start) for command in EVERY), start


def test_commands_that_download_say_so() -> None:
    """In their block or beside it; a config anywhere in its manual."""
    for command in EVERY:
        if downloads(command) or command.words[:2] == ("pip", "install"):
            near = command.near if command.page.suffix == ".md" else command.page.read_text()
            assert re.search("download|install", near, re.I), f"{command.page.name}: {command}"


def downloads(command: Command) -> bool:
    """Whether a command names no backbone and its config names one on the hub."""
    named = [word for word in command.arguments if word.startswith("--config.backbone.name=")]
    files = [word.partition("=")[2] for word in command.arguments if word.startswith("--config=configs/")]
    if named or not files or "prompt.init=runs" in str(command):  # a saved prompt names its backbone
        return False
    config = read_config(str(ROOT / filled(files, ROOT)[0]))
    return config.job != "pretrain" and "/" in config.backbone.name


def shrunk(arguments: list[str]) -> list[str]:
    """The options with those added that make a run small; a run's own config.json is small already."""
    given = {match[1] for argument in arguments if (match := re.match(r"--config\.([a-z_.]+)=", argument))}
    steps = [f"--config.train.steps={MORE_STEPS}"] if "train.steps" in given else []
    if any(argument.endswith("/config.json") for argument in arguments):
        return [*arguments, *steps]
    config, _ = parse(["main", *arguments])
    if config.job == "predict":
        return arguments
    added = {field: value for field, value in SHRUNK.items() if field not in given}
    if len(config.fleet.seeds) > 2 and "fleet.seeds" not in given:
        added["fleet.seeds"] = "(0,1)"
    if "/" in config.backbone.name and not pathlib.Path(config.backbone.name).exists():
        added["backbone.name"] = "nano"
    if not config.data.dir and not config.task.name.startswith("nano/"):
        added["data.dir"] = "DATA"
    if config.task.name.startswith("nano/"):
        added |= {"task.train_split": "train[:64]", "task.eval_split": "validation[:8]"}
        added |= {"task.test_split": "test[:8]"} if config.task.test_split else {}
        added |= {"task.name": ",".join(config.task.name.split(",")[:2])}
    if config.task.name.startswith("sem_eval"):
        added |= {"task.train_split": "train[:64]", "task.eval_split": "train[64:72]", "task.test_split": "test[:8]"}
    return [*arguments, *steps, *(f"--config.{field}={value}" for field, value in added.items())]


def recipe_of_make_run() -> list[str]:
    """The options of infoprompt_jax.main in the recipe of `make run`."""
    printed = subprocess.run(["make", "-C", str(ROOT), "-n", "run"], capture_output=True, text=True, check=True).stdout
    (line,) = [line for line in printed.splitlines() if "infoprompt_jax.main" in line]
    return line.partition("infoprompt_jax.main ")[2].split()


def execute(command: Command, place: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command prints."""
    if command.arguments or command.words[0] == "make":
        arguments = ["main", *shrunk(filled(command.arguments or recipe_of_make_run(), place))]
        try:
            return main.run(arguments)
        except UserError as error:
            if not re.search("holds a run with", str(error)):
                raise
            shutil.rmtree(parse(arguments)[1])  # the command is an alternative to one before it
            return main.run(arguments)
    with pytest.MonkeyPatch.context() as patch:
        capsys.readouterr()
        start(filled(list(command.words), place), patch)
    return capsys.readouterr().out or str(command)


@pytest.mark.slow
@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(not reason(c) for c in commands(page))], ids=lambda p: p.name
)
def test_the_commands_of_a_page_run(
    page: pathlib.Path, place: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that another page's commands have finished is read, not run again."""
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(str(place))  # as `python -m` does
    monkeypatch.setenv("HOME", str(place))  # of the cache of tokenised rows
    for command in commands(page):
        if reason(command) is None:
            assert execute(command, place, capsys).strip(), command
