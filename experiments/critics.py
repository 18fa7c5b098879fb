"""What InfoPrompt's critics estimate in the first tenth of a run: the released code's form beside the others.

    python -m experiments.critics run [NAME ...]     measures what is missing in experiments/results/critics/*.json
    python -m experiments.critics report             writes the tables of docs/claims.md

A run trains prompts with both terms on nano/entailment, for 50 of 500 steps. Each estimate is that of a step before its
update. The backbones are `nano`, and two T5s of T5 v1.1-small's size with random weights, and input embeddings of its
scale: `small`, and `small-head`, whose head rows are of its scale too. All read the same rows, in nano's tokens.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import pathlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import ml_collections
import numpy as np
from flax import nnx

from configs import nano
from experiments.pages import CLAIMS, UNMEASURED
from infoprompt_jax import settings
from infoprompt_jax.reports import measurements
from infoprompt_jax.reports.documents import fill
from infoprompt_jax.reports.tables import markdown
from infoprompt_jax.t5 import partition
from infoprompt_jax.t5.backbone import Backbone, load_backbone
from infoprompt_jax.t5.config import T5Config
from infoprompt_jax.t5.leaf import of_array
from infoprompt_jax.t5.model import T5
from infoprompt_jax.t5.placement import place
from infoprompt_jax.training.estimates import AT_CEILING
from infoprompt_jax.training.experiment import Experiment, build
from infoprompt_jax.training.interrupt import Interrupt
from infoprompt_jax.training.loop import TERMS, Run
from infoprompt_jax.training.speed import Compilations

RESULTS = pathlib.Path(__file__).parent / "results" / "critics"
LENGTH = 500  # steps of the whole run
STEPS = (0, 1, 3, 10, 50)  # the last is a tenth of it
SEEDS = (0, 1, 2)
LOW = -1.0  # nats; a form that starts below it does not fit the vectors that it compares
# Standard deviations of T5 v1.1-small's input embeddings and head rows: huggingface/transformers, pull request 26441.
EMBEDDINGS, HEAD = 11.6, 1.16


class Form(NamedTuple):
    """A form of both terms: fields of `infoprompt`."""

    head: str
    negatives: str
    score: str = "cosine"
    temperature: float = 0.1
    old: bool = False  # the released code's: noise of one unit, prompt and critics clipped together

    def configure(self, config: ml_collections.ConfigDict) -> None:
        """Sets the fields; without a head form, the head term is off."""
        config.infoprompt.update(
            negatives=self.negatives,
            score=self.score,
            temperature=self.temperature,
            noise="absolute" if self.old else "relative",
        )
        config.train.clip_apart = not self.old
        if self.head:
            config.infoprompt.head = self.head
        else:
            config.infoprompt.gamma = 0.0


RELEASED = Form("released_code", "posterior", "product", old=True)
PAIRS = (
    ("answer", "unprompted"),
    ("conditional", "shuffled"),
    ("released_code", "posterior"),
    ("", "labels"),
    ("", "in_batch"),
    ("answer", "unprompted", "layer_norm"),
    ("conditional", "shuffled", "layer_norm"),
)
FORMS = {
    "nano": (RELEASED, *(Form(*names, temperature=t) for t in (0.1, 0.5, 1.0) for names in PAIRS)),
    "small": (
        RELEASED,
        *(Form(*names, temperature=0.1) for names in (*PAIRS[:3], *PAIRS[5:])),
        *(Form(*names, temperature=0.5) for names in PAIRS[:5]),
    ),
    "small-head": (RELEASED, *(Form(*names, temperature=0.5) for names in PAIRS[:2])),
}


def configured(backbone: str, form: Form) -> ml_collections.ConfigDict:
    """The config of a form's run on one of `BACKBONES`."""
    config = nano.get_config("entailment")
    config.fleet.update(presets=(), seeds=SEEDS)
    config.train.update(steps=LENGTH, references=False)
    config.data.buckets = (40, 64)
    if backbone != "nano":
        config.prompt.length = 20
        config.train.learning_rate = 0.3
    form.configure(config)
    return settings.check(config)


def small(head: float) -> Backbone:
    """A T5 of T5 v1.1-small's size with random weights, its input embeddings and head rows of these deviations."""
    sizes: dict[str, Any] = {"d_model": 512, "d_kv": 64, "d_ff": 1024, "num_heads": 6}
    config = T5Config(vocab_size=32128, num_layers=8, num_decoder_layers=8, **sizes, remat="none")
    leaves = {"/".join(map(str, path)): v[...] for path, v in nnx.to_flat_state(nnx.split(T5(config, nnx.Rngs(0)))[1])}
    for name, deviation in (("embedding", EMBEDDINGS), ("head", head)):
        leaves[name] *= deviation / leaves[name].std()
    mesh, vocabulary = partition.make_mesh(), load_backbone("nano").vocabulary
    stored = (of_array(path, np.asarray(values)) for path, values in leaves.items())
    graph, frozen, fingerprint = place(config, stored, mesh)
    return Backbone("small", config, graph, frozen, mesh, vocabulary, fingerprint)


BACKBONES: dict[str, Callable[[], Backbone]] = {
    "nano": lambda: load_backbone("nano", remat="none"),
    "small": lambda: small(512**-0.5),  # T5's initialisation of a head
    "small-head": lambda: small(HEAD),
}


def trajectory(experiment: Experiment, workdir: pathlib.Path, steps: Sequence[int]) -> list[dict[str, np.ndarray]]:
    """The metrics of each step up to the last of `steps`, by name and [members]; at `steps` with `share/<term>` too."""
    run = Run(experiment, workdir, experiment.initial_state(), Compilations())
    fleet, frozen, state, logged = experiment.fleet, experiment.backbone.frozen, run.state, []
    batches = run.batches(0, Interrupt())
    with contextlib.closing(run.log):
        for step in range(steps[-1] + 1):
            batch, shares = fleet.place(next(batches)), {}
            if step in steps:
                norms = run.on_host(fleet.gradient_norms(state, frozen, batch, run.hyper, run.keys))
                total = sum(norms.values())
                shares = {f"share/{name}": norm / total for name, norm in norms.items()}
            state, metrics = fleet.step(state, frozen, batch, run.hyper, run.keys)
            logged.append(run.on_host(metrics) | shares)
    return logged


def records(form: Form, logged: Sequence[Mapping[str, np.ndarray]], steps: Sequence[int]) -> list[dict[str, Any]]:
    """One record for each term: values of all seeds at `steps`; the first step at its ceiling, as the mean of seeds."""

    def column(name: str) -> dict[str, list[float]]:
        return {str(step): np.asarray(logged[step][name], float).tolist() for step in steps}

    made = []
    for term in TERMS:
        if f"{term}_mi" not in logged[0]:
            continue
        # The most is 0 where all rows of a batch have one label and labels are the negatives.
        shares = [np.mean(now[f"{term}_mi"] / np.maximum(now[f"{term}_most"], 1e-9)) for now in logged]
        reached = [step for step, share in enumerate(shares) if share >= AT_CEILING]
        made.append(
            {
                "term": term,
                **form._asdict(),
                "nats": column(f"{term}_mi"),
                "most": column(f"{term}_most"),
                "shares": column(f"share/{term}"),
                "at_ceiling": reached[0] if reached else None,
            }
        )
    return made


def measure(name: str, directory: pathlib.Path) -> None:
    """Runs the forms that the backbone's file lacks; each is saved when it is done."""
    kept = json.loads(path.read_text())["records"] if (path := directory / f"{name}.json").exists() else []
    done = {tuple(record[field] for field in Form._fields) for record in kept}
    missing = [form for form in FORMS[name] if tuple(form) not in done]
    backbone = BACKBONES[name]() if missing else None
    with tempfile.TemporaryDirectory() as workdir:  # one for all, so that features are computed once
        for form in missing:
            experiment = build(configured(name, form), backbone)
            made = records(form, trajectory(experiment, pathlib.Path(workdir), STEPS), STEPS)
            kept += made
            measurements.save(directory, name, kept, backbone=name, seeds=SEEDS, steps=LENGTH)
            print(table(made), flush=True)


def table(measured: Sequence[Mapping[str, Any]]) -> str:
    """Means over seeds: estimates in nats, and the term's share of the gradient in percent."""
    steps = list(measured[0]["nats"])
    header = ("term", "form", "score", "τ", f"nats at {steps[0]}", *steps[1:], f"most at {steps[-1]}")
    header += (f"% at {steps[0]}", *steps[1:], "below -1", "95 % of most")
    ordered = sorted(measured, key=lambda r: (r["term"], not r["old"], _pairs(r), r["score"], r["temperature"]))
    return markdown(header, map(_row, ordered))


def _pairs(record: Mapping[str, Any]) -> str:
    """The form of the record's term."""
    return record["head" if record["term"] == "head" else "negatives"]


def _row(record: Mapping[str, Any]) -> list[str]:
    nats, most, shares = ([float(np.mean(v)) for v in record[field].values()] for field in ("nats", "most", "shares"))
    reached = record["at_ceiling"]
    return [
        record["term"],
        _pairs(record) + " (released)" * record["old"],
        record["score"],
        "-" if record["score"] == "product" else f"{record['temperature']:g}",
        *(f"{round(value, 2) + 0.0:.2f}" for value in nats),  # no -0.00
        f"{most[-1]:.2f}",
        *(f"{100 * value:.0f}" for value in shares),
        "yes" if nats[0] < LOW else "no",
        "no" if reached is None else f"at {reached}",
    ]


def blocks(directory: pathlib.Path) -> dict[str, str]:
    """The contents of the page's blocks."""
    files = {name: directory / f"{name}.json" for name in BACKBONES}
    return {
        f"critics-{name}": table(json.loads(path.read_text())["records"]) if path.exists() else UNMEASURED
        for name, path in files.items()
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("what", choices=("run", "report"))
    options.add_argument("names", nargs="*", metavar="NAME", help=f"backbones; all: {', '.join(BACKBONES)}")
    chosen = options.parse_args()
    if chosen.what == "report":
        fill(CLAIMS, blocks(RESULTS))
        return
    for name in chosen.names or BACKBONES:
        measure(name, RESULTS)


if __name__ == "__main__":
    main()
