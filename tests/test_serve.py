"""examples/serve.py: requests that arrive together share a batch, and each gets its own prompt's answer."""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import json
import pathlib
import runpy
import socket
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tiny

import infoprompt_jax as ip

uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("starlette")

pytestmark = pytest.mark.usefixtures("programs")

EXAMPLE = runpy.run_path(str(pathlib.Path(__file__).parents[1] / "examples" / "serve.py"))
CHOICES = ["animals", "gadgets"]
TEMPLATE = {
    "dataset": "mine",
    "name": "question",
    "id": "1",
    "jinja": "What are these? {{ words }} ||| {{ answer_choices[label] }}",
    "answer_choices": " ||| ".join(CHOICES),
    "metric": "accuracy",
}


@pytest.fixture(scope="module")
def server() -> Any:
    backbone = tiny.backbone()
    values_NPD = np.random.default_rng(0).normal(scale=3, size=(3, 4, backbone.config.d_model)).astype(np.float32)
    records: list[dict[str, Any]] = [{}, {"templates": [TEMPLATE]}, {"fields": {"scoring.normalize": "tokens"}}]
    prompts = {name: ip.Prompt(*made) for name, made in zip("abc", zip(values_NPD, records, strict=True), strict=True)}
    return EXAMPLE["Server"](backbone, prompts, most=8, wait=0.5)


@contextlib.contextmanager
def serving(server: Any) -> Iterator[int]:
    """The port that the server answers at while the block lasts."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        running = uvicorn.Server(uvicorn.Config(server.app(), log_level="warning"))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            running.should_exit = True
            thread.join()


def post(port: int, body: Any) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    with contextlib.closing(connection):
        connection.request("POST", "/predict", body if isinstance(body, str) else json.dumps(body))
        response = connection.getresponse()
        return response.status, json.loads(response.read())


QUESTIONS: list[dict[str, Any]] = [
    {"prompt": "a", "text": "ant bat", "choices": CHOICES},
    {"prompt": "b", "row": {"words": "axe"}},
    {"prompt": "b", "text": "drill level jig"},
    {"prompt": "c", "text": "gnu", "choices": CHOICES},
    {"text": "hen fox", "choices": ["one", "two", "three"]},
    {"prompt": "b", "row": {"wrds": "axe"}},
    {"prompt": "a", "text": "drill"},
    {"prompt": "c", "text": "gnu", "choices": ["animals", "animals"]},
]


def test_concurrent_requests_get_the_answers_of_each_alone(server: Any) -> None:
    """Prompts, texts, rows and choices of all kinds; two wrong requests do not disturb the others."""
    with serving(server) as port, concurrent.futures.ThreadPoolExecutor(len(QUESTIONS)) as pool:
        answers = list(pool.map(lambda question: post(port, question), QUESTIONS))
    assert max(server.batches) > 1
    for question, (status, answer) in zip(QUESTIONS, answers, strict=True):
        text, choices = question.get("text") or question.get("row"), question.get("choices")
        prompt = server.prompts.get(question.get("prompt"))
        if question in (QUESTIONS[5], QUESTIONS[7]):
            with pytest.raises(ip.UserError) as error:
                ip.predict(server.backbone, [text], prompt, choices)
            assert (status, answer) == (400, {"error": str(error.value)})
            continue
        (alone,) = ip.predict(server.backbone, [text], prompt, choices)
        assert status == 200 and answer["prediction"] == alone["prediction"]
        np.testing.assert_allclose([*answer["scores"].values()], [*alone["scores"].values()], rtol=1e-4)
        assert answer.keys() == alone.keys()


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("{", "Expecting"),
        ({"txt": "a"}, "a JSON object with prompt, text or row, and choices was expected"),
        ({"text": "a", "row": {}}, "either a text, a string, or a row, an object, was expected"),
        ({"text": "a", "choices": "yes"}, "choices was expected to be a list of strings"),
        ({"text": "a", "prompt": "d"}, "there is no prompt 'd', only a, b, c"),
    ],
)
def test_what_is_no_question_gets_a_sentence(body: Any, sentence: str, server: Any) -> None:
    with serving(server) as port:
        status, answer = post(port, body)
    assert status == 400 and answer["error"].startswith(sentence)


@pytest.mark.slow
def test_mixed_and_one_task_batches_are_measured(server: Any) -> None:
    speeds = EXAMPLE["measure"](server, rounds=1)
    assert list(speeds) == ["one batch of 3 tasks", "3 batches of one task"] and min(speeds.values()) > 0


def test_a_prompt_without_a_name_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["serve", "--prompt=runs/nano/prompts/run"])
    with pytest.raises(SystemExit):
        EXAMPLE["main"]()
    assert "expected to be NAME=PATH, such as --prompt=mine=runs/nano/prompts/run" in capsys.readouterr().err
