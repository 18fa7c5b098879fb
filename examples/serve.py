"""Serves a trained prompt over HTTP, with a route of its own beside those of the package.

    pip install "starlette>=1" uvicorn
    python -m examples.serve
    curl localhost:8000/mood?review=The+drama+was+never+silly.
    curl localhost:8000/predict -d '{"prompt": "both", "text": "A red tram.", "choices": ["yes", "no"]}'

The prompt is one of `make run`. Requests that arrive within milliseconds share a batch, whatever their routes and
prompts. A server without a route of your own needs no program: python -m infoprompt_jax.serving.
"""

from __future__ import annotations

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import infoprompt_jax as ip
from infoprompt_jax.serving.server import Question, Server

PROMPTS = {"both": "runs/nano/prompts/both-seed0"}
MOODS = ["negative", "positive"]


def app(server: Server) -> Starlette:
    """The package's routes, and GET /mood?review=TEXT."""

    async def mood(request: Request) -> JSONResponse:
        review = request.query_params.get("review")
        if not review:
            return JSONResponse({"error": "a review was expected: /mood?review=TEXT"}, status_code=400)
        answer = await server.answer(Question("both", f"{review} Is this review negative or positive?", MOODS))
        return JSONResponse({"mood": answer["prediction"]})

    return server.app([Route("/mood", mood)])


def main() -> None:
    prompts = {name: ip.load_prompt(path) for name, path in PROMPTS.items()}
    server = Server(ip.load_backbone("nano"), prompts, most=64, wait=0.005)  # rows in a batch, seconds
    print("Requests go to http://127.0.0.1:8000; Ctrl-C stops the server.", flush=True)
    uvicorn.run(app(server), port=8000, log_level="warning")


if __name__ == "__main__":
    main()
