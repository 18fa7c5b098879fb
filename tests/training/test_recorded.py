"""What a prompt records of its tasks, and what of it is believed."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import numpy as np
import pytest

from infoprompt_jax import settings
from infoprompt_jax.data.tasks import Task
from infoprompt_jax.data.templates import Template
from infoprompt_jax.errors import UserError
from infoprompt_jax.fleet.members import Member
from infoprompt_jax.prompts.saved import Prompt, save_prompt
from infoprompt_jax.training.prompt_config import completed, with_prompt_of
from infoprompt_jax.training.recorded import check_order, record, recorded_tasks, tasks

VALUE = np.ones((3, 4), np.float32)
ASKED = Task("mine", Template("asked", "1", "{{ text }}? ||| {{ answer_choices[label] }}", "no ||| yes"), "accuracy")
FREE = Task("other", Template("free", "2", "{{ text }} ||| {{ text }}"), "exact_match")


def made(path: pathlib.Path, *tasks: Task, **changed: Any) -> str:
    """A saved prompt that was trained on these tasks."""
    config = settings.defaults()
    config.update_from_flattened_dict({"task.name": ",".join(task.name for task in tasks), "prompt.length": 3})
    config.update_from_flattened_dict({"backbone.name": "somewhere", "data.max_input_length": 99})
    save_prompt(path, Prompt(VALUE, record(config, tasks) | changed))
    return str(path)


def using(path: str, job: str = "predict", **fields: Any) -> Any:
    config = settings.defaults()
    config.update_from_flattened_dict({"job": job, "prompt.init": path})
    config.update_from_flattened_dict({name.replace("__", "."): value for name, value in fields.items()})
    return config


def test_tasks_come_back_as_they_were() -> None:
    prompt = Prompt(VALUE, record(settings.defaults(), [ASKED, FREE]))
    asked, free = recorded_tasks(prompt, "here")
    row = {"text": "really", "label": 1}
    assert asked.render(row) == ASKED.render(row) and free.render(row) == FREE.render(row)
    assert (asked.name, asked.metric, asked.choices) == ("mine", "accuracy", ("no", "yes"))
    assert (free.name, free.metric, free.choices) == ("other", "exact_match", ())


def test_a_prompt_never_names_code_that_is_imported() -> None:
    """Tasks that seqio knows need a module; only the config may name it."""
    prompt = Prompt(VALUE, record(settings.defaults(), [Task("seqio:mine", ASKED.template, "accuracy", module="evil")]))
    prompt.metadata["fields"]["task.module"] = "evil"
    config = settings.defaults()
    config.task.module = "trusted"
    assert [task.module for task in recorded_tasks(prompt, "here", config)] == ["trusted"]
    assert [task.module for task in recorded_tasks(prompt, "here")] == [""]


def test_a_record_fills_in_what_is_not_typed(tmp_path: pathlib.Path) -> None:
    path = made(tmp_path / "prompt", ASKED, FREE)
    config = completed(using(path))
    assert (config.backbone.name, config.data.max_input_length, config.prompt.length) == ("somewhere", 99, 3)
    assert (config.task.name, config.task.template) == ("mine,other", "")
    typed = completed(using(path, backbone__name="nano", task__name="other"), ["backbone.name", "task.name"])
    assert (typed.backbone.name, typed.task.name, typed.task.template) == ("nano", "other", "")
    elsewhere = completed(using(path, "evaluate", task__name="third"))
    assert (elsewhere.task.name, elsewhere.task.template, elsewhere.backbone.name) == ("third", "all", "somewhere")
    training = using(path, "train")
    assert completed(training) is training


@pytest.mark.parametrize("job", ["evaluate", "predict"])
def test_a_typed_metric_counts_before_the_recorded_one(job: str, tmp_path: pathlib.Path) -> None:
    path = made(tmp_path / "prompt", ASKED)
    config = using(path, job, task__name="mine", task__metric="f1")
    assert [task.metric for task in tasks(completed(config, ["task.metric"]))] == ["f1"]
    assert [task.metric for task in tasks(completed(config))] == ["accuracy"]  # that of the file does not
    free = using(made(tmp_path / "free", FREE), job, task__name="other", task__metric="f1")
    with pytest.raises(UserError, match=r"task\.metric='f1' does not fit other, template 'free'"):
        tasks(completed(free, ["task.metric"]))


def test_a_metric_that_nothing_registers_is_named_before_the_rows_are_predicted(tmp_path: pathlib.Path) -> None:
    config = completed(using(made(tmp_path / "prompt", dataclasses.replace(ASKED, metric="mine"))))
    with pytest.raises(UserError, match=r"prompt' records the metric 'mine', which nothing registers: .*task\.metric"):
        tasks(config)
    config.task.metric = "f1"
    assert [task.metric for task in tasks(config)] == ["f1"]


def test_an_adapter_is_used_with_the_backbone_that_it_names(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Another one of its width would predict with it, too. A config that sets one is heeded."""
    caplog.set_level("WARNING", "infoprompt_jax")  # whatever other tests set
    save_prompt(tmp_path / "adapter", Prompt(VALUE, {"backbone": "theirs"}), "peft")
    path = str(tmp_path / "adapter")
    assert completed(using(path)).backbone.name == "theirs"
    assert not caplog.records
    assert completed(using(path, backbone__name="a/copy")).backbone.name == "a/copy"
    default = settings.defaults().backbone.name
    assert completed(using(path), ["backbone.name"]).backbone.name == default
    assert [r.getMessage() for r in caplog.records] == [
        f"prompt.init: {path!r} was trained on theirs, and is used with backbone.name={name}."
        for name in ("a/copy", default)
    ]


def test_adapters_of_different_backbones_are_not_used_together(tmp_path: pathlib.Path) -> None:
    for name in ("a", "b"):
        save_prompt(tmp_path / name, Prompt(VALUE, {"backbone": f"{name}/t5"}), "peft")
    config = using(str(tmp_path), prompt__by="prompt")
    with pytest.raises(UserError, match=r'different backbone.name, "a/t5" .*a\) and "b/t5" .*b\): set backbone.name'):
        completed(config)
    config.backbone.name = "c/t5"
    assert completed(config, ["backbone.name"]).backbone.name == "c/t5"


def test_a_record_sets_no_field_that_it_should_not(tmp_path: pathlib.Path) -> None:
    fields = {"data.cache_dir": "/elsewhere", "task.module": "evil", "data.max_input_length": 7}
    config = completed(using(made(tmp_path / "prompt", ASKED, fields=fields)))
    assert (config.data.cache_dir, config.task.module, config.data.max_input_length) == ("", "", 7)


def test_a_typed_length_must_be_the_prompts(tmp_path: pathlib.Path) -> None:
    path = made(tmp_path / "prompt", ASKED)
    with pytest.raises(UserError, match=r"has 3 tokens, the config 5: set prompt\.length=3"):
        completed(using(path, prompt__length=5), ["prompt.length"])
    assert completed(using(path, prompt__length=0), ["prompt.length"]).prompt.length == 0  # the backbone alone


def test_a_member_is_evaluated_with_the_prompt_of_its_name_alone(tmp_path: pathlib.Path) -> None:
    path = made(tmp_path / "plain-seed0", ASKED)
    config = using(str(tmp_path), "evaluate", prompt__length=3)
    assert with_prompt_of(Member("plain-seed0", config)).config.prompt.init == path
    with pytest.raises(UserError, match=r"holds the prompts plain-seed0, but none of the member 'run': set prompt"):
        with_prompt_of(Member("run", config))


def test_a_verbalizer_is_evaluated_in_the_order_of_its_choices(tmp_path: pathlib.Path) -> None:
    prompt = Prompt(VALUE, record(settings.defaults(), [ASKED]), {"verbalizer/value": VALUE[:2]})
    check_order(prompt, ("no", "yes"), "here")
    check_order(prompt, ("false", "true"), "here")  # other words
    with pytest.raises(UserError, match=r"trained for no \|\|\| yes, in this order, but the answer choices are yes"):
        check_order(prompt, ("yes", "no"), "here")
    check_order(Prompt(VALUE, prompt.metadata), ("yes", "no"), "here")  # the backbone's own head reads the words


def test_typed_answer_choices_need_an_input(tmp_path: pathlib.Path) -> None:
    """Not those of the file, and not silently those that are recorded."""
    config = using(made(tmp_path / "prompt", ASKED), task__name="", task__answer_choices="bad ||| good")
    with pytest.raises(UserError, match=r"task\.answer_choices is set, but neither task\.input nor task\.name"):
        completed(config, ["task.answer_choices"])


def test_prompts_of_one_directory_must_agree(tmp_path: pathlib.Path) -> None:
    """One job has one divisor of scores and one length of inputs, for the prompts of all rows."""
    made(tmp_path / "a", ASKED)
    made(tmp_path / "b", ASKED, fields={"data.max_input_length": 7, "prompt.kind": "instance"})
    config = using(str(tmp_path), prompt__by="column")
    with pytest.raises(UserError, match=r"record different data.max_input_length, 99 .*a\) and 7 .*b\): set data.max_"):
        completed(config, ["prompt.by"])
    assert completed(config, ["data.max_input_length"]).data.max_input_length == 512


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"fields": {"data.max_input_length": "many"}}, "records fields that cannot be read"),
        ({"templates": [{"dataset": "mine"}]}, "holds templates in its prompt.json that cannot be read"),
        ({"templates": record(settings.defaults(), [ASKED, ASKED])["templates"]}, "holds two templates of one name"),
        ({"templates": [{**record(settings.defaults(), [ASKED])["templates"][0], "name": 7}]}, "cannot be read"),
        ({"templates": "mine"}, "holds templates in its prompt.json that cannot be read"),
        ({"templates": [{**record(settings.defaults(), [ASKED])["templates"][0], "jinja": 7}]}, "cannot be read"),
    ],
)
def test_a_damaged_record_is_one_sentence(changed: dict[str, Any], sentence: str, tmp_path: pathlib.Path) -> None:
    path = made(tmp_path / "prompt", ASKED, **changed)
    with pytest.raises(UserError, match=sentence):
        recorded_tasks(Prompt(VALUE, changed), path) if "templates" in changed else completed(using(path))


def test_a_path_without_a_prompt_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"prompt.init='.*nothing' is not the path of a saved prompt"):
        completed(using(str(tmp_path / "nothing")))
