"""One member's loss: a task loss and InfoPrompt's two information terms (arXiv 2306.04933).

    L = L_task - (1 - decay * progress) * (gamma * I(P; head) + beta * I(P; Z) - kappa * KL)

`task_losses`, `head_loss`, `representation_loss` and `bottleneck` hold the parts; this module runs the model once and
puts them together. The loss is a pure function of (trainable, frozen, batch, hyper-parameters, key); its gradient is
taken only over `trainable`. Fields of `Objective` change the compiled program; numbers that each member of a fleet may
set for itself are in `Hyper`. Axes as in `t5/model.py`.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike

from infoprompt_jax.batch import Batch
from infoprompt_jax.infoprompt import bottleneck, streams
from infoprompt_jax.infoprompt.estimators import Bound, select
from infoprompt_jax.infoprompt.head_loss import head_information
from infoprompt_jax.infoprompt.hyper import Hyper
from infoprompt_jax.infoprompt.representation_loss import (
    Negatives,
    in_batch_negatives,
    noisy_negatives,
    representation_information,
)
from infoprompt_jax.infoprompt.task_losses import choices_loss, lm_loss, verbalizer_logits, verbalizer_loss
from infoprompt_jax.infoprompt.trainable import Part, Trainable
from infoprompt_jax.prompts import prompts
from infoprompt_jax.t5 import scoring
from infoprompt_jax.t5.model import T5


@dataclasses.dataclass(frozen=True)
class Objective:
    """The static half of a member's loss; docs/configuration.md explains the fields."""

    graph: nnx.GraphDef
    task_loss: str = "lm"
    kind: str = "static"
    bottleneck: int = 32
    head_term: bool = True  # whether the program holds the term at all; a zero weight switches it off for a member
    representation_term: bool = True
    estimators: tuple[str, ...] = ("infonce",)
    smile_tau: float = 5.0
    critic: str = "dot"
    representation: str = "decoder"
    negatives: str = "posterior"
    negatives_per_example: int = 16  # K, at least 1; `fleet/assembly.py` resolves the config's 0
    noise_scale: float = 1.0
    variational: bool = False
    latent: int = 32

    @property
    def needs_features(self) -> bool:
        """Whether a training step reads un-prompted features."""
        return (
            self.kind == "instance" or (self.representation_term and self.negatives == "posterior") or self.variational
        )

    def init(self, value_PD: ArrayLike, key: jax.Array, verbalizer_CD: ArrayLike | None = None) -> Trainable:
        """Everything a member trains, from its prompt's first value (and its label words' head rows)."""
        length, width = np.shape(value_PD)
        keys = jax.random.split(key, 3)
        trainable: Trainable = {"prompt": {"value": jnp.asarray(value_PD, jnp.float32)}}
        if self.kind == "instance":
            trainable["generator"] = prompts.generator(length, width, self.bottleneck, keys[0])
        if self.head_term and self.critic == "bilinear":
            trainable["head_critic"] = {"kernel": jnp.eye(width)}
        if self.representation_term:
            trainable["representation_critic"] = {"kernel": jnp.eye(width), "bias": jnp.zeros(width)}
        if self.task_loss == "verbalizer":
            trainable["verbalizer"] = {"value": jnp.asarray(verbalizer_CD, jnp.float32)}
        if self.variational:
            trainable["posterior"] = bottleneck.init(width, self.latent, keys[1], keys[2])
        return trainable

    def loss(
        self,
        trainable: Trainable,
        frozen: nnx.State,
        batch: Batch[jax.Array],
        hyper: Hyper[jax.Array],
        key: jax.Array,
        progress: jax.Array | float,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The scalar loss in nats and its parts; `progress` is the share of the steps that are done."""
        model = nnx.merge(self.graph, frozen)
        features_BD = self._features(model, batch) if self.needs_features else None
        prompt = prompts.prompt_rows(trainable["prompt"]["value"], trainable.get("generator"), features_BD)
        y_BSD, mask_BS = model.encode(batch["inputs"], prompt, jax.random.fold_in(key, streams.ENCODER_DROPOUT))
        z_BD, hidden_BCTD = self._represent(
            model, batch, y_BSD, mask_BS, train=True, dropout_key=jax.random.fold_in(key, streams.DECODER_DROPOUT)
        )
        parts: dict[str, jax.Array] = {}
        if "posterior" in trainable:
            assert features_BD is not None  # see needs_features
            noise_key = jax.random.fold_in(key, streams.BOTTLENECK_NOISE)
            z_BD, kl_B = bottleneck.sample(trainable["posterior"], z_BD, features_BD, noise_key)
            parts["kl"] = (kl_B * batch["weight"]).sum() / jnp.maximum(batch["weight"].sum(), 1.0)
            hidden_BCTD = _with_first(hidden_BCTD, z_BD)
        parts["task_loss"] = total = self._task_loss(model, trainable, batch, z_BD, hidden_BCTD)
        strength = 1.0 - hyper.decay * progress
        bound = self._bound(hyper.estimator, batch["weight"])
        if self.head_term:
            verbalizer, critic = trainable.get("verbalizer", {}), trainable.get("head_critic", {})
            parts["head_mi"] = head_information(
                bound, model, batch, prompt, verbalizer.get("value"), critic.get("kernel")
            )
            total = total - strength * hyper.gamma * parts["head_mi"]
        if "representation_critic" in trainable:
            negatives = self._negatives(trainable.get("posterior"), batch, z_BD, features_BD, key)
            parts["representation_mi"] = representation_information(
                bound, trainable["representation_critic"], prompt, z_BD, negatives
            )
            total = total - strength * hyper.beta * parts["representation_mi"]
        if "kl" in parts:
            total = total + strength * hyper.kappa * parts["kl"]
        return total, {"loss": total, **parts}

    def scores(self, trainable: Trainable, frozen: nnx.State, batch: Batch[jax.Array]) -> jax.Array:
        """Scores [B, C] whose largest is the prediction: choices' log-probabilities, or the verbalizer's logits."""
        model = nnx.merge(self.graph, frozen)
        y_BSD, mask_BS = self._encode(model, trainable, batch)
        z_BD, hidden_BCTD = self._represent(model, batch, y_BSD, mask_BS, train=False)
        if "posterior" in trainable:
            z_BD = bottleneck.predict(trainable["posterior"], z_BD)
            hidden_BCTD = _with_first(hidden_BCTD, z_BD)
        if "verbalizer" in trainable:
            return verbalizer_logits(model.config, z_BD, trainable["verbalizer"]["value"], batch["choices"])
        return scoring.choice_scores(model, hidden_BCTD, batch["choices"])

    def generate(self, trainable: Trainable, frozen: nnx.State, batch: Batch[jax.Array], max_length: int) -> jax.Array:
        """Greedy continuations [B, max_length] with the member's prompt."""
        model = nnx.merge(self.graph, frozen)
        return model.generate(*self._encode(model, trainable, batch), max_length)

    def unprompted(self, model: T5, inputs_BL: jax.Array) -> jax.Array:
        """Un-prompted representations [B, D] of the inputs, float32; no gradient passes through them."""
        return prompts.unprompted(model, inputs_BL, self.representation)

    def _features(self, model: T5, batch: Batch[jax.Array]) -> jax.Array:
        return batch["features"] if "features" in batch else self.unprompted(model, batch["inputs"])

    def _encode(self, model: T5, trainable: Trainable, batch: Batch[jax.Array]) -> tuple[jax.Array, jax.Array]:
        """The encoder's output [B, S, D] with the prompt and its mask [B, S], without dropout."""
        features_BD = self._features(model, batch) if self.kind == "instance" else None
        prompt = prompts.prompt_rows(trainable["prompt"]["value"], trainable.get("generator"), features_BD)
        return model.encode(batch["inputs"], prompt)

    def _represent(
        self,
        model: T5,
        batch: Batch[jax.Array],
        y_BSD: jax.Array,
        mask_BS: jax.Array,
        train: bool,
        dropout_key: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """Z [B, D] in float32, and the decoder's states [B, C, T, D] that the task loss or the scores read.

        C = 1 unless the answer choices are decoded: for predictions, and for the task loss `choices`.
        """
        if self.task_loss == "verbalizer":
            targets_BCT = jnp.zeros((y_BSD.shape[0], 1, 1), jnp.int32)
        elif train and self.task_loss == "lm":
            targets_BCT = batch["targets"][:, None]
        else:
            targets_BCT = batch["choices"]
        flat = targets_BCT.reshape(-1, targets_BCT.shape[-1])
        hidden_BCTD = model.decode(flat, y_BSD, mask_BS, dropout_key).reshape(*targets_BCT.shape, -1)
        if self.representation == "mean_encoder":
            return prompts.mean_encoder(y_BSD, mask_BS, batch["inputs"].shape[1]), hidden_BCTD
        return hidden_BCTD[:, 0, 0].astype(jnp.float32), hidden_BCTD  # position 0 has only seen the start token

    def _task_loss(
        self, model: T5, trainable: Trainable, batch: Batch[jax.Array], z_BD: jax.Array, hidden_BCTD: jax.Array
    ) -> jax.Array:
        if "verbalizer" in trainable:
            return verbalizer_loss(model.config, z_BD, trainable["verbalizer"]["value"], batch)
        if self.task_loss == "choices":
            return choices_loss(model, hidden_BCTD, batch)
        return lm_loss(model, hidden_BCTD[:, 0], batch)

    def _bound(self, estimator: jax.Array, weight_B: jax.Array) -> Bound:
        """The member's estimator, over the rows that count."""

        def bound(positive_B: jax.Array, negative_BK: jax.Array, mask_BK: jax.Array | None) -> jax.Array:
            return select(self.estimators, estimator, positive_B, negative_BK, mask_BK, weight_B, self.smile_tau)

        return bound

    def _negatives(
        self,
        posterior: Part | None,
        batch: Batch[jax.Array],
        z_BD: jax.Array,
        features_BD: jax.Array | None,
        key: jax.Array,
    ) -> Negatives:
        if self.negatives == "in_batch":
            return in_batch_negatives(z_BD, batch["weight"])
        assert features_BD is not None  # see needs_features
        key = jax.random.fold_in(key, streams.NEGATIVES)
        if posterior is not None:
            return bottleneck.negatives(posterior, features_BD, self.negatives_per_example, key)
        return noisy_negatives(features_BD, self.negatives_per_example, self.noise_scale, key)


def _with_first(hidden_BCTD: jax.Array, z_BD: jax.Array) -> jax.Array:
    """The decoder's states with Z at position 0."""
    return hidden_BCTD.at[:, :, 0].set(z_BD[:, None].astype(hidden_BCTD.dtype))
