"""Zero-shot evaluation: every method against its definition, stopping and resuming, refusals."""

from __future__ import annotations

import json
import logging
import os
import pathlib
import shutil
import signal
from typing import Any

import ml_collections
import numpy as np
import pytest
import tiny
import tiny_t5
from safetensors.numpy import load_file
from tiny_library import TOP, configure, make_library, prompt, random_library

from infoprompt_jax import jobs
from infoprompt_jax.command_line import read_config
from infoprompt_jax.errors import Stopped, UserError
from infoprompt_jax.evaluation import metrics
from infoprompt_jax.evaluation.predictions import Prompted
from infoprompt_jax.prompts.saved import Prompt
from infoprompt_jax.rospr import evaluate, evaluation_tasks, keys, retrieval
from infoprompt_jax.rospr.evaluate import Evaluation
from infoprompt_jax.rospr.library import PromptLibrary
from infoprompt_jax.rospr.library_files import Entry, Model
from infoprompt_jax.rospr.library_sources import SourcePrompt
from infoprompt_jax.rospr.records import TargetRecord
from infoprompt_jax.rospr.zero_shot import METHODS, Outcome
from infoprompt_jax.settings import defaults
from infoprompt_jax.t5.backbone import Backbone, load_backbone

CONFIG = pathlib.Path(__file__).parents[2] / "configs" / "rospr_eval.py"

pytestmark = pytest.mark.usefixtures("programs")


@pytest.fixture(scope="module")
def model() -> tiny.Backbone:
    return tiny.backbone()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Data, templates and tokenised rows that the tests share."""
    return tmp_path_factory.mktemp("eval")


def outcome(config: ml_collections.ConfigDict, directory: pathlib.Path) -> tuple[Outcome, np.ndarray, Evaluation]:
    """Of the first evaluation task, with the labels."""
    evaluation = Evaluation(config, directory)
    evaluated, queries = evaluation.instances(evaluation_tasks.find(config)[0][0])
    return evaluation.zero_shot.evaluate(evaluated, queries, metrics.accuracy), evaluated.labels, evaluation


def test_with_one_source_prompt_all_methods_are_one(
    model: tiny.Backbone, folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    actual, _, _ = outcome(configure(folder, random_library(tmp_path / "library", model, 1)), tmp_path)
    for method in set(METHODS) - {"none", "rospr"}:
        np.testing.assert_array_equal(actual.predictions[method], actual.predictions["rospr"], err_msg=method)
    assert actual.mixtures["none"].owners == () and actual.mixtures["inter_var"].weights == (1.0,)


def test_each_row_has_its_own_prompt(model: tiny.Backbone, folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Against every row found, prompted and scored alone; also without the oracle's table, in mixed batches."""
    config = configure(folder, random_library(tmp_path / "library", model, 6))
    actual, _, evaluation = outcome(config, tmp_path)
    without, _, _ = outcome(configure(folder, config.rospr.library, rospr__methods=("per_query",)), tmp_path)
    assert len(set(actual.owners_B.tolist())) > 1
    evaluated, _ = evaluation.instances(evaluation_tasks.find(config)[0][0])
    expected = []
    for row in evaluated.numbers:
        batch = evaluated.rows.gather(np.array([row]), 64, 8, 2)
        hits = evaluation.library.search(keys.encode_keys(model, batch["inputs"]), TOP)
        owner = retrieval.votes(hits).owners[0]
        expected.append(
            int(np.argmax(model.score(batch["inputs"], batch["choices"], evaluation.library.prompts(owner))))
        )
    assert actual.predictions["per_query"].tolist() == without.predictions["per_query"].tolist() == expected
    assert actual.table_MB is not None and without.table_MB is None


def test_what_is_left_out_might_as_well_not_be_there(
    model: tiny.Backbone, folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """Without the prompts that the oracle and the rows' votes choose, all is as with a library of the others."""
    config = configure(folder, random_library(tmp_path / "library", model, 6))
    free, _, evaluation = outcome(config, tmp_path)
    (best,), most_chosen = free.mixtures["oracle"].owners, np.bincount(free.owners_B).argsort()[::-1]
    exclude = [best, next(owner for owner in most_chosen.tolist() if owner != best)]
    others = [owner for owner in range(6) if owner not in exclude]
    width = model.config.d_model
    keys_of = {m: np.random.default_rng(m).normal(size=(5, width)) for m in others}
    smaller = make_library(tmp_path / "others", model, [prompt(m, width) for m in others], list(keys_of.values()))
    expected, _, _ = outcome(configure(folder, smaller), tmp_path)
    instances = evaluation.instances(evaluation_tasks.find(config)[0][0])
    actual = evaluation.zero_shot.evaluate(*instances, metrics.accuracy, exclude=exclude)
    np.testing.assert_array_equal(actual.hits.owners_QN, np.array(others)[expected.hits.owners_QN])
    np.testing.assert_array_equal(actual.owners_B, np.array(others)[expected.owners_B])
    taken = {name: [others[owner] for owner in mixture.owners] for name, mixture in expected.mixtures.items()}
    assert taken == {name: [*mixture.owners] for name, mixture in actual.mixtures.items()}
    for method in METHODS:
        np.testing.assert_array_equal(actual.predictions[method], expected.predictions[method], err_msg=method)


def test_prompts_of_the_evaluated_data_set_are_excluded(
    model: tiny.Backbone, folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    entries = [Entry(f"{m}", dataset) for m, dataset in enumerate(("generated/words", "other", "generated/words"))]
    path, config = tmp_path / "library", configure(folder, str(tmp_path / "library"))
    known = {"backbone": keys.model(model).name, "fingerprint": keys.model(model).fingerprint}
    width = model.config.d_model
    sources = [SourcePrompt(e, Prompt(prompt(0, width), known), np.ones((2, width), np.float32)) for e in entries]
    PromptLibrary.create(path, keys.model(model), keys.model(model), sources, mesh=model.mesh)
    (target, *_), _ = evaluation_tasks.find(config)
    evaluation = Evaluation(config, tmp_path / "targets")
    assert evaluation.excluded(target) == [0, 2]
    record = evaluation.evaluate(target, *evaluation.instances(target))
    assert {candidate.owner for candidate in record.candidates} == {1}
    # All prompts and keys are equal, so a method that may take any of them takes the first.
    taken = {method: {part.name for part in parts} for method, parts in record.chosen.items()}
    assert taken.pop("none") == set() and all(names == {"1"} for names in taken.values()) and len(taken) == 6
    shutil.rmtree(path)
    PromptLibrary.create(path, keys.model(model), keys.model(model), sources[::2], mesh=model.mesh)
    with pytest.raises(UserError, match="trained on generated/words, the data set to evaluate"):
        jobs.run(config, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_the_oracle_is_the_best_source_prompt(
    model: tiny.Backbone, folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """What is read from its table is what the methods score without it."""
    config = configure(folder, random_library(tmp_path / "library", model, 6))
    actual, labels, evaluation = outcome(config, tmp_path)
    every = [metrics.accuracy(answers_B, labels) for answers_B in actual.table_MB]
    assert len(set(every)) > 1 and metrics.accuracy(actual.predictions["oracle"], labels) == max(every)
    plain, _, _ = outcome(configure(folder, config.rospr.library, rospr__methods=METHODS[:-1]), tmp_path)
    for method in METHODS[:-1]:
        np.testing.assert_array_equal(plain.predictions[method], actual.predictions[method], err_msg=method)
    assert {m: plain.mixtures[m] for m in METHODS[:5]} == {m: actual.mixtures[m] for m in METHODS[:5]}
    mixed = evaluation.zero_shot.prompt(actual.mixtures["inter"])
    parts = zip(actual.mixtures["inter"].weights, actual.mixtures["inter"].owners, strict=True)
    np.testing.assert_allclose(mixed, sum(w * evaluation.library.prompts(o) for w, o in parts), rtol=1e-5, atol=1e-6)
    assert len(actual.mixtures["inter"].owners) == 3 and sum(actual.mixtures["inter"].weights) == pytest.approx(1)


def test_var_prefers_what_is_not_biased(model: tiny.Backbone, folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Of 24 prompts, the two whose answers fall most and least evenly; the biased one has more of the votes."""
    width = model.config.d_model
    config = configure(folder, random_library(tmp_path / "many", model, 24), rospr__methods=("oracle",))
    many, _, evaluation = outcome(config, tmp_path)
    _, queries = evaluation.instances(evaluation_tasks.find(config)[0][0])
    prompts = [prompt(m, width) for m in range(24)]
    answers = evaluation.zero_shot.answers_with_each(queries, prompts)
    variances = retrieval.answer_variance(answers, 2)
    biased, even = int(np.argmax(variances)), int(np.argmin(variances))
    assert variances[biased] > variances[even] + 0.05
    near = many.query_keys_QR
    library = make_library(
        tmp_path / "two", model, [prompts[biased], prompts[even]], [np.concatenate([near, near]), near]
    )
    config = configure(folder, library, rospr__top=3, rospr__methods=("rospr", "var", "inter_var"))
    actual, _, _ = outcome(config, tmp_path)
    assert actual.votes.owners.tolist() == [0, 1]
    assert actual.mixtures["rospr"].owners == (0,) and actual.mixtures["var"].owners == (1,)
    expected = actual.votes.frequencies / (variances[[biased, even]] + 0.01)
    np.testing.assert_allclose(actual.mixtures["inter_var"].weights, expected / expected.sum())


def test_a_stopped_run_resumes(
    model: tiny.Backbone,
    folder: pathlib.Path,
    tmp_path: pathlib.Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = configure(folder, random_library(tmp_path / "library", model, 3))
    table = jobs.run(config, str(tmp_path / "whole"))
    assert "generated/words" in table and "INTER+VAR" in table
    evaluate_one = Evaluation.evaluate

    def then_stop(self: Evaluation, *arguments: Any) -> TargetRecord:
        record = evaluate_one(self, *arguments)
        os.kill(os.getpid(), signal.SIGTERM)
        return record

    monkeypatch.setattr(Evaluation, "evaluate", then_stop)
    with pytest.raises(Stopped, match="the evaluation tasks that are finished are kept"):
        jobs.run(config, str(tmp_path / "stopped"))
    monkeypatch.undo()
    (kept,) = (tmp_path / "stopped" / "targets").glob("*.json")
    before = kept.stat().st_mtime_ns
    jobs.run(config, str(tmp_path / "stopped"))
    assert kept.stat().st_mtime_ns == before
    actual, expected = (json.loads((tmp_path / n / "results.json").read_text()) for n in ("stopped", "whole"))
    assert actual == expected and len(actual["targets"]) == 2
    varied = actual["analysis"]["varied"]
    assert varied["prompts"][-1]["mean"] == varied["instances"][-1]["mean"] == actual["mean"]["rospr"]
    check_explanation(json.loads(kept.read_text()), load_file(kept.with_suffix(".safetensors")))
    shown = (tmp_path / "whole" / "results.md").read_text()
    assert "upper bound" in shown and "generated/words:question" in shown
    assert all((tmp_path / "whole" / name).stat().st_size > 10_000 for name in ("results.png", "analysis.png"))
    check_other_rows_are_refused(config, tmp_path, caplog)
    check_another_library_is_refused(config, tmp_path, model)


def check_explanation(record: dict[str, Any], table: dict[str, np.ndarray]) -> None:
    assert record["scores"].keys() == set(METHODS) and record["rows"] == 16
    assert sum(candidate["votes"] for candidate in record["candidates"]) == 6 * TOP
    first = record["candidates"][0]
    assert first["name"] == record["chosen"]["rospr"][0]["name"] and sum(first["answers"]) == 6
    assert first["score"] == pytest.approx(first["votes"] / (first["variance"] + 0.01))
    assert sum(part["rows"] for part in record["chosen"]["per_query"]) == 16
    number = first["name"].split()[-1]
    assert all(one["text"].startswith(f"instance {number}.") and one["query"] for one in record["nearest"])
    assert table["predictions"].shape == (3, 16) and table["query_keys"].shape == (6, 64)
    oracle = max(metrics.accuracy(answers_B, table["labels"]) for answers_B in table["predictions"])
    assert record["scores"]["oracle"] == oracle


def check_other_rows_are_refused(
    config: ml_collections.ConfigDict, directory: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A row more in the data, another fingerprint; a finished run is shown as it is, with a warning."""
    (directory / "stopped" / "summary.json").unlink()
    other = config.copy_and_resolve_references()
    shutil.copytree(config.data.dir, directory / "data")
    file = directory / "data" / "generated" / "words" / "validation.jsonl"
    file.write_text(file.read_text() + json.dumps({"words": "ant", "label": 0}) + "\n")
    other.data.dir = str(directory / "data")
    with pytest.raises(UserError, match=r"when the fingerprint of the rows was .*, but it is .* now: choose another"):
        jobs.run(other, str(directory / "stopped"))
    jobs.run(config, str(directory / "whole"))
    assert "have changed since the run" not in caplog.text
    jobs.run(other, str(directory / "whole"))
    assert "have changed since the run" in caplog.text


def check_another_library_is_refused(
    config: ml_collections.ConfigDict, directory: pathlib.Path, model: tiny.Backbone
) -> None:
    shutil.rmtree(config.rospr.library)
    random_library(directory / "library", model, 4)
    with pytest.raises(UserError, match="fingerprint of the library was"):
        jobs.run(config, str(directory / "stopped"))


@pytest.mark.parametrize(("made_by", "field"), [("retriever", "rospr.retriever"), ("backbone", "backbone.name")])
def test_a_library_of_other_models_is_refused(
    made_by: str,
    field: str,
    model: tiny.Backbone,
    folder: pathlib.Path,
    tmp_path: pathlib.Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    other = Model("another", "0a", model.config.d_model)
    library = random_library(tmp_path / "library", model, 2, **{made_by: other})
    with pytest.raises(UserError, match=rf"made with another \(fingerprint 0a.*random.*set {field}") as refused:
        Evaluation(configure(folder, library), tmp_path)
    assert str(refused.value).count(". ") == 0
    # Before a backbone is downloaded.
    said = "The library's prompts were made with another; backbone.name is random." in caplog.messages
    assert said == (made_by == "backbone")


def test_a_library_is_searched_by_its_own_similarity(
    model: tiny.Backbone, folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    library = random_library(tmp_path / "library", model, 2, similarity="cosine")
    for similarity in ("", "cosine"):
        Evaluation(configure(folder, library, rospr__similarity=similarity), tmp_path)
    with pytest.raises(UserError, match=r"rospr\.similarity='inner_product' is not what .* was made with, 'cosine'"):
        Evaluation(configure(folder, library, rospr__similarity="inner_product"), tmp_path)


def test_another_retriever_reads_in_its_own_tokens(
    model: tiny.Backbone, folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    retriever = load_backbone("nano", mesh=tiny.one_device())
    width = retriever.config.d_model
    values, keys_of = [prompt(m, model.config.d_model) for m in range(2)], [np.eye(width)[m : m + 5] for m in range(2)]
    library = make_library(tmp_path / "library", model, values, keys_of, retriever=keys.model(retriever))
    config = configure(folder, library, rospr__retriever="nano", rospr__methods=("rospr", "per_query"))
    actual, _, evaluation = outcome(config, tmp_path)
    _, queries = evaluation.instances(evaluation_tasks.find(config)[0][0])
    assert width != model.config.d_model and actual.query_keys_QR.shape == (6, width)
    rows, first = queries.retriever_rows, queries.numbers[:1]
    alone = keys.encode_keys(retriever, rows.inputs(first, int(rows.input_lengths[first[0]])))
    np.testing.assert_allclose(actual.query_keys_QR[:1], alone, rtol=1e-4, atol=1e-4)
    assert queries.rows.input_lengths[first[0]] != rows.input_lengths[first[0]]


def test_a_stop_is_heeded_within_a_task(
    model: tiny.Backbone, folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop while the first batch is scored: nothing of the task is written."""
    score, calls = Backbone.score, []

    def score_and_stop(self: Backbone, *arguments: Any) -> Any:
        calls.append(os.kill(os.getpid(), signal.SIGTERM)) if not calls else calls.append(None)
        return score(self, *arguments)

    monkeypatch.setattr(Backbone, "score", score_and_stop)
    config = configure(folder, random_library(tmp_path / "library", model, 3), train__eval_batch_size=4)
    with pytest.raises(Stopped, match="the evaluation tasks that are finished are kept"):
        jobs.run(config, str(tmp_path / "run"))
    assert 0 < len(calls) <= 3 and not list((tmp_path / "run").glob("targets/*"))


def test_no_methods_and_no_library_are_refused(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"rospr\.methods is empty.*inter_var"):
        evaluate.evaluate(configure(folder, "somewhere", rospr__methods=()), tmp_path / "a")
    with pytest.raises(UserError, match=r"rospr\.library is empty"):
        evaluate.evaluate(configure(folder, ""), tmp_path / "a")


def torch_backbone(path: pathlib.Path, vocabulary: pathlib.Path, **shape: Any) -> tuple[Any, tiny.Backbone]:
    """A random T5 of transformers with a small vocabulary, and ours loaded from it."""
    torch = pytest.importorskip("torch")
    import transformers

    torch.manual_seed(0)
    sizes = {"vocab_size": 384, "d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 2, "num_heads": 4} | shape
    theirs = transformers.T5ForConditionalGeneration(transformers.T5Config(**sizes)).eval()
    theirs.save_pretrained(path)
    shutil.copy(vocabulary, path)
    return theirs, load_backbone(str(path), mesh=tiny.one_device())


T0_SHAPE = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
CHOICES = {  # data set, template, split, shape: the same two choices; long ones; as many as the row has
    "rte": ("super_glue/rte", "entails", "validation[:8]", {}),
    "hellaswag": ("hellaswag", "continue", "validation[:4]", T0_SHAPE),
    "novel_concepts": ("bigbench/novel_concepts", "as asked", "validation[:8]", T0_SHAPE),
}


@pytest.mark.parametrize("data_dir", ["invented", pytest.param("real", marks=pytest.mark.slow)], indirect=True)
@pytest.mark.parametrize("name", CHOICES)
def test_scores_are_those_of_a_forward_pass_per_choice(
    name: str, data_dir: pathlib.Path, vocabulary: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """In torch through transformers, a choice at a time, unpadded."""
    torch = pytest.importorskip("torch")
    dataset, template, split, shape = CHOICES[name]
    theirs, backbone = torch_backbone(tmp_path / "t5", vocabulary, **shape)
    config = defaults()
    library = random_library(tmp_path / "library", backbone, 2)
    config.update_from_flattened_dict({
        "job": "rospr_eval", "backbone.name": str(tmp_path / "t5"),
        "data.dir": str(data_dir), "data.cache_dir": str(tmp_path),
        "task.name": dataset, "task.template": template, "rospr.library": library,
        "task.eval_split": split, "train.eval_batch_size": 8, "data.max_target_length": 128,
    })  # fmt: skip
    evaluation = Evaluation(config, tmp_path)
    evaluated, _ = evaluation.instances(evaluation_tasks.find(config)[0][0])
    prompts = [None, *evaluation.library.prompts_MPD]
    predictor = evaluation.zero_shot.predictor
    (only,) = predictor.batches([[evaluated.taken]])
    scores_NBC = predictor.scores(Prompted.with_each(backbone, prompts), only)
    batch = {name: values[0] for name, values in only.items()}
    compared = 0
    for n, b, c in np.ndindex(scores_NBC.shape):
        tokens, choice = (row[row > 0][None] for row in (batch["inputs"][b], batch["choices"][b, c]))
        if not choice.size:
            assert scores_NBC[n, b, c] == -np.inf
            continue
        logits = torch.tensor(tiny_t5.torch_logits(theirs, tokens, choice, prompts[n]))
        expected = torch.log_softmax(logits, -1)[0, range(choice.size), choice[0]].sum()
        assert scores_NBC[n, b, c] == pytest.approx(float(expected), abs=1e-3)
        compared += 1
    assert compared >= 48


def shipped(variants: str, directory: pathlib.Path, **fields: Any) -> ml_collections.ConfigDict:
    config = read_config(f"{CONFIG}:{variants}")
    config.data.cache_dir = str(directory / "cache")
    config.update_from_flattened_dict({name.replace("__", "."): value for name, value in fields.items()})
    return config


def test_the_shipped_config_runs_on_the_embedded_backbone(tmp_path: pathlib.Path) -> None:
    library = random_library(tmp_path / "library", load_backbone("nano", mesh=tiny.one_device()), 3)
    config = shipped("nano,smoke", tmp_path, task__name="nano/entailment", task__template="follows")
    config.rospr.library = library
    assert "nano/entailment" in jobs.run(config, str(tmp_path / "run"))
    (target,) = json.loads((tmp_path / "run" / "results.json").read_text())["targets"]
    assert target["rows"] == 8 and target["scores"].keys() == set(METHODS)
    (record,) = (json.loads(path.read_text()) for path in (tmp_path / "run" / "targets").glob("*.json"))
    assert record["split"] == "test" and record["family"] == "natural language inference"


@pytest.mark.slow
def test_the_shipped_config_runs_on_real_rows(
    shared: pathlib.Path, vocabulary: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """A template that five of P3's held-out sets have; the others are skipped without a word in the results."""
    backbone = torch_backbone(tmp_path / "t5", vocabulary)[1]
    config = shipped("p3,smoke", tmp_path, task__template="must be true", backbone__name=str(tmp_path / "t5"))
    config.data.dir, config.task.templates_dir = str(shared / "data"), str(shared / "data" / "promptsource")
    config.backbone.dtype, config.rospr.library = "float32", random_library(tmp_path / "library", backbone, 3)
    jobs.run(config, str(tmp_path / "run"))
    actual = json.loads((tmp_path / "run" / "results.json").read_text())
    assert list(actual["datasets"]) == ["anli_r1", "anli_r2", "anli_r3", "super_glue_cb", "super_glue_rte"]
    assert all(dataset["rows"] == 8 for dataset in actual["datasets"].values()) and actual["skipped"] == []
