"""Our tasks as a mixture in seqio's own evaluator, with predictions and scores of the backbone."""

from __future__ import annotations

import importlib.resources
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from tiny_data import ROWS, configure, write_jsonl

from infoprompt_jax.data.examples import examples
from infoprompt_jax.data.selection import find_tasks
from infoprompt_jax.t5.backbone import Backbone, load_backbone


def accuracy(targets: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
    return {"accuracy": float(np.mean([t == p for t, p in zip(targets, predictions, strict=True)]))}


def mean_score(targets: Sequence[str], scores: Sequence[float]) -> dict[str, float]:
    return {"mean_score": float(np.mean(scores))}


SPLIT = "validation"
LENGTHS = {"inputs": 32, "targets": 8}  # the same for every call, so that each program compiles once
FREE = {"input": "Review: {{ text }} Is it bad or good?", "target": "{{ answer }}"}


def ids(backbone: Backbone, text: str, name: str) -> np.ndarray:
    tokens = [*backbone.tokenizer.encode([text])[0], 1]
    return np.array([tokens + [0] * (LENGTHS[name] - len(tokens))], np.int32)


@pytest.mark.slow
def test_seqios_evaluator_on_our_mixture(tmp_path: pathlib.Path) -> None:
    """The answers of two of four rows are what the backbone writes; of the other task, of all rows but none."""
    import seqio

    from infoprompt_jax.data.seqio_adapter import mixture

    backbone = load_backbone("nano")

    def generate(inputs: np.ndarray) -> list[int]:
        return backbone.generate(inputs, max_length=4)[0].tolist()

    def score(inputs: np.ndarray, targets: np.ndarray) -> float:
        return float(backbone.score(inputs, targets[:, None])[0, 0])

    texts = [f"Review: {row['text']} Is it bad or good?" for row in ROWS]
    written = [backbone.tokenizer.decode(generate(ids(backbone, text, "inputs"))) for text in texts]
    answers = {"half": [*written[:2], "elsewhere", "never"], "none": ["elsewhere"] * 4}
    for name, listed in answers.items():
        rows = [{"text": row["text"], "answer": answer} for row, answer in zip(ROWS, listed, strict=True)]
        write_jsonl(tmp_path / name / "validation.jsonl", rows)
    tasks = find_tasks(configure(tmp_path, "half,none", **FREE))
    with importlib.resources.as_file(importlib.resources.files("infoprompt_jax.nano") / "backbone") as folder:
        vocabulary = seqio.SentencePieceVocabulary(str(folder / "spiece.model"), extra_ids=0)
        fields = {"vocabulary": vocabulary, "metric_fns": [accuracy, mean_score]}
        mixed = mixture(tasks, "evaluated", split=SPLIT, **fields)
        converter = seqio.EncDecFeatureConverter(pack=False)
        evaluator = seqio.Evaluator(mixed.name, converter, SPLIT, sequence_length=LENGTHS, async_compute_metrics=False)

        def rows_of(dataset: Any) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
            for number, row in dataset.as_numpy_iterator():
                yield int(number), row["encoder_input_tokens"][None], row["decoder_target_tokens"][None]

        metrics, _ = evaluator.evaluate(
            compute_metrics=True,
            predict_fn=lambda dataset: [(n, generate(inputs)) for n, inputs, _ in rows_of(dataset)],
            score_fn=lambda dataset: [(n, score(inputs, targets)) for n, inputs, targets in rows_of(dataset)],
        )
    reported = {name.split(":")[1]: values for name, values in metrics.result().items()}
    assert {name: values["accuracy"] for name, values in reported.items()} == {"half": 0.5, "none": 0.0}
    for task in tasks:
        read = [(ids(backbone, e.input, "inputs"), ids(backbone, e.target, "targets")) for e in examples(task, SPLIT)]
        assert reported[task.name]["mean_score"] == pytest.approx(np.mean([score(*row) for row in read]))
