"""Libraries of random source prompts for the random backbone, and an evaluation of two templates with one."""

from __future__ import annotations

import pathlib
from typing import Any

import ml_collections
import numpy as np
import tiny
import tiny_runs

from infoprompt_jax.prompts.saved import Prompt
from infoprompt_jax.rospr import keys
from infoprompt_jax.rospr.library import PromptLibrary
from infoprompt_jax.rospr.library_files import Entry
from infoprompt_jax.rospr.library_sources import SourcePrompt

P, TOP = 3, 4


def prompt(seed: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=3, size=(P, width)).astype(np.float32)


def make_library(
    path: pathlib.Path,
    model: tiny.Backbone,
    values: list[np.ndarray],
    keys_of: list[np.ndarray],
    first: int = 0,
    **fields: Any,
) -> str:
    made = {"retriever": keys.model(model), "backbone": keys.model(model)} | fields
    known = {"backbone": made["backbone"].name, "fingerprint": made["backbone"].fingerprint}
    sources = [
        SourcePrompt(
            Entry(f"source {m}", f"data {m // 2}", "t", "family", "yes/no", ("Yes", "No")),
            Prompt(value_PD, known),
            keys_NR.astype(np.float32),
            [f"instance {m}.{i}" for i in range(len(keys_NR))],
        )
        for m, (value_PD, keys_NR) in enumerate(zip(values, keys_of, strict=True), first)
    ]
    PromptLibrary.create(path, sources=sources, mesh=model.mesh, **made)
    return str(path)


def random_library(path: pathlib.Path, model: tiny.Backbone, count: int, **fields: Any) -> str:
    width = model.config.d_model
    values = [prompt(m, width) for m in range(count)]
    keys_of = [np.random.default_rng(m).normal(size=(5, width)) for m in range(count)]
    return make_library(path, model, values, keys_of, **fields)


def configure(folder: pathlib.Path, library: str, **fields: Any) -> ml_collections.ConfigDict:
    """Two templates on sixteen rows each."""
    config = tiny_runs.config(folder, job="rospr_eval", prompt__length=0)
    config.rospr.update(library=library, queries=6, top=TOP)
    config.update_from_flattened_dict({name.replace("__", "."): value for name, value in fields.items()})
    return config
