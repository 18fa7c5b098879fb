"""Equal members are evaluated once: which are equal, and that no score differs by a bit."""

from __future__ import annotations

import dataclasses
import pathlib

import jax
import numpy as np
import pytest
import tiny

from infoprompt_jax.batch import EvalBatch
from infoprompt_jax.data.rows import Rows
from infoprompt_jax.data.templates import Example
from infoprompt_jax.data.tokenization import tokenize
from infoprompt_jax.evaluation.copies import Copies
from infoprompt_jax.evaluation.predictions import Members, Predictor
from infoprompt_jax.infoprompt.trainable import Trainable, inference

CHOICES = ("animals", "gadgets", "flowers")
SEEDS = [3, 4, 3, 4, 3]
SHARED = [[0, 2, 4], [1, 3], [0, 2, 4], [1, 3], [0, 2, 4]]


@dataclasses.dataclass(frozen=True, eq=False)
class Counted(Members):
    """Members that count the calls of their program."""

    calls: list[tuple[int, ...]] = dataclasses.field(default_factory=list)

    def scores(self, batch: EvalBatch[np.ndarray]) -> np.ndarray:
        self.calls.append(batch["inputs"].shape)
        return super().scores(batch)


@pytest.fixture(scope="module")
def model() -> tiny.Backbone:
    return tiny.backbone()


@pytest.fixture(scope="module")
def members(model: tiny.Backbone) -> Counted:
    """Five members of two seeds."""
    program = tiny.fleet(model)
    return Counted(program, model, inference(tiny.start(program, model, SEEDS).trainable), 4)


def rows(directory: pathlib.Path, model: tiny.Backbone, name: str) -> Rows:
    """Seven rows of six tokens and four of twelve: in batches of two, three of 8 tokens and three of 24."""
    texts = [f"{name}{i:04}"[-5:] for i in range(7)] + [f"longer {i:04}" for i in range(4)]
    shown = [Example(text, CHOICES[i % 3], CHOICES) for i, text in enumerate(texts)]
    return tokenize(shown, model.tokenizer, directory, name, True, 24, 16)


def predictor(model: tiny.Backbone) -> Predictor:
    return Predictor(model.tokenizer, 2, (8, 24), 24)


def test_no_score_changes_and_the_program_runs_less(
    model: tiny.Backbone, members: Counted, tmp_path: pathlib.Path
) -> None:
    data = [[rows(tmp_path, model, "a")]] * 5
    copies = Copies.of(members.trainable, data, model.mesh)
    assert [list(same) for same in copies.equals] == SHARED
    expected = list(predictor(model).outputs(members, data))
    apart = len(members.calls)
    found = list(predictor(model).outputs(members, data, copies))
    assert len(members.calls) - apart < apart
    assert len({scores.tobytes() for _, scores, _ in expected if scores is not None}) == len(expected)
    for (batch, scores, _), (same_batch, same_scores, _) in zip(expected, found, strict=True):
        np.testing.assert_array_equal(batch["row"], same_batch["row"])
        np.testing.assert_array_equal(scores, same_scores)


def test_equal_members_of_other_rows_are_not_equal(
    model: tiny.Backbone, members: Counted, tmp_path: pathlib.Path
) -> None:
    a, b = rows(tmp_path, model, "a"), rows(tmp_path, model, "b")
    copies = Copies.of(members.trainable, [[a], [a], [b], [a], [a]], model.mesh)
    assert [list(same) for same in copies.equals] == [[0, 4], [1, 3], [2], [1, 3], [0, 4]]


def test_a_member_that_differs_in_one_part_is_not_equal(
    model: tiny.Backbone, members: Counted, tmp_path: pathlib.Path
) -> None:
    """In any of its parts, however small or large."""
    data = [[rows(tmp_path, model, "a")]] * 5
    leaves, structure = jax.tree.flatten(members.trainable)
    for n, leaf in enumerate(leaves):
        changed = leaf.at[0].add(1.0)
        trainable: Trainable = structure.unflatten([*leaves[:n], changed, *leaves[n + 1 :]])
        equals = [list(same) for same in Copies.of(trainable, data, model.mesh).equals]
        assert equals == [[0], [1, 3], [2, 4], [1, 3], [2, 4]]
