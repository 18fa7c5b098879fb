"""Pretraining, tiny: batches by step, an exact resume, and a backbone that others read the same way."""

from __future__ import annotations

import json
import os
import pathlib
import random
import signal
from typing import Any

import jax
import ml_collections
import numpy as np
import pytest
from flax import nnx

from infoprompt_jax import jobs, settings
from infoprompt_jax.data.selection import find_tasks
from infoprompt_jax.errors import Stopped, UserError
from infoprompt_jax.pretraining import loop, mixture, pretrain, sources
from infoprompt_jax.pretraining.step import t5_config
from infoprompt_jax.t5 import hub
from infoprompt_jax.t5.backbone import load_backbone
from infoprompt_jax.t5.model import T5
from infoprompt_jax.t5.tokenizer import load_tokenizer

COLOURS, THINGS = ("red", "green", "blue"), ("letter", "candle", "mirror", "garden", "street")
TEMPLATE = "  {name}: {{id: {name}, name: {name}, answer_choices: '{choices}', jinja: '{jinja} ||| {target}'}}\n"
PROMPTS = {
    "colours": [
        ("which", "red ||| green ||| blue", "{{ text }} Which?", "{{ answer_choices[label] }}"),
        ("bare", "red ||| green ||| blue", "{{ text }}", "{{ answer_choices[label] }}"),
    ],
    "copies": [("copy", "", "copy: {{ text }}", "{{ text }}")],
}

pytestmark = pytest.mark.usefixtures("programs")


def line(draw: random.Random) -> str:
    return " ".join(f"The {draw.choice(COLOURS)} {draw.choice(THINGS)}." for _ in range(3))


def write(directory: pathlib.Path) -> None:
    draw = random.Random(0)
    for name, prompts in PROMPTS.items():
        templates = "".join(
            TEMPLATE.format(name=n, choices=choices, jinja=jinja, target=target)
            for n, choices, jinja, target in prompts
        )
        for folder in ("data", "templates"):
            (directory / folder / "stub" / name).mkdir(parents=True)
        (directory / "templates" / "stub" / name / "templates.yaml").write_text("templates:\n" + templates)
        for split, count in {"train": 96, "validation": 24}.items():
            labels = [draw.randrange(3) for _ in range(count)]
            rows = [{"text": f"{COLOURS[k]} {draw.choice(THINGS)}", "label": k} for k in labels]
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (directory / "data" / "stub" / name / f"{split}.jsonl").write_text(text)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("stub")
    write(path)
    return path


def config(directory: pathlib.Path, **fields: Any) -> ml_collections.ConfigDict:
    """A T5 of a few thousand weights; in `fields`, a__b stands for a.b."""
    made = settings.defaults()
    made.job, made.prompt.length = "pretrain", 0
    made.task.update(name="stub/colours,stub/copies", templates_dir=str(directory / "templates"))
    made.data.update(dir=str(directory / "data"), cache_dir=str(directory / "cache"), buckets=(16,))
    made.data.update(max_input_length=24, max_target_length=8)
    made.train.update(steps=60, batch_size=16, learning_rate=1e-2, warmup=0.1, schedule="cosine")
    made.train.update(log_every=1, save_every=0)
    made.pretrain.update(lines=200, pieces=330, d_model=32, d_kv=8, num_heads=2, d_ff=32)
    made.pretrain.update(num_layers=2, num_decoder_layers=1)
    made.update_from_flattened_dict({name.replace("__", "."): value for name, value in fields.items()})
    return settings.check(made)


@pytest.fixture(scope="module")
def run(directory: pathlib.Path, programs: dict[str, str]) -> pathlib.Path:
    """The workdir of a whole run."""
    pretrain.pretrain(config(directory), directory / "run", line)
    return directory / "run"


@pytest.fixture(scope="module")
def batches(directory: pathlib.Path, run: pathlib.Path) -> mixture.Mixture:
    made, tokenizer = config(directory), load_tokenizer(run / "vocabulary")
    own = find_tasks(made, every_template=True)
    rows = [sources.tokenize(task, "train", made, tokenizer) for task in own]
    draw = random.Random(0)
    return mixture.mixture(made, own, rows, [line(draw) for _ in range(200)], tokenizer)


def test_the_loss_falls(run: pathlib.Path) -> None:
    """Templates' rows start at a uniform guess or worse; span corruption of this text has little left to guess."""
    records = [json.loads(record) for record in (run / "metrics.jsonl").open()]
    by_name = {name: [r["value"] for r in records if r["name"] == name] for name in ("denoising_loss", "task_loss")}
    assert len(by_name["denoising_loss"]) == 60 and len(by_name["task_loss"]) == 45
    for values in by_name.values():
        assert np.mean(values[-5:]) < 0.7 * np.mean(values[:5])
    losses = json.loads((run / "backbone" / "pretraining.json").read_text())["losses"]["multitask_phase"]
    assert losses["task_loss"] == pytest.approx(np.mean(by_name["task_loss"][-10:]))


def test_every_second_head_goes_on_attending_by_content_alone(directory: pathlib.Path, run: pathlib.Path) -> None:
    made = config(directory)
    started = nnx.state(T5(t5_config(made), nnx.Rngs(made.seed)))
    frozen = load_backbone(str(run / "backbone")).frozen
    for stack in ("encoder", "decoder"):
        before, after = (np.asarray(tree[stack]["relative_bias"]["embedding"][...]) for tree in (started, frozen))
        np.testing.assert_array_equal(after[:, 1::2], before[:, 1::2])
        assert (after[:, ::2] != before[:, ::2]).any()


def test_a_stopped_run_ends_with_the_same_weights(
    directory: pathlib.Path, run: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped by SIGTERM in the second phase, then resumed by the same call."""
    original, calls = loop.step, []

    def stopping(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 25:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*arguments)

    monkeypatch.setattr(loop, "step", stopping)
    with pytest.raises(Stopped, match="step 25 of 60"):
        pretrain.pretrain(config(directory), tmp_path, line)
    assert not (tmp_path / "backbone").exists()
    pretrain.pretrain(config(directory), tmp_path, line)
    assert len(calls) == 60
    for name in ("backbone/model.safetensors", "backbone/tokenizer.json", "metrics.jsonl", "backbone/validation.json"):
        assert (tmp_path / name).read_bytes() == (run / name).read_bytes()


def test_a_batch_is_a_function_of_its_step(batches: mixture.Mixture) -> None:
    for step in (0, 14, 15, 40):
        for name, values in batches.batch(step).items():
            np.testing.assert_array_equal(values, batches.batch(step)[name])
    assert not np.array_equal(batches.batch(3)["inputs"], batches.batch(4)["inputs"])


def test_kinds_of_rows_in_each_phase(batches: mixture.Mixture) -> None:
    """15 of 60 steps are only span corruption, then 2 of 16 rows are (0.15 * 16, rounded)."""
    kinds = [batches.batch(step)["denoising"].sum() for step in (0, 14, 15, 59)]
    assert kinds == [16, 16, 2, 2]
    sentinel = batches.sentinels[0]
    for step in (0, 15):
        batch = batches.batch(step)
        corrupted = (batch["inputs"] == sentinel).any(axis=1)
        assert not corrupted[~batch["denoising"]].any()
        spans = np.flatnonzero(batch["denoising"])[: batch["denoising"].sum() // 2]
        assert corrupted[spans].all()  # the others are whole lines, which stay as they are if they repeat nothing
        np.testing.assert_array_equal((batch["targets"] == 1).sum(axis=1), 1)  # every target ends in EOS
        assert batch["inputs"].shape[1] in (16, 24) and batch["targets"].shape[1] in (8, 16)


@pytest.mark.parametrize("room", [3, 12, 40])
def test_whole_lines_fill_the_room(batches: mixture.Mixture, room: int) -> None:
    assert batches.lines is not None
    for start in range(len(batches.lines) - 1):
        lines, first = batches.whole_lines(batches.lines, start, room), batches.lines[start]
        used = sum(map(len, lines))
        assert 0 < used <= room
        np.testing.assert_array_equal(np.concatenate(lines), batches.text[first : first + used])
        after = start + len(lines)
        if first + used == batches.lines[after] and after + 1 < len(batches.lines):  # the first line was not cut
            assert used + batches.lines[after + 1] - batches.lines[after] > room


def test_data_sets_are_drawn_equally_often(directory: pathlib.Path, batches: mixture.Mixture) -> None:
    own = [task.name for task in find_tasks(config(directory), every_template=True)]
    assert own == ["stub/colours"] * 2 + ["stub/copies"]
    assert mixture.equal_rates(find_tasks(config(directory), every_template=True)) == [0.5, 0.5, 1.0]
    steps = range(4 * batches.stream.window_batches)  # whole windows: in each, rows are sorted by length
    drawn = np.concatenate([batches.stream.indices(step)[0] for step in steps])
    assert np.bincount(drawn) / len(drawn) == pytest.approx([0.25, 0.25, 0.5], abs=0.01)


def test_the_result_is_a_backbone(run: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also under the package's own name, once it stands there."""
    backbone = load_backbone(str(run / "backbone"))
    assert backbone.config.takes_eos and not backbone.config.tied
    assert backbone.config.vocab_size == 430
    monkeypatch.setattr(hub, "__file__", str(run / "hub.py"))
    with pytest.raises(UserError, match=r"backbone.name='nano'.*nano_pretrain"):
        load_backbone("nano")
    monkeypatch.setattr(hub, "_embedded", lambda name: run / "backbone")
    embedded = load_backbone("nano")
    assert (embedded.name, embedded.fingerprint) == ("nano", backbone.fingerprint)


def test_transformers_gives_the_same_logits(run: pathlib.Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(run / "backbone").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(run / "backbone")
    inputs, targets = (tokenizer(text, return_tensors="np").input_ids for text in ("red letter Which?", "blue red"))
    ours = load_backbone(str(run / "backbone")).logits(inputs, targets)
    with torch.no_grad():
        theirs = model(input_ids=torch.tensor(inputs), labels=torch.tensor(targets)).logits.numpy()
    np.testing.assert_allclose(np.asarray(ours), theirs, atol=1e-4, rtol=1e-4)


def test_validation_has_what_guessing_gets(directory: pathlib.Path, run: pathlib.Path) -> None:
    measured = json.loads((run / "backbone" / "validation.json").read_text())
    colours, copies = measured["stub/colours"], measured["stub/copies"]
    rows = [json.loads(row) for row in (directory / "data/stub/colours/validation.jsonl").open()]
    most = max(np.bincount([row["label"] for row in rows])) / len(rows)
    assert colours["chance"] == pytest.approx(1 / 3) and colours["majority"] == pytest.approx(most)
    assert colours["value"] == pytest.approx(np.mean(list(colours["hard_prompts"].values())))
    assert (copies["metric"], copies["chance"], copies["rows"]) == ("exact_match", 0.0, 24)


def test_the_job_shows_a_finished_run(directory: pathlib.Path, run: pathlib.Path) -> None:
    *lines, files = jobs.run(config(directory), str(run)).splitlines()
    assert files == f"files in {run}: backbone, summary.json"
    assert [text.split()[0] for text in lines[2:]] in (
        ["stub/colours", "stub/copies"],
        ["stub/copies", "stub/colours"],
    )


def test_a_loss_that_is_not_finite_is_refused(directory: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"NaN or infinite at step \d+: lower train.learning_rate"):
        pretrain.pretrain(config(directory, train__learning_rate=1e30, train__clip_norm=0.0), tmp_path, line)


def test_no_weight_stands_still(directory: pathlib.Path, run: pathlib.Path) -> None:
    """All leaves are trained; the embedding's rows that no batch shows are moved only by the decay."""
    from flax import nnx

    from infoprompt_jax.t5.model import T5

    before = nnx.split(T5(t5_config(config(directory)), nnx.Rngs(0)))[1]
    after = load_backbone(str(run / "backbone")).frozen
    for (path, old), (_, new) in zip(nnx.to_flat_state(before), nnx.to_flat_state(after), strict=True):
        assert np.abs(np.asarray(old[...]) - jax.device_get(new[...])).max() > 1e-3, path
