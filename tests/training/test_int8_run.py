"""Runs on int8 weights: what they record, which prompts fit, and the jobs that refuse them."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest
import tiny_runs

import infoprompt_jax as ip


def test_a_run_records_its_weights_and_its_prompt_fits_full_ones(tmp_path: pathlib.Path) -> None:
    config = tiny_runs.config(tmp_path, backbone__weights="int8", prompt__init="labels", infoprompt__gamma=0.0)
    config.infoprompt.beta = 0.0
    config.train.update(steps=2, eval_every=2)
    summary = ip.train(config, tmp_path / "run")
    prompt = ip.load_prompt(tmp_path / "run" / "prompts" / "run")
    assert summary["weights"] == prompt.metadata["weights"] == "int8"
    losses = [json.loads(line).get("loss") for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert np.isfinite([loss for loss in losses if loss is not None]).all()
    full, small = (ip.load_backbone("random", weights=weights) for weights in ("full", "int8"))
    assert "M weights in int8, activations in float32" in repr(small) and "M weights in float32" in repr(full)
    tokens_BL = np.arange(5, 13).reshape(1, 8)
    choices_BCT = np.array([[[7, 1], [9, 1]]])
    scores = [backbone.score(tokens_BL, choices_BCT, prompts=prompt) for backbone in (full, small)]
    np.testing.assert_allclose(*scores, rtol=0.05)


def test_pretraining_refuses_int8(tmp_path: pathlib.Path) -> None:
    config = tiny_runs.config(tmp_path, backbone__weights="int8", job="pretrain")
    with pytest.raises(ip.UserError, match=r"backbone\.weights='int8' cannot be trained: set it to full"):
        tiny_runs.jobs.run(config, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
