"""The keys of source prompts: some of the instances that each is trained on, as the retriever encodes them (RoSPr).

An instance is a row under the hard prompt. Which ones are taken follows from the seed.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence

import ml_collections
import numpy as np
from tqdm import tqdm

from infoprompt_jax.data.batches import bucket_lengths, complete, subset
from infoprompt_jax.data.families import same_choices
from infoprompt_jax.data.rows import Rows
from infoprompt_jax.data.selection import find_tasks
from infoprompt_jax.errors import UserError
from infoprompt_jax.fleet.members import data_seed
from infoprompt_jax.rospr import keys
from infoprompt_jax.rospr.library_files import Model
from infoprompt_jax.rospr.source_plan import Source
from infoprompt_jax.t5 import partition
from infoprompt_jax.t5.backbone import Backbone, load_backbone
from infoprompt_jax.training.experiment import TokenizedSplits

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class SourceKeys:
    """By the source's name: the keys [n, R] of its instances, made by `retriever`, the instances' texts, and `choices`.

    The latter are the answer choices of the rows that it is trained on, as `task_kinds.same_choices` has them.

    Of a source that has none, because a row of it cannot be rendered, the reason is in `refused`.
    """

    retriever: Model
    keys_NR: dict[str, np.ndarray]
    texts: dict[str, list[str]]
    choices: dict[str, tuple[str, ...] | None]
    refused: dict[str, str]


def encode_instances(config: ml_collections.ConfigDict, sources: Sequence[Source], retriever: Backbone) -> SourceKeys:
    """Encodes `rospr.instances` training instances of each source (all, where there are fewer).

    Each source's rows are in memory only for as long as its own turn.

    Raises:
      UserError: the rows of a source asked for by its own name cannot be read, those that it is evaluated on included.
    """
    found = SourceKeys(keys.model(retriever), {}, {}, {}, {})
    seed = data_seed(config, (*config.fleet.seeds, config.seed)[0])
    buckets = complete(config.data.buckets, config.data.max_input_length)
    log.info("Encoding %d instances of each of %d source prompts.", config.rospr.instances, len(sources))
    for source in tqdm(sources, desc="keys", disable=None):
        try:
            rows = tokenize(config, source, retriever)
        except UserError as error:
            if source.asked:
                raise
            found.refused[source.name] = str(error)
            continue
        numbers = draw(rows, config.rospr.instances, config.task.shots, seed)
        found.keys_NR[source.name] = encode(retriever, rows, numbers, buckets)
        found.choices[source.name] = same_choices(source.choices, rows, retriever.tokenizer)
        found.texts[source.name] = [text(retriever, rows, number) for number in numbers]
    return found


def tokenize(config: ml_collections.ConfigDict, source: Source, retriever: Backbone) -> Rows:
    """What the source is trained on; also reads what it is evaluated on, so that a bad row is found before training."""
    own = config.copy_and_resolve_references()
    own.job = "train"
    own.task.update(name=source.task, template=source.template)
    (task,) = find_tasks(own)
    tokenized = TokenizedSplits(config, retriever)
    for split in filter(None, (config.task.eval_split, config.task.test_split)):
        tokenized(task, split)
    return tokenized.training(task)


def is_own(config: ml_collections.ConfigDict) -> bool:
    """Whether the retriever is the backbone itself."""
    return config.rospr.retriever in ("", config.backbone.name)


def load_retriever(config: ml_collections.ConfigDict) -> Backbone:
    """`rospr.retriever`, or the backbone itself; of another model, `backbone`'s revision and vocabulary are not."""
    settings, own = config.backbone, is_own(config)
    return load_backbone(
        config.rospr.retriever or settings.name,
        dtype=settings.dtype,
        mesh=partition.make_mesh(config.mesh.data, config.mesh.model),
        revision=settings.revision if own else "",
        tokenizer=settings.tokenizer or None if own else None,
        takes_eos=settings.takes_eos if own else "auto",
        unroll=settings.unroll,
    )


def draw(rows: Rows, count: int, shots: int, seed: int) -> np.ndarray:
    """Sorted numbers of `count` of the rows that a member with this seed trains on (all where there are fewer)."""
    trained_on = subset(len(rows), shots, seed, rows.labels) if shots else np.arange(len(rows))
    return np.sort(np.random.default_rng(seed).permutation(trained_on)[:count])


def encode(retriever: Backbone, rows: Rows, numbers: np.ndarray, buckets: Sequence[int]) -> np.ndarray:
    """Keys [n, R] of these rows, in their order; padded to few lengths, so that few programs are compiled."""
    lengths = bucket_lengths(rows.input_lengths[numbers], buckets)
    keys_NR = np.empty((len(numbers), retriever.config.d_model), np.float32)
    for length in np.unique(lengths):
        here = lengths == length
        keys_NR[here] = keys.encode_keys(retriever, rows.inputs(numbers[here], int(length)))
    return keys_NR


def text(retriever: Backbone, rows: Rows, number: int) -> str:
    """The input as the retriever reads it: hard prompt and row, cut at `data.max_input_length`."""
    tokens = rows.inputs(np.array([number]), int(rows.input_lengths[number]))[0]
    return retriever.tokenizer.decode(tokens)
