"""P3, the data sets and templates of T0: 36 sources with 296 templates, 11 held-out sets with 120.

`template_files/p3.yaml` lists them. The package has neither their rows nor their templates; `selection.available`
reports which of them a config can use.
"""

from __future__ import annotations

import functools
import importlib.resources
from collections.abc import Mapping
from typing import Any

import yaml

from infoprompt_jax.data.datasets import Dataset


@functools.cache
def _content() -> dict[str, Any]:
    file = importlib.resources.files("infoprompt_jax.data") / "template_files" / "p3.yaml"
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def _dataset(name: str, entry: Mapping[str, Any], held_out: bool) -> Dataset:
    task, split = entry.get("task", name), entry.get("split", "validation" if held_out else "train")
    tfds = entry.get("tfds")
    place = (tfds["task"], tfds["split"]) if isinstance(tfds, Mapping) else (task, split) if tfds else None
    beyond = tuple(_content()["beyond_t0"].get(name, ())) if held_out else ()
    return Dataset(name, task, split, tuple(entry["prompts"]), place, beyond, tuple(entry.get("also", ())))


def sources() -> tuple[Dataset, ...]:
    """The 36 data sets that source prompts are trained on, with 296 templates (methods: RoSPr, source prompts)."""
    return tuple(_dataset(name, entry, held_out=False) for name, entry in _content()["sources"].items())


def held_out() -> tuple[Dataset, ...]:
    """The 11 data sets that are evaluated on, with 120 templates (methods: RoSPr, evaluation)."""
    return tuple(_dataset(name, entry, held_out=True) for name, entry in _content()["held_out"].items())


def aliases(name: str) -> frozenset[str]:
    """All names of one of P3's data sets: in P3, for `task.name` and in TFDS; of another data set only the name."""
    every = [{one.name, one.task, *(one.tfds or ())[:1], *one.also} for one in (*sources(), *held_out())]
    return frozenset({name}.union(*(names for names in every if name in names)))
