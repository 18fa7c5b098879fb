"""The command `python -m infoprompt_jax.serving`: an HTTP server with one backbone and any number of saved prompts.

    pip install "starlette>=1" uvicorn
    python -m infoprompt_jax.serving --prompt=plain=runs/nano/prompts/plain-seed0 --prompt=both=runs/nano/prompts/both-seed0
    curl localhost:8000/predict -d '{"prompt": "both", "row": {"premise": "A red tram.", "hypothesis": "A tram."}}'

With --measure it prints the rows per second of a batch of all tasks and of a batch for each, and serves nothing.
"""  # noqa: E501

from __future__ import annotations

import argparse
import importlib.util
import math
import statistics
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from infoprompt_jax import program_cache, settings
from infoprompt_jax.errors import ARGUMENTS, UserError, in_python
from infoprompt_jax.prompts.saved import Prompt, check_prompt, load_prompt
from infoprompt_jax.t5.backbone import DTYPES, WEIGHTS, load_backbone
from infoprompt_jax.training import recorded

if TYPE_CHECKING:
    from infoprompt_jax.serving.server import Server

PACKAGES = ("starlette", "uvicorn")
KEYWORDS = ("backbone.revision", "backbone.tokenizer", "backbone.takes_eos")
PATIENCE = 30  # seconds that a stopped server waits for requests that have begun


def main() -> None:
    """Serves until Ctrl-C; a mistake in the command is one sentence."""
    options = _parser()
    given = options.parse_args()
    try:
        if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
            raise UserError(f"The server needs {' and '.join(missing)}: pip install {' '.join(missing)}.")
        check(given)
        prompts = named_prompts(given.prompt)
        name, keywords = given.backbone or recorded_backbone(prompts), recorded_keywords(prompts)
        if given.backbone:
            keywords.pop("revision", None)  # of another name
        if given.tokenizer:
            keywords["tokenizer"] = given.tokenizer
        program_cache.keep(settings.defaults().data.cache_dir)
        load = in_python(load_backbone, ARGUMENTS["load_backbone"])
        backbone = load(name, dtype=given.dtype, weights=given.weights, **keywords)
        for name, prompt in prompts.items():
            check_prompt(prompt, backbone.config.d_model, backbone.fingerprint, f"--prompt={name}")
    except UserError as error:
        options.error(" ".join(str(error).split()))
    import uvicorn

    from infoprompt_jax.serving.server import Server

    server = Server(backbone, prompts, given.most, given.wait / 1000, given.waiting, given.reading)
    if given.measure:
        for kind, speed in measure(server).items():
            print(f"{kind:<30}{speed:8.0f} rows/s")
    else:
        print(f"Requests go to http://{given.host}:{given.port}/predict; Ctrl-C stops the server.", flush=True)
        uvicorn.run(
            server.app(), host=given.host, port=given.port, log_level="warning", timeout_graceful_shutdown=PATIENCE
        )


def _parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="python -m infoprompt_jax.serving", description=(__doc__ or "").splitlines()[0]
    )
    options.add_argument(
        "--prompt", action="append", default=[], metavar="NAME=PATH", help="a saved prompt; repeatable"
    )
    options.add_argument("--backbone", help="hub id, directory, nano or mini; without it, the one that prompts record")
    options.add_argument(
        "--tokenizer", help="of the backbone; without it, as the prompts record, or beside the weights"
    )
    options.add_argument("--dtype", choices=DTYPES, default="float32", help="of weights and activations")
    options.add_argument("--weights", choices=WEIGHTS, default="full", help="int8 takes half of bfloat16's memory")
    options.add_argument("--most", type=int, default=64, help="rows in a batch")
    options.add_argument("--wait", type=float, default=5, help="milliseconds that a batch is collected for")
    options.add_argument("--waiting", type=int, default=1000, help="requests that wait; more are refused with 503")
    options.add_argument("--reading", type=float, default=30, help="seconds in which a request arrives, or 408")
    options.add_argument("--host", default="127.0.0.1", help="address to listen at; 0.0.0.0 = every network")
    options.add_argument("--port", type=int, default=8000)
    options.add_argument("--measure", action="store_true", help="print rows per second, and serve nothing")
    return options


def check(given: argparse.Namespace) -> None:
    """Raises UserError for numbers that no server can use, and where there is nothing to measure."""
    if given.most < 1:
        raise UserError(f"--most={given.most} was expected to be at least 1, the rows in a batch.")
    if not (math.isfinite(given.wait) and given.wait >= 0):
        raise UserError(f"--wait={given.wait:g} was expected to be 0 or more milliseconds.")
    if given.waiting < 1:
        raise UserError(f"--waiting={given.waiting} was expected to be at least 1, the requests that wait.")
    if not (math.isfinite(given.reading) and given.reading > 0):
        raise UserError(f"--reading={given.reading:g} was expected to be more than 0 seconds.")
    if not 0 < given.port < 1 << 16:
        raise UserError(f"--port={given.port} was expected to be between 1 and 65535.")
    if given.measure and not given.prompt:
        raise UserError("--measure compares the tasks of prompts, and there are none: name them with --prompt.")


def named_prompts(given: Sequence[str]) -> dict[str, Prompt]:
    """The prompts of `NAME=PATH`. Raises UserError for another form, and where a path holds no prompt."""
    prompts = {}
    for one in given:
        name, _, path = one.partition("=")
        if not (name and path):
            raise UserError(f"--prompt={one} was expected to be NAME=PATH, such as --prompt=mine={one}")
        if name in prompts:
            raise UserError(f"--prompt={one} is the second prompt named {name}: give it another name.")
        prompts[name] = load_prompt(path)
    return prompts


def recorded_backbone(prompts: dict[str, Prompt]) -> str:
    """The backbone that all prompts record. Raises UserError where they record none, or several."""
    names = sorted({prompt.metadata["backbone"] for prompt in prompts.values() if prompt.metadata.get("backbone")})
    if len(names) != 1:
        raise UserError(f"The prompts record {' and '.join(names) or 'no backbone'}: name one with --backbone.")
    return names[0]


def recorded_keywords(prompts: dict[str, Prompt]) -> dict[str, Any]:
    """The arguments of `load_backbone` that prompts record with another value than the default.

    Raises UserError where a value is none of the field's, or two prompts have different ones.
    """
    keywords: dict[str, Any] = {}
    for field in KEYWORDS:
        declared = settings.FIELDS[field]
        values = [recorded.recorded_fields(prompt).get(field, declared.default) for prompt in prompts.values()]
        for value in values:
            declared.check(field, value)
        if len(others := sorted({*values} - {declared.default})) > 1:
            raise UserError(f"The prompts record {field}={' and '.join(others)}: serve those of one value at a time.")
        keywords |= {field.removeprefix("backbone."): value for value in others}
    return keywords


def measure(server: Server, rounds: int = 5) -> dict[str, float]:
    """Rows per second of the same questions in a batch for all tasks, and in a batch for each; medians."""
    from infoprompt_jax.serving.server import Question

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


if __name__ == "__main__":
    main()
