"""The command line as a user meets it: a sentence for every mistake, found before anything is written."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tiny_runs
from flax import nnx

from infoprompt_jax import jobs
from infoprompt_jax.command_line import parse
from infoprompt_jax.errors import UserError
from infoprompt_jax.fleet.fleet import Fleet
from infoprompt_jax.main import main
from infoprompt_jax.t5 import convert
from infoprompt_jax.t5.config import T5Config
from infoprompt_jax.t5.model import T5
from infoprompt_jax.t5.tokenizer import load_tokenizer

ROOT = pathlib.Path(__file__).parent.parent
CONFIG = """\
import sys
sys.path.insert(0, {tests!r})
import pathlib, tiny_runs

def get_config():
    return tiny_runs.config(pathlib.Path({directory!r}), infoprompt__gamma=0.0, infoprompt__beta=0.0)
"""

pytestmark = pytest.mark.usefixtures("programs")


def command(*arguments: str) -> tuple[Any, str]:
    return parse(["main", f"--config={ROOT / 'configs' / 'rte.py'}", "--workdir=w", *arguments])


def test_fields_are_overridden_with_values_of_their_type() -> None:
    config, workdir = command("--config.train.steps=7", "--config.fleet.seeds=(0,1)", "--noconfig.train.tensorboard")
    assert (config.train.steps, config.fleet.seeds, workdir) == (7, (0, 1), "w")
    assert command("--config.train.learning_rate", "1")[0].train.learning_rate == 1.0
    assert command("--config.task.name=glue/sst2", "--config.task.name=glue/cola")[0].task.name == "glue/cola"
    members = command("--config.fleet.members=({'name': 'a', 'train.learning_rate': 0.1},)")[0].fleet.members
    assert members == ({"name": "a", "train.learning_rate": 0.1},)


def test_the_last_of_several_tuples_counts() -> None:
    """As for fields of other types; ml_collections alone would join them."""
    seeds = ("--config.fleet.seeds=(0,1)", "--config.train.steps=3", "--config.fleet.seeds", "(2,)")
    assert command(*seeds, "--config.data.buckets=(16,)")[0].fleet.seeds == (2,)
    assert command(*seeds, "--config.fleet.seeds=(5,)")[0].fleet.seeds == (5,)
    assert command("--config.prompt.text", "--dashes")[0].prompt.text == "--dashes"


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("--config.train.stepz=3", r"--config\.train\.stepz does not exist: did you mean train\.steps\?"),
        ("--config.fleet.variants=('plain',)", r"variants does not exist: it is called fleet\.presets now\."),
        ("--config.zzz=3", r"--config\.zzz does not exist; docs/configuration\.md lists all fields\."),
        ("--config.train.steps=abc", "steps=abc: invalid literal for int"),
        ("--config.train.steps=1.5", r"steps=1\.5: invalid literal for int"),
        ("--config.train.learning_rate=fast", "learning_rate=fast: could not convert string to float"),
        ("--config.infoprompt.variational=maybe", "variational=maybe"),
        ("--config.train.steps", r"Missing value for flag --config\.train\.steps"),
        ("--config.fleet.seeds=(0,1", r"seeds=\(0,1: Error while parsing"),
        ("--epochs=3", "--epochs is no option: python -m infoprompt_jax.main --config=FILE"),
        ("--workdr=runs/a", r"--workdr is no option: did you mean --workdir\?"),
        ("--confg.train.steps=3", r"--confg\.train\.steps is no option: did you mean --config\.train\.steps\?"),
        ("--config.fleet.seeds=" + 20_000 * "-" + "1", "a value is nested too deeply"),
        ("stray", "The argument 'stray' was not expected"),
    ],
)
def test_wrong_arguments(argument: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        command(argument)


def test_a_typed_template_is_not_passed_over_for_the_configs_own() -> None:
    line = ["main", f"--config={ROOT}/configs/own_data.py", "--config.task.template=other"]
    with pytest.raises(
        UserError, match=r"task\.template='other' is set, but task\.input=.Review: .* is the template: set"
    ):
        parse(line)
    emptied = [f"--config.task.{field}=" for field in ("input", "target", "answer_choices")]
    assert parse([*line, *emptied])[0].task.template == "other"
    assert parse([*line[:2], "--config.task.template=all"])[0].task.input.startswith("Review: ")


def test_missing_options() -> None:
    with pytest.raises(UserError, match=r"--confg is no option: did you mean --config\?"):
        parse(["main", "--confg=configs/rte.py"])
    with pytest.raises(UserError, match="--config is missing: python -m"):
        parse(["main", "--workdir=w"])


@pytest.mark.parametrize(
    ("config", "workdir"),
    [
        ("rte.py", "runs/rte"),
        ("rte.py:3b", "runs/rte-3b"),
        ("rte.py:64,nano", "runs/rte-64-nano"),
        (
            "../experiments/claims_config.py:causes,256,probe=runs/claims/a-256",
            "runs/claims_config-causes-256-probe-runs-claims-a-256",
        ),
    ],
)
def test_the_workdir_is_named_after_config_and_variant(config: str, workdir: str) -> None:
    assert parse(["main", f"--config={ROOT / 'configs' / config}"])[1] == workdir


START = "from infoprompt_jax import settings\ndef get_config():\n    config = settings.defaults()\n"


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("def get_config(:\n", r"mine\.py: SyntaxError: invalid syntax \(mine\.py, line 1\)\.$"),
        ("config = 1\n", r"mine\.py has no get_config\(\) that returns a config: start from"),
        ("def get_config():\n    pass\n", r"mine\.py has no get_config\(\) that returns a config: start from"),
        ("\nimport nosuchmodule\n", r"mine\.py, line 2: ModuleNotFoundError: No module named 'nosuchmodule'\.$"),
        (
            START + "    config.train.stepz = 3\n",
            r"mine\.py, line 4: AttributeError: Key \"stepz\" does not exist .*\.$",
        ),
        (START + "    config.train.steps = 'x'\n", r"mine\.py, line 4: TypeError: Could not override field 'steps'"),
        (
            START + "    config.fleet.variants = ('plain',)\n",
            r"mine\.py, line 4: AttributeError: Key \"variants\" .*; fleet\.variants is called fleet\.presets now\.$",
        ),
        (None, r"mine\.py cannot be read: No such file or directory\.$"),
    ],
)
def test_mistakes_in_the_users_own_config_file(source: str | None, sentence: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "mine.py"
    if source is not None:
        path.write_text(source)
    with pytest.raises(UserError, match=sentence) as error:
        parse(["main", f"--config={path}", "--workdir=w"])
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


@pytest.mark.parametrize("name", ["n" * 5000, "a\0b", f"{'n' * 300}.py:nano", f"{'n' * 300}.json"])
def test_names_that_no_file_has_are_a_sentence(name: str) -> None:
    with pytest.raises(UserError, match=r"^--config=") as caught:
        parse(["main", f"--config={name}"])
    assert "\n" not in str(caught.value)


def test_a_runs_directory_is_no_config(tmp_path: pathlib.Path) -> None:
    (tmp_path / "__main__.py").write_text("raise AssertionError('this is not to be run')\n")
    with pytest.raises(UserError, match="is a directory: give a config file, or of a run its config"):
        parse(["main", f"--config={tmp_path}"])


def test_unknown_variants(tmp_path: pathlib.Path) -> None:
    (tmp_path / "plain.py").write_text("def get_config():\n    pass\n")
    with pytest.raises(
        UserError, match="no variant 'nope': choose from infoprompt, 3b, 11b, 64, 256, nano, mini, smoke"
    ):
        parse(["main", f"--config={ROOT / 'configs' / 'rte.py'}:nope", "--workdir=w"])
    with pytest.raises(UserError, match=r"TypeError: get_config\(\) takes 0 positional arguments but 1 was given"):
        parse(["main", f"--config={tmp_path / 'plain.py'}:nope", "--workdir=w"])


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help(option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["main", option])
    main()
    assert "--config.train.steps=100" in capsys.readouterr().out


def test_a_typing_error_does_not_wait_for_jax() -> None:
    """The flags of simulated devices are set before JAX is imported."""
    code = f"""
import os, sys
from infoprompt_jax.main import main
sys.argv = ["main", "--config={ROOT}/configs/rte.py", "--config.train.batch_size=0"]
try:
    main()
except SystemExit as end:
    print(end.code, "jax" in sys.modules, os.environ["XLA_FLAGS"])
"""
    simulated = "--xla_force_host_platform_device_count=2"
    environment = os.environ | {"XLA_FLAGS": simulated}
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ran.stderr.splitlines()[-1] == "error: train.batch_size=0 is out of range: it must be 1 to 4,194,304."
    assert ran.stdout.split() == ["2", "False", simulated, "--xla_cpu_enable_concurrency_optimized_scheduler=false"]


def test_a_stopped_job_ends_with_the_status_of_sigterm(
    config_file: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(Fleet, "step", tiny_runs.before_step(0, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    monkeypatch.setattr(sys, "argv", ["main", f"--config={config_file}", f"--workdir={tmp_path / 'run'}"])
    with pytest.raises(SystemExit) as end:
        main()
    shown = capsys.readouterr()
    assert (end.value.code, shown.out) == (143, "")
    assert shown.err.splitlines()[-1] == f"Stopped at step 1 of {tiny_runs.STEPS}; the same command resumes."


def test_ctrl_c_beside_the_steps_ends_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def interrupted(_: list[str]) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["infoprompt_jax.main"], "run", interrupted)
    monkeypatch.setattr(sys, "argv", ["main", "--config=configs/rte.py"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 143
    assert capsys.readouterr().err.splitlines()[-1] == "Stopped; the same command goes on from what is saved."


def line(text: str) -> Callable[[pathlib.Path], None]:
    """Puts `text` in the place of the third training row."""

    def damage(data: pathlib.Path) -> None:
        path = data / "generated" / "words" / "train.jsonl"
        lines = path.read_text().splitlines()
        path.write_text("\n".join([*lines[:2], text, *lines[3:]]))

    return damage


def empty(data: pathlib.Path) -> None:
    (data / "generated" / "words" / "train.jsonl").write_text("")


INPUT = {"task__input": "{{ words }}", "task__templates_dir": ""}
OWN = {**INPUT, "task__target": "{{ answer_choices[label] }}"}
CHOICES = {**OWN, "task__answer_choices": "animals ||| tools"}
MISTAKES: dict[str, tuple[dict[str, Any], Callable[[pathlib.Path], None] | None, str]] = {
    "job": ({"job": "trian"}, None, "job='trian' is not supported: choose one of train, evaluate"),
    "data set": (
        {"task__name": "generated/wrods"},
        None,
        "There is no file .*/generated/wrods/.* holds generated/words",
    ),
    "data.dir": ({"data__dir": "/nowhere"}, None, "data.dir is '/nowhere', which is not a folder"),
    "template": (
        {"task__template": "nope"},
        None,
        "'nope' is not a template of .*nearest are .'bare', 'question'.; set task.template",
    ),
    "no templates": ({"task__templates_dir": ""}, None, "generated/words"),
    "split": ({"task__eval_split": "test"}, None, "no split 'test', only train, validation"),
    "no split": ({"task__eval_split": ""}, None, "split '' is malformed"),
    "slice": ({"task__train_split": "train[600:]"}, None, r"split 'train\[600:\]' selects no rows"),
    "column": ({**CHOICES, "task__input": "{{ text }}"}, None, "row 0 .*column 'text', but the columns are words"),
    "no rows": ({}, empty, r"train\.jsonl \(in data\.dir\) holds no rows"),
    "not JSON": ({}, line('{"words": "ant", '), r"train\.jsonl \(in data\.dir\), line 3, is not JSON"),
    "not a row": ({}, line("[1]"), r"line 3, holds list, but a row is an object"),
    "label": ({}, line('{"words": "ant", "label": 2}'), "row 2 .*answer choice 2 .*does not exist; there are 2"),
    "target": ({**CHOICES, "task__target": "ants"}, None, "row 0 .*target 'ants', which is not one of its"),
    "two templates": ({**CHOICES, "task__templates_dir": "T"}, None, "task.input and task.templates_dir='T' are both"),
    "equal choices": ({**CHOICES, "task__answer_choices": "a ||| a"}, None, "has no two answer choices that differ"),
    "choices of the same tokens": (
        {**CHOICES, "task__target": "axe", "task__answer_choices": "axe ||| axes", "data__max_target_length": 4},
        None,
        "train: the answer choices 'axe' and 'axes' are the same .*data.max_target_length=4 tokens: set it to 5",
    ),
    "half a template": (INPUT, None, "Only one of task.input and task.target is set"),
    "prompt too long": ({"prompt__length": 65}, None, "prompt.length=65 is longer than .*data.max_input_length=64"),
    "no prompt": ({"prompt__length": 0}, None, "prompt.length=0 leaves nothing to train"),
    "float16": ({"backbone__dtype": "float16"}, None, "float16' is not supported .T5 overflows.*float32, bfloat16"),
    "batch": ({"train__batch_size": 12}, None, r"train\.batch_size=12 does not divide into 8"),
    "evaluation batch": ({"train__eval_batch_size": 12}, None, r"train\.eval_batch_size=12 does not divide into 8"),
    "accumulation": ({"train__accumulate": 2}, None, r"train\.batch_size=8 does not divide into 16"),
    "mesh": ({"mesh__model": 3}, None, "mesh.data=-1 x mesh.fsdp=1 x mesh.model=3 does not fit 8 devices"),
    "mesh of another size": (
        {"mesh__data": 4},
        None,
        "mesh.data=4 x mesh.fsdp=1 x mesh.model=1 does not fit 8 devices",
    ),
    "metric": ({"task__metric": "bleu"}, None, "task.metric='bleu' is not supported: choose one of accuracy, f1"),
    "metric of text": ({"task__metric": "exact_match"}, None, "task.metric='exact_match' does not fit .* choices"),
    "text and verbalizer": ({**OWN, "task__target": "a", "train__task_loss": "verbalizer"}, None, "needs the same"),
    "init": ({"prompt__init": "/nowhere"}, None, "prompt.init='/nowhere' is neither one of uniform, .* nor the path"),
    "backbone": ({"backbone__name": "/nowhere"}, None, "backbone.name='/nowhere' is neither a directory"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_sentence_and_nothing_is_written(mistake: str, tmp_path: pathlib.Path) -> None:
    fields, damage, sentence = MISTAKES[mistake]
    config = tiny_runs.config(tmp_path, **fields)
    if damage:
        damage(tmp_path / "data")
    with pytest.raises(UserError, match=sentence) as error:
        jobs.run(config, str(tmp_path / "run"))
    assert str(error.value).count("\n") == 0 and str(error.value)[-1] in ".?"
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def checkpoint(vocabulary: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., pathlib.Path]:
    """Writes a T5 of a few weights with a small vocabulary, damaged as requested."""

    def write(name: str, missing: int = 0, poison: float = 0.0, cut: int = 0) -> pathlib.Path:
        path = tmp_path_factory.mktemp("checkpoint") / name
        sizes = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_decoder_layers": 1, "num_heads": 2}
        config = T5Config(load_tokenizer(vocabulary).vocab_size - missing, **sizes)
        flat = nnx.to_flat_state(nnx.split(T5(config, nnx.Rngs(0)))[1])
        leaves = [("/".join(map(str, leaf)), np.asarray(variable[...]) + poison) for leaf, variable in flat]
        convert.export(path, config, leaves, [vocabulary])
        weights = path / "model.safetensors"
        os.truncate(weights, weights.stat().st_size - cut)
        return path

    return write


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        ({"missing": 9}, r"wrong vocabulary: it has \d+ ids but the backbone embeds \d+"),
        ({"cut": 100}, "model.safetensors that is truncated or damaged"),
        ({"poison": np.nan}, "holds NaN or infinity in the tensor"),
    ],
)
def test_damaged_checkpoints(
    damage: dict, sentence: str, checkpoint: Callable[..., pathlib.Path], tmp_path: pathlib.Path
) -> None:
    config = tiny_runs.config(tmp_path, backbone__name=str(checkpoint("t5", **damage)))
    with pytest.raises(UserError, match=sentence) as error:
        jobs.run(config, str(tmp_path / "run"))
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


def test_a_prompt_of_another_backbone_is_refused(
    checkpoint: Callable[..., pathlib.Path], tmp_path: pathlib.Path
) -> None:
    from infoprompt_jax import Prompt, save_prompt

    config = tiny_runs.config(tmp_path, backbone__name=str(checkpoint("t5")), prompt__init=str(tmp_path / "prompt"))
    refusals = {
        (4, 16): "the prompt has width 16, but the backbone's is 8",
        (5, 8): r"has 5 tokens, the config 4: set prompt\.length=5",
        (4, 8): "trained on elsewhere with fingerprint 0a, but this backbone's is",
    }
    for shape, sentence in refusals.items():
        metadata = {"backbone": "elsewhere", "fingerprint": "0a"} if shape == (4, 8) else {}
        save_prompt(tmp_path / "prompt", Prompt(np.zeros(shape, np.float32), metadata))
        with pytest.raises(UserError, match=sentence):
            jobs.run(config, str(tmp_path / "run"))


def test_without_a_network_the_hub_is_given_up_at_once(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    from huggingface_hub import constants

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", f"https://127.0.0.1:{closed.getsockname()[1]}")
        monkeypatch.delenv("https_proxy", raising=False)
        monkeypatch.delenv("HTTPS_PROXY", raising=False)
        with pytest.raises(UserError, match=r"'google/no-such-t5' is neither .* and the hub cannot be reached"):
            jobs.run(tiny_runs.config(tmp_path, backbone__name="google/no-such-t5"), str(tmp_path / "run"))


def process(programs: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | programs | {"PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-m", "infoprompt_jax.main", *arguments]
    return subprocess.run(line, env=environment, capture_output=True, text=True, check=False)


def contents(directory: pathlib.Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def config_file(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    directory = tmp_path_factory.mktemp("tiny")
    tiny_runs.config(directory)
    (directory / "mine.py").write_text(CONFIG.format(tests=str(ROOT / "tests"), directory=str(directory)))
    return directory / "mine.py"


def test_a_process_that_meets_a_mistake(config_file: pathlib.Path, programs: dict[str, str]) -> None:
    workdir = config_file.parent / "refused"
    unknown = process(programs, f"--config={config_file}", f"--workdir={workdir}", "--config.train.stepz=3")
    assert unknown.stderr == "error: --config.train.stepz does not exist: did you mean train.steps?\n"
    split = process(programs, f"--config={config_file}", f"--workdir={workdir}", "--config.task.test_split=secret")
    assert split.stderr.splitlines()[-1].startswith("error: generated/words has no split 'secret', only train, ")
    assert split.stderr.count("error: ") == 1 and "Traceback" not in split.stderr
    for ended in (unknown, split):
        assert (ended.returncode, ended.stdout) == (2, "")
    assert not workdir.exists()


@pytest.fixture(scope="module")
def finished(config_file: pathlib.Path) -> tuple[pathlib.Path, str, list[str]]:
    """A finished run's directory, the table that it printed, and its command line."""
    workdir = config_file.parent / "run"
    arguments = [f"--config={config_file}", f"--workdir={workdir}", "--config.train.steps=2"]
    return workdir, jobs.run(*parse(["main", *arguments])), arguments


def test_a_finished_run_says_so_and_changes_nothing(finished: tuple, programs: dict[str, str]) -> None:
    workdir, table, arguments = finished
    before = contents(workdir)
    assert table.splitlines()[-1].startswith(f"files in {workdir}: prompts, curves.png, report.html, ")
    assert {pathlib.Path(path).name for path in before} >= {
        "config.json",
        "metrics.jsonl",
        "summary.json",
        "curves.png",
        "report.html",
    }
    again = process(programs, *arguments)
    assert (again.returncode, again.stdout) == (0, table + "\n"), again.stderr
    assert again.stderr.splitlines()[-1] == f"This run is done; its results stand in {workdir}."
    assert contents(workdir) == before


def test_summary_and_log_hold_what_the_interface_promises(finished: tuple) -> None:
    workdir, _, _ = finished
    summary = json.loads((workdir / "summary.json").read_text())
    (member,) = summary["members"]
    assert (member["name"], member["steps"]) == ("run", 2)
    assert {"accuracy", "macro_f1", "accuracy/generated/words:bare"} <= member["best"].keys() & member["final"].keys()
    assert summary["examples"] == {"validation": 16}
    assert summary["fingerprints"].keys() == {"backbone", "data", "evaluation_data", "sources"}
    assert {"steps_per_second", "tokens_per_second", "compile_seconds", "backbone"} <= summary.keys()
    for record in map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines()):
        assert record.keys() == {"step", "member", "name", "value"}


def test_a_sentence_keeps_its_beginning_and_its_remedy() -> None:
    sentence = str(UserError(f"The name {'a' * 10**6} is too long: choose a shorter one."))
    assert sentence.startswith("The name aaa") and sentence.endswith("aaa is too long: choose a shorter one.")
    assert len(sentence) < 2100 and str(UserError("short")) == "short"
