"""The jobs that a config's field `job` names, each with the function that shows its summary.

A job is imported when it is requested: a command that holds a mistake does not wait for JAX.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_collections

from infoprompt_jax import cluster, files, hosts, program_cache, settings
from infoprompt_jax.errors import UserError

Job = Callable[[ml_collections.ConfigDict, str], dict[str, Any]]
Table = Callable[[dict[str, Any]], str]

# What jobs leave in a workdir that a reader wants, of which the last line names what is there.
FILES = (
    "prompts",
    "library",
    "backbone",
    "predictions.jsonl",
    "results.md",
    "curves.png",
    "report.html",
    "summary.json",
)


ON_SEVERAL_HOSTS = ("train", "evaluate", "predict", "rospr_sources", "rospr_eval")


def train() -> tuple[Job, Table]:
    """Trains a fleet of soft prompts. The table has a line for each member."""
    from infoprompt_jax.reports.final_table import table
    from infoprompt_jax.training.train import train

    return train, table


def evaluate() -> tuple[Job, Table]:
    """Evaluates prompts without training them. The table is that of `train`."""
    from infoprompt_jax.reports.final_table import table
    from infoprompt_jax.training.evaluate import evaluate

    return evaluate, table


def predict() -> tuple[Job, Table]:
    """Predicts the rows of a file with saved prompts or with none. The table has a line for each template."""
    from infoprompt_jax.serving.predict import predict
    from infoprompt_jax.serving.results import table

    return predict, table


def pretrain() -> tuple[Job, Table]:
    """Pretrains a small T5. The table compares its score on each data set with chance and the majority."""
    from infoprompt_jax.pretraining.pretrain import pretrain
    from infoprompt_jax.pretraining.validation import table

    return pretrain, table


def rospr_sources() -> tuple[Job, Table]:
    """Trains source prompts and makes a library of them. The table has a line for each data set."""
    from infoprompt_jax.rospr.source_prompts import table, train_sources

    return train_sources, table


def rospr_eval() -> tuple[Job, Table]:
    """Evaluates tasks zero-shot with prompts retrieved from a library. The table compares the methods."""
    from infoprompt_jax.rospr.evaluate import evaluate
    from infoprompt_jax.rospr.tables import table

    return evaluate, table


JOBS: dict[str, Callable[[], tuple[Job, Table]]] = {
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "pretrain": pretrain,
    "rospr_sources": rospr_sources,
    "rospr_eval": rospr_eval,
}


def run(config: ml_collections.ConfigDict, workdir: str) -> str:
    """Runs the config's job in `workdir` and returns the table to print, and where the files are.

    Raises:
      UserError: a mistake that the user can correct.
      Stopped: SIGTERM or Ctrl-C stopped the job; everything is saved, and the same call resumes.
    """
    cluster.join(settings.check(config).mesh)
    if hosts.count() > 1 and config.job not in ON_SEVERAL_HOSTS:
        raise UserError(
            f"job={config.job} runs in one process, but {hosts.count()} were started: start one, with mesh.processes=1 "
            f"where SLURM or Cloud TPU starts it; several processes run job={', '.join(ON_SEVERAL_HOSTS)}."
        )
    program_cache.keep(config.data.cache_dir)
    job, table = JOBS[config.job]()
    shown = table(job(config, workdir))
    there = [name for name in FILES if (files.path(workdir) / name).exists()]
    return f"{shown}\nfiles in {workdir}: {', '.join(there)}"
