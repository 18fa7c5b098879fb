"""An HTTP server that answers requests for many tasks in mixed batches, each row with its own soft prompt.

    pip install "starlette>=1" uvicorn
    python -m examples.serve --prompt=plain=runs/nano/prompts/plain-seed0 --prompt=both=runs/nano/prompts/both-seed0
    curl localhost:8000/predict -d '{"prompt": "both", "row": {"premise": "A red tram.", "hypothesis": "A tram."}}'

A request names a prompt, or none for the backbone alone. It has a `text`, which is read as it is, or a `row`, which the
prompt's own templates render; `choices` for a text are those of the prompt, if the request has none. Requests that
arrive within --wait milliseconds share a batch of at most --most. There is one backbone in memory, whatever the number
of prompts. This prints rows/s of a mixed batch and of one-task batches:

    python -m examples.serve --prompt=plain=runs/nano/prompts/plain-seed0 --prompt=both=runs/nano/prompts/both-seed0 \
        --measure
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import infoprompt_jax as ip


@dataclasses.dataclass(frozen=True)
class Question:
    """One request: the name of its prompt, its text or row, and its answer choices."""

    prompt: str | None
    text: str | dict[str, Any]
    choices: list[str] | None = None


class Server:
    """A backbone with named prompts; `answer` waits for the batch that its question is in."""

    def __init__(
        self, backbone: ip.Backbone, prompts: dict[str, ip.Prompt], most: int = 64, wait: float = 0.005
    ) -> None:
        """`most`: questions in a batch. `wait`: seconds that the first question of a batch waits for others."""
        self.backbone, self.prompts, self.most, self.wait = backbone, prompts, most, wait
        self.batches: list[int] = []  # the number of questions in each
        self._queue: asyncio.Queue[tuple[Question, asyncio.Future[Any]]] = asyncio.Queue()

    def app(self) -> Starlette:
        """The routes: POST /predict, and GET /prompts, the names."""
        routes = [Route("/predict", self._predict, methods=["POST"]), Route("/prompts", self._prompts)]
        return Starlette(routes=routes, lifespan=self._batching)

    async def answer(self, question: Question) -> dict[str, Any]:
        """What `ip.predict` returns for the question. Raises UserError as it does, for this question alone."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        await self._queue.put((question, future))
        return await future

    def predict(self, questions: Sequence[Question]) -> list[dict[str, Any]]:
        """The answers to the questions of one batch."""
        self.batches.append(len(questions))
        return ip.predict(
            self.backbone,
            [question.text for question in questions],
            [self.prompts[question.prompt] if question.prompt else None for question in questions],
            [question.choices for question in questions],
            batch_size=self.most,
        )

    async def _predict(self, request: Request) -> JSONResponse:
        try:
            question = read(await request.json(), self.prompts)
            return JSONResponse(await self.answer(question))
        except (ValueError, ip.UserError) as error:
            return JSONResponse({"error": str(error)}, status_code=400)  # json's own error is a ValueError

    async def _prompts(self, request: Request) -> JSONResponse:
        return JSONResponse(sorted(self.prompts))

    @contextlib.asynccontextmanager
    async def _batching(self, app: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(self._answer_batches())
        yield
        task.cancel()

    async def _answer_batches(self) -> None:
        while True:
            batch = [await self._queue.get()]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.wait):
                    while len(batch) < self.most:
                        batch.append(await self._queue.get())
            outcomes = await asyncio.to_thread(self._outcomes, [question for question, _ in batch])
            for (_, future), outcome in zip(batch, outcomes, strict=True):
                if not future.done():  # else the client has gone
                    settle(future, outcome)

    def _outcomes(self, questions: Sequence[Question]) -> list[dict[str, Any] | Exception]:
        """The answers, or the errors. If a question of the batch is wrong, each is answered alone."""
        try:
            return [*self.predict(questions)]
        except Exception as error:
            return [error] if len(questions) == 1 else [self._outcomes([question])[0] for question in questions]


def settle(future: asyncio.Future[Any], outcome: dict[str, Any] | Exception) -> None:
    """Hands an answer or an error to whoever waits for it."""
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def read(body: Any, prompts: dict[str, ip.Prompt]) -> Question:
    """The question of a request. Raises ValueError for what is no question."""
    if not isinstance(body, dict) or not body.keys() <= {"prompt", "text", "row", "choices"}:
        raise ValueError("a JSON object with prompt, text or row, and choices was expected")
    text, row, choices, name = (body.get(key) for key in ("text", "row", "choices", "prompt"))
    if not ((isinstance(text, str) and row is None) or (isinstance(row, dict) and text is None)):
        raise ValueError("either a text, a string, or a row, an object, was expected")
    if choices is not None and not (isinstance(choices, list) and all(isinstance(choice, str) for choice in choices)):
        raise ValueError("choices was expected to be a list of strings")
    if name is not None and name not in prompts:
        raise ValueError(f"there is no prompt {name!r}, only {', '.join(sorted(prompts))}")
    return Question(name, text if row is None else row, choices)


def measure(server: Server, rounds: int = 5) -> dict[str, float]:
    """Rows a second of the same questions in a batch for all tasks, and in a batch for each; medians."""
    names = sorted(server.prompts)
    text, choices = "The drama was never silly. Is this review negative or positive?", ["negative", "positive"]
    questions = [Question(names[i % len(names)], text, choices) for i in range(server.most)]
    by_task = [[question for question in questions if question.prompt == name] for name in names]
    kinds = {f"one batch of {len(names)} tasks": [questions], f"{len(names)} batches of one task": by_task}
    speeds = {}
    for kind, batches in kinds.items():
        seconds = []
        for _ in range(rounds + 1):  # the first one compiles
            start = time.perf_counter()
            for batch in batches:
                server.predict(batch)
            seconds.append(time.perf_counter() - start)
        speeds[kind] = len(questions) / statistics.median(seconds[1:])
    return speeds


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--backbone", default="nano", help="as ip.load_backbone takes it")
    options.add_argument(
        "--prompt", action="append", default=[], metavar="NAME=PATH", help="a saved prompt; repeatable"
    )
    options.add_argument("--most", type=int, default=64, help="rows in a batch")
    options.add_argument("--wait", type=float, default=5, help="milliseconds that a batch is collected for")
    options.add_argument("--port", type=int, default=8000)
    options.add_argument("--measure", action="store_true", help="print rows a second, and serve nothing")
    given = options.parse_args()
    named = [one.partition("=") for one in given.prompt]
    for one, (name, _, path) in zip(given.prompt, named, strict=True):
        if not (name and path):
            options.error(f"--prompt={one} was expected to be NAME=PATH, such as --prompt=mine={one}")
    try:
        prompts = {name: ip.load_prompt(path) for name, _, path in named}
        server = Server(ip.load_backbone(given.backbone), prompts, given.most, given.wait / 1000)
    except ip.UserError as error:
        options.error(str(error))
    if given.measure:
        for kind, speed in measure(server).items():
            print(f"{kind:<30}{speed:8.0f} rows/s")
    else:
        print(f"Requests go to http://127.0.0.1:{given.port}/predict; Ctrl-C stops the server.", flush=True)
        uvicorn.run(server.app(), port=given.port, log_level="warning")


if __name__ == "__main__":
    main()
