"""What a config's `job` field may name."""

from __future__ import annotations

import sys

import ml_collections

from infoprompt_jax import settings
from infoprompt_jax.errors import UserError
from infoprompt_jax.pretraining import pretrain, validation
from infoprompt_jax.reports import report
from infoprompt_jax.rospr import evaluate as rospr_evaluate
from infoprompt_jax.rospr import results, source_prompts
from infoprompt_jax.training import evaluate, train

JOBS = {  # what runs, and what shows its summary
    "train": (train.train, report.table),
    "evaluate": (evaluate.evaluate, report.table),
    "pretrain": (pretrain.pretrain, validation.table),
    "rospr_sources": (source_prompts.train_sources, source_prompts.table),
    "rospr_eval": (rospr_evaluate.evaluate, results.table),
}


def run(config: ml_collections.ConfigDict, workdir: str) -> str:
    """Runs the job and gives the table to print; exits with status 143 if told to stop before the end.

    Raises:
      UserError: whatever the user can fix, as one sentence.
    """
    if config.get("job") not in JOBS:
        raise UserError(f"job={config.get('job')!r} is unknown: choose one of {', '.join(JOBS)}.")
    settings.check(config)
    job, table = JOBS[config.job]
    try:
        return table(job(config, workdir))
    except train.Stopped as stop:
        print(stop, file=sys.stderr)
        sys.exit(143)
