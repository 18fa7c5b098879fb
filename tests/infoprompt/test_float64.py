"""Every form of the loss, recomputed in float64 NumPy from the backbone's states; and gradients by central differences.

The batch has what batches have: padded rows, choices of different number, two choices that share a first token, equal
targets, and rows of weight 0, one with the tokens of a row and one blank.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from typing import Any

import float64
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx
from float64 import Loss, States

from infoprompt_jax.infoprompt.objective import Objective
from infoprompt_jax.infoprompt.trainable import Trainable
from infoprompt_jax.prompts import prompts

ESTIMATORS = ("infonce", "nwj", "dv", "smile", "js")
NAMES = ("task_loss", "kind", "negatives", "head", "score", "critic", "representation", "variational",
         "learn_temperature")  # fmt: skip
TASK_LOSSES, KINDS = ("lm", "choices", "verbalizer"), ("static", "instance")
NEGATIVES = ("posterior", "unprompted", "in_batch", "labels", "shuffled")
HEADS, SCORES = ("released_code", "answer", "conditional"), ("product", "cosine", "layer_norm")
PAIRS = (  # every pair of two fields' values is in one of these
    ("lm", "static", "unprompted", "answer", "layer_norm", "bilinear", "decoder", False, False),
    ("lm", "static", "in_batch", "answer", "product", "dot", "mean_encoder", False, False),
    ("lm", "static", "labels", "released_code", "cosine", "dot", "mean_encoder", False, True),
    ("lm", "static", "shuffled", "conditional", "product", "dot", "decoder", True, True),
    ("lm", "instance", "posterior", "released_code", "cosine", "bilinear", "decoder", True, False),
    ("choices", "static", "posterior", "conditional", "layer_norm", "bilinear", "decoder", False, True),
    ("choices", "static", "in_batch", "conditional", "cosine", "bilinear", "decoder", True, True),
    ("choices", "instance", "unprompted", "released_code", "product", "bilinear", "mean_encoder", False, True),
    ("choices", "instance", "labels", "answer", "layer_norm", "dot", "decoder", True, True),
    ("choices", "instance", "shuffled", "released_code", "layer_norm", "dot", "mean_encoder", False, False),
    ("verbalizer", "static", "unprompted", "conditional", "cosine", "dot", "mean_encoder", True, True),
    ("verbalizer", "static", "shuffled", "answer", "cosine", "bilinear", "decoder", False, True),
    ("verbalizer", "instance", "posterior", "answer", "product", "dot", "mean_encoder", True, True),
    ("verbalizer", "instance", "in_batch", "released_code", "layer_norm", "bilinear", "mean_encoder", False, False),
    ("verbalizer", "instance", "labels", "conditional", "product", "bilinear", "decoder", False, False),
)  # fmt: skip
WIDE = [  # the other fields take turns
    (*fields, HEADS[i % 3], score, ("dot", "bilinear")[i % 2], "decoder", i % 5 == 0, i % 4 == 0)
    for i, (*fields, score) in enumerate(itertools.product(TASK_LOSSES, KINDS, NEGATIVES, SCORES))
]
CASES = [*PAIRS, *(pytest.param(case, marks=pytest.mark.slow) for case in WIDE)]
KEY, PROGRESS = jax.random.key(4), 0.25


def name_of(case: tuple[Any, ...] | str) -> str:
    return case if isinstance(case, str) else "-".join(map(str, case))


@pytest.fixture(scope="module")
def model() -> tiny.Backbone:
    return tiny.backbone()


@pytest.fixture(scope="module")
def rows() -> dict[str, np.ndarray]:
    made = {name: value[0].copy() for name, value in tiny.batch(rows=8, seed=11).items()}
    choices, label = made["choices"], made["label"]
    choices[1, 2], label[1] = 0, 1  # two choices
    choices[2, 0, 0] = choices[2, 1, 0] = 40
    choices[3, 1, 0] = choices[3, 2, 0] = 41
    label[2:4] = 0  # of which one shares its first token, the other does not
    choices[5], label[5] = choices[4], label[4]
    made["targets"] = np.take_along_axis(choices, label[:, None, None], axis=1)[:, 0]
    for name in ("inputs", "targets", "choices"):
        made[name][7] = 0
    made["weight"][6:] = 0.0
    return made | {"spread": np.linspace(0.5, 2.0, 8).astype(np.float32)}


def with_free_text(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The batch of a mixture in which row 0 has no answer choices."""
    changed = rows | {"choices": rows["choices"].copy(), "label": rows["label"].copy()}
    changed["choices"][0], changed["label"][0] = 0, -1
    return changed


def make_objective(model: tiny.Backbone, case: tuple[Any, ...]) -> Objective:
    fields = dict(zip(NAMES, case, strict=True))
    vocabulary = {"vocabulary": tuple(range(30, 60)), "vocabulary_negatives": 16}
    sizes = {"bottleneck": 6, "latent": 5, "negatives_per_example": 7, "noise_scale": 0.7, "smile_tau": 0.8}
    return Objective(graph=model.graph, estimators=ESTIMATORS, **fields, **vocabulary, **sizes)


def tree_of(objective: Objective, model: tiny.Backbone) -> Trainable:
    """A tree away from identities, zeros and symmetries."""
    value = np.asarray(model.embed(np.arange(5, 5 + tiny.P)[None])[0])
    made = objective.init(value, jax.random.key(0), np.asarray(model.head_rows(np.arange(tiny.C) + 5)))
    rng = np.random.default_rng(9)
    return jax.tree.map(lambda x: jnp.asarray(x + 0.1 * rng.standard_normal(x.shape), jnp.float32), made)


@functools.partial(jax.jit, static_argnums=0)
def run_backbone(graph: nnx.GraphDef, frozen: nnx.State, rows: Any, prompt_BPD: jax.Array) -> tuple[jax.Array, ...]:
    """The encoder's states of the inputs, and the decoder's on targets and choices."""
    t5 = nnx.merge(graph, frozen)
    y_BSD, mask_BS = t5.encode(rows["inputs"], prompt_BPD)
    texts_BCT = jnp.concatenate([rows["targets"][:, None], rows["choices"]], axis=1)
    hidden = t5.decode(texts_BCT.reshape(-1, texts_BCT.shape[-1]), y_BSD, mask_BS)
    return y_BSD[:, prompt_BPD.shape[1] :], hidden.reshape(*texts_BCT.shape, -1)


def states(model: tiny.Backbone, objective: Objective, rows: dict[str, np.ndarray], tree: Trainable) -> States:
    def of(prompt_BPD: jax.Array) -> tuple[np.ndarray, np.ndarray]:
        """Z and the decoder's states."""
        tokens = {name: rows[name] for name in ("inputs", "targets", "choices")}
        y_BLD, hidden = float64.as_float64(run_backbone(model.graph, model.frozen, tokens, prompt_BPD))
        if objective.representation == "decoder":
            return hidden[:, 0, 0], hidden
        lengths = (rows["inputs"] != 0).sum(axis=1)
        return np.stack([y[:n].sum(axis=0) / max(n, 1) for y, n in zip(y_BLD, lengths, strict=True)]), hidden

    size, width = len(rows["inputs"]), model.config.d_model
    features_BD, _ = of(jnp.zeros((size, 0, width)))
    prompt = prompts.prompt_rows(tree["prompt"]["value"], tree.get("generator"), jnp.asarray(features_BD, jnp.float32))
    z_BD, hidden = of(jnp.broadcast_to(prompt, (size, tiny.P, width)))
    hidden_BCTD = hidden[:, :1] if objective.task_loss == "lm" else hidden[:, 1:]
    everything = np.arange(model.config.vocab_size)
    vectors = model.embed(everything[None])[0], model.head_rows(everything)
    return States(z_BD, hidden_BCTD, features_BD, *float64.as_float64(vectors))


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_the_loss_is_what_float64_gives(
    case: tuple[Any, ...], model: tiny.Backbone, rows: dict[str, np.ndarray]
) -> None:
    """Every logged part of the loss, with every estimator."""
    objective = make_objective(model, case)
    rows = with_free_text(rows) if objective.task_loss == "lm" else rows
    tree, program = tree_of(objective, model), jax.jit(objective.loss)
    known = states(model, objective, rows, tree)
    batch = rows | {"features": known.features_BD.astype(np.float32)}
    for index, estimator in enumerate(ESTIMATORS):
        hyper = tiny.hyper_of_one(decay=0.5, estimator=index, temperature=0.4)
        _, parts = program(tree, model.frozen, batch, hyper, KEY, PROGRESS)
        expected = Loss(objective, batch, known, hyper, KEY).parts(float64.as_float64(tree), estimator, PROGRESS)
        assert parts.keys() == expected.keys()
        for name, value in expected.items():
            assert float(parts[name]) == pytest.approx(value, rel=2e-4, abs=2e-5), (estimator, name)


QUICK = (9, 10, 12, 13, 14)  # of PAIRS: all kinds of negatives and of heads, and all estimators
GRADIENTS = [
    pytest.param(case, ESTIMATORS[(i + i // 5) % 5], marks=() if i in QUICK else pytest.mark.slow)
    for i, case in enumerate(PAIRS)
]


@pytest.mark.parametrize(("case", "estimator"), GRADIENTS, ids=name_of)
def test_gradients_are_what_central_differences_give(
    case: tuple[Any, ...], estimator: str, model: tiny.Backbone, rows: dict[str, np.ndarray]
) -> None:
    """Of both terms, by all parts that do not pass the backbone: the bound's slope in one direction for each leaf."""
    objective = dataclasses.replace(make_objective(model, case), estimators=(estimator,))
    tree: Any = tree_of(objective, model)
    hyper: Any = tiny.hyper_of_one(temperature=0.4)
    known = states(model, objective, rows, tree)
    batch = rows | {"features": known.features_BD.astype(np.float32)}
    reference, exact = Loss(objective, batch, known, hyper, KEY), float64.as_float64(tree)
    of_prompt = {"posterior"} if objective.head == "conditional" else {"prompt", "generator"}
    moving = {
        "head": tree.keys() & ({"head_critic", "verbalizer"} | of_prompt),
        "representation": tree.keys() & {"representation_critic", "posterior"},
    }
    for term, names in moving.items():

        def bound(part: Any, rest: Any, rows: Any, frozen: nnx.State, name: str = f"{term}_mi") -> jax.Array:
            tree: Any = {**rest, **part}
            return objective.loss(tree, frozen, rows, hyper, KEY, 0.0)[1][name]

        part = {name: tree[name] for name in names}
        gradients = float64.as_float64(jax.jit(jax.grad(bound))(part, tree, batch, model.frozen))
        value = "js surrogate" if estimator == "js" else estimator
        for name, leaf in [(part, leaf) for part in sorted(names) for leaf in tree[part]]:
            slope = gradients[name][leaf]
            towards = np.random.default_rng(3).standard_normal(slope.shape) + slope * slope.size / norm(slope)
            moved = [exact | {name: exact[name] | {leaf: exact[name][leaf] + step * towards}} for step in (-1e-6, 1e-6)]
            below, above = (reference.information(term, one, value) for one in moved)
            measured = float((slope * towards).sum())
            assert measured == pytest.approx((above - below) / 2e-6, rel=2e-3, abs=1e-6), (term, name, leaf)
    if objective.head != "conditional":  # the steps on the head loss alone, before training
        start, _ = jax.jit(objective.head_loss)(tree, model.frozen, batch, hyper, KEY, 0.0)
        assert float(start) == pytest.approx(-reference.information("head", exact, estimator), rel=2e-4)


def norm(x: np.ndarray) -> float:
    return float(np.sqrt((x * x).sum())) or 1.0
