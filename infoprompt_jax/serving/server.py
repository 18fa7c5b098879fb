"""An HTTP server for many tasks: concurrent requests share a batch, and each row gets its own soft prompt.

`python -m infoprompt_jax.serving` starts it. There is one backbone in memory, whatever the number of prompts. A program
that serves in its own way calls `Server.answer`, and adds routes to `Server.app`: examples/serve.py.

A request names a prompt, or none for the backbone alone. It has a `text`, which is read as it is, or a `row`, which the
prompt's own templates render. The `choices` of a text are those that the prompt records, if the request has none.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from infoprompt_jax import foreign
from infoprompt_jax.errors import ARGUMENTS, UserError, in_python
from infoprompt_jax.prompts.saved import Prompt
from infoprompt_jax.serving import texts
from infoprompt_jax.t5.backbone import Backbone

LARGEST = 1 << 20  # bytes of a request
MOST_CHOICES = 1000  # of a request: they are scored together, with those of the whole batch
REMEMBERED = 1000  # sizes of batches
WAITING = 1000  # requests that wait or are answered, at the most
READING = 30.0  # seconds in which a request has arrived
RETRY = 1  # seconds after which one that is too many may come again

# ip.predict, whose sentences are for callers who gave a list of texts.
WORDS = {**ARGUMENTS["predict"], "^texts holds": "the request has", "give a string": "give a text"}
predict = in_python(texts.predict, WORDS)


@dataclasses.dataclass(frozen=True)
class Question:
    """One request: the name of its prompt, its text or row, and its answer choices."""

    prompt: str | None
    text: str | Mapping[str, Any]
    choices: Sequence[str] | None = None


class Server:
    """A backbone with named prompts; `answer` waits for the batch that its question is in."""

    def __init__(
        self,
        backbone: Backbone,
        prompts: Mapping[str, Prompt],
        most: int = 64,
        wait: float = 0.005,
        waiting: int = WAITING,
        reading: float = READING,
    ) -> None:
        """`most`: questions in a batch. `wait`: seconds that the first question of a batch waits for others.

        `waiting`: requests that are read or wait for an answer; more are refused. `reading`: seconds to read one.
        """
        self.backbone, self.prompts, self.most, self.wait = backbone, prompts, most, wait
        self.waiting, self.reading = waiting, reading
        self._open = 0  # requests that are read or wait
        self.batches: collections.deque[int] = collections.deque(maxlen=REMEMBERED)  # questions in each of the last
        self._queue: asyncio.Queue[tuple[Question, asyncio.Future[Any]]] | None = None  # while the app runs

    def app(self, routes: Sequence[Route] = ()) -> Starlette:
        """POST /predict; GET /prompts, the names; and more routes. While it runs, batches are answered."""
        own = [Route("/predict", self._predict, methods=["POST"]), Route("/prompts", self._prompts)]
        return Starlette(routes=[*own, *routes], lifespan=self._batching)

    async def answer(self, question: Question) -> dict[str, Any]:
        """What `ip.predict` returns for the question. Raises UserError as it does, for this question alone.

        Raises RuntimeError where `app` does not run: a server of another kind must run the app's lifespan.
        """
        if self._queue is None:
            raise RuntimeError("Server.app does not run, so no batch is answered: run its lifespan.")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        await self._queue.put((question, future))
        return await future

    def predict(self, questions: Sequence[Question]) -> list[dict[str, Any]]:
        """The answers to the questions of one batch."""
        self.batches.append(len(questions))
        return predict(
            self.backbone,
            [question.text for question in questions],
            [self.prompts[question.prompt] if question.prompt else None for question in questions],
            [question.choices for question in questions],
            batch_size=self.most,
        )

    async def _predict(self, request: Request) -> JSONResponse:
        if self._open >= self.waiting:
            busy = ValueError(f"{self.waiting} requests wait already: come again in {RETRY} s")
            return refusal(busy, 503, {"Retry-After": str(RETRY)})
        self._open += 1
        try:
            return await self._answered(request)
        finally:
            self._open -= 1

    async def _answered(self, request: Request) -> JSONResponse:
        try:
            async with asyncio.timeout(self.reading):
                body = await content(request)
        except TimeoutError:
            late = ValueError(f"the request was expected to arrive within {self.reading:g} s")
            return refusal(late, 408, {"Connection": "close"})
        except TooLargeError as error:
            return refusal(error, 413)
        except ValueError as error:  # json's own error is one
            return refusal(error, 400)
        except ClientDisconnect:
            return refusal(ValueError("the request was cut off"), 400)  # nobody reads it
        try:
            question = read(body, self.prompts)
            return JSONResponse({"prompt": question.prompt} | await self.answer(question))
        except (ValueError, UserError) as error:
            return refusal(error, 400)

    async def _prompts(self, request: Request) -> JSONResponse:
        return JSONResponse(sorted(self.prompts))

    @contextlib.asynccontextmanager
    async def _batching(self, app: Starlette) -> AsyncIterator[None]:
        queue = self._queue = asyncio.Queue()  # a queue belongs to one event loop
        task = asyncio.create_task(self._answer_batches(queue))
        try:
            yield
        finally:
            self._queue = None
            task.cancel()

    async def _answer_batches(self, queue: asyncio.Queue[tuple[Question, asyncio.Future[Any]]]) -> None:
        while True:
            batch = [await queue.get()]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.wait):
                    while len(batch) < self.most:
                        batch.append(await queue.get())
            outcomes = await asyncio.to_thread(self._outcomes, [question for question, _ in batch])
            for (_, future), outcome in zip(batch, outcomes, strict=True):
                if not future.done():  # else the client has gone
                    settle(future, outcome)

    def _outcomes(self, questions: Sequence[Question]) -> list[dict[str, Any] | Exception]:
        """The answers, or the errors. A batch with a wrong question is halved until that one is alone."""
        try:
            return [*self.predict(questions)]
        except Exception as error:
            if len(questions) == 1:
                return [error]
            half = len(questions) // 2
            return self._outcomes(questions[:half]) + self._outcomes(questions[half:])


def settle(future: asyncio.Future[Any], outcome: dict[str, Any] | Exception) -> None:
    """Hands an answer or an error to whoever waits for it."""
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


class TooLargeError(ValueError):
    """A request is longer than LARGEST."""


async def content(request: Request) -> Any:
    """The JSON of a request. Raises ValueError for one that is too long or too deep, or as `foreign.parsed`."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST:
            raise TooLargeError(f"a request of at most {LARGEST} bytes was expected")
    try:
        return foreign.parsed(body.decode())
    except RecursionError as error:
        raise ValueError("the request is nested too deep") from error


def refusal(error: Exception, status: int, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """What a refused request gets. Half characters, which JSON can write and UTF-8 cannot, are written out."""
    text = str(error).encode(errors="backslashreplace").decode()
    return JSONResponse({"error": text}, status_code=status, headers=headers)


def read(body: Any, prompts: Mapping[str, Prompt]) -> Question:
    """The question of a request. Raises ValueError for what is no question."""
    if not isinstance(body, dict) or not body.keys() <= {"prompt", "text", "row", "choices"}:
        raise ValueError("a JSON object with prompt, text or row, and choices was expected")
    text, row, choices, name = (body.get(key) for key in ("text", "row", "choices", "prompt"))
    if not ((isinstance(text, str) and row is None) or (isinstance(row, dict) and text is None)):
        raise ValueError("either a text, a string, or a row, an object, was expected")
    if choices is not None and not (isinstance(choices, list) and all(isinstance(choice, str) for choice in choices)):
        raise ValueError("choices was expected to be a list of strings")
    if any("\ud800" <= letter <= "\udfff" for choice in choices or () for letter in choice):
        raise ValueError("choices holds half a character, which no answer can hold")
    if choices is not None and len(choices) > MOST_CHOICES:
        raise ValueError(f"there are {len(choices)} choices, but at most {MOST_CHOICES} were expected")
    if name is not None and not (isinstance(name, str) and name in prompts):
        raise ValueError(f"there is no prompt {name!r}, only {', '.join(sorted(prompts))}")
    content: Any = row if text is None else text
    return Question(name, content, choices)
