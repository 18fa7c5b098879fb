"""Registers a mixture of two tasks with seqio and trains a prompt on it, with nano and without a download.

    python -m examples.seqio_mixture

`task.module` is imported and registers the tasks: here, this file itself. docs/seqio.md has what is read of a task.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import seqio
import tensorflow as tf

import infoprompt_jax as ip
from examples import train

WORKDIR = "runs/example-seqio"
COLOURS = ("red", "green", "blue", "black")
THINGS = {"train": ["tram", "chair", "kite"], "validation": ["boat"]}


def rows(name: str, split: str) -> Iterator[tuple[str, str, Sequence[str]]]:
    """Input, target and answer choices of each row of a task."""
    for thing, colour in ((thing, colour) for thing in THINGS[split] for colour in COLOURS):
        if name == "example_colour":
            yield f"The {thing} is {colour}. What colour is it?", colour, COLOURS
        else:
            yield f"The {thing} is {colour}. Is the {thing} red?", "yes" if colour == "red" else "no", ("yes", "no")


def dataset(name: str, split: str) -> tf.data.Dataset:
    """The rows as features: `inputs`, `targets` and, for tasks with choices, `answer_choices`."""
    inputs, targets, choices = map(np.array, zip(*rows(name, split), strict=True))
    return tf.data.Dataset.from_tensor_slices({"inputs": inputs, "targets": targets, "answer_choices": choices})


def register() -> None:
    """The two tasks, and the mixture that draws the first one twice as often."""
    text = seqio.Feature(seqio.PassThroughVocabulary(0), dtype=tf.string, rank=0)
    for name in ("example_colour", "example_red"):
        source = seqio.FunctionDataSource(lambda split, shuffle_files, name=name: dataset(name, split), [*THINGS])
        seqio.TaskRegistry.add(name, source=source, preprocessors=[], output_features={"inputs": text, "targets": text})
    seqio.MixtureRegistry.add("example_mixture", [("example_colour", 2.0), ("example_red", 1.0)])


def main() -> None:
    config = train.config()
    config.task.update(module="examples.seqio_mixture", name="seqio:example_mixture", template="all")
    config.task.update(eval_split="validation", shots=0)
    for name, value in ip.train(config, WORKDIR)["members"][0]["best"].items():
        print(f"{name} {value:.2f}")


if __name__ == "__main__":
    main()
else:  # imported, by task.module
    register()
