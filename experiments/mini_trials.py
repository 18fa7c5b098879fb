"""What a longer pretraining, and a longer training of the prompt, do for SST-2 on mini: docs/mini.md.

    python -m experiments.mini_trials NAME [--backbone DIR] [--steps 600] [--length 10] [--data DATA]

Trains plain prompts with all rows of SST-2, a member a seed, as the table `A prompt for SST-2` has them, and writes
results/mini/trials/NAME.json: their scores on SST-2's validation rows, and what the backbone's pretraining recorded.
`python -m experiments.mini_page` puts all trials into the page.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import statistics
from collections.abc import Mapping
from typing import Any

from experiments import arms
from experiments.cells import plus_minus
from experiments.pages import UNMEASURED
from experiments.real import EXPERIMENT
from infoprompt_jax.data.families import family
from infoprompt_jax.files import whole
from infoprompt_jax.pretraining.loop import MEMBER
from infoprompt_jax.reports import measurements
from infoprompt_jax.reports.records import read_records, series
from infoprompt_jax.reports.tables import markdown
from infoprompt_jax.t5 import hub

SEEDS = "0-4"
LAST = 500  # steps of pretraining whose loss is averaged
MINI = pathlib.Path(__file__).parent / "results" / "mini"
TRIALS = MINI / "trials"


def run(name: str, backbone: str, steps: int, length: int, data: str, workdir: pathlib.Path) -> None:
    """Trains the prompts and writes the trial's result, which must not be there yet."""
    file = TRIALS / f"{name}.json"
    if file.exists():
        raise SystemExit(f"{file} holds this trial's result: delete it to run the trial again, or choose another NAME.")
    text = f"sst2,full,static,{steps},plain,{SEEDS}"
    about = {"run": name, "config": text, "prompt_tokens": length, "prompt_steps": steps, **pretrained(backbone)}
    fields = (f"--config.backbone.name={backbone}", f"--config.prompt.length={length}", f"--config.data.dir={data}")
    dataclasses.replace(EXPERIMENT, runs={name: text}, fields=fields).train(name, workdir / name)
    with whole(file) as partial:
        partial.write_text(json.dumps(measurements.rounded(about | arms.extract(workdir / name))) + "\n")


def pretrained(backbone: str) -> dict[str, Any]:
    """What a backbone's pretraining recorded: its steps beyond mini's, its loss and accuracies.

    The loss is the mean over the steps that are logged among the last `LAST`: that of one batch depends on which data
    sets have rows in it.
    """
    directory = hub.find(backbone)
    log = MINI / "metrics.jsonl" if backbone == "mini" else directory.parent / "metrics.jsonl"
    account, accuracies = (json.loads((directory / f"{of}.json").read_text()) for of in ("pretraining", "validation"))
    losses = series(read_records(log))[MEMBER]["task_loss"]
    sentiment = [entry["value"] for name, entry in accuracies.items() if family(name) == "sentiment"]
    return {
        "more_steps": account["steps"] if account["config"]["pretrain"].get("start_from") else 0,  # or lacks the field
        "task_loss": statistics.mean(loss for step, loss in losses.items() if step > account["steps"] - LAST),
        "held_in_sentiment": statistics.mean(sentiment),
    }


def table() -> str:
    """A line a trial: the backbone's pretraining, the prompt's training, and the scores."""
    header = (
        "trial",
        "steps of more pretraining",
        f"task loss, last {LAST} steps, nats",
        "held-in sentiment",
        "tokens of the prompt",
        "steps of 8 rows",
        "no prompt",
        "with a prompt, five seeds",
        "lowest seed",
        "highest",
    )
    rows = [line(json.loads(file.read_text())) for file in sorted(TRIALS.glob("*.json"))]
    return markdown(header, rows) if rows else UNMEASURED


def line(trial: Mapping[str, Any]) -> list[object]:
    scores = arms.values(trial, arms.test)
    return [
        trial["run"],
        f"{trial['more_steps']:,}",
        f"{trial['task_loss']:.2f}",
        f"{100 * trial['held_in_sentiment']:.1f}",
        trial["prompt_tokens"],
        f"{trial['prompt_steps']:,}",
        f"{100 * trial['references']['no prompt']:.1f}",
        plus_minus(scores),
        f"{100 * scores.min():.1f}",
        f"{100 * scores.max():.1f}",
    ]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("name", metavar="NAME", help="of the trial and its result")
    options.add_argument("--backbone", default="mini", help="WORKDIR/backbone of a job=pretrain")
    options.add_argument("--steps", type=int, default=600, help="of the prompts' training")
    options.add_argument("--length", type=int, default=10, help="tokens of a prompt")
    options.add_argument("--data", default="data", help="folder with the data sets' files, as in docs/data.md")
    options.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("runs/mini_trials"))
    given = options.parse_args()
    run(given.name, given.backbone, given.steps, given.length, given.data, given.workdir)


if __name__ == "__main__":
    main()
