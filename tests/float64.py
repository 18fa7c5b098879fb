"""InfoPrompt's loss in float64 NumPy, from the backbone's own states: what tests compare `Objective.loss` with.

It is written apart from the package and in another way. There are no masks: a term is a list of rows, each with an
anchor, a vector drawn together with it and the vectors drawn apart that count. Random numbers are JAX's, as the
package draws them; everything after the backbone's layers is NumPy. Axes as in `t5/model.py`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from infoprompt_jax.infoprompt import streams
from infoprompt_jax.infoprompt.hyper import Hyper
from infoprompt_jax.infoprompt.objective import Objective

PAD = 0
Tree = dict[str, dict[str, np.ndarray]]
Vectors = list[np.ndarray]  # each [D]


@dataclasses.dataclass(frozen=True)
class States:
    """What the backbone makes of a batch, float64: Z and the decoder's states with the prompt, features without."""

    z_BD: np.ndarray
    hidden_BCTD: np.ndarray
    features_BD: np.ndarray
    embedding_VD: np.ndarray
    head_VD: np.ndarray


@dataclasses.dataclass(frozen=True)
class Row:
    """One row's share of a term."""

    weight: float
    anchor: np.ndarray
    positive: np.ndarray
    negatives: Vectors


def as_float64(tree: Any) -> Any:
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def log_softmax(x: np.ndarray) -> np.ndarray:
    top = x.max(axis=-1, keepdims=True)
    return x - top - np.log(np.exp(x - top).sum(axis=-1, keepdims=True))


def log_mean_exp(x: np.ndarray, weights: np.ndarray) -> float:
    return float(x.max() + np.log((weights * np.exp(x - x.max())).sum()))


def softplus(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


class Loss:
    """The loss of one member for a batch; a tree of float64 leaves, as `Objective.init` has them, is an argument."""

    def __init__(
        self, objective: Objective, batch: dict[str, np.ndarray], states: States, hyper: Hyper[Any], key: jax.Array
    ) -> None:
        self.objective, self.batch, self.states, self.hyper, self.key = objective, batch, states, hyper, key
        self.rows = [b for b, weight in enumerate(batch["weight"]) if weight > 0]

    def noise(self, stream: int, *shape: int) -> np.ndarray:
        return np.asarray(jax.random.normal(jax.random.fold_in(self.key, stream), shape), np.float64)

    def parts(self, tree: Tree, estimator: str, progress: float) -> dict[str, float]:
        """Every entry of what `Objective.loss` returns."""
        z_BD, hidden_BCTD, kl_B = self.represented(tree)
        found = {"task_loss": self.task_loss(tree, z_BD, hidden_BCTD)}
        strength = 1 - float(self.hyper.decay) * progress
        total = found["task_loss"]
        for term, weight in (("head", self.hyper.gamma), ("representation", self.hyper.beta)):
            found[f"{term}_mi"] = self.information(term, tree, estimator)
            counts = [(row.weight, len(row.negatives)) for row in self.pairs(term, tree) if row.negatives]
            found[f"{term}_most"] = sum(w * np.log(n + 1) for w, n in counts) / sum(w for w, _ in counts)
            total -= strength * float(weight) * found[f"{term}_mi"]
        if kl_B is not None:
            weight_B = self.batch["weight"]
            found["kl"] = float((kl_B * weight_B).sum() / weight_B.sum())
            total += strength * float(self.hyper.kappa) * found["kl"]
        return {"loss": total, **found}

    def represented(self, tree: Tree) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Z, the states that the task loss reads, and the KL divergences [B], if there is a bottleneck."""
        z_BD, hidden_BCTD = self.states.z_BD, self.states.hidden_BCTD
        if "posterior" not in tree:
            return z_BD, hidden_BCTD, None
        noise_BE = self.noise(streams.BOTTLENECK_NOISE, len(z_BD), self.objective.latent)
        kl_B = np.zeros(len(z_BD))
        for h_BD in (z_BD, self.states.features_BD):
            mean_BE, std_BE = gaussian(tree["posterior"], h_BD)
            kl_B += (0.5 * (mean_BE**2 + std_BE**2 - 1) - np.log(std_BE)).mean(axis=1)
        mean_BE, std_BE = gaussian(tree["posterior"], z_BD)
        z_BD, hidden_BCTD = (mean_BE + std_BE * noise_BE) @ tree["posterior"]["out"], hidden_BCTD.copy()
        hidden_BCTD[:, :, 0] = z_BD[:, None]
        return z_BD, hidden_BCTD, kl_B

    def task_loss(self, tree: Tree, z_BD: np.ndarray, hidden_BCTD: np.ndarray) -> float:
        batch, losses, weights = self.batch, [], []
        for b in self.rows:
            if self.objective.task_loss == "lm":
                tokens = batch["targets"][b][batch["targets"][b] != PAD]
                losses.append(-self.log_p(hidden_BCTD[b, 0], tokens).sum())
                weights.append((batch["weight"][b], len(tokens)))
                continue
            there = [c for c, choice in enumerate(batch["choices"][b]) if choice[0] != PAD]
            if self.objective.task_loss == "choices":
                lists = [batch["choices"][b, c][batch["choices"][b, c] != PAD] for c in there]
                scores = [self.log_p(hidden_BCTD[b, c], t).sum() for c, t in zip(there, lists, strict=True)]
            else:
                scores = [z_BD[b] @ tree["verbalizer"]["value"][c] for c in there]
            losses.append(-log_softmax(np.array(scores))[there.index(batch["label"][b])])
            weights.append((batch["weight"][b], 1))
        return float(sum(w * one for (w, _), one in zip(weights, losses, strict=True)) / sum(w * n for w, n in weights))

    def log_p(self, hidden_TD: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        log_p_TV = log_softmax(hidden_TD[: len(tokens)] @ self.states.head_VD.T)
        return log_p_TV[np.arange(len(tokens)), tokens]

    def mean_prompt(self, tree: Tree, b: int) -> np.ndarray:
        value_PD = tree["prompt"]["value"]
        if "generator" in tree:
            x = self.states.features_BD[b] @ tree["generator"]["down"]
            gelu = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
            value_PD = value_PD + np.tensordot(gelu, tree["generator"]["up"], 1)
        return value_PD.mean(axis=0)

    def information(self, term: str, tree: Tree, estimator: str) -> float:
        """The term's bound in nats; of "js" the value of "nwj", and of "js surrogate" what its gradient is of."""
        rows = [row for row in self.pairs(term, tree) if row.negatives]
        temperature = float(self.hyper.temperature)
        if self.objective.learn_temperature:
            temperature = max(temperature * float(np.exp(tree[f"{term}_critic"]["log_temperature"])), 0.01)
        weights = np.array([row.weight for row in rows]) / sum(row.weight for row in rows)
        scores = [[self.score(row.anchor, v, temperature) for v in (row.positive, *row.negatives)] for row in rows]
        positive = np.array([row[0] for row in scores])
        negatives = [np.array(row[1:]) for row in scores]
        if estimator == "infonce":
            ratios = [np.log(len(row)) + log_softmax(np.array(row))[0] for row in scores]
            return float(weights @ ratios)
        if estimator == "js surrogate":
            apart = [softplus(row).mean() for row in negatives]
            return float(-weights @ softplus(-positive) - weights @ apart)
        if estimator == "smile":
            negatives = [np.clip(row, -self.objective.smile_tau, self.objective.smile_tau) for row in negatives]
        shares = np.concatenate([np.full(len(row), w / len(row)) for w, row in zip(weights, negatives, strict=True)])
        apart = log_mean_exp(np.concatenate(negatives), shares)
        return float(weights @ positive - (np.exp(apart - 1) if estimator in ("nwj", "js") else apart))

    def score(self, a: np.ndarray, b: np.ndarray, temperature: float) -> float:
        if self.objective.score == "product":
            return float(a @ b) / np.sqrt(len(a))
        return float(self.direction(a) @ self.direction(b)) / temperature

    def direction(self, x: np.ndarray) -> np.ndarray:
        if self.objective.score == "layer_norm":
            x = x - x.mean()
        return x if self.objective.score == "product" else x / np.linalg.norm(x)

    def pairs(self, term: str, tree: Tree) -> list[Row]:
        """The rows of a term."""
        return [self.head_row(tree, b) if term == "head" else self.representation_row(tree, b) for b in self.rows]

    def head_row(self, tree: Tree, b: int) -> Row:
        batch, weight = self.batch, float(self.batch["weight"][b])
        first_C, tokens, target = batch["choices"][b, :, 0], batch["inputs"][b], batch["targets"][b, 0]
        kernel = tree.get("head_critic", {}).get("kernel", np.eye(len(self.states.z_BD[b])))
        rows = tree["verbalizer"]["value"] if "verbalizer" in tree else self.states.head_VD[first_C]
        there = [c for c in range(len(first_C)) if first_C[c] != PAD]
        if self.objective.head == "released_code":
            labels = rows[there] if there else self.states.head_VD[[target]]
            negatives = [self.states.embedding_VD[t] for t in tokens if t != PAD]
            return Row(weight, kernel @ labels.mean(axis=0), self.mean_prompt(tree, b), negatives)
        label = int(batch["label"][b])
        answer, row = (first_C[label], rows[label]) if label >= 0 else (target, self.states.head_VD[target])
        pieces = np.array(self.objective.vocabulary)
        drawn = jax.random.choice(
            jax.random.fold_in(self.key, streams.VOCABULARY), pieces, (self.objective.vocabulary_negatives,)
        )
        others = [rows[c] for c in there if (c != label if "verbalizer" in tree else first_C[c] != answer)]
        others += [self.states.head_VD[t] for t in np.asarray(drawn) if t != answer]
        anchor = self.mean_prompt(tree, b) if self.objective.head == "answer" else self.represented(tree)[0][b]
        return Row(weight, anchor, kernel @ row, [kernel @ other for other in others])

    def context(self, tree: Tree, mean_prompt: np.ndarray) -> np.ndarray:
        if self.objective.score != "product":
            mean_prompt = self.direction(mean_prompt) * np.sqrt(len(mean_prompt))
        return mean_prompt @ tree["representation_critic"]["kernel"] + tree["representation_critic"]["bias"]

    def representation_row(self, tree: Tree, b: int) -> Row:
        objective, batch, weight = self.objective, self.batch, float(self.batch["weight"][b])
        z_BD, features_BD, count = self.represented(tree)[0], self.states.features_BD, objective.negatives_per_example
        context = self.context(tree, self.mean_prompt(tree, b))
        others = [other for other in self.rows if other != b]
        if objective.negatives == "shuffled" and objective.kind == "instance":
            apart = [self.context(tree, self.mean_prompt(tree, other)) for other in others]
            return Row(weight, z_BD[b], context, apart)
        if objective.negatives == "shuffled":
            keys = jax.random.split(jax.random.fold_in(self.key, streams.NEGATIVES), count)
            orders = [np.asarray(jax.random.permutation(key, z_BD.shape[1])) for key in keys]
            shuffled = [self.context(tree, self.mean_prompt(tree, b)[order]) for order in orders]
            return Row(weight, z_BD[b], context, shuffled)
        if objective.negatives == "labels":
            others = [other for other in others if batch["targets"][other].tolist() != batch["targets"][b].tolist()]
        if objective.negatives in ("in_batch", "labels"):
            return Row(weight, context, z_BD[b], [z_BD[other] for other in others])
        if objective.negatives == "unprompted":
            return Row(weight, context, z_BD[b], [features_BD[other] for other in self.rows])
        size, width = (len(z_BD), objective.latent) if "posterior" in tree else z_BD.shape
        noise_KE = self.noise(streams.NEGATIVES, size, count, width)[b]
        if "posterior" in tree:
            mean_E, std_E = gaussian(tree["posterior"], features_BD[b])
            return Row(weight, context, z_BD[b], [*((mean_E + std_E * noise_KE) @ tree["posterior"]["out"])])
        scale = objective.noise_scale * float(batch["spread"][b])
        return Row(weight, context, z_BD[b], [*(features_BD[b] + scale * noise_KE)])


def gaussian(posterior: dict[str, np.ndarray], h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation [..., E] of the bottleneck for representations [..., D]."""
    return h @ posterior["mean"], np.exp(np.clip(h @ posterior["log_std"], -2, 10))
