"""A backbone of a corpus: batches of one shape, what is measured apart, and steps that fit into a time limit."""

from __future__ import annotations

import dataclasses
import json
import lzma
import os
import pathlib
import random
import signal
import time
from typing import Any

import jax
import ml_collections
import numpy as np
import pytest
from flax import nnx

from infoprompt_jax import settings
from infoprompt_jax.errors import Stopped, UserError
from infoprompt_jax.pretraining import budget, loop, pretrain, sources
from infoprompt_jax.pretraining.held_out import HeldOut
from infoprompt_jax.pretraining.step import computing
from infoprompt_jax.t5 import convert
from infoprompt_jax.t5.backbone import load_backbone
from infoprompt_jax.t5.model import T5
from infoprompt_jax.t5.tokenizer import load_tokenizer
from infoprompt_jax.training.interrupt import Interrupt

COLOURS, THINGS = ("red", "green", "blue"), ("letter", "candle", "mirror", "garden", "street")

pytestmark = pytest.mark.usefixtures("programs")


def write(file: pathlib.Path, lines: list[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(lzma.compress("".join(line + "\n" for line in lines).encode()))


def row(draw: random.Random, **more: Any) -> str:
    colour = draw.choice(COLOURS)
    text = f"{colour} {draw.choice(THINGS)} Which?"
    return json.dumps({"dataset": "stub/colours", "template": "which", "input": text, "target": colour} | more)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    path, draw = tmp_path_factory.mktemp("corpus"), random.Random(0)
    paragraph = lambda: " ".join(f"The {draw.choice(COLOURS)} {draw.choice(THINGS)} is Here." for _ in range(4))  # noqa: E731
    write(path / "text" / "stub.txt.xz", [paragraph() for _ in range(200)])
    write(path / "validation" / "text.txt.xz", [paragraph() for _ in range(20)])
    write(path / "rows" / "stub.colours.jsonl.xz", [row(draw) for _ in range(96)])
    write(path / "rows" / "other.jsonl.xz", [row(draw, dataset="other", target="a long answer") for _ in range(40)])
    write(path / "validation" / "stub.colours.jsonl.xz", [row(draw, choices=COLOURS) for _ in range(24)])
    (path / "corpus.json").write_text(json.dumps({"shares": {"stub/colours": 3, "other": 1}}))
    return path


def config(directory: pathlib.Path, **fields: Any) -> ml_collections.ConfigDict:
    """A T5 of a few thousand weights in bfloat16; in `fields`, a__b stands for a.b."""
    made = settings.defaults()
    made.job, made.prompt.length, made.task.eval_limit = "pretrain", 0, 16
    made.data.update(cache_dir=str(directory / "cache"), buckets=(16,), max_input_length=24, max_target_length=16)
    made.train.update(steps=40, batch_size=16, learning_rate=1e-2, warmup=0.1, schedule="cosine", log_every=1)
    made.pretrain.update(corpus=str(directory), pieces=330, d_model=32, d_kv=8, num_heads=2, d_ff=32, num_layers=2)
    made.pretrain.update(num_decoder_layers=1, tied=True, cased=True, dtype="bfloat16", measurements=2)
    made.update_from_flattened_dict({name.replace("__", "."): value for name, value in fields.items()})
    return settings.check(made)


@pytest.fixture(scope="module")
def run(directory: pathlib.Path, programs: dict[str, str]) -> pathlib.Path:
    """The workdir of a whole run."""
    pretrain.pretrain(config(directory), directory / "run")
    return directory / "run"


def test_the_result_is_a_backbone_of_cased_text(run: pathlib.Path) -> None:
    backbone = load_backbone(str(run / "backbone"))
    assert backbone.config.tied and backbone.config.scale_decoder_outputs
    assert json.loads((run / "backbone" / "config.json").read_text())["torch_dtype"] == "bfloat16"
    assert (
        backbone.tokenizer.decode(backbone.tokenizer.encode(["The red letter is Here."])[0])
        == "The red letter is Here."
    )


def test_transformers_gives_the_same_logits(run: pathlib.Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(run / "backbone", dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(run / "backbone")
    inputs, targets = (tokenizer(text, return_tensors="np").input_ids for text in ("red letter Which?", "blue red"))
    ours = load_backbone(str(run / "backbone")).logits(inputs, targets)
    with torch.no_grad():
        theirs = model(input_ids=torch.tensor(inputs), labels=torch.tensor(targets)).logits.numpy()
    np.testing.assert_allclose(np.asarray(ours), theirs, atol=1e-4, rtol=1e-4)


def test_all_batches_have_few_shapes(directory: pathlib.Path, run: pathlib.Path) -> None:
    made = config(directory)
    data = sources.FromCorpus(made).mixture(made, load_tokenizer(run / "vocabulary"))
    shapes = {data.batch(step)["inputs"].shape for step in range(40)}
    assert shapes <= {(16, 16), (16, 24)} and data.batch(0)["inputs"].shape == (16, 24)  # text alone fills the longest
    assert {data.batch(step)["targets"].shape for step in range(40)} == {(16, 16)}
    drawn = np.concatenate([data.stream.indices(step)[0] for step in range(32)])
    assert np.bincount(drawn) / len(drawn) == pytest.approx([0.25, 0.75], abs=0.01)  # other, stub/colours
    sentinel = data.sentinels[0]
    batch = data.batch(39)
    np.testing.assert_array_equal((batch["inputs"] == sentinel).any(axis=1), batch["denoising"])


def test_a_share_may_leave_no_row_for_text(directory: pathlib.Path, run: pathlib.Path) -> None:
    made = config(directory, pretrain__denoising_share=0.02)  # of 16 rows
    data = sources.FromCorpus(made).mixture(made, load_tokenizer(run / "vocabulary"))
    assert data.batch(0)["denoising"].all() and not data.batch(39)["denoising"].any()


def test_what_is_held_out_is_measured_as_it_goes(directory: pathlib.Path, run: pathlib.Path) -> None:
    records = [json.loads(record) for record in (run / "metrics.jsonl").open()]
    losses = {record["step"]: record["value"] for record in records if record["name"] == "held_out_loss"}
    assert set(losses) == {20, 40} and losses[40] < losses[20]
    summary = json.loads((run / "summary.json").read_text())["validation"]["stub/colours"]
    last = [record["value"] for record in records if record["name"] == "accuracy/stub/colours"][-1]
    assert summary["value"] == last and summary["rows"] == 16 and summary["chance"] == pytest.approx(1 / 3)
    assert (run / "unfinished" / "model.safetensors").exists()


def test_a_run_that_stops_after_a_measurement_logs_it_once(
    directory: pathlib.Path, run: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And does not measure the weights of its last step again for validation.json."""
    steps, compiled = iter(range(40)), loop.step
    accuracies, measured = HeldOut.accuracies, []

    def stopping(*arguments: Any) -> Any:
        if next(steps) == 19:
            os.kill(os.getpid(), signal.SIGTERM)
        return compiled(*arguments)

    def watched(*arguments: Any) -> Any:
        measured.append(accuracies(*arguments))
        return measured[-1]

    monkeypatch.setattr(loop, "step", stopping)
    monkeypatch.setattr(HeldOut, "accuracies", watched)
    with pytest.raises(Stopped, match="step 20 of 40"):
        pretrain.pretrain(config(directory), tmp_path / "run")
    summary = pretrain.pretrain(config(directory), tmp_path / "run")
    found, expected = ((path / "metrics.jsonl").read_text() for path in (tmp_path / "run", run))
    assert found == expected and found.count("held_out_loss") == 2
    assert len(measured) == 2 and summary["validation"] == measured[1]


def test_accuracies_are_those_of_rank_classification(directory: pathlib.Path, run: pathlib.Path) -> None:
    made, backbone = config(directory), load_backbone(str(run / "backbone"))
    held_out = sources.FromCorpus(made).held_out(made, backbone.tokenizer)
    assert held_out is not None
    measured = held_out.accuracies(backbone.graph, backbone.frozen)["stub/colours"]["hard_prompts"]["which"]
    (_, _, rows) = held_out.tasks[0]
    scores = backbone.score(rows.inputs(np.arange(16), 24), rows.gather(np.arange(16), 24, 16, 3)["choices"])
    assert measured == np.mean(np.argmax(np.asarray(scores), axis=1) == rows.labels[:16])


def test_steps_fit_into_the_time(
    directory: pathlib.Path, tmp_path: pathlib.Path, run: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "seconds_a_step", lambda *_: 0.5)
    made, tokenizer = config(directory, pretrain__minutes=2.0), load_tokenizer(run / "vocabulary")
    source = sources.FromCorpus(made)
    arguments = (tmp_path, lambda each: source.mixture(each, tokenizer), time.monotonic(), lambda: 60.0)
    planned = budget.planned(made, *arguments)
    assert planned.train.steps == pytest.approx(budget.SAFETY * 60 / 0.5, abs=2)
    monkeypatch.setattr(budget, "seconds_a_step", None)
    assert budget.planned(made, *arguments).train.steps == planned.train.steps  # a resumed run has the same steps
    assert made.train.steps == 40


def test_a_batch_that_is_too_large_is_halved(
    directory: pathlib.Path, tmp_path: pathlib.Path, run: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seconds_a_step(config: ml_collections.ConfigDict, _: Any) -> float:
        if config.train.batch_size > 4:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return 1.0

    monkeypatch.setattr(budget, "seconds_a_step", seconds_a_step)
    made, tokenizer = config(directory, pretrain__minutes=1.0), load_tokenizer(run / "vocabulary")
    source = sources.FromCorpus(made)
    planned = budget.planned(
        made, tmp_path, lambda each: source.mixture(each, tokenizer), time.monotonic(), lambda: 0.0
    )
    assert planned.train.batch_size == 4


@pytest.mark.slow
def test_a_run_with_a_time_limit_ends_and_can_be_made_again(directory: pathlib.Path, tmp_path: pathlib.Path) -> None:
    summary = pretrain.pretrain(config(directory, pretrain__minutes=0.7, train__log_every=1), tmp_path / "limited")
    steps = json.loads((tmp_path / "limited" / "steps.json").read_text())["steps"]
    assert summary["pretraining"]["steps"] in range(1, steps + 1)


def test_the_deadline_ends_a_run(directory: pathlib.Path, run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    made, tokenizer = config(directory), load_tokenizer(run / "vocabulary")
    source = sources.FromCorpus(made)
    stopped = loop.Run(made, tmp_path, source.mixture(made, tokenizer), {"data": ""}, tokenizer, deadline=0.0)

    with Interrupt() as interrupt:
        stopped.train(interrupt)
    stopped.export()
    assert json.loads((tmp_path / "backbone" / "pretraining.json").read_text())["steps"] == 0


def test_weights_are_trained_in_float32_and_computed_in_bfloat16(
    directory: pathlib.Path, run: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    made, tokenizer = config(directory), load_tokenizer(run / "vocabulary")
    source = sources.FromCorpus(made)
    begun = loop.Run(made, tmp_path, source.mixture(made, tokenizer), {}, tokenizer)
    assert {leaf.dtype for leaf in jax.tree.leaves(begun.state["params"])} == {np.dtype("float32")}
    assert computing(begun.graph, begun.state["params"]).embedding[...].dtype == "bfloat16"


def test_a_run_goes_on_from_a_backbone(directory: pathlib.Path, run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """With a rate of 0, its weights and vocabulary come out as they went in."""
    start_from = str(run / "backbone")
    fields = {"pretrain__start_from": start_from, "train__steps": 3, "train__learning_rate": 0.0, "seed": 1}
    pretrain.pretrain(config(directory, **fields), tmp_path)
    before, after = load_backbone(start_from), load_backbone(str(tmp_path / "backbone"))
    assert after.fingerprint == before.fingerprint
    for name in ("model.safetensors", "tokenizer.json"):
        assert (tmp_path / "backbone" / name).read_bytes() == (run / "backbone" / name).read_bytes()


def test_a_backbone_of_other_sizes_is_refused(
    directory: pathlib.Path, run: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    for field, value, sentence in (
        ("d_ff", 16, "has d_ff=32, but pretrain.d_ff is 16: set it to 32"),
        ("tied", False, "has tied=True, but pretrain.tied is False: set it to True"),
        ("pieces", 340, "has 330 pieces, but pretrain.pieces is 340: set it to 330"),
    ):
        made = config(directory, **{"pretrain__start_from": str(run / "backbone"), f"pretrain__{field}": value})
        with pytest.raises(UserError, match=sentence):
            pretrain.pretrain(made, tmp_path / "run")
    with pytest.raises(UserError, match="start_from='nano' has d_model="):
        pretrain.pretrain(config(directory, pretrain__start_from="nano"), tmp_path / "run")
    with pytest.raises(UserError, match=r"^pretrain\.start_from='/nothing' is neither a directory"):
        pretrain.pretrain(config(directory, pretrain__start_from="/nothing"), tmp_path / "run")
    assert not (tmp_path / "run" / "vocabulary").exists()


def test_a_backbone_of_another_kind_is_refused(
    directory: pathlib.Path, run: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    before = load_backbone(str(run / "backbone"))
    old = dataclasses.replace(before.config, feed_forward="relu")
    flat = nnx.to_flat_state(nnx.state(T5(old, nnx.Rngs(0))))
    leaves = (("/".join(map(str, path)), np.asarray(variable[...])) for path, variable in flat)
    convert.export(tmp_path / "relu", old, leaves, before.tokenizer.files)
    made = config(directory, pretrain__start_from=str(tmp_path / "relu"))
    with pytest.raises(UserError, match="has feed_forward=relu, but job=pretrain trains only gated-gelu"):
        pretrain.pretrain(made, tmp_path / "run")


def test_a_folder_without_a_corpus_is_refused(directory: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"is no corpus: .* make one with experiments/mini_corpus.py"):
        sources.FromCorpus(config(directory, pretrain__corpus=str(tmp_path)))


def test_targets_that_are_too_short_for_spans_are_refused(directory: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Before the workdir is claimed, so that a corrected config can use it."""
    made = config(directory, data__max_target_length=4)
    with pytest.raises(UserError, match=r"max_target_length=4 is too short for span corruption of 24 tokens: at least"):
        pretrain.pretrain(made, tmp_path / "run")
    assert not (tmp_path / "run").exists()
