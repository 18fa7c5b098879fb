"""The first command of a newcomer: a task's config and nothing else, with what the hub really holds, and offline."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from flax import nnx

from infoprompt_jax import hub, jobs, variants
from infoprompt_jax.command_line import parse
from infoprompt_jax.hugging_face import is_transposed, tensor_name
from infoprompt_jax.sources import find_files
from infoprompt_jax.t5 import T5, T5Config

ROOT = pathlib.Path(__file__).parent.parent
COMMIT = "c" * 40
SIZES = {"vocab_size": 2048, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
# As the config.json of google's LM-adapted T5s has them.
CONFIG = {"model_type": "t5", "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "pad_token_id": 0}
SHRUNK = (
    "--config.train.steps=2",
    "--config.train.eval_every=1",
    "--config.task.eval_limit=4",
    "--config.prompt.length=4",
    "--config.data.max_input_length=64",
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


def tensors() -> dict[str, Any]:
    torch = pytest.importorskip("torch")
    config = T5Config(**SIZES, num_decoder_layers=1)
    named = {}
    for path, variable in nnx.to_flat_state(nnx.split(T5(config, nnx.Rngs(0)))[1]):
        leaf, array = "/".join(map(str, path)), np.asarray(variable[...])
        name = tensor_name(leaf, gated=True)
        part = array[0] if "{}" in name else array
        named[name.format(0)] = torch.tensor(part.T if is_transposed(leaf) else part).contiguous()
    return named


def cached(cache: pathlib.Path, name: str, shards: int) -> None:
    """A repository in a hub cache, as the hub's client leaves it: weights in `pytorch_model.bin` or shards of it."""
    import torch

    repository = cache / f"models--{name.replace('/', '--')}"
    snapshot, weights = repository / "snapshots" / COMMIT, tensors()
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    (snapshot / "config.json").write_text(json.dumps({**SIZES, **CONFIG}))
    shutil.copy(hub.find("nano") / "tokenizer.json", snapshot)
    if shards == 1:
        torch.save(weights, snapshot / "pytorch_model.bin")
        return
    files = {name: f"pytorch_model-{i % shards + 1:05}-of-{shards:05}.bin" for i, name in enumerate(weights)}
    for file in set(files.values()):
        torch.save({name: tensor for name, tensor in weights.items() if files[name] == file}, snapshot / file)
    (snapshot / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": files}))


def write_rte(folder: pathlib.Path) -> None:
    (folder / "super_glue" / "rte").mkdir(parents=True)
    rows = [
        {"premise": f"Ann has {n} cats.", "hypothesis": f"Ann has {n + n % 2} cats.", "label": n % 2} for n in range(40)
    ]
    for split, part in (("train", rows[:32]), ("validation", rows[32:])):
        text = "".join(json.dumps(row) + "\n" for row in part)
        (folder / "super_glue" / "rte" / f"{split}.jsonl").write_text(text)


def command(directory: pathlib.Path, programs: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Typed in a directory with nothing in it but the configs, offline, where torch cannot be imported."""
    (directory / "blocked").mkdir(exist_ok=True)
    (directory / "blocked" / "sitecustomize.py").write_text(NO_TORCH)
    shutil.copytree(ROOT / "configs", directory / "configs", dirs_exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"} | programs
    environment |= {
        "PYTHONPATH": os.pathsep.join([str(directory / "blocked"), str(ROOT)]),
        "HF_HUB_CACHE": str(directory / "hub"),
        "HF_HUB_OFFLINE": "1",
    }
    line = [sys.executable, "-m", "infoprompt_jax.main", *arguments]
    return subprocess.run(line, cwd=directory, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("variant", "name", "shards"), [("", "google/t5-base-lm-adapt", 1), (":3b", "google/t5-xl-lm-adapt", 2)]
)
def test_public_checkpoints_train_without_torch_or_a_workdir(
    variant: str, name: str, shards: int, programs: dict[str, str], tmp_path: pathlib.Path
) -> None:
    pytest.importorskip("torch")
    cached(tmp_path / "hub", name, shards)
    write_rte(tmp_path / "data")
    ended = command(
        tmp_path,
        programs,
        f"--config=configs/rte.py{variant}",
        *SHRUNK,
        f"--config.data.dir={tmp_path / 'data'}",
        f"--config.data.cache_dir={tmp_path / 'cache'}",
    )
    assert ended.returncode == 0, ended.stderr
    workdir = "runs/rte" + variant.replace(":", "-")
    assert f"workdir: {workdir}" in ended.stderr.splitlines()
    summary = json.loads((tmp_path / workdir / "summary.json").read_text())
    assert summary["backbone"] == name and summary["members"][0]["steps"] == 2


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
    from infoprompt_jax.tasks import METRICS, find_tasks

    config = nano(name, f"--config.data.cache_dir={tmp_path}")
    resolved = variants.resolve(config)
    assert resolved.task.name.startswith("nano/") and config.task.name in variants.COUNTERPARTS
    (task,) = find_tasks(resolved)
    assert task.metric == (config.task.metric or METRICS.get(config.task.name, "accuracy"))
    splits = (resolved.task.train_split, resolved.task.eval_split)
    assert set(splits) <= set(find_files(task.folder, task.name)) and task.choices


def test_real_rows_are_trained_on_where_there_are_any(tmp_path: pathlib.Path) -> None:
    write_rte(tmp_path)
    config = nano("rte", f"--config.data.dir={tmp_path}")
    assert variants.resolve(config) is config
    assert variants.resolve(nano("cb", f"--config.data.dir={tmp_path}")).task.name == "nano/inference"


def test_a_data_set_without_a_counterpart_is_refused(tmp_path: pathlib.Path) -> None:
    from infoprompt_jax.errors import UserError

    with pytest.raises(UserError, match=r"task\.name='glue/qqp' is not in data\.dir \(empty\) and has no counterpart"):
        jobs.run(nano("prompt_tuning", "--config.task.name=glue/qqp"), str(tmp_path / "run"))
