"""Predictions for a file of rows, with a saved prompt, with a library's prompts, or with the backbone alone.

    python -m infoprompt_jax.main --config=configs/predict.py \
        --config.prompt.init=runs/nano/prompts/both-seed0 --config.data.file=rows.jsonl

The prompt brings its backbone, templates, answer choices and lengths (its prompt.json records them). Rows are those of
docs/data.md, with a label or without: .jsonl, .json, .csv, .tsv, .parquet or .txt, or `-` for standard input. The
workdir, runs/predict or --workdir=DIR, gets predictions.jsonl: a line for each row, in order, with the prediction and
the scores of all choices, for each template and over all templates (docs/predict.md). The same command goes on where a
stopped one was.

Another template, on the command line: --config.task.input="{{ text }} Good or bad?"
--config.task.answer_choices="bad ||| good", or --config.task.name=super_glue/rte --config.task.template="GPT-3 style".
Each row's own prompt, which a column names: --config.prompt.init=runs/nano/prompts --config.prompt.by=COLUMN.
A library's prompts, by each row's nearest instances: --config.rospr.library=LIBRARY with --config.backbone.name.
No prompt: --config.backbone.name=nano, without prompt.init. The last two need a template on the command line.
"""

from __future__ import annotations

import ml_collections

from infoprompt_jax import settings


def get_config() -> ml_collections.ConfigDict:
    config = settings.defaults()
    config.job = "predict"
    config.task.name = config.task.template = ""  # those of the prompt
    config.prompt.length = 0  # that of the prompt, if there is one
    return config
