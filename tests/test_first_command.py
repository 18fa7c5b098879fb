"""The first command of a newcomer: a task's config and nothing else, with what the hub really holds, and offline."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import loopback_hub
import numpy as np
import pytest
import tiny
import tiny_repository
from huggingface_hub import constants

from infoprompt_jax import jobs, load_backbone
from infoprompt_jax.command_line import offline_command, parse
from infoprompt_jax.data import counterparts
from infoprompt_jax.data.local_files import find_files
from infoprompt_jax.data.selection import METRICS, find_tasks
from infoprompt_jax.errors import UserError

ROOT = pathlib.Path(__file__).parent.parent
COMMIT = "c" * 40
SHRUNK = (
    "--config.backbone.unroll=1",
    "--config.train.steps=2",
    "--config.train.eval_every=2",
    "--config.train.batch_size=8",
    "--config.train.eval_batch_size=8",
    "--config.task.eval_limit=4",
    "--config.prompt.length=4",
    "--config.data.max_input_length=64",
    "--config.data.buckets=(64,)",
)
# Stands for an environment without torch: importing it fails there.
NO_TORCH = """
import sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'")

sys.meta_path.insert(0, NoTorch())
"""


# Files of weights that real repositories have; as the hub lists them.
LAYOUTS = {
    "one pickle": ("pytorch_model.bin",),
    "pickle and flax": ("pytorch_model.bin", "flax_model.msgpack"),
    "safetensors": ("model.safetensors", "pytorch_model.bin"),
    "safetensors in shards": ("model.safetensors.index.json",),
    "pickles in shards": ("pytorch_model.bin.index.json",),
    "flax alone": ("flax_model.msgpack",),
}


def cached(cache: pathlib.Path, name: str, files: Sequence[str]) -> None:
    """A repository in a hub cache, as the hub's client leaves it."""
    repository = cache / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT
    tiny_repository.files(snapshot, ["tokenizer.json", *files])
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_a_repository_is_the_same_backbone(
    layout: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    cached(tmp_path, "org/t5", LAYOUTS[layout])
    cached(tmp_path, "org/reference", ["model.safetensors"])
    loaded, reference = (load_backbone(name, mesh=tiny.one_device()) for name in ("org/t5", "org/reference"))
    assert loaded.fingerprint == reference.fingerprint and not loaded.config.tied
    tokens, targets = np.array([[5, 6, 1]]), np.array([[7, 1]])
    np.testing.assert_array_equal(loaded.logits(tokens, targets), reference.logits(tokens, targets))


def write_rte(folder: pathlib.Path) -> None:
    (folder / "super_glue" / "rte").mkdir(parents=True)
    rows = [
        {"premise": f"Ann has {n} cats.", "hypothesis": f"Ann has {n + n % 2} cats.", "label": n % 2} for n in range(40)
    ]
    for split, part in (("train", rows[:32]), ("validation", rows[32:])):
        text = "".join(json.dumps(row) + "\n" for row in part)
        (folder / "super_glue" / "rte" / f"{split}.jsonl").write_text(text)


def command(
    directory: pathlib.Path, programs: dict[str, str], *arguments: str, endpoint: str = ""
) -> subprocess.CompletedProcess[str]:
    """Typed in a directory with nothing in it but the configs, where torch cannot be imported.

    Offline, unless the address of a hub is given.
    """
    (directory / "blocked").mkdir(exist_ok=True)
    (directory / "blocked" / "sitecustomize.py").write_text(NO_TORCH)
    shutil.copytree(ROOT / "configs", directory / "configs", dirs_exist_ok=True)
    environment = os.environ | programs
    environment |= {
        "XLA_FLAGS": os.environ["XLA_FLAGS"].replace("--xla_force_host_platform_device_count=8", ""),
        "PYTHONPATH": os.pathsep.join([str(directory / "blocked"), str(ROOT)]),
        "HF_HUB_CACHE": str(directory / "hub"),
        "HF_HUB_OFFLINE": "0" if endpoint else "1",
        "HF_HUB_DISABLE_XET": "1",
        **({"HF_ENDPOINT": endpoint} if endpoint else {}),
    }
    line = [sys.executable, "-m", "infoprompt_jax.main", *arguments]
    return subprocess.run(line, cwd=directory, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("variant", "name", "file"),
    [
        ("", "google/t5-base-lm-adapt", "pytorch_model.bin"),
        pytest.param(":3b", "google/t5-xl-lm-adapt", "pytorch_model.bin.index.json", marks=pytest.mark.slow),
    ],
)
def test_public_checkpoints_train_without_torch_or_a_workdir(
    variant: str, name: str, file: str, programs: dict[str, str], tmp_path: pathlib.Path
) -> None:
    """Downloaded from a hub on this machine."""
    pytest.importorskip("torch")
    files = tiny_repository.files(tmp_path / "files", [file, "tf_model.h5", "spiece.model", "tokenizer.json"])
    write_rte(tmp_path / "data")
    with loopback_hub.served(loopback_hub.Hub(name, {"main": files})) as address:
        ended = command(
            tmp_path,
            programs,
            f"--config=configs/rte.py{variant}",
            *SHRUNK,
            f"--config.data.dir={tmp_path / 'data'}",
            f"--config.data.cache_dir={tmp_path / 'cache'}",
            endpoint=address,
        )
    assert ended.returncode == 0, ended.stderr
    workdir = "runs/rte" + variant.replace(":", "-")
    assert f"workdir: {workdir}" in ended.stderr.splitlines()
    summary = json.loads((tmp_path / workdir / "summary.json").read_text())
    assert summary["backbone"] == name and summary["members"][0]["steps"] == 2
    (snapshot,) = (tmp_path / "hub").glob("models--*/snapshots/*")
    shards = {"pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"}
    weights = {file, *(shards if file.endswith(".json") else ())}
    assert {path.name for path in snapshot.iterdir()} == {"config.json", "spiece.model", "tokenizer.json", *weights}


def test_offline_the_error_names_the_command_that_runs(programs: dict[str, str], tmp_path: pathlib.Path) -> None:
    ended = command(tmp_path, programs, "--config=configs/rte.py")
    *_, last = ended.stderr.splitlines()
    assert (ended.returncode, ended.stdout) == (2, "")
    assert last.startswith("error: backbone.name='google/t5-base-lm-adapt' is neither a directory here nor whole in")
    advised = "python -m infoprompt_jax.main --config=configs/rte.py:nano"
    assert last.endswith(f"; without a network, this runs: {advised}")
    assert not (tmp_path / "runs").exists()
    ended = command(tmp_path, programs, *advised.split()[3:], *SHRUNK, f"--config.data.cache_dir={tmp_path / 'cache'}")
    assert ended.returncode == 0, ended.stderr
    assert json.loads((tmp_path / "runs" / "rte-nano" / "summary.json").read_text())["backbone"] == "nano"


def test_a_config_without_an_offline_variant_gets_no_advice(programs: dict[str, str], tmp_path: pathlib.Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from infoprompt_jax import settings\n\ndef get_config():\n    return settings.defaults()\n"
    )
    ended = command(tmp_path, programs, "--config=mine.py")
    assert ended.returncode == 2 and "without a network, this" not in ended.stderr


TASKS = ("rte", "cb", "sst2", "mrpc", "cola", "semeval", "prompt_tuning", "released_code")


def nano(name: str, *arguments: str) -> Any:
    return parse(["main", f"--config={ROOT / 'configs' / name}.py:nano", *arguments])[0]


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_a_counterpart_with_its_metric(name: str, tmp_path: pathlib.Path) -> None:
    """Rows of a generated data set, for the metric that picks the task's best prompt."""
    config = nano(name, f"--config.data.cache_dir={tmp_path}")
    resolved = counterparts.resolve(config)
    assert resolved.task.name.startswith("nano/") and config.task.name in counterparts.COUNTERPARTS
    (task,) = find_tasks(resolved)
    assert task.metric == (config.task.metric or METRICS.get(config.task.name, "accuracy"))
    splits = (resolved.task.train_split, resolved.task.eval_split)
    assert set(splits) <= set(find_files(task.folder, task.name)) and task.choices


def test_the_page_lists_every_counterpart() -> None:
    """With the metric that picks the best prompt; `test_every_task_has_a_counterpart_with_its_metric` knows it."""
    page = (ROOT / "docs" / "nano.md").read_text()
    rows = re.findall(r"^\| (`\w+\.py:nano`.*?) \| `([\w/]+)` \| `([\w/]+)`[^|]* \| `(\w+)` \|$", page, re.M)
    listed = {(name, *rest) for names, *rest in rows for name in re.findall(r"(\w+)\.py", names)}
    configs = {name: nano(name) for name in TASKS}
    assert listed == {
        (name, config.task.name, resolved.task.name, resolved.task.metric or METRICS.get(config.task.name, "accuracy"))
        for name, config in configs.items()
        for resolved in [counterparts.resolve(config)]
    }


@pytest.mark.slow
@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("name", TASKS)
def test_every_task_trains_on_its_counterpart(name: str, tmp_path: pathlib.Path) -> None:
    few = ["--config.task.train_limit=64", "--config.task.shots=32", f"--config.data.cache_dir={tmp_path / 'cache'}"]
    config = nano(name, *SHRUNK, *few)
    assert "no prompt" in jobs.run(config, str(tmp_path / "run"))
    (member,) = json.loads((tmp_path / "run" / "summary.json").read_text())["members"]
    assert member["steps"] == 2 and member["best"]


def test_real_rows_are_trained_on_where_there_are_any(tmp_path: pathlib.Path) -> None:
    write_rte(tmp_path)
    config = nano("rte", f"--config.data.dir={tmp_path}")
    assert counterparts.resolve(config) is config
    assert counterparts.resolve(nano("cb", f"--config.data.dir={tmp_path}")).task.name == "nano/inference"


def test_the_advice_keeps_what_was_typed(tmp_path: pathlib.Path) -> None:
    """All but the backbone, which needs the network; of real rows it is mini. There is none where it would not run."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "train.jsonl").write_text("{}")
    config = f"--config={ROOT / 'configs' / 'own_data.py'}"
    typed = ["--config.task.target={{ a }}", "--config.train.steps=7"]
    kept = [*typed, f"--config.data.dir={tmp_path}"]
    advised = offline_command(["main", config, *kept, "--config.backbone.dtype=bfloat16", "--workdir=w"])
    assert advised and shlex.split(advised) == ["python", "-m", "infoprompt_jax.main", f"{config}:mini", *kept]
    assert offline_command(["main", config, *typed]) is None


def variant_config(*arguments: str) -> Any:
    return counterparts.resolve(nano("rte", *arguments))


def test_mixtures_of_real_rows_stay_real(tmp_path: pathlib.Path) -> None:
    write_rte(tmp_path)
    shutil.copytree(tmp_path / "super_glue" / "rte", tmp_path / "super_glue" / "cb")
    both = [f"--config.data.dir={tmp_path}", "--config.task.name=super_glue/rte, super_glue/cb"]
    assert variant_config(*both).task.name == "super_glue/rte, super_glue/cb"


MEMBERS = "--config.fleet.members=({'name': 'a', 'task.shots': 8},)"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--config.data.dir=/nowhere"], "data.dir is '/nowhere', which is not a folder"),
        (["--config.task.name=glue/qqp"], r"data\.dir \(empty\) has no files of glue/qqp, and the generated world"),
        (["--config.task.name=glue/sst2,glue/cola"], "has no files of glue/sst2, glue/cola, and the generated world"),
        (["--config.task.templates_dir=T"], r"its counterpart nano/entailment cannot take task\.templates_dir"),
        (["--config.task.input={{ a }}"], r"cannot take task\.input: leave it out"),
        ([MEMBERS], r"cannot take fleet\.members' task\.shots"),
    ],
)
def test_what_a_counterpart_cannot_take_over_is_refused(
    arguments: list[str], sentence: str, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(UserError, match=sentence):
        jobs.run(nano("rte", *arguments), str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_rows_of_a_data_set_without_counterpart_are_looked_for_in_its_folder(tmp_path: pathlib.Path) -> None:
    arguments = [f"--config.data.dir={tmp_path}", "--config.task.name=mine"]
    with pytest.raises(UserError, match=rf"There is no file {tmp_path}/mine/<split>\.jsonl, .* holds no data sets"):
        variant_config(*arguments)


@pytest.mark.parametrize("names", ["nano,3b", "11b,smoke,nano"])
def test_variants_of_two_backbones_are_refused(names: str) -> None:
    with pytest.raises(UserError, match=r"The variants \w+ and \w+ each set backbone\.name: choose one"):
        parse(["main", f"--config={ROOT / 'configs' / 'rte.py'}:{names}"])
