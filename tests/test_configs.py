"""Every shipped config runs: shrunk, on invented rows, with a T5 of a few weights and a small vocabulary."""

from __future__ import annotations

import ast
import csv
import json
import pathlib
import re
import shlex
from collections.abc import Callable
from typing import Any

import ml_collections
import numpy as np
import pytest
from flax import nnx

from infoprompt_jax import jobs, settings, variants
from infoprompt_jax.command_line import parse, read_config
from infoprompt_jax.errors import UserError
from infoprompt_jax.t5 import convert
from infoprompt_jax.t5.config import T5Config
from infoprompt_jax.t5.model import T5
from infoprompt_jax.t5.tokenizer import load_tokenizer
from infoprompt_jax.training.experiment import build

CONFIGS = pathlib.Path(__file__).parent.parent / "configs"
NAMES = sorted(path.stem for path in CONFIGS.glob("*.py"))
OWN_VARIANTS = {
    "nano": ("entailment", "inference", "causes", "endings", "pronouns", "senses", "films"),
    "nano_pretrain": ("smoke",),
    "mini_pretrain": ("gpu", "longer", "cpu", "smoke"),
    "own_data": (*variants.VARIANTS, "templates", "templates,smoke"),
    "rospr_sources": ("p3", "nano", "mini", "nano,smoke", "mini,smoke"),
    "nano_rospr": ("sources", "siblings", "eval"),
    "predict": (),
    "rospr_eval": ("p3", "bigbench", "nano", "mini", "bigbench,mini", "smoke", "nano,smoke"),
}
VARIANTS = {name: [None, *OWN_VARIANTS.get(name, variants.VARIANTS)] for name in NAMES}

pytestmark = pytest.mark.usefixtures("programs")


@pytest.fixture(scope="module")
def tiny_t5(vocabulary: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_decoder_layers": 1, "num_heads": 2}
    config = T5Config(load_tokenizer(vocabulary).vocab_size, **sizes)
    flat = nnx.to_flat_state(nnx.split(T5(config, nnx.Rngs(0)))[1])
    leaves = [("/".join(map(str, path)), np.asarray(variable[...])) for path, variable in flat]
    path = tmp_path_factory.mktemp("backbone") / "t5"
    convert.export(path, config, leaves, [vocabulary])
    return str(path)


def load(name: str, variant: str | None = None) -> ml_collections.ConfigDict:
    return read_config(f"{CONFIGS / name}.py" + (f":{variant}" if variant else ""))


def shrunk(config: ml_collections.ConfigDict, **fields: Any) -> ml_collections.ConfigDict:
    """Two steps on a few short rows."""
    config.data.update(max_input_length=64, max_target_length=8, buckets=(64,))
    config.backbone.unroll = 1
    config.task.update(train_split="train[:32]", eval_limit=4)
    config.prompt.length = 4
    config.train.update(steps=2, batch_size=8, eval_batch_size=8, eval_every=2, log_every=1, save_every=0)
    config.update_from_flattened_dict({name.replace("__", "."): value for name, value in fields.items()})
    return config


def ran(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> dict[str, Any]:
    """The summary of a run of which every number is finite."""
    assert "member" in jobs.run(config, str(workdir))
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").open()]
    assert {record["step"] for record in records} == set(range(config.train.steps + 1))
    assert all(record["value"] is not None for record in records)
    return json.loads((workdir / "summary.json").read_text())


def test_smoke_is_small_wherever_it_stands() -> None:
    before, after = load("rte", "smoke,mini"), load("rte", "mini,smoke")
    assert before.to_json() == after.to_json() and after.train.steps == 4 and after.backbone.name == "mini"
    for other in ("gpu", "longer", "cpu"):  # of which each plans its steps by time
        together = load("mini_pretrain", f"smoke,{other}")
        assert load("mini_pretrain", other).pretrain.minutes
        assert together.train.steps == 20 and not together.pretrain.minutes and not together.pretrain.start_from


def test_a_smoke_run_is_of_what_the_config_is_for() -> None:
    for name in ("rospr_sources", "rospr_eval"):
        assert load(name, "smoke").task.name == load(name).task.name == "p3"


@pytest.mark.parametrize("name", NAMES)
def test_every_config_and_variant_passes_the_check(name: str) -> None:
    for variant in VARIANTS[name]:
        assert settings.check(load(name, variant)).backbone.name, variant


@pytest.mark.parametrize("name", NAMES)
def test_the_docstring_is_a_manual(name: str) -> None:
    """It opens with what the config is, and gives the command that runs it."""
    docstring = (CONFIGS / f"{name}.py").read_text().split('"""')[1]
    first, blank, *_ = docstring.splitlines()
    assert first.endswith(".") and blank == ""
    assert f"    python -m infoprompt_jax.main --config=configs/{name}.py" in docstring


def on_rows(name: str, tiny_t5: str, rows: pathlib.Path, cache: pathlib.Path, variant: str = "smoke") -> Any:
    config = shrunk(load(name, variant), backbone__name=tiny_t5)
    config.data.update(dir=str(rows), cache_dir=str(cache))
    config.task.eval_split = "train[32:48]" if name == "semeval" else "validation[:16]"
    if config.task.test_split:
        config.task.test_split += "[:8]"
    return config


@pytest.mark.parametrize("data_dir", ["invented", pytest.param("real", marks=pytest.mark.slow)], indirect=True)
@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("rte", "accuracy"),
        pytest.param("cb", "macro_f1", marks=pytest.mark.slow),
        ("sst2", "accuracy"),
        ("mrpc", "f1"),
        ("cola", "matthews"),
        pytest.param("semeval", "macro_f1", marks=pytest.mark.slow),
        ("prompt_tuning", "accuracy"),
        pytest.param("released_code", "accuracy", marks=pytest.mark.slow),
    ],
)
def test_configs_run(name: str, metric: str, tiny_t5: str, data_dir: pathlib.Path, tmp_path: pathlib.Path) -> None:
    plain = name == "prompt_tuning"
    config = on_rows(name, tiny_t5, data_dir, tmp_path / "cache", "smoke" if plain else "smoke,infoprompt")
    summary = ran(config, tmp_path / "run")
    (member,) = summary["members"]
    assert next(iter(member["best"])) == metric and set(summary["examples"].values()) == {4}
    assert bool(member["mutual_information"]) != plain
    assert ("test" in member) == (name == "semeval")


def test_every_config_is_run() -> None:
    (run,) = (mark.args[1] for mark in test_configs_run.pytestmark if "name" in mark.args[0])
    names = {getattr(case, "values", case)[0] for case in run}  # those of the slow suite are `pytest.param`
    assert names | OWN_VARIANTS.keys() == set(NAMES)


@pytest.mark.parametrize(("variant", "shots"), [("64", 64), ("256", 200)])
def test_few_shot_variants_train_on_so_many_rows(
    variant: str, shots: int, tiny_t5: str, invented: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """Balanced over the labels as far as there are rows: 200, 13 of them neutral."""
    config = on_rows("cb", tiny_t5, invented, tmp_path, variant)
    config.task.train_split = "train"
    (stream,) = build(config).streams
    for rows, offset, numbers in zip(stream.rows, stream.pool.offsets, stream.numbers, strict=False):
        assert len(set(numbers)) == shots
        assert sorted(np.bincount(rows.labels[numbers - offset]))[0] == 13


def test_the_embedded_default_runs(tmp_path: pathlib.Path) -> None:
    config = shrunk(load("nano"), data__cache_dir=str(tmp_path / "cache"), task__shots=16, fleet__seeds=(0, 1))
    config.task.train_split = "train"
    summary = ran(config, tmp_path / "run")
    assert [m["name"] for m in summary["members"]] == ["plain-seed0", "plain-seed1", "both-seed0", "both-seed1"]
    assert [r["name"] for r in summary["references"]] == ["most frequent answer", "no prompt"]
    assert summary["training_examples"] == 16


REVIEWS = [
    {"review": f"Arrived {'on time' if n % 3 else 'late, and broken'}, order {n}.", "stars": "good" if n % 3 else "bad"}
    for n in range(24)
]


def write_jsonl(path: pathlib.Path, rows: list[dict[str, str]]) -> None:
    path.with_suffix(".jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_csv(path: pathlib.Path, rows: list[dict[str, str]]) -> None:
    with path.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["review", "stars"])
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(path: pathlib.Path, rows: list[dict[str, str]]) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path.with_suffix(".parquet"))


Write = Callable[[pathlib.Path, list[dict[str, str]]], None]


def own_data(write: Write, tiny_t5: str, directory: pathlib.Path, **fields: Any) -> dict[str, Any]:
    (directory / "mine").mkdir(parents=True)
    write(directory / "mine" / "train", REVIEWS)
    write(directory / "mine" / "validation", REVIEWS[:8])
    config = shrunk(load("own_data", "smoke"), backbone__name=tiny_t5, data__cache_dir=str(directory / "cache"))
    config.update_from_flattened_dict({"data.dir": str(directory), "task.train_split": "train", **fields})
    return ran(config, directory / "run")


def test_own_data_in_three_formats(tiny_t5: str, tmp_path: pathlib.Path) -> None:
    summaries = [
        own_data(write, tiny_t5, tmp_path / write.__name__) for write in (write_jsonl, write_csv, write_parquet)
    ]
    assert summaries[0]["members"] == summaries[1]["members"] == summaries[2]["members"]
    assert summaries[0]["members"][0]["best"].keys() == {"accuracy", "macro_f1"}
    assert summaries[0]["examples"] == {"validation": 4}


def test_own_data_with_free_text_answers(tiny_t5: str, tmp_path: pathlib.Path) -> None:
    summary = own_data(write_jsonl, tiny_t5, tmp_path, **{"task.answer_choices": "", "scoring.max_length": 4})
    assert summary["members"][0]["best"].keys() == {"exact_match"}


def test_own_data_with_several_templates_by_the_commands_of_the_manual(tmp_path: pathlib.Path) -> None:
    """Word for word, with the file of docs/data.md; templates in files beside the config's template are refused."""
    (tmp_path / "DATA" / "mine").mkdir(parents=True)
    (tmp_path / "TEMPLATES" / "mine").mkdir(parents=True)
    write_jsonl(tmp_path / "DATA" / "mine" / "train", REVIEWS)
    write_jsonl(tmp_path / "DATA" / "mine" / "validation", REVIEWS[:8])
    (shown,) = re.findall(r"^```yaml\n(.*?)^```", (CONFIGS.parent / "docs" / "data.md").read_text(), re.M | re.S)
    (tmp_path / "TEMPLATES" / "mine" / "templates.yaml").write_text(shown)
    docstring = ast.get_docstring(ast.parse((CONFIGS / "own_data.py").read_text())) or ""
    inline, _, templates = re.findall(r"python -m infoprompt_jax\.main (--config.*)", docstring.replace("\\\n", ""))
    small = ["--config.backbone.name=nano", f"--config.data.cache_dir={tmp_path / 'cache'}", "--config.train.steps=2"]
    small += ["--config.train.batch_size=8", "--config.train.eval_batch_size=8", "--config.prompt.length=4"]

    def summary(command: str, name: str, *more: str) -> dict[str, Any]:
        words = [re.sub(r"=(DATA|TEMPLATES)$", rf"={tmp_path}/\1", word) for word in command.split()]
        words = [word.replace("=configs/", f"={CONFIGS}/") for word in words if not word.startswith("--workdir")]
        config, workdir = parse(["main", *words, f"--workdir={tmp_path / name}", *small, *more])
        return ran(shrunk(config, task__train_split="train"), pathlib.Path(workdir))

    (member,) = summary(templates, "several")["members"]
    assert "accuracy" in member["best"]
    exported = json.loads((tmp_path / "several" / "prompts" / "run" / "prompt.json").read_text())
    assert exported["tasks"] == ["mine:good or bad"]
    (member,) = summary(inline, "inline")["members"]
    assert member["best"].keys() == {"accuracy", "macro_f1"}
    with pytest.raises(UserError, match=r"task\.input and task\.templates_dir=.* are both set"):
        summary(inline, "both", f"--config.task.templates_dir={tmp_path}/TEMPLATES")


@pytest.mark.slow
def test_own_rows_teach_mini(tmp_path: pathlib.Path) -> None:
    """The manual's command on the example rows, without a network: clearly above mini alone and the majority."""
    docstring = ast.get_docstring(ast.parse((CONFIGS / "own_data.py").read_text())) or ""
    (command,) = re.findall(r"python -m infoprompt_jax\.main (--config=\S+:mini .*)", docstring.replace("\\\n", ""))
    words = [word.replace("examples/data", f"{CONFIGS.parent}/examples/data") for word in shlex.split(command)]
    words[0] = f"--config={CONFIGS}/own_data.py:mini"
    config, _ = parse(["main", *words, f"--config.data.cache_dir={tmp_path / 'cache'}"])
    jobs.run(config, str(tmp_path / "run"))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    (member,) = summary["members"]
    assert len(summary["references"]) == 2
    for reference in summary["references"]:
        assert member["final"]["accuracy"] > reference["best"]["accuracy"] + 0.15
