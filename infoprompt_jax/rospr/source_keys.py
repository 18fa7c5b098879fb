"""The keys of source prompts: a sample of each one's training instances, encoded by the retriever (RoSPr).

An instance is a row rendered with the template. The sample follows from the seed.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Sequence

import ml_collections
import numpy as np

from infoprompt_jax import hosts
from infoprompt_jax.data.batches import bucket_lengths, complete, subset
from infoprompt_jax.data.families import same_choices
from infoprompt_jax.data.rows import Rows
from infoprompt_jax.errors import UserError
from infoprompt_jax.fleet.members import data_seed
from infoprompt_jax.progress import watched
from infoprompt_jax.rospr import keys
from infoprompt_jax.rospr.library_files import Model
from infoprompt_jax.rospr.source_plan import SourceTask, find_task
from infoprompt_jax.t5.backbone import Backbone, load_backbone
from infoprompt_jax.training.experiment import configured_mesh
from infoprompt_jax.training.tokenized_splits import TokenizedSplits

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class SourceKeys:
    """By the source task's name: the keys [n, R] of its instances, made by `retriever`, their texts, and `choices`.

    `choices` are the answer choices of the rows that it is trained on, from `families.same_choices`. A source task with
    a row that cannot be rendered has no keys; `refused` has the reason.
    """

    retriever: Model
    keys_NR: dict[str, np.ndarray]
    texts: dict[str, list[str]]
    choices: dict[str, tuple[str, ...] | None]
    refused: dict[str, str]


def encode_instances(
    config: ml_collections.ConfigDict, sources: Sequence[SourceTask], retriever: Backbone
) -> SourceKeys:
    """Encodes `rospr.instances` training instances of each source task (all of them, where there are fewer).

    Only one source task's rows are in memory at a time.

    Raises:
      UserError: the rows of a source task that was requested by its own name cannot be read, those that it is evaluated
        on included.
    """
    encoded = SourceKeys(keys.model(retriever), {}, {}, {}, {})
    seed = data_seed(config, (*config.fleet.seeds, config.seed)[0])
    buckets = complete(config.data.buckets, config.data.max_input_length)
    log.info("Encoding %d instances of each of %d source prompts.", config.rospr.instances, len(sources))
    for source in watched(sources, "Keys, source prompts", len(sources)):
        try:
            rows = hosts.together(functools.partial(tokenize, config, source, retriever))
        except UserError as error:
            if source.requested:
                raise
            encoded.refused[source.name] = str(error)
            continue
        hosts.check_same(f"The rows of {source.name}", rows.fingerprint)
        numbers = draw(rows, config.rospr.instances, config.task.shots, seed)
        encoded.keys_NR[source.name] = encode(retriever, rows, numbers, buckets)
        encoded.choices[source.name] = same_choices(source.choices, rows, retriever.tokenizer)
        encoded.texts[source.name] = [text(retriever, rows, number) for number in numbers]
    return encoded


def tokenize(config: ml_collections.ConfigDict, source: SourceTask, retriever: Backbone) -> Rows:
    """The rows that the source task is trained on; also reads those it is evaluated on, to detect bad rows early."""
    task = find_task(config, source)
    tokenized = TokenizedSplits(config, retriever)
    for split in filter(None, (config.task.eval_split, config.task.test_split)):
        tokenized.rows(task, split)
    return tokenized.training_rows(task)


def is_backbone(config: ml_collections.ConfigDict) -> bool:
    """Whether the retriever is the backbone."""
    return config.rospr.retriever in ("", config.backbone.name)


def load_retriever(config: ml_collections.ConfigDict) -> Backbone:
    """The model `rospr.retriever`, or the backbone; `backbone.revision` and the vocabulary are the backbone's only."""
    settings, same = config.backbone, is_backbone(config)
    return load_backbone(
        config.rospr.retriever or settings.name,
        dtype=settings.dtype,
        weights=settings.weights,
        mesh=configured_mesh(config),
        revision=settings.revision if same else "",
        tokenizer=settings.tokenizer or None if same else None,
        takes_eos=settings.takes_eos if same else "auto",
        unroll=settings.unroll,
    )


def draw(rows: Rows, count: int, shots: int, seed: int) -> np.ndarray:
    """Sorted numbers of `count` random rows that a member with this seed trains on (all of them, if fewer)."""
    trained_on = subset(len(rows), shots, seed, rows.labels) if shots else np.arange(len(rows))
    return np.sort(np.random.default_rng(seed).permutation(trained_on)[:count])


def encode(retriever: Backbone, rows: Rows, numbers: np.ndarray, buckets: Sequence[int]) -> np.ndarray:
    """Keys [n, R] of these rows, in their order. Inputs are padded to a few lengths, so that few programs compile."""
    lengths = bucket_lengths(rows.input_lengths[numbers], buckets)
    keys_NR = np.empty((len(numbers), retriever.config.d_model), np.float32)
    for length in np.unique(lengths):
        here = lengths == length
        keys_NR[here] = keys.encode_keys(retriever, rows.inputs(numbers[here], int(length)))
    return keys_NR


def text(retriever: Backbone, rows: Rows, number: int) -> str:
    """The input as the retriever reads it: the row rendered with its template, cut at `data.max_input_length`."""
    tokens = rows.inputs(np.array([number]), int(rows.input_lengths[number]))[0]
    return retriever.tokenizer.decode(tokens)
