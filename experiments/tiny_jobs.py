"""The jobs train, rospr_sources, rospr_eval and predict at their smallest, and what counts of their results.

They run on the untrained backbone `random` and on 48 made-up rows, in a folder of their own: the rows, the templates,
the cache, and what one job needs of another (`prepare`). `counted` reads a workdir as its users do.
"""

from __future__ import annotations

import hashlib
import json
import logging
import pathlib
import random
from collections.abc import Callable
from typing import Any

import ml_collections

from infoprompt_jax import checksums, files, settings
from infoprompt_jax.errors import UserError
from infoprompt_jax.training.workdir import SUMMARY

JOBS = ("train", "rospr_sources", "rospr_eval", "predict")
DATASET, OTHER = "made/words", "made/other"  # the latter is not in the library
ANIMALS, TOOLS = ("ant", "bat", "cat", "dog", "eel", "fox"), ("axe", "bit", "drill", "file", "hammer", "jig")
TEMPLATES = {"bare": "{{ words }}", "question": "What are these? {{ words }}", "list": "Words: {{ words }}"}
STEPS = 8
# Of a summary, and of what lies in it: how fast it went, where, and checksums of files, some of which show the speed.
SPEED = ("seconds", "per_second", "peak", "mfu", "wait", "compil", "started", "share", "flops", "time")
UNCOUNTED = (*SPEED, "path", "files")


def prepare(folder: pathlib.Path) -> None:
    """Writes rows and templates, and runs what the jobs `rospr_eval` and `predict` read: a library and a prompt."""
    choose = random.Random(0)
    entries = {
        name: {
            "name": name,
            "jinja": f"{text} ||| {{{{ answer_choices[label] }}}}",
            "answer_choices": "animals ||| tools",
        }
        for name, text in TEMPLATES.items()
    }
    for name in (DATASET, OTHER):
        for split, count in (("train", 32), ("validation", 16)):
            with files.whole(folder / "data" / name / f"{split}.jsonl") as partial:
                partial.write_text("".join(json.dumps(_row(choose)) + "\n" for _ in range(count)))
        with files.whole(folder / "templates" / name / "templates.yaml") as partial:
            partial.write_text(json.dumps({"templates": entries}))  # JSON is YAML
    run("rospr_sources", folder, folder / "sources")
    run("train", folder, folder / "trained")


def _row(choose: random.Random) -> dict[str, Any]:
    label = choose.randrange(2)
    words = choose.choices((ANIMALS, TOOLS)[label], k=4) + choose.choices((ANIMALS, TOOLS)[1 - label], k=2)
    return {"words": " ".join(words), "label": label}


def config(job: str, folder: pathlib.Path, **fields: Any) -> ml_collections.ConfigDict:
    """The job's config, with rows, templates and the cache in `folder`. In `fields`, a__b stands for a.b."""
    made = settings.defaults()
    made.job = job
    made.backbone.name = "random"
    made.data.update(dir=str(folder / "data"), cache_dir=str(folder / "cache"), max_input_length=64, buckets=(64,))
    made.data.max_target_length = 16
    made.task.update(name=DATASET, templates_dir=str(folder / "templates"), eval_limit=8)
    made.prompt.length = 3
    made.train.update(steps=STEPS, batch_size=8, eval_batch_size=8, eval_every=3, save_every=2, log_every=1)
    made.rospr.update(group=2, instances=3, queries=4, top=3, interpolate=2)
    if job == "train":
        made.fleet.seeds = (0, 1)
        made.infoprompt.update(gamma=0.1, beta=0.2)
    if job == "rospr_sources":
        made.train.eval_every = 0
    if job == "rospr_eval":
        made.prompt.length = 0
        made.task.name = OTHER
        made.rospr.library = str(folder / "sources" / "library")
    if job == "predict":
        made.data.file = str(folder / "data" / DATASET / "validation.jsonl")
        made.prompt.init = str(folder / "trained" / "prompts" / "run-seed0")
    made.update_from_flattened_dict({name.replace("__", "."): value for name, value in fields.items()})
    return made


def ended(job: str, folder: pathlib.Path, workdir: pathlib.Path, **fields: Any) -> dict[str, Any]:
    """Runs the job; what it returned, and what it warned of under `warnings`. Raises UserError as it does."""
    warnings: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: warnings.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("infoprompt_jax")
    log.addHandler(handler)
    try:
        summary = run(job, folder, workdir, **fields)
    finally:
        log.removeHandler(handler)
    return {"returned": without_speed(files.strict(summary)), "warnings": warnings}


def differences(result: dict[str, Any], clean: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The names of what differs between two results, `ended` with `counted`.

    First what is silently different. Second what a reader refuses, or the job names in a warning: a finished run does
    so with files that are not what it wrote.
    """
    warnings = " ".join(result["warnings"])
    wrong = [name for name, value in clean.items() if name != "warnings" and result.get(name) != value]
    known = [name for name in wrong if str(result.get(name)).startswith("refused") or f"/{name} " in warnings]
    return [name for name in wrong if name not in known], known


def run(job: str, folder: pathlib.Path, workdir: pathlib.Path, **fields: Any) -> dict[str, Any]:
    """Runs the job as the command does; returns its summary. Raises UserError as it does."""
    from infoprompt_jax import jobs
    from infoprompt_jax.serving import predict
    from infoprompt_jax.training import prompt_config

    predict.CHUNK = 4  # so that the rows are more than one
    made = settings.check(config(job, folder, **fields))
    if job == "predict":
        made = prompt_config.completed(made, ["prompt.init"])
    return jobs.JOBS[job]()[0](made, str(workdir))


def counted(workdir: pathlib.Path) -> dict[str, Any]:
    """What counts of a finished workdir, by name: logs and tables as they are; prompts and libraries as they are read.

    What a reader refuses, or what is not there, is the text of the refusal.
    """
    from infoprompt_jax.prompts import saved
    from infoprompt_jax.rospr.library import PromptLibrary

    result: dict[str, Any] = {}
    for path in sorted(workdir.rglob("*")):
        name = path.relative_to(workdir).as_posix()
        if path.name in ("metrics.jsonl", "predictions.jsonl", "results.md"):
            result[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.name in ("results.json", SUMMARY):
            kind = "summary" if path.name == SUMMARY else ""
            result[name] = _read(lambda path=path, kind=kind: without_speed(checksums.read_json(path, "-", kind=kind)))
        elif path.name == "prompt.safetensors":
            result[name] = _read(lambda path=path: _digest(saved.load_prompt(path.parent).value_PD))
        elif path.name == "manifest.json" and path.parent.name == "library":
            result[name] = _read(lambda path=path: PromptLibrary.load(path.parent).fingerprint)
    return result


def _digest(values: Any) -> str:
    return hashlib.sha256(values.tobytes()).hexdigest()


def _read(reader: Callable[[], Any]) -> Any:
    try:
        return reader()
    except (UserError, ValueError, OSError) as error:
        return f"refused: {error}"


def without_speed(value: Any) -> Any:
    """A summary without what differs from run to run: times, speeds, memory, paths."""
    if isinstance(value, dict):
        # `files` holds the checksums of pages with times.
        kept = {n: v for n, v in value.items() if n != "files" and not any(word in str(n) for word in UNCOUNTED)}
        return {
            name: without_speed(part) for name, part in kept.items() if not isinstance(part, str) or "/" not in part
        }
    return [without_speed(part) for part in value] if isinstance(value, list) else value
