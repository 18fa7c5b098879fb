"""Exported prompts, given to the backbone's methods, answer as the fleet does."""

from __future__ import annotations

import pathlib
from typing import Any

import jax
import numpy as np
import pytest
import tiny_runs

import infoprompt_jax as ip
from infoprompt_jax.evaluation.predictions import Members, Predictor, Prompted
from infoprompt_jax.infoprompt.trainable import inference
from infoprompt_jax.training.experiment import Experiment, build
from infoprompt_jax.training.export import export_prompts

pytestmark = pytest.mark.usefixtures("programs")


def exported(directory: pathlib.Path, **fields: Any) -> tuple[Experiment, Any, ip.Prompt]:
    """An experiment, what its member would be after much training, and the prompt exported from it."""
    config = tiny_runs.config(directory, task__eval_limit=8, train__eval_batch_size=8, **fields)
    experiment = build(config)
    start = inference(experiment.initial_state().trainable)
    random = np.random.default_rng(0)
    trainable = jax.tree.map(lambda x: x + random.normal(scale=0.5, size=x.shape).astype(np.float32), start)
    export_prompts(directory / "prompts", experiment, trainable, [3], [{"accuracy": 0.5}])
    return experiment, trainable, ip.load_prompt(directory / "prompts" / "run")


def scores(experiment: Experiment, models: Members | Prompted) -> np.ndarray:
    predictor = Predictor(experiment.backbone.tokenizer, 8, (64,), 64, limit=8)
    (batch, *_) = predictor.batches(experiment.splits["eval"].rows)
    return models.scores(batch)


@pytest.mark.parametrize("representation", ["decoder", "mean_encoder"])
def test_an_instance_prompt_scores_as_its_fleet_does(representation: str, tmp_path: pathlib.Path) -> None:
    fields = {"prompt__kind": "instance", "infoprompt__representation": representation}
    experiment, trainable, prompt = exported(tmp_path, **fields)
    fleet = Members(experiment.fleet, experiment.backbone, trainable, 8)
    expected = scores(experiment, fleet)
    with_prompt, value_alone = scores(experiment, Prompted.with_each(experiment.backbone, [prompt, prompt.value_PD]))
    np.testing.assert_allclose(with_prompt, expected[0], rtol=1e-4, atol=1e-4)
    assert np.abs(value_alone - with_prompt).max() > 0.01
    prompt.metadata.pop("representation")  # prompts of earlier versions do not record it
    (of_decoder,) = scores(experiment, Prompted.with_each(experiment.backbone, [prompt]))
    assert np.allclose(of_decoder, with_prompt, rtol=1e-4, atol=1e-4) == (representation == "decoder")


@pytest.mark.parametrize(
    ("fields", "part"),
    [({"train__task_loss": "verbalizer"}, "verbalizer"), ({"infoprompt__variational": True}, "variational bottleneck")],
)
def test_prompts_that_answer_with_more_than_the_head_are_refused(
    fields: dict[str, Any], part: str, tmp_path: pathlib.Path
) -> None:
    experiment, _, prompt = exported(tmp_path, **fields)
    with pytest.raises(ip.UserError, match=rf"^prompts: .* with a {part}, .*: predict with ip\.predict\("):
        experiment.backbone.generate([[5, 1]], 2, prompts=prompt)


def test_another_backbones_prompt_is_refused() -> None:
    backbone = ip.load_backbone("random")
    for metadata, width, words in (
        (
            {"fingerprint": "0b", "backbone": "a/b"},
            64,
            "was trained on a/b with fingerprint 0b, but this backbone's is",
        ),
        ({}, 32, "has width 32, but the backbone's is 64"),
    ):
        with pytest.raises(ip.UserError, match=f"^prompts: the prompt {words}"):
            backbone.encode([[5, 1]], prompts=ip.Prompt(np.zeros((3, width), np.float32), metadata))
