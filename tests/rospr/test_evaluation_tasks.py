"""Evaluation tasks: by name, what is skipped and why, formats, and P3's means."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np
import pytest
import tiny
import tiny_sources

from infoprompt_jax import jobs
from infoprompt_jax.command_line import read_config
from infoprompt_jax.data import p3
from infoprompt_jax.errors import UserError
from infoprompt_jax.prompts.saved import Prompt
from infoprompt_jax.rospr import evaluation_tasks, keys
from infoprompt_jax.rospr.evaluation_tasks import Skipped
from infoprompt_jax.rospr.library import PromptLibrary
from infoprompt_jax.rospr.library_files import Entry
from infoprompt_jax.rospr.library_sources import SourcePrompt
from infoprompt_jax.settings import defaults

CONFIG = pathlib.Path(__file__).parents[2] / "configs" / "rospr_eval.py"


def write_rte(folder: pathlib.Path) -> None:
    (folder / "super_glue" / "rte").mkdir(parents=True)
    row = {"premise": "It rains.", "hypothesis": "It is wet.", "label": 0, "idx": 0}
    (folder / "super_glue" / "rte" / "validation.jsonl").write_text(json.dumps(row) + "\n")


def reasons(skipped: list[Skipped]) -> dict[str, str]:
    return {one.name: one.reason for one in skipped}


def test_tasks_are_those_with_data(tmp_path: pathlib.Path) -> None:
    write_rte(tmp_path)
    template = "{{ premise }} {{ hypothesis }} ||| {{ answer_choices[label] }}", "yes ||| no"
    for dataset in {dataset.task: dataset for dataset in p3.held_out()}.values():
        made = dict.fromkeys(dataset.templates, template)
        tiny_sources.write_templates(tmp_path / "templates", dataset.task, made)
    config = defaults()
    config.job, config.data.dir, config.task.name = "rospr_eval", str(tmp_path), "p3,bigbench,super_glue/rte"
    config.task.templates_dir = str(tmp_path / "templates")
    targets, skipped = evaluation_tasks.find(config)
    names = [target.name for target in targets]
    assert len([name for name in names if name.startswith("super_glue_rte:")]) == 10 and len(set(names)) == len(names)
    assert {target.task.metric for target in targets} == {"accuracy"}
    assert len({target.file for target in targets}) == len(targets)
    assert "cs.rochester.edu" in reasons(skipped)["story_cloze:Answer Given options"]
    assert "github.com/google/BIG-bench" in reasons(skipped)["bigbench/strategyqa"]
    assert reasons(skipped)["anli_r1:must be true"].startswith("There is no anli/dev_r1.jsonl")


def test_free_text_is_not_ranked(tmp_path: pathlib.Path) -> None:
    write_rte(tmp_path)
    config = defaults()
    config.data.dir, config.task.name = str(tmp_path), "super_glue/rte"
    config.task.input, config.task.target = "{{ premise }}", "{{ hypothesis }}"
    for config.task.metric in ("", "accuracy"):  # the config for P3 sets the latter
        with pytest.raises(UserError, match="no answer choices to rank"):
            evaluation_tasks.find(config)


def write_bigbench(folder: pathlib.Path, task: str, examples: list[dict[str, Any]]) -> None:
    (folder / "bigbench" / task).mkdir(parents=True)
    content = {"name": task, "examples": examples, "metrics": ["multiple_choice_grade"]}
    (folder / "bigbench" / task / "task.json").write_text(json.dumps(content))


def example(question: str, *answers: str) -> dict[str, Any]:
    """The first answer is right."""
    return {"input": question, "target_scores": {answer: int(not n) for n, answer in enumerate(answers)}}


@pytest.mark.usefixtures("programs")
def test_a_row_that_cannot_be_rendered_costs_its_task_alone(tmp_path: pathlib.Path) -> None:
    """Two answers of one row are both right. The folder of templates has none for these tasks. Formats are by row."""
    words = [example("Who?", "A man.", "A cat."), example("Where?", "Here.", "There.")]
    write_bigbench(tmp_path, "hindu_knowledge", words)
    write_bigbench(tmp_path, "misconceptions", [example("Is it?", "Yes", "No"), example("Was it?", "No", "Yes")])
    write_bigbench(tmp_path, "novel_concepts", [*words, {"input": "What?", "target_scores": {"a": 1, "b": 1}}])
    (tmp_path / "templates").mkdir()
    config = read_config(f"{CONFIG}:bigbench,smoke")
    config.backbone.update(name="random", dtype="float32")
    config.data.update(dir=str(tmp_path), cache_dir=str(tmp_path / "cache"), max_input_length=64, buckets=(64,))
    config.update_from_flattened_dict(
        {"task.templates_dir": str(tmp_path / "templates"), "task.eval_limit": 2, "rospr.top": 2}
    )
    model, one = tiny.backbone(), Entry("m", "glue/mrpc")
    known = {"backbone": keys.model(model).name, "fingerprint": keys.model(model).fingerprint}
    value, key = (np.ones((2, model.config.d_model), np.float32) for _ in range(2))
    config.rospr.library = str(tmp_path / "library")
    sources = [SourcePrompt(one, Prompt(value, known), key)]
    PromptLibrary.create(tmp_path / "library", keys.model(model), keys.model(model), sources, mesh=model.mesh)
    jobs.run(config, str(tmp_path / "run"))
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert list(results["datasets"]) == ["bigbench/hindu_knowledge", "bigbench/misconceptions"]
    why = {one["name"]: one["reason"] for one in results["skipped"]}
    assert len(why) == 12 and any(name.startswith("bigbench/novel_concepts") for name in why)
    records = [json.loads(path.read_text()) for path in sorted((tmp_path / "run" / "targets").glob("*.json"))]
    assert [record["answer_format"] for record in records] == ["options", "yes/no"]


def test_a_data_set_is_known_by_all_of_its_names() -> None:
    assert {"mrpc", "glue/mrpc"} <= p3.aliases("mrpc") and p3.aliases("glue/mrpc") == p3.aliases("mrpc")
    assert "anli/r2" in p3.aliases("anli_r2") and not {"anli_r1", "anli/r1"} & p3.aliases("anli_r2")
    assert "glue/rte" in p3.aliases("super_glue_rte") and "super_glue/rte" in p3.aliases("glue/rte")
    assert p3.aliases("mine") == {"mine"}
