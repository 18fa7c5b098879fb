"""Whole runs: a fleet of eight on rows in SST-2's format, and what a run leaves in its workdir."""

from __future__ import annotations

import json
import pathlib
from types import SimpleNamespace
from typing import Any

import ml_collections
import numpy as np
import pytest
import tiny_runs

import infoprompt_jax as ip
from infoprompt_jax import jobs, settings
from infoprompt_jax.reports.records import read_records
from infoprompt_jax.training.experiment import build, main_metrics
from infoprompt_jax.training.loop import prompt_norms

SEEDS, PRESETS = (0, 1, 2, 3), ("both", "plain")
MEMBERS = [f"{preset}-seed{seed}" for preset in PRESETS for seed in SEEDS]


def sst2(invented: pathlib.Path, cache: pathlib.Path, seeds: tuple[int, ...], presets: tuple[str, ...]) -> Any:
    config = settings.defaults()
    config.backbone.name = "random"
    config.data.update(dir=str(invented), cache_dir=str(cache), max_input_length=64, buckets=(64,))
    config.task.update(name="glue/sst2", template="tone", eval_limit=32)
    config.prompt.length = 4
    config.infoprompt.update(gamma=0.1, beta=0.2)
    config.train.update(steps=4, batch_size=8, eval_batch_size=16, eval_every=2, log_every=1, save_every=0)
    config.fleet.update(seeds=seeds, presets=presets)
    return config


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def together(invented: pathlib.Path, cache: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    workdir = tmp_path_factory.mktemp("runs") / "eight"
    jobs.run(sst2(invented, cache, SEEDS, PRESETS), str(workdir))
    return workdir


def assert_alone(together: pathlib.Path, config: ml_collections.ConfigDict, workdir: pathlib.Path, member: str) -> None:
    jobs.run(config, str(workdir))
    found = [record for record in read_records(together / "metrics.jsonl") if record["member"] == member]
    expected = {(r["step"], r["name"]): r["value"] for r in read_records(workdir / "metrics.jsonl")}
    assert len(found) > 20
    for record in found:
        assert record["value"] == pytest.approx(expected[record["step"], record["name"]], rel=2e-3, abs=1e-5), record
    ours, theirs = (ip.load_prompt(path / "last_prompts" / member).value_PD for path in (together, workdir))
    np.testing.assert_allclose(ours, theirs, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(
    "member",
    [name if name == "both-seed1" else pytest.param(name, marks=pytest.mark.slow) for name in MEMBERS],
)
def test_a_member_of_eight_trains_as_alone(
    member: str, invented: pathlib.Path, cache: pathlib.Path, together: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    preset, seed = member.split("-seed")
    assert_alone(together, sst2(invented, cache, (int(seed),), (preset,)), tmp_path, member)


def test_pairs_start_alike_and_seeds_do_not(together: pathlib.Path) -> None:
    first = {
        r["member"]: r["value"]
        for r in read_records(together / "metrics.jsonl")
        if r["name"] == "task_loss" and r["step"] == 1
    }
    for seed in SEEDS:
        assert first[f"both-seed{seed}"] == first[f"plain-seed{seed}"]
    assert len(set(first.values())) == len(SEEDS)


def test_seeds_may_share_their_data(tmp_path: pathlib.Path) -> None:
    """With data.seed all members see the same few examples in the same order; their first prompts stay their own."""
    own, same = (
        build(tiny_runs.config(tmp_path, data__seed=seed, task__shots=8, fleet__seeds=(0, 1))) for seed in (-1, 5)
    )
    (first, second), (one, other) = own.streams, same.streams
    assert not np.array_equal(first.numbers_of(3), second.numbers_of(3))
    np.testing.assert_array_equal(one.numbers_of(3), other.numbers_of(3))
    values_MPD = [np.asarray(found.initial_state().trainable["prompt"]["value"]) for found in (own, same)]
    np.testing.assert_array_equal(*values_MPD)
    assert not np.array_equal(*values_MPD[1])


def test_the_workdir_holds_what_is_documented(together: pathlib.Path) -> None:
    summary = json.loads((together / "summary.json").read_text())
    assert [member["name"] for member in summary["members"]] == MEMBERS
    assert summary["examples"] == {"validation": 32}
    for member in summary["members"]:
        assert member["steps"] == 4 and 0 <= member["final"]["accuracy"] <= member["best"]["accuracy"] <= 1
    assert {"steps_per_second", "tokens_per_second", "compile_seconds", "fingerprints"} <= summary.keys()
    assert (together / "curves.png").read_bytes().startswith(b"\x89PNG")
    prompt = ip.load_prompt(together / "prompts" / "both-seed0")
    assert prompt.value_PD.shape == (4, 64)
    assert prompt.metadata["tasks"] == ["glue/sst2:tone"]
    assert prompt.metadata["fingerprint"] == summary["fingerprints"]["backbone"]
    assert len(prompt.metadata["nearest_tokens"]) == 4


def test_the_metric_that_picks_the_best_prompt_comes_first(tmp_path: pathlib.Path) -> None:
    """Tables show a member's first metric."""
    fields = {
        "train__steps": 1,
        "train__eval_every": 0,
        "infoprompt__gamma": 0.0,
        "infoprompt__beta": 0.0,
        "train__references": True,
        "task__test_split": "validation",
        "task__metric": "macro_f1",
    }
    jobs.run(tiny_runs.config(tmp_path, **fields), tmp_path / "run")
    made = json.loads((tmp_path / "run" / "summary.json").read_text())
    (member,), references = made["members"], made["references"]
    shown = [
        member["best"],
        member["final"],
        member["test"],
        *(of[split] for of in references for split in ("best", "test")),
    ]
    assert {next(iter(metrics)) for metrics in shown} == {"macro_f1"} and all(len(metrics) > 1 for metrics in shown)


def test_prompt_norms_are_mean_lengths_of_vectors() -> None:
    value_MPD = np.array([[[3.0, 4.0], [0.0, 1.0]], [[0.0, 0.0], [1e30, 0.0]]], np.float32)
    norms = prompt_norms(value_MPD)
    np.testing.assert_allclose(norms, [3.0, 5e29])


def test_what_picks_a_members_best_prompt() -> None:
    config = settings.defaults()
    tasks: Any = [[SimpleNamespace(metric=metric)] for metric in ("f1", "matthews")]
    assert main_metrics(config, tasks) == ["f1", "matthews"]
    config.task.metric = "macro_f1"
    assert main_metrics(config, tasks) == ["macro_f1"] * 2
