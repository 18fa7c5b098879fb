"""The server: requests that arrive together share a batch, and each gets its own prompt's answer."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import http.client
import json
import logging
import os
import pathlib
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tiny

import infoprompt_jax as ip

uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("starlette")

from starlette.applications import Starlette

pytestmark = pytest.mark.usefixtures("programs")

from examples import serve as example
from infoprompt_jax.serving import __main__ as command
from infoprompt_jax.serving.server import LARGEST, Question, Server

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
def server() -> Server:
    backbone = tiny.backbone()
    values_NPD = np.random.default_rng(0).normal(scale=3, size=(3, 4, backbone.config.d_model)).astype(np.float32)
    records: list[dict[str, Any]] = [{}, {"templates": [TEMPLATE]}, {"fields": {"scoring.normalize": "tokens"}}]
    prompts = {name: ip.Prompt(*made) for name, made in zip("abc", zip(values_NPD, records, strict=True), strict=True)}
    return Server(backbone, prompts, most=8, wait=0.5)


@contextlib.contextmanager
def serving(app: Starlette) -> Iterator[int]:
    """The port that the app answers at while the block lasts."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        running = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            running.should_exit = True
            thread.join()


def request(port: int, method: str, path: str, body: str | None = None) -> tuple[int, Any]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def post(port: int, body: Any) -> tuple[int, Any]:
    return request(port, "POST", "/predict", body if isinstance(body, str) else json.dumps(body))


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


def test_concurrent_requests_get_the_answers_of_each_alone(server: Server) -> None:
    """Prompts, texts, rows and choices of all kinds; two wrong requests do not disturb the others."""
    with serving(server.app()) as port, concurrent.futures.ThreadPoolExecutor(len(QUESTIONS)) as pool:
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
        assert answer.keys() == {"prompt", *alone} and answer["prompt"] == question.get("prompt")


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("{", "Expecting"),
        ('{"text": "a", "text": "b"}', "an object has the key 'text' twice"),
        ('{"row": {"words": NaN}}', "NaN is not a finite number"),
        ({"txt": "a"}, "a JSON object with prompt, text or row, and choices was expected"),
        ({"text": "a", "row": {}}, "either a text, a string, or a row, an object, was expected"),
        ({"text": "a", "choices": "yes"}, "choices was expected to be a list of strings"),
        ({"text": "a", "prompt": "d"}, "there is no prompt 'd', only a, b, c"),
        ({"text": "a", "prompt": ["a"]}, "there is no prompt ['a'], only a, b, c"),
        ({"text": "a", "choices": [*map(str, range(1001))]}, "there are 1001 choices, but at most 1000 were expected"),
        ({"text": "a", "choices": ["\ud800", "b"]}, "choices holds half a character"),
        (
            {"row": {"words": "a"}},
            "the request has a row, which only a prompt with recorded templates renders: give a text.",
        ),
        ("[" * 100_000, "the request is nested too deep"),
    ],
)
def test_what_is_no_question_gets_a_sentence(body: Any, sentence: str, server: Server) -> None:
    with serving(server.app()) as port:
        status, answer = post(port, body)
    assert status == 400 and answer["error"].startswith(sentence)


def test_a_half_character_of_a_wrong_row_is_written_out(server: Server) -> None:
    with serving(server.app()) as port:
        status, answer = post(port, {"prompt": "b", "row": {"\ud800": "x"}})
    assert status == 400 and "\\ud800" in answer["error"]


def test_a_long_request_is_refused(server: Server) -> None:
    with serving(server.app()) as port:
        status, answer = post(port, {"text": "a" * LARGEST})
    assert (status, answer) == (413, {"error": f"a request of at most {LARGEST} bytes was expected"})


def headers_of(connection: socket.socket) -> str:
    with connection.makefile("rb") as answer:
        return answer.read().decode().lower()


def test_a_request_that_arrives_too_slowly_is_refused(server: Server) -> None:
    slow = Server(server.backbone, server.prompts, reading=0.01)
    with serving(slow.app()) as port, socket.create_connection(("127.0.0.1", port)) as sending:
        sending.sendall(b"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Length: 100\r\n\r\n{")
        answer = headers_of(sending)  # up to the end: the server closes the connection
    assert answer.startswith("http/1.1 408 ") and "the request was expected to arrive within 0.01 s" in answer


def test_more_requests_than_may_wait_are_sent_away(server: Server) -> None:
    full = Server(server.backbone, server.prompts, waiting=1)
    question = {"prompt": "a", "text": "ant bat", "choices": CHOICES}
    with serving(full.app()) as port, socket.create_connection(("127.0.0.1", port)) as first:
        first.sendall(b"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Length: 2\r\n\r\n[")
        while not full._open:  # until the first one is being read
            threading.Event().wait(0.001)
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as second:
            second.request("POST", "/predict", json.dumps(question))
            refused = second.getresponse()
            assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
            assert json.loads(refused.read()) == {"error": "1 requests wait already: come again in 1 s"}
        first.sendall(b"]")
        assert first.recv(12) == b"HTTP/1.1 400"
        assert post(port, question)[0] == 200


def test_a_server_whose_app_has_ended_can_start_again(server: Server) -> None:
    for _ in range(2):
        with serving(server.app()) as port:
            assert post(port, {"prompt": "a", "text": "ant bat", "choices": CHOICES})[0] == 200
    with pytest.raises(RuntimeError, match=r"Server\.app does not run"):
        asyncio.run(server.answer(Question("a", "ant bat", CHOICES)))


def test_a_client_that_leaves_is_no_error(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("uvicorn.error")  # it does not propagate
    with serving(server.app()) as port:
        log.addHandler(caplog.handler)
        with socket.create_connection(("127.0.0.1", port)) as leaving:
            leaving.sendall(b"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Length: 100\r\n\r\n{")
        assert post(port, {"prompt": "a", "text": "ant bat", "choices": CHOICES})[0] == 200
    log.removeHandler(caplog.handler)
    assert not caplog.records


def test_a_wrong_question_leaves_most_of_its_batch_together(server: Server) -> None:
    """Halves of the batch, and not each question alone."""
    alone = Server(server.backbone, server.prompts, most=8, wait=0.5)
    questions = [{"prompt": "a", "text": "ant bat", "choices": CHOICES}] * 7 + [QUESTIONS[5]]
    with serving(alone.app()) as port, concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda question: post(port, question)[0], questions))
    assert answers == [200] * 7 + [400] and len(alone.batches) <= 7


@pytest.mark.slow
def test_mixed_and_one_task_batches_are_measured(server: Server) -> None:
    speeds = command.measure(server, rounds=1)
    assert list(speeds) == ["one batch of 3 tasks", "3 batches of one task"] and min(speeds.values()) > 0


def test_the_example_adds_a_route(server: Server) -> None:
    """Its answers are those of the prompt `both`, and requests to the package's routes are answered too."""
    app = example.app(Server(server.backbone, {"both": server.prompts["a"]}, wait=0))
    text, choices = "ant bat Is this review negative or positive?", ["negative", "positive"]
    with serving(app) as port:
        status, answer = request(port, "GET", "/mood?review=ant%20bat")
        assert request(port, "GET", "/prompts") == (200, ["both"])
        assert request(port, "GET", "/mood")[0] == 400
    (alone,) = ip.predict(server.backbone, [text], server.prompts["a"], choices)
    assert status == 200 and answer == {"mood": alone["prediction"]}


@pytest.mark.slow
def test_the_command_keeps_its_programs(tmp_path: pathlib.Path) -> None:
    ip.save_prompt(tmp_path / "prompt", ip.Prompt(np.zeros((2, 128), np.float32), {"backbone": "nano"}))
    line = [
        sys.executable,
        "-m",
        "infoprompt_jax.serving",
        f"--prompt=a={tmp_path / 'prompt'}",
        "--measure",
        "--most=1",
    ]
    variables = {name: value for name, value in os.environ.items() if "COMPILATION_CACHE" not in name}
    subprocess.run(line, check=True, env=variables | {"HOME": str(tmp_path)})
    assert any((tmp_path / ".cache" / "infoprompt_jax" / "programs").glob("*/jit_*-cache"))


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What the command prints, with status 2, when it refuses these options."""

    def refuse(*options: str) -> str:
        monkeypatch.setattr("sys.argv", ["serving", *options])
        with pytest.raises(SystemExit) as end:
            command.main()
        assert end.value.code == 2
        return capsys.readouterr().err

    return refuse


def test_the_command_refuses_prompts_that_it_cannot_serve(
    refusal: Callable[..., str], server: Server, tmp_path: pathlib.Path
) -> None:
    for name, backbone, width in (("first", "one", 3), ("second", "other", 3), ("third", "nano", 3)):
        ip.save_prompt(tmp_path / name, ip.Prompt(np.zeros((2, width), np.float32), {"backbone": backbone}))
    first, second, third = (f"--prompt={name}={tmp_path / name}" for name in ("first", "second", "third"))
    assert "--prompt=runs/mine was expected to be NAME=PATH, such as --prompt=mine=runs/mine" in refusal(
        "--prompt=runs/mine"
    )
    assert "is the second prompt named first: give it another name" in refusal(first, first)
    assert "The prompts record one and other: name one with --backbone" in refusal(first, second)
    assert "The prompts record no backbone: name one with --backbone" in refusal()
    assert "--most=0 was expected to be at least 1" in refusal("--most=0")
    assert "--wait=nan was expected to be 0 or more" in refusal("--wait=nan")
    assert "--waiting=0 was expected to be at least 1" in refusal("--waiting=0")
    assert "--reading=0 was expected to be more than 0" in refusal("--reading=0")
    assert "--port=99999 was expected to be between 1 and 65535" in refusal("--port=99999")
    assert "there are none: name them with --prompt" in refusal("--backbone=nano", "--measure")
    assert "--prompt=third: the prompt has width 3, but the backbone's is" in refusal(third)


def test_the_backbone_is_loaded_as_its_prompts_record(refusal: Callable[..., str], tmp_path: pathlib.Path) -> None:
    """A prompt for inputs without `</s>` fits the backbone; the other one, which ends the command, is for no such."""
    backbone = ip.load_backbone("nano", takes_eos="no")
    metadata = {"backbone": "nano", "fingerprint": backbone.fingerprint, "fields": {"backbone.takes_eos": "no"}}
    value_PD = np.zeros((2, backbone.config.d_model), np.float32)
    ip.save_prompt(tmp_path / "fits", ip.Prompt(value_PD, metadata))
    ip.save_prompt(tmp_path / "narrow", ip.Prompt(value_PD[:, :3]))
    ip.save_prompt(tmp_path / "with", ip.Prompt(value_PD, metadata | {"fields": {"backbone.takes_eos": "yes"}}))
    fits, narrow, takes = (f"--prompt={name}={tmp_path / name}" for name in ("fits", "narrow", "with"))
    assert "--prompt=narrow: the prompt has width 3" in refusal(fits, narrow)
    assert "The prompts record backbone.takes_eos=no and yes: serve those of one value at a time" in refusal(
        fits, takes
    )
    assert "tokenizer" in refusal(fits, f"--tokenizer={tmp_path / 'nothing'}")
