"""Predictions from Python: mixed prompts, every kind of prompt, rows and strings; equal to other implementations."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
import pytest
import tiny
import tiny_runs

import infoprompt_jax as ip
from infoprompt_jax import jobs
from infoprompt_jax.errors import UserError
from infoprompt_jax.nano import world
from infoprompt_jax.prompts.saved import Prompt
from infoprompt_jax.t5 import hub, partition

CHOICES = ["animals", "gadgets"]
TEXTS = ["ant bat", "axe", "drill level jig", "gnu", "hen fox", "a text that is longer than the other ones"]
LM = {"train__task_loss": "lm", "prompt__kind": "instance"}
VERBALIZER = {
    "train__task_loss": "verbalizer", "infoprompt__variational": True, "infoprompt__representation": "mean_encoder"
}  # fmt: skip

pytestmark = pytest.mark.usefixtures("programs")


@pytest.fixture(scope="module")
def model() -> tiny.Backbone:
    return tiny.backbone()


def values(model: tiny.Backbone, *lengths: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(scale=3, size=(length, model.config.d_model)).astype(np.float32) for length in lengths]


def scores(answers: list[dict[str, Any]]) -> np.ndarray:
    return np.array([list(answer["scores"].values()) for answer in answers])


def test_a_mixed_batch_answers_as_each_prompt_alone(model: tiny.Backbone) -> None:
    """Prompts of several lengths and none, in one call; each text also alone, without other rows beside it."""
    first, second, shorter, empty = values(model, 3, 3, 2, 0)
    prompts = [first, second, None, shorter, empty, first]
    mixed = ip.predict(model, TEXTS, prompts, CHOICES)
    for text, prompt, answer in zip(TEXTS, prompts, mixed, strict=True):
        (alone,) = ip.predict(model, [text], prompt, CHOICES, batch_size=8)
        np.testing.assert_allclose(scores([answer]), scores([alone]), rtol=1e-4)
    tokens = np.array([[*model.tokenizer.encode([TEXTS[0]])[0], 1]])
    choices_BCT = np.array([[[*ids, 1] for ids in model.tokenizer.encode(CHOICES)]])
    np.testing.assert_allclose(scores(mixed[:1]), model.score(tokens, choices_BCT, first), rtol=1e-4)
    assert [list(answer["scores"]) for answer in mixed] == [CHOICES] * len(TEXTS)


def test_each_text_is_scored_as_its_own_prompt_records(model: tiny.Backbone) -> None:
    """Beside prompts that record something else, or nothing."""
    records = [{"scoring.normalize": "tokens"}, {"data.max_input_length": 8}, {}, {"scoring.normalize": "characters"}]
    prompts = [Prompt(value, {"fields": of}) for value, of in zip(values(model, 3, 3, 3, 3), records, strict=True)]
    text = TEXTS[-1]  # longer than 8 tokens
    mixed = ip.predict(model, [text] * 4, prompts, CHOICES)
    for prompt, answer in zip(prompts, mixed, strict=True):
        (alone,) = ip.predict(model, [text], prompt, CHOICES)
        np.testing.assert_allclose(scores([answer]), scores([alone]), rtol=1e-4)
    (plain,) = ip.predict(model, [text], Prompt(prompts[0].value_PD), CHOICES)
    assert not np.allclose(scores(mixed[:1]), scores([plain]), rtol=1e-2)


def test_each_text_may_have_its_choices(model: tiny.Backbone) -> None:
    lists = [CHOICES, ["a", "b", "c"], None]  # without any, the answer is generated
    mixed = ip.predict(model, TEXTS[:3], choices=lists)
    for text, listed, answer in zip(TEXTS, lists, mixed, strict=False):
        (alone,) = ip.predict(model, [text], choices=listed)
        assert list(answer["scores"]) == (listed or []) and answer["prediction"] == alone["prediction"]
        np.testing.assert_allclose(scores([answer]), scores([alone]), rtol=1e-4)


def test_texts_and_choices_may_be_any_iterable(model: tiny.Backbone) -> None:
    expected = ip.predict(model, TEXTS, choices=CHOICES)
    assert ip.predict(model, iter(TEXTS), choices=iter(CHOICES)) == expected  # pyright: ignore[reportArgumentType]
    assert ip.predict(model, np.array(TEXTS), choices=np.array(CHOICES)) == expected  # pyright: ignore[reportArgumentType]


def test_a_verbalizer_keeps_the_order_of_its_answer_choices(model: tiny.Backbone) -> None:
    """Its rows are numbered: in another order, each would be another answer's."""
    template = {"dataset": "d", "name": "t", "id": "t", "jinja": "{{ text }} ||| {{ answer_choices[label] }}"}
    entry = template | {"answer_choices": " ||| ".join(CHOICES), "metric": "accuracy"}
    head = {"verbalizer/value": np.ones((2, model.config.d_model), np.float32)}
    prompt = Prompt(values(model, 3)[0], {"templates": [entry], "fields": {"train.task_loss": "verbalizer"}}, head)
    assert (answers := ip.predict(model, TEXTS, prompt, CHOICES)) == ip.predict(model, TEXTS, prompt)
    former = {**prompt.metadata, "fields": {"train.task_loss": "verbalizer", "scoring.normalize": "tokens"}}
    assert ip.predict(model, TEXTS, dataclasses.replace(prompt, metadata=former)) == answers  # which divided nothing
    for wrong in (CHOICES[::-1], ["a", "b"], [*CHOICES, "c"]):
        with pytest.raises(
            UserError, match=r"trained for the answer choices animals \|\|\| gadgets, in this order, but"
        ):
            ip.predict(model, TEXTS, prompt, wrong)
    with pytest.raises(UserError, match="was trained to rank answer choices, and there are none"):
        ip.predict(model, TEXTS, prompt, [])
    with pytest.raises(UserError, match=r"^normalize='tokens' divides log-probabilities, but the prompt ranks"):
        ip.predict(model, TEXTS, prompt, normalize="tokens")


def test_what_is_cut_is_logged(model: tiny.Backbone, caplog: pytest.LogCaptureFixture) -> None:
    """Of two texts with choices that are cut, each; the argument that the sentence names keeps them whole."""
    choices = [("a", "much longer"), ("a", "b"), ("a", "also longer")]
    ip.predict(model, TEXTS[:3], choices=choices, max_target_length=20)
    assert not caplog.records
    ip.predict(model, ["ant " * 20, *TEXTS[1:3]], choices=choices, max_input_length=24, max_target_length=4)
    assert [record.getMessage() for record in caplog.records] == [
        "1 inputs were cut to max_input_length=24 tokens.",
        "2 inputs have answer choices that were cut to max_target_length=4 tokens.",
    ]
    with pytest.raises(
        UserError, match=r"'long one' and 'long two' are the same .* to max_target_length=4 tokens: set it"
    ):
        ip.predict(model, TEXTS[:1], choices=["long one", "long two"], max_target_length=4)


@pytest.mark.parametrize("fields", [LM, VERBALIZER], ids=["instance", "verbalizer and posterior"])
def test_all_that_was_trained_with_a_prompt_is_used(fields: dict[str, Any], tmp_path: pathlib.Path) -> None:
    """The rows of the run's evaluation, with the template as text: the same accuracy, and a plain prompt beside it."""
    config = tiny_runs.config(
        tmp_path, **fields, train__steps=4, train__learning_rate=3.0, task__template="question", task__eval_limit=64,
        train__critic_learning_rate=0.01,
    )  # fmt: skip
    jobs.run(config, str(tmp_path / "run"))
    model, prompt = tiny.backbone(), ip.load_prompt(tmp_path / "run" / "prompts" / "run")
    file = tmp_path / "data" / "generated" / "words" / "validation.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()][:64]
    plain = Prompt(values(model, 4)[0], {"templates": prompt.metadata["templates"]})
    mixed = ip.predict(model, [*rows, *rows[:3]], [*[prompt] * len(rows), *[plain] * 3])
    answers = mixed[: len(rows)]
    right = np.mean([answer["prediction"] == answer["target"] for answer in answers])
    assert right == pytest.approx(prompt.metadata["metrics"]["accuracy"])
    as_text = ip.predict(model, [f"What are these? {row['words']}" for row in rows], prompt)
    np.testing.assert_allclose(scores(as_text), scores(answers), rtol=1e-4)
    assert np.abs(scores(mixed[-3:]) - scores(answers[:3])).max() > 1e-3


def test_a_batch_need_not_divide_over_the_devices(model: tiny.Backbone) -> None:
    value, down, up = values(model, 3, 64, 12)
    generator = {"generator/down": down[:, :4], "generator/up": up.reshape(4, 3, -1)}
    prompt = Prompt(value, {"fields": {"prompt.kind": "instance", "prompt.bottleneck": 4}}, generator)
    expected = scores(ip.predict(model, TEXTS, prompt, CHOICES))
    for batch_size in (1, 5, 64):
        answers = ip.predict(tiny.backbone(partition.make_mesh()), TEXTS, prompt, CHOICES, batch_size=batch_size)
        np.testing.assert_allclose(scores(answers), expected, rtol=1e-4)


def test_predictions_equal_those_of_peft_and_transformers(tmp_path: pathlib.Path) -> None:
    """Row by row, on nano with a prompt that changes its answers, exported to PEFT."""
    torch, peft = pytest.importorskip("torch"), pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    model = ip.load_backbone("nano", mesh=tiny.one_device())
    lines = (world.folder(str(tmp_path), "nano/films") / "nano" / "films" / "validation.jsonl").read_text()
    texts = [f"{json.loads(line)['text']} Is this review negative or positive?" for line in lines.splitlines()[:24]]
    choices = ["negative", "positive"]
    value = np.asarray(model.embed(model.tokenizer.pieces[None, 40:48])[0])
    ip.save_prompt(tmp_path / "adapter", Prompt(value, {"backbone": "nano"}), "peft")
    t5 = transformers.T5ForConditionalGeneration.from_pretrained(hub.find("nano"))
    adapted = peft.PeftModel.from_pretrained(t5, tmp_path / "adapter").eval()
    expected = []
    for text in texts:
        inputs = torch.tensor([[*model.tokenizer.encode([text])[0].tolist(), 1]])
        log_p = []
        for ids in model.tokenizer.encode(choices):
            labels = torch.tensor([[*ids.tolist(), 1]])
            shifted = torch.cat([torch.zeros_like(labels[:, :1]), labels[:, :-1]], dim=1)
            with torch.no_grad():
                logits = adapted(
                    input_ids=inputs, attention_mask=torch.ones_like(inputs), decoder_input_ids=shifted
                ).logits
            log_p.append(float(torch.log_softmax(logits, -1).gather(-1, labels[..., None]).sum()))
        expected.append(log_p)
    answers = ip.predict(model, texts, ip.load_prompt(tmp_path / "adapter"), choices)
    np.testing.assert_allclose(scores(answers), expected, atol=2e-4)
    assert [a["prediction"] for a in answers] == [choices[int(np.argmax(row))] for row in expected]
    alone = ip.predict(model, texts, choices=choices)
    assert len({a["prediction"] for a in answers}) == 2 and np.abs(scores(alone) - scores(answers)).max() > 0.1


class Frame(list[str]):
    """As a data frame, it is iterated by the names of its columns."""

    columns = ("words", "label")


def test_rows_of_a_data_frame(model: tiny.Backbone) -> None:
    """NumPy's numbers and arrays, and what pandas calls missing, are what a file's rows have for them."""
    templates = [
        {"dataset": "mine", "name": "which", "id": "1", "metric": "accuracy",
         "answer_choices": "{{ kinds | join('|||') }}",
         "jinja": "{% if left == '1' %}{{ words }} {{ note }}{% endif %} Which? ||| {{ answer_choices[label] }}"},
    ]  # fmt: skip
    prompt = Prompt(values(model, 2)[0], {"templates": templates})
    missing = type("NAType", (), {"__bool__": None})()  # its truth is an error, as that of pandas' NA
    frame = {"words": np.str_("ant bat"), "left": np.int64(1), "kinds": np.array(CHOICES), "label": np.int64(1)}
    row = {"words": "ant bat", "left": 1, "kinds": CHOICES, "label": 1, "note": None}
    for note, label in ((missing, np.int64(1)), (np.float32("nan"), np.bool_(True))):
        assert ip.predict(model, [{**frame, "note": note, "label": label}], prompt) == ip.predict(model, [row], prompt)
    (answer,) = ip.predict(model, [{**frame, "note": "", "label": missing}], prompt)
    assert answer["prediction"] and "target" not in answer
    with pytest.raises(UserError, match="it prints a value of type datetime64, which has no text"):
        ip.predict(model, [{**frame, "note": np.datetime64("2024-02-29", "ns")}], prompt)
    with pytest.raises(UserError, match=r"texts is a Frame: give its rows, as texts.to_dict\('records'\) of pandas"):
        ip.predict(model, Frame(Frame.columns), prompt)


def test_nan_is_no_prediction(model: tiny.Backbone) -> None:
    broken = np.full((2, model.config.d_model), np.nan, np.float32)
    (answer,) = ip.predict(model, ["ant"], broken, CHOICES)
    assert answer == {"prediction": None, "scores": {"animals": None, "gadgets": None}}
    whole = np.zeros_like(broken)
    generated = [answer["prediction"] for answer in ip.predict(model, ["ant", "ant"], [broken, whole])]
    assert generated[0] is None and isinstance(generated[1], str)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"backbone": "nano"}, "backbone is of type str: give what load_backbone returns"),
        ({"texts": "ant"}, r"texts is one text, .* write \[text\]"),
        ({"prompt": [None]}, "prompt lists 1 prompts for 6 texts"),
        ({"choices": "yes"}, "choices is the text 'yes', but a list"),
        ({"choices": [["a", "b"]]}, "choices has 1 lists for 6 texts"),
        ({"choices": ["no", "yes", ["a", "b"], None, None, None]}, "choices holds 'no', but texts alone"),
        ({"choices": [1, 2, 3, 4, 5, 6]}, "choices holds 1, but texts alone"),
        ({"choices": ["a", "a"]}, r"choices has \['a', 'a'\], but at least two that differ"),
        ({"texts": [{"text": "ant"}]}, "texts holds a row, which only a prompt with recorded templates renders"),
        (
            {"prompt": np.zeros((2, 8), np.float32), "choices": CHOICES},
            "^prompt: the prompt has width 8, but the backbone's is 64",
        ),
        ({"texts": [5]}, "texts holds 5, but strings were expected, or rows"),
        (
            {"prompt": np.zeros((1, 2, 64), np.float32)},
            r"prompt is an array of shape \[1, 2, 64\] .* \[P, D\] were exp",
        ),
        ({"prompt": np.array([["a"]])}, "prompt is an array of shape .* and type <U1"),
        ({"prompt": "nothing"}, "^prompt: 'nothing' does not exist"),
        ({"batch_size": "8", "choices": CHOICES}, "^batch_size='8' is of type str"),
        ({"batch_size": 0, "choices": CHOICES}, "^batch_size=0 is out of range"),
        ({"max_input_length": 1, "choices": CHOICES}, "^max_input_length=1 is out of range"),
    ],
)
def test_what_does_not_fit_is_one_sentence(model: tiny.Backbone, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as error:
        ip.predict(**{"backbone": model, "texts": TEXTS, **arguments})
    assert "config" not in str(error.value)
