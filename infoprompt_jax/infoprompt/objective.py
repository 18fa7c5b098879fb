"""One member's loss: a task loss and InfoPrompt's two information terms (arXiv 2306.04933).

    L = L_task - (1 - decay * progress) * (gamma * I(P; head) + beta * I(P; Z) - kappa * KL)

`task_losses`, `head_loss`, `representation_loss` and `bottleneck` hold the parts; this module runs the model once and
puts them together. The loss is a pure function of (trainable, frozen, batch, hyper-parameters, key); its gradient is
taken only over `trainable`. Fields of `Objective` change the compiled program; numbers that each member of a fleet may
set for itself are in `Hyper`. Axes as in `t5/model.py`.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike

from infoprompt_jax.batch import Batch
from infoprompt_jax.infoprompt import bottleneck, critics, streams
from infoprompt_jax.infoprompt.critics import Pairs, learned_temperature
from infoprompt_jax.infoprompt.estimators import most, select
from infoprompt_jax.infoprompt.head_loss import answer_pairs, label_pairs
from infoprompt_jax.infoprompt.hyper import Hyper
from infoprompt_jax.infoprompt.representation_loss import (
    OF_FEATURES,
    OF_ROWS,
    in_batch_negatives,
    noisy_negatives,
    representation_pairs,
    shuffled_pairs,
    unprompted_negatives,
)
from infoprompt_jax.infoprompt.task_losses import choices_loss, lm_loss, verbalizer_logits, verbalizer_loss
from infoprompt_jax.infoprompt.trainable import Part, Trainable
from infoprompt_jax.prompts import prompts
from infoprompt_jax.t5 import scoring
from infoprompt_jax.t5.model import T5

Parts = dict[str, jax.Array]  # scalars by name


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
    head: str = "released_code"
    critic: str = "dot"  # of the head term: "bilinear" maps head rows to embeddings
    score: str = "product"
    learn_temperature: bool = False
    vocabulary: tuple[int, ...] = ()  # pieces that are sampled as the head term's negatives
    vocabulary_negatives: int = 64
    representation: str = "decoder"
    negatives: str = "posterior"
    negatives_per_example: int = 16  # K, at least 1; `fleet/assembly.py` resolves the config's 0
    noise_scale: float = 1.0
    variational: bool = False
    latent: int = 32

    @property
    def needs_features(self) -> bool:
        """Whether a training step reads un-prompted features."""
        of_features = self.representation_term and self.negatives in OF_FEATURES
        return self.kind == "instance" or of_features or self.variational

    def init(self, value_PD: ArrayLike, key: jax.Array, verbalizer_CD: ArrayLike | None = None) -> Trainable:
        """Everything a member trains, from its prompt's first value (and its label words' head rows)."""
        length, width = np.shape(value_PD)
        keys = jax.random.split(key, 3)
        trainable: Trainable = {"prompt": {"value": jnp.asarray(value_PD, jnp.float32)}}
        if self.kind == "instance":
            trainable["generator"] = prompts.generator(length, width, self.bottleneck, keys[0])
        temperature: Part = {"log_temperature": jnp.zeros(())} if self.learn_temperature else {}
        if self.head_term and self.critic == "bilinear":
            trainable["head_critic"] = {"kernel": jnp.eye(width)} | temperature
        elif self.head_term and temperature:
            trainable["head_critic"] = temperature
        if self.representation_term:
            trainable["representation_critic"] = {"kernel": jnp.eye(width), "bias": jnp.zeros(width)} | temperature
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
    ) -> tuple[jax.Array, Parts]:
        """The scalar loss in nats and its parts; `progress` is the share of the steps that are done."""
        addends, parts = self.addends(trainable, frozen, batch, hyper, key, progress)
        total = functools.reduce(jnp.add, addends.values())
        return total, {"loss": total, **parts}

    def addends(
        self,
        trainable: Trainable,
        frozen: nnx.State,
        batch: Batch[jax.Array],
        hyper: Hyper[jax.Array],
        key: jax.Array,
        progress: jax.Array | float,
    ) -> tuple[Parts, Parts]:
        """What the loss is the sum of, weighted (task, and of head, representation and kl those that are on); parts.

        The parts are what is logged: the terms without their weights, and the most that InfoNCE could estimate.
        """
        model = nnx.merge(self.graph, frozen)
        features_BD = self._features(model, batch) if self.needs_features else None
        prompt = prompts.prompt_rows(trainable["prompt"]["value"], trainable.get("generator"), features_BD)
        y_BSD, mask_BS = model.encode(batch["inputs"], prompt, jax.random.fold_in(key, streams.ENCODER_DROPOUT))
        z_BD, hidden_BCTD = self._represent(
            model, batch, y_BSD, mask_BS, train=True, dropout_key=jax.random.fold_in(key, streams.DECODER_DROPOUT)
        )
        parts: Parts = {}
        if "posterior" in trainable:
            assert features_BD is not None  # see needs_features
            noise_key = jax.random.fold_in(key, streams.BOTTLENECK_NOISE)
            z_BD, kl_B = bottleneck.sample(trainable["posterior"], z_BD, features_BD, noise_key)
            parts["kl"] = (kl_B * batch["weight"]).sum() / jnp.maximum(batch["weight"].sum(), 1.0)
            hidden_BCTD = _with_first(hidden_BCTD, z_BD)
        parts["task_loss"] = self._task_loss(model, trainable, batch, z_BD, hidden_BCTD)
        addends = {"task": parts["task_loss"]}
        strength = 1.0 - hyper.decay * progress
        if self.head_term:
            pairs = self._head_pairs(model, trainable, batch, prompt, z_BD, key)
            parts |= self._estimate("head", pairs, trainable.get("head_critic"), batch, hyper)
            addends["head"] = -strength * hyper.gamma * parts["head_mi"]
        if "representation_critic" in trainable:
            pairs = self._representation_pairs(trainable, batch, prompt, z_BD, features_BD, key)
            parts |= self._estimate("representation", pairs, trainable["representation_critic"], batch, hyper)
            addends["representation"] = -strength * hyper.beta * parts["representation_mi"]
        if "kl" in parts:
            addends["kl"] = strength * hyper.kappa * parts["kl"]
        return addends, parts

    def gradients(
        self,
        trainable: Trainable,
        frozen: nnx.State,
        batch: Batch[jax.Array],
        hyper: Hyper[jax.Array],
        key: jax.Array,
        progress: jax.Array | float,
    ) -> tuple[dict[str, Trainable], Parts]:
        """The gradient of each addend of the loss, a tree like `trainable`; and the loss with its parts."""
        addends, pull, parts = jax.vjp(
            lambda tree: self.addends(tree, frozen, batch, hyper, key, progress), trainable, has_aux=True
        )
        zeros = dict.fromkeys(addends, jnp.zeros(()))
        by_name = {name: pull(zeros | {name: jnp.ones(())})[0] for name in addends}
        return by_name, {"loss": functools.reduce(jnp.add, addends.values()), **parts}

    def head_loss(
        self,
        trainable: Trainable,
        frozen: nnx.State,
        batch: Batch[jax.Array],
        hyper: Hyper[jax.Array],
        key: jax.Array,
        progress: jax.Array | float,
    ) -> tuple[jax.Array, Parts]:
        """The head loss alone, without its weight: what the prompt starts from. The backbone's layers do not run.

        Arguments and results are those of `loss`; the head's pairs must not read the prompted representation.
        """
        del progress
        model = nnx.merge(self.graph, frozen)
        features_BD = self._features(model, batch) if self.kind == "instance" else None
        prompt = prompts.prompt_rows(trainable["prompt"]["value"], trainable.get("generator"), features_BD)
        pairs = self._head_pairs(model, trainable, batch, prompt, None, key)
        parts = self._estimate("head", pairs, trainable.get("head_critic"), batch, hyper)
        return -parts["head_mi"], {"loss": -parts["head_mi"], **parts}

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
        return model.encode(batch["inputs"], prompt, forward_only=True)

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

    def _estimate(
        self, term: str, pairs: Pairs, critic: Part | None, batch: Batch[jax.Array], hyper: Hyper[jax.Array]
    ) -> Parts:
        """The term's bound by the member's estimator, over the rows that count, and InfoNCE's ceiling."""
        temperature = learned_temperature(hyper.temperature, critic)
        positive_B, negative_BK = critics.scores(pairs, self.score, temperature)
        mask_BK = jnp.ones(negative_BK.shape, bool) if pairs.mask_BK is None else pairs.mask_BK
        bound = select(
            self.estimators, hyper.estimator, positive_B, negative_BK, mask_BK, batch["weight"], self.smile_tau
        )
        return {f"{term}_mi": bound, f"{term}_most": most(mask_BK, batch["weight"])}

    def _head_pairs(
        self,
        model: T5,
        trainable: Trainable,
        batch: Batch[jax.Array],
        prompt: jax.Array,
        z_BD: jax.Array | None,
        key: jax.Array,
    ) -> Pairs:
        verbalizer_CD = trainable.get("verbalizer", {}).get("value")
        kernel_DD = trainable.get("head_critic", {}).get("kernel")
        if self.head == "released_code":
            return label_pairs(model, batch, prompt, verbalizer_CD, kernel_DD)
        pieces = jnp.asarray(self.vocabulary, jnp.int32)
        vocabulary_K = jax.random.choice(
            jax.random.fold_in(key, streams.VOCABULARY), pieces, (min(self.vocabulary_negatives, len(pieces)),)
        )
        anchor = prompt.mean(axis=-2) if self.head == "answer" else z_BD
        assert anchor is not None  # see head_loss
        return answer_pairs(model, batch, anchor, vocabulary_K, verbalizer_CD, kernel_DD)

    def _representation_pairs(
        self,
        trainable: Trainable,
        batch: Batch[jax.Array],
        prompt: jax.Array,
        z_BD: jax.Array,
        features_BD: jax.Array | None,
        key: jax.Array,
    ) -> Pairs:
        critic, weight_B = trainable.get("representation_critic", {}), batch["weight"]
        key, count = jax.random.fold_in(key, streams.NEGATIVES), self.negatives_per_example
        if self.negatives == "shuffled":
            return shuffled_pairs(critic, prompt, z_BD, weight_B, count, key, self.score)
        if self.negatives in OF_ROWS:
            targets_BT = batch["targets"] if self.negatives == "labels" else None
            negatives = in_batch_negatives(z_BD, weight_B, targets_BT)
        else:
            assert features_BD is not None  # see needs_features
            if self.negatives == "unprompted":
                negatives = unprompted_negatives(features_BD, weight_B)
            elif "posterior" in trainable:
                negatives = bottleneck.negatives(trainable["posterior"], features_BD, count, key)
            else:
                negatives = noisy_negatives(features_BD, count, self.noise_scale, key, batch.get("spread"))
        return representation_pairs(critic, prompt, z_BD, negatives, self.score)


def _with_first(hidden_BCTD: jax.Array, z_BD: jax.Array) -> jax.Array:
    """The decoder's states with Z at position 0."""
    return hidden_BCTD.at[:, :, 0].set(z_BD[:, None].astype(hidden_BCTD.dtype))
