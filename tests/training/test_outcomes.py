"""What a run ends with: members that stop, the best and the last prompt, and their evaluation by the other job."""

from __future__ import annotations

import json
import logging
import pathlib
import re
import shutil
from typing import Any

import numpy as np
import pytest
import tiny_runs
from tiny_runs import STEPS

import infoprompt_jax as ip
from infoprompt_jax import checksums, jobs
from infoprompt_jax.errors import UserError
from infoprompt_jax.t5 import hub
from infoprompt_jax.training.experiment import build

# Evaluated at every step, on enough rows for its metrics to tell prompts apart.
OFTEN: dict[str, Any] = {
    "train__eval_every": 1,
    "train__schedule": "constant",
    "task__eval_limit": 64,
    "train__eval_batch_size": 64,
}
PLAIN = {**OFTEN, "train__learning_rate": 3.0, "task__test_split": "train[:64]"}
WHOLE = {
    **OFTEN,
    "prompt__kind": "instance",
    "train__task_loss": "verbalizer",
    "train__critic_learning_rate": 0.01,
    "infoprompt__variational": True,
    "infoprompt__representation": "mean_encoder",
}

pytestmark = pytest.mark.usefixtures("programs")


def summary(workdir: pathlib.Path) -> dict[str, Any]:
    content = checksums.read_json(workdir / "summary.json", "", kind="summary")
    assert content.pop("files").keys() >= {"metrics.jsonl", "report.html"}
    return content


def records(workdir: pathlib.Path, member: str = "run") -> list[dict[str, Any]]:
    return [r for r in map(json.loads, (workdir / "metrics.jsonl").open()) if r["member"] == member]


def evaluations(workdir: pathlib.Path) -> dict[int, float]:
    return {r["step"]: r["value"] for r in records(workdir) if r["name"] == "eval/accuracy"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def plain(data: pathlib.Path) -> pathlib.Path:
    jobs.run(tiny_runs.config(data, **PLAIN), str(data / "plain"))
    return data / "plain"


@pytest.fixture(scope="module")
def whole(data: pathlib.Path) -> pathlib.Path:
    """A run that trains everything that may be saved with a prompt."""
    jobs.run(tiny_runs.config(data, **WHOLE), str(data / "whole"))
    return data / "whole"


@pytest.mark.parametrize("run", ["plain", "whole"])
def test_the_best_and_the_last_prompt_are_exported(run: str, request: pytest.FixtureRequest) -> None:
    workdir = request.getfixturevalue(run)
    (member,), accuracies = summary(workdir)["members"], evaluations(workdir)
    assert member["best_step"] == max(step for step, value in accuracies.items() if value == max(accuracies.values()))
    assert 0 < member["best_step"] < STEPS
    assert member["best"]["accuracy"] == max(accuracies.values()) > accuracies[STEPS] == member["final"]["accuracy"]
    best, last = (ip.load_prompt(workdir / name / "run") for name in ("prompts", "last_prompts"))
    assert (best.metadata["step"], last.metadata["step"], member["steps"]) == (member["best_step"], STEPS, STEPS)
    assert (best.metadata["metrics"], last.metadata["metrics"]) == (member["best"], member["final"])
    assert not np.array_equal(best.value_PD, last.value_PD)
    groups = {name.split("/")[0] for name in best.tensors}
    assert groups == (set() if run == "plain" else {"generator", "verbalizer", "posterior"})
    assert best.kind == best.metadata["kind"] and len(best.metadata["nearest_tokens"]) == 4


def test_cached_features_reach_the_rows_they_are_of(
    plain: pathlib.Path, data: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    jobs.run(tiny_runs.config(data, **PLAIN, infoprompt__cache_features=False), str(tmp_path))
    cached, recomputed = (
        [r["value"] for r in records(run) if r["name"] == "representation_mi" and r["step"] <= 3]
        for run in (plain, tmp_path)
    )
    assert len(cached) == 3
    np.testing.assert_allclose(cached, recomputed, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("run", ["plain", "whole"])
def test_an_exported_prompt_evaluates_to_the_same_metrics(
    run: str, request: pytest.FixtureRequest, data: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    workdir = request.getfixturevalue(run)
    (member,) = summary(workdir)["members"]
    for exported, entry in (("prompts", "best"), ("last_prompts", "final")):
        init = {"job": "evaluate", "prompt__init": str(workdir / exported / "run")}
        config = tiny_runs.config(data, **{"plain": PLAIN, "whole": WHOLE}[run] | init)
        table = jobs.run(config, str(tmp_path / exported))
        (found,) = summary(tmp_path / exported)["members"]
        assert found["final"] == found["best"] == member[entry]
        assert found.get("test") == member.get("test") or exported == "last_prompts"
        assert summary(tmp_path / exported)["examples"] == summary(workdir)["examples"]
        assert jobs.run(config, str(tmp_path / exported)) == table


def test_a_saved_prompt_comes_with_all_that_was_trained_with_it(whole: pathlib.Path, data: pathlib.Path) -> None:
    config = tiny_runs.config(data, **WHOLE, prompt__init=str(whole / "prompts" / "run"))
    trainable = build(config).initial_state().trainable
    saved = ip.load_prompt(whole / "prompts" / "run")
    for name, array in {**saved.tensors, "prompt/value": saved.value_PD}.items():
        group, leaf = name.split("/")
        np.testing.assert_array_equal(trainable[group][leaf][0], array, err_msg=name)


def test_a_free_text_member_leaves_a_member_with_choices_alone(data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    free = {"name": "free", "task.input": "{{ words }}", "task.target": "{{ words }}", "prompt.init": "uniform"}
    mixed = tiny_runs.config(data, train__steps=2, fleet__members=({"name": "choices"}, free))
    alone = tiny_runs.config(data, train__steps=2, fleet__members=({"name": "choices"},))
    for name, config in (("mixed", mixed), ("alone", alone)):
        jobs.run(config, str(tmp_path / name))
    found, expected = (summary(tmp_path / name)["members"] for name in ("mixed", "alone"))
    assert found[0]["final"]["accuracy"] == expected[0]["final"]["accuracy"] > 0
    assert found[1]["final"].keys() == {"exact_match"}


@pytest.mark.parametrize(
    ("run", "changed", "sentence"),
    [
        ("whole", {"prompt__kind": "static"}, "holds a generator/.* this run has none: set prompt.kind='instance'"),
        ("whole", {"prompt__bottleneck": 16}, r"this run has one of shape \[.*16.*\]: set .* and prompt.bottleneck as"),
        (
            "whole",
            {"train__task_loss": "lm", "infoprompt__representation": "decoder"},
            "holds a verbalizer/value .* none: set train.task_loss='verbalizer'",
        ),
        ("whole", {"infoprompt__variational": False}, "holds a posterior/.* none: set infoprompt.variational=True"),
        (
            "plain",
            {"prompt__kind": "instance"},
            "trained without a generator, .* does not train one: change prompt.kind",
        ),
        ("plain", {"infoprompt__variational": True}, "trained without a posterior, .* change infoprompt.variational"),
        (
            "whole",
            {"infoprompt__representation": "decoder"},
            "was trained with infoprompt.representation='mean_encoder', this run has 'decoder': set it as",
        ),
    ],
)
def test_evaluation_refuses_what_the_prompt_was_not_trained_for(
    run: str, changed: dict[str, Any], sentence: str, request: pytest.FixtureRequest, data: pathlib.Path
) -> None:
    init = {"job": "evaluate", "prompt__init": str(request.getfixturevalue(run) / "prompts" / "run")}
    config = tiny_runs.config(data, **{"plain": PLAIN, "whole": WHOLE}[run] | init | changed)
    with pytest.raises(UserError, match=sentence):
        jobs.run(config, str(data / "refused"))
    assert not (data / "refused").exists()


def test_a_verbalizer_fits_a_fleet_of_another_widest_task(data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """One for two answer choices, trained beside a member with three: alone, beside it again, and for three."""
    rows_CD = np.eye(3, 64, dtype=np.float32)
    rows_CD[2] = 0
    ip.save_prompt(tmp_path / "two", ip.Prompt(np.ones((4, 64)), {}, {"verbalizer/value": rows_CD}))
    task = {"task.input": "{{ words }}", "task.target": "{{ answer_choices[label] }}"}
    two = {"name": "two", **task, "task.answer_choices": "animals ||| gadgets", "prompt.init": str(tmp_path / "two")}
    three = {"name": "three", **task, "task.answer_choices": "animals ||| gadgets ||| neither"}
    for members in ((two,), (two, three)):
        config = tiny_runs.config(data, train__task_loss="verbalizer", fleet__members=members)
        made_MCD = build(config).initial_state().trainable["verbalizer"]["value"]
        np.testing.assert_array_equal(made_MCD[0], rows_CD[: 1 + len(members)])
    config.fleet.members = (three | {"prompt.init": str(tmp_path / "two")},)
    with pytest.raises(
        UserError, match=r"of shape \[2, 64\], .*: set train.task_loss='verbalizer' and task.name as when"
    ):
        build(config).initial_state()


def test_training_may_add_to_a_saved_prompt(plain: pathlib.Path, data: pathlib.Path) -> None:
    config = tiny_runs.config(data, **WHOLE, prompt__init=str(plain / "prompts" / "run"))
    trainable = build(config).initial_state().trainable
    np.testing.assert_array_equal(trainable["prompt"]["value"][0], ip.load_prompt(plain / "prompts" / "run").value_PD)
    assert trainable.keys() >= {"generator", "verbalizer", "posterior"}


def test_the_backbone_alone(data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """From Python, with a config of another job; against scores computed one call at a time, from texts."""
    config = tiny_runs.config(data, job="train", prompt__length=0, task__template="question", task__eval_limit=64)
    backbone, right = ip.load_backbone("random"), []
    assert ip.evaluate(config, tmp_path, backbone) == summary(tmp_path)
    assert config.job == "train" and json.loads((tmp_path / "config.json").read_text())["job"] == "evaluate"
    rows = [json.loads(line) for line in (data / "data" / "generated" / "words" / "validation.jsonl").open()][:64]
    choices = np.stack([[*ids, 1] for ids in backbone.tokenizer.encode(["animals", "gadgets"])])
    for row in rows:
        tokens = backbone.tokenizer.encode([f"What are these? {row['words']}"])[0]
        inputs = np.pad([*tokens, 1], (0, 64))[None, :64]
        right.append(int(np.argmax(backbone.score(inputs, choices[None])[0])) == row["label"])
    (member,) = summary(tmp_path)["members"]
    logged = {record["name"]: record["value"] for record in records(tmp_path) if record["step"] == 0}
    assert logged == {f"eval/{name}": value for name, value in member["best"].items()}
    assert member["best"]["accuracy"] == np.mean(right) and summary(tmp_path)["examples"] == {"validation": 64}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("name", "another"), ("dtype", "bfloat16"), ("weights", "int8"), ("dropout", 0.1)),
        *(("takes_eos", "no"), ("tokenizer", "bytes")),
    ],
)
def test_a_loaded_backbone_is_that_of_the_config(
    field: str, value: Any, data: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """What the workdir and the prompts record would be false otherwise."""
    backbone = ip.load_backbone("random")
    for job in (ip.train, ip.evaluate):
        config = tiny_runs.config(data, **{f"backbone__{field}": value})
        with pytest.raises(UserError, match=rf"backbone\.{field}='?{value}'? in the config, but the backbone that is"):
            job(config, tmp_path / "run", backbone)
    assert not (tmp_path / "run").exists()


def test_so_is_its_vocabulary(data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Predictions read a prompt's rows with the vocabulary that the prompt records."""
    backbone = ip.load_backbone("nano", tokenizer=str(hub.find("nano")))
    config = tiny_runs.config(data, backbone__name="nano")
    with pytest.raises(UserError, match=r"backbone\.tokenizer='' in the config, but the backbone that is given has '/"):
        ip.train(config, tmp_path / "run", backbone)
    config.backbone.tokenizer = backbone.config.tokenizer
    assert ip.train(config, tmp_path / "run", backbone)["members"]


TRAINED = {"train__task_loss": "verbalizer", "infoprompt__variational": True, "prompt__kind": "instance"}


def test_a_run_tells_what_the_backbone_alone_can_do(data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """As a run of `evaluate` without a prompt does, whatever else the fleet trains."""
    fields = {"task__test_split": "validation", "train__references": True, "train__steps": 2}
    jobs.run(tiny_runs.config(data, **TRAINED, **fields), str(tmp_path / "train"))
    jobs.run(tiny_runs.config(data, job="evaluate", prompt__length=0), str(tmp_path / "evaluate"))
    trained, evaluated = (json.loads((tmp_path / job / "summary.json").read_text()) for job in ("train", "evaluate"))
    of_data = [summary["fingerprints"]["evaluation_data"] for summary in (trained, evaluated)]
    assert of_data[0] == of_data[1]
    majority, alone = trained["references"]
    assert alone["best"] == alone["test"] == pytest.approx(evaluated["members"][0]["best"])
    assert 0.5 <= majority["best"]["accuracy"] < 1
    same = tiny_runs.config(data, job="evaluate", prompt__length=0, **TRAINED)
    jobs.run(same, str(tmp_path / "same"))
    assert json.loads((tmp_path / "same" / "summary.json").read_text())["members"] == evaluated["members"]


def test_references_are_of_a_members_own_task(
    data: pathlib.Path, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two members of one template share theirs; the metric of free text is named beside its member."""
    caplog.set_level(logging.INFO)
    free = {"name": "free", "task.input": "Name: {{ words }}", "task.target": "{{ words }}", "task.template": "all"}
    members = ({"name": "first"}, {"name": "second"}, {"name": "other", "task.template": "bare"}, free)
    fields = {"train__references": True, "train__steps": 1, "train__eval_every": 0, "task__template": "question"}
    fields |= {"prompt__init": "uniform", "infoprompt__gamma": 0.0, "infoprompt__beta": 0.0}
    jobs.run(tiny_runs.config(data, **fields, fleet__members=members), str(tmp_path / "fleet"))
    made = {reference["name"]: reference["best"] for reference in summary(tmp_path / "fleet")["references"]}
    assert [name.partition(" ")[0] for name in made] == ["most", "no"] * 3
    jobs.run(tiny_runs.config(data, **fields | {"task__template": "bare"}), str(tmp_path / "bare"))
    for reference in summary(tmp_path / "bare")["references"]:
        assert made[f"{reference['name']}: generated/words:bare"] == pytest.approx(reference["best"])
    assert all(of.keys() == {"exact_match"} for name, of in made.items() if "inline" in name)
    assert made["no prompt: generated/words:question"] != made["no prompt: generated/words:bare"]
    assert re.search(r"step 1: accuracy first [\d.]+, second [\d.]+, other [\d.]+, exact_match free 0", caplog.text)


@pytest.mark.parametrize("task_loss", ["choices", "verbalizer"])
def test_the_backbone_alone_needs_no_answer_choices(task_loss: str, data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Losses and terms that need them train what the backbone alone does not have."""
    free = {"task__input": "Name one: {{ words }}", "task__target": "{{ words.split()[0] }}", "task__template": ""}
    fields = {**TRAINED, **free, "train__task_loss": task_loss, "task__templates_dir": "", "prompt__init": "labels"}
    config = tiny_runs.config(data, job="evaluate", prompt__length=0, scoring__max_length=2, **fields)
    jobs.run(config, str(tmp_path))
    assert summary(tmp_path)["members"][0]["best"].keys() == {"exact_match"}


def test_a_member_that_diverges_stops_alone(
    plain: pathlib.Path, data: pathlib.Path, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    members = ({"name": "run"}, {"name": "bad", "train.learning_rate": 1e30})
    with caplog.at_level("ERROR", logger="infoprompt_jax"):
        jobs.run(tiny_runs.config(data, **PLAIN, fleet__members=members), str(tmp_path))
    alone, beside = records(plain), records(tmp_path)
    assert [(r["step"], r["name"]) for r in beside] == [(r["step"], r["name"]) for r in alone]
    np.testing.assert_allclose([r["value"] for r in beside], [r["value"] for r in alone], rtol=1e-3, atol=1e-4)
    good, bad = summary(tmp_path)["members"]
    assert "failed_at_step" not in good and bad["failed_at_step"] == 2
    assert "bad stopped at step 2: its loss or gradient was not finite" in caplog.text and len(caplog.records) == 1
    assert {r["step"] for r in records(tmp_path, "bad")} == {0, 1}
    for prompts in ("prompts", "last_prompts"):
        assert np.isfinite(ip.load_prompt(tmp_path / prompts / "bad").value_PD).all()


def test_a_run_without_a_member_left_ends_with_a_sentence(data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    config = tiny_runs.config(data, **PLAIN | {"train__learning_rate": 1e30})
    for _ in range(2):  # the second finds the run finished, and still no better
        with pytest.raises(UserError, match=r"every member became NaN or infinite: lower train\.learning_rate"):
            jobs.run(config, str(tmp_path))
        (member,) = summary(tmp_path)["members"]
        assert member["failed_at_step"] == 2 and member["best_step"] < 2


def test_patience_ends_a_run_with_its_best(plain: pathlib.Path, data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    best, stale, last = -1.0, 0, -1
    for step, accuracy in sorted(evaluations(plain).items()):
        best, stale, last = max(best, accuracy), 0 if accuracy > best else stale + 1, step
        if stale == 2:
            break
    assert 0 < last < STEPS
    jobs.run(tiny_runs.config(data, **PLAIN, train__patience=2), str(tmp_path))
    assert evaluations(tmp_path) == {s: a for s, a in evaluations(plain).items() if s <= last}
    (member,) = summary(tmp_path)["members"]
    assert (member["steps"], member["best"]["accuracy"]) == (last, best)
    assert ip.load_prompt(tmp_path / "prompts" / "run").metadata["step"] == member["best_step"] < last


@pytest.mark.parametrize("job", ["train", "evaluate"])
def test_a_finished_run_whose_rows_have_changed_is_shown_with_a_warning(
    job: str, data: pathlib.Path, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(data, tmp_path / "data")
    config = tiny_runs.config(tmp_path / "data", job=job, prompt__length=4 * (job == "train"), train__steps=2)
    table = jobs.run(config, str(tmp_path / "run"))
    assert jobs.run(config, str(tmp_path / "run")) == table and "have changed" not in caplog.text
    rows = tmp_path / "data" / "data" / "generated" / "words" / "validation.jsonl"
    rows.write_text(rows.read_text().replace('"label": 0', '"label": 1', 1))
    assert jobs.run(config, str(tmp_path / "run")) == table
    assert "The rows or the templates have changed since the run in" in caplog.text
    rows.unlink()
    assert jobs.run(config, str(tmp_path / "run")) == table
