"""Tiny runs of the jobs: generated rows, the untrained backbone, a few steps; and ways for a run to die.

As a script it trains in a process of its own, which kills itself:

    python tests/tiny_runs.py CONFIG.json WORKDIR step 5 | save 6 | seconds 3.5
"""

from __future__ import annotations

import itertools
import json
import os
import pathlib
import signal
import sys
from collections.abc import Callable
from typing import Any

import generated_words
import ml_collections

from infoprompt_jax import jobs, settings
from infoprompt_jax.fleet.fleet import Fleet

STEPS = 10
TEMPLATES = """\
dataset: generated/words
templates:
  a: !Template
    answer_choices: animals ||| gadgets
    id: a
    jinja: '{{ words }} ||| {{ answer_choices[label] }}'
    metadata: !TemplateMetadata {original_task: true}
    name: bare
  b: !Template
    answer_choices: animals ||| gadgets
    id: b
    jinja: 'What are these? {{ words }} ||| {{ answer_choices[label] }}'
    metadata: !TemplateMetadata {original_task: true}
    name: question
"""


def config(directory: pathlib.Path, **fields: Any) -> ml_collections.ConfigDict:
    """Both of InfoPrompt's terms on a mixture of two templates, over data in `directory` (written if absent).

    Evaluations, saves and the schedule's warm-up end at different steps. In `fields`, a__b stands for a.b.
    """
    if not (directory / "data").exists():
        generated_words.write(directory / "data")
        (directory / "templates" / "generated" / "words").mkdir(parents=True)
        (directory / "templates" / "generated" / "words" / "templates.yaml").write_text(TEMPLATES)
    made = settings.defaults()
    made.backbone.name = "random"
    made.data.update(
        dir=str(directory / "data"), cache_dir=str(directory / "cache"), max_input_length=64, buckets=(64,)
    )
    made.task.update(name="generated/words", templates_dir=str(directory / "templates"), eval_limit=16)
    made.prompt.length = 4
    made.infoprompt.update(gamma=0.1, beta=0.2)
    made.train.update(steps=STEPS, batch_size=8, eval_batch_size=16, warmup=0.4, schedule="cosine")
    made.train.update(eval_every=4, save_every=3, log_every=1)
    made.update_from_flattened_dict({name.replace("__", "."): value for name, value in fields.items()})
    return made


def acting(program: str, is_time: Callable[..., bool], act: Callable[[], None]) -> property:
    """One of a fleet's programs that calls `act` before a call whose arguments say that it is time."""
    compiled = getattr(Fleet, program)

    def watch(self: Fleet) -> Callable:
        run = compiled.__get__(self)

        def watched(*arguments: Any) -> Any:
            if is_time(*arguments):
                act()
            return run(*arguments)

        return watched

    return property(watch)


def before_step(number: int, act: Callable[[], None]) -> property:
    """`Fleet.step` that calls `act` before it computes step `number` (from 0)."""
    return acting("step", lambda state, *_: int(state.step) == number, act)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def prepare_to_die(where: str, when: str) -> None:
    """By a signal before a step or a batch of an evaluation, with a checkpoint not yet named, or in so many seconds."""
    if where == "step":
        Fleet.step = before_step(int(when), kill)
    elif where == "stop":
        Fleet.step = before_step(int(when), terminate)
    elif where == "batch":
        calls = itertools.count()
        Fleet.scores = acting("scores", lambda *_: next(calls) == int(when), terminate)
    elif where == "save":

        def before_renaming(event: str, arguments: tuple) -> None:
            if event == "os.rename" and str(arguments[1]).endswith(f"/checkpoints/{when}"):
                kill()

        sys.addaudithook(before_renaming)
    else:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process as SIGKILL does: at once, no clean-up
        signal.setitimer(signal.ITIMER_REAL, float(when))


if __name__ == "__main__":
    prepare_to_die(*sys.argv[3:])
    made = settings.defaults()
    made.update_from_flattened_dict(settings.flatten(json.loads(pathlib.Path(sys.argv[1]).read_text())))
    jobs.run(made, sys.argv[2])
