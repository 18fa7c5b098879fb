"""One member's loss: task loss plus InfoPrompt's two mutual-information terms.

    L = L_task + (1 - decay * progress) * (gamma * L_head + beta * L_representation + kappa * L_KL)

A pure function of (trainable, frozen, batch, hyper-parameters, key); the gradient is taken over `trainable` alone. The
terms follow the authors' released code (arXiv 2306.04933). Switches that change the program are fields of `Objective`;
numbers that a fleet's members may set for themselves (beta, gamma, kappa, decay, estimator) arrive in `hyper`.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike

from infoprompt_jax.infoprompt.estimators import gaussian_kl, head_scores, representation_scores, select
from infoprompt_jax.prompts import prompts
from infoprompt_jax.t5 import scoring
from infoprompt_jax.t5.model import PAD, T5

Batch = dict[str, jax.Array]  # one member's: inputs [B,L], targets [B,T], choices [B,C,T], label [B], weight [B]
Trainable = dict[str, dict[str, jax.Array]]

INFERENCE = ("prompt", "generator", "verbalizer", "posterior")  # what predictions need; critics are not among it


@dataclasses.dataclass(frozen=True)
class Objective:
    """The static half of a member's loss; see `settings.py` for what each field means."""

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
    negatives_per_example: int = 0
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
        trainable = {"prompt": {"value": jnp.asarray(value_PD, jnp.float32)}}
        if self.kind == "instance":
            trainable["generator"] = prompts.generator(length, width, self.bottleneck, keys[0])
        if self.head_term and self.critic == "bilinear":
            trainable["head_critic"] = {"kernel": jnp.eye(width)}
        if self.representation_term:
            trainable["representation_critic"] = {"kernel": jnp.eye(width), "bias": jnp.zeros(width)}
        if self.task_loss == "verbalizer":
            trainable["verbalizer"] = {"value": jnp.asarray(verbalizer_CD, jnp.float32)}
        if self.variational:
            down = jax.random.normal(keys[1], (2, width, self.latent)) * width**-0.5
            up = jax.random.normal(keys[2], (self.latent, width)) * self.latent**-0.5
            trainable["posterior"] = {"mean": down[0], "log_std": down[1], "out": up}
        return trainable

    def loss(
        self,
        trainable: Trainable,
        frozen: nnx.State,
        batch: Batch,
        hyper: dict[str, jax.Array],
        key: jax.Array,
        progress: jax.Array,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The scalar loss in nats and its parts; `progress` is the share of the steps that are done."""
        model = nnx.merge(self.graph, frozen)
        features_BD = self.features(model, batch) if self.needs_features else None
        prompt = prompts.prompt_rows(trainable, features_BD)
        y_BSD, mask_BS = model.encode(batch["inputs"], prompt, jax.random.fold_in(key, 0))
        z_BD, hidden_BCTD = self._represent(model, batch, y_BSD, mask_BS, key)
        parts = {}
        if self.variational:
            assert features_BD is not None  # needs_features says so
            z_BD, hidden_BCTD, parts["kl"] = self._bottleneck(trainable, z_BD, features_BD, hidden_BCTD, batch, key)
        parts["task_loss"] = self._task_loss(model, trainable, batch, z_BD, hidden_BCTD)
        strength = 1.0 - hyper["decay"] * progress
        total = parts["task_loss"]
        if self.head_term:
            parts["head_mi"] = self._head_information(model, trainable, batch, prompt, hyper["estimator"])
            total = total - strength * hyper["gamma"] * parts["head_mi"]
        if self.representation_term:
            parts["representation_mi"] = self._representation_information(
                trainable, batch, prompt, z_BD, features_BD, hyper["estimator"], key
            )
            total = total - strength * hyper["beta"] * parts["representation_mi"]
        if self.variational:
            total = total + strength * hyper["kappa"] * parts["kl"]
        return total, {"loss": total, **parts}

    def scores(self, trainable: Trainable, frozen: nnx.State, batch: Batch) -> jax.Array:
        """What the prediction is the argmax of, [B, C]: choices' log-probabilities, or the verbalizer's logits."""
        model = nnx.merge(self.graph, frozen)
        y_BSD, mask_BS = self._prompted(model, trainable, batch)
        z_BD, hidden_BCTD = self._represent(model, batch, y_BSD, mask_BS, None)
        if self.variational:
            z_BD = (z_BD @ trainable["posterior"]["mean"]) @ trainable["posterior"]["out"]
            hidden_BCTD = self._replace_first(hidden_BCTD, z_BD)
        if self.task_loss == "verbalizer":
            return self._verbalize(model, trainable, z_BD, batch)
        return scoring.choice_scores(model, hidden_BCTD, batch["choices"])

    def generate(self, trainable: Trainable, frozen: nnx.State, batch: Batch, max_length: int) -> jax.Array:
        """Greedy continuations [B, max_length] with the member's prompt."""
        model = nnx.merge(self.graph, frozen)
        return model.generate(*self._prompted(model, trainable, batch), max_length)

    def features(self, model: T5, batch: Batch) -> jax.Array:
        """Un-prompted representations [B, D], float32, constant: from the batch if cached there, else computed."""
        if "features" in batch:
            return batch["features"]
        y_BSD, mask_BS = model.encode(batch["inputs"])
        if self.representation == "mean_encoder":
            return jax.lax.stop_gradient(self._mean_encoder(y_BSD, mask_BS, y_BSD.shape[1]))
        start_B1 = jnp.zeros((y_BSD.shape[0], 1), jnp.int32)
        return jax.lax.stop_gradient(model.decode(start_B1, y_BSD, mask_BS)[:, 0].astype(jnp.float32))

    def _prompted(self, model: T5, trainable: Trainable, batch: Batch) -> tuple[jax.Array, jax.Array]:
        features_BD = self.features(model, batch) if self.kind == "instance" else None
        return model.encode(batch["inputs"], prompts.prompt_rows(trainable, features_BD))

    def _represent(
        self, model: T5, batch: Batch, y_BSD: jax.Array, mask_BS: jax.Array, key: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        """Z [B, D] in float32, and the hidden states [B, C, T, D] that the task loss reads (C = 1 but for choices)."""
        batch_size = y_BSD.shape[0]
        scored = key is None or self.task_loss == "choices"
        if self.task_loss == "verbalizer":
            targets_BCT = jnp.zeros((batch_size, 1, 1), jnp.int32)
        else:
            targets_BCT = batch["choices"] if scored else batch["targets"][:, None]
        flat = targets_BCT.reshape(-1, targets_BCT.shape[-1])
        dropout_key = None if key is None else jax.random.fold_in(key, 1)
        hidden = model.decode(flat, y_BSD, mask_BS, dropout_key)
        hidden_BCTD = hidden.reshape(*targets_BCT.shape, -1)
        if self.representation == "mean_encoder":
            return self._mean_encoder(y_BSD, mask_BS, batch["inputs"].shape[1]), hidden_BCTD
        return hidden_BCTD[:, 0, 0].astype(jnp.float32), hidden_BCTD  # position 0 has only seen the start token

    @staticmethod
    def _mean_encoder(y_BSD: jax.Array, mask_BS: jax.Array, length: int) -> jax.Array:
        """Mean over the encoded input tokens: the last `length` positions, without padding."""
        y_BLD, mask_BL1 = y_BSD[:, -length:].astype(jnp.float32), mask_BS[:, -length:, None]
        return jnp.where(mask_BL1, y_BLD, 0.0).sum(axis=1) / jnp.maximum(mask_BL1.sum(axis=1), 1)

    @staticmethod
    def _replace_first(hidden_BCTD: jax.Array, z_BD: jax.Array) -> jax.Array:
        return hidden_BCTD.at[:, :, 0].set(z_BD[:, None].astype(hidden_BCTD.dtype))

    def _bottleneck(
        self,
        trainable: Trainable,
        z_BD: jax.Array,
        features_BD: jax.Array,
        hidden_BCTD: jax.Array,
        batch: Batch,
        key: jax.Array,
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Z through the Gaussian bottleneck, the hidden states with it at position 0, and the KL of both passes."""
        posterior = trainable["posterior"]
        mean_BE, log_std_BE = encode_posterior(posterior, z_BD)
        noise_BE = jax.random.normal(jax.random.fold_in(key, 2), mean_BE.shape)
        z_BD = (mean_BE + noise_BE * jnp.exp(log_std_BE)) @ posterior["out"]
        kl_B = gaussian_kl(mean_BE, log_std_BE) + gaussian_kl(*encode_posterior(posterior, features_BD))
        kl = (kl_B * batch["weight"]).sum() / jnp.maximum(batch["weight"].sum(), 1.0)
        return z_BD, self._replace_first(hidden_BCTD, z_BD), kl

    def _task_loss(
        self, model: T5, trainable: Trainable, batch: Batch, z_BD: jax.Array, hidden_BCTD: jax.Array
    ) -> jax.Array:
        weight_B = batch["weight"]
        if self.task_loss == "lm":
            weight_BT = weight_B[:, None] * (batch["targets"] != PAD)
            log_p_BT = scoring.token_log_probabilities(model.logits(hidden_BCTD[:, 0]), batch["targets"])
            return -(log_p_BT * weight_BT).sum() / jnp.maximum(weight_BT.sum(), 1.0)
        if self.task_loss == "choices":
            scores_BC = scoring.choice_scores(model, hidden_BCTD, batch["choices"])
        else:
            scores_BC = self._verbalize(model, trainable, z_BD, batch)
        # A row that only fills the batch has no choice at all; its -inf must not meet the gradient.
        scores_BC = jnp.where(weight_B[:, None] > 0, scores_BC, 0.0)
        log_p_B = jnp.take_along_axis(jax.nn.log_softmax(scores_BC), batch["label"][:, None], axis=1)[:, 0]
        return -(log_p_B * weight_B).sum() / jnp.maximum(weight_B.sum(), 1.0)

    def _verbalize(self, model: T5, trainable: Trainable, z_BD: jax.Array, batch: Batch) -> jax.Array:
        """z theta^T over the label words, scaled as the LM head scales; -inf for a label the task does not have."""
        scale = model.config.d_model**-0.5 if model.config.scale_decoder_outputs else 1.0
        logits_BC = scale * jnp.einsum("BD,CD->BC", z_BD, trainable["verbalizer"]["value"])
        return jnp.where(batch["choices"][..., 0] == PAD, -jnp.inf, logits_BC)

    def _head_information(
        self, model: T5, trainable: Trainable, batch: Batch, prompt: jax.Array, estimator: jax.Array
    ) -> jax.Array:
        """I(prompt; prediction head): the prompt against the example's own input tokens, seen from the label words."""
        first_BC = batch["choices"][..., 0]
        if self.task_loss == "verbalizer":
            rows_BCD = jnp.broadcast_to(trainable["verbalizer"]["value"], (*first_BC.shape, prompt.shape[-1]))
        else:
            # Free text has no choices: its target's first token stands for the label word.
            first_BC = jnp.where((first_BC == PAD).all(axis=1, keepdims=True), batch["targets"][:, :1], first_BC)
            rows_BCD = model.head_rows(first_BC).astype(jnp.float32)
        exists_BC1 = (first_BC != PAD)[..., None]
        label_BD = jnp.where(exists_BC1, rows_BCD, 0.0).sum(axis=1) / jnp.maximum(exists_BC1.sum(axis=1), 1)
        prompt_BD = jnp.broadcast_to(prompt.mean(axis=-2), label_BD.shape)
        kernel = trainable["head_critic"]["kernel"] if self.critic == "bilinear" else None
        positive_B, negative_BL = head_scores(prompt_BD, model.embed(batch["inputs"]), label_BD, kernel)
        mask_BL = batch["inputs"] != PAD
        return select(self.estimators, estimator, positive_B, negative_BL, mask_BL, batch["weight"], self.smile_tau)

    def _representation_information(
        self,
        trainable: Trainable,
        batch: Batch,
        prompt: jax.Array,
        z_BD: jax.Array,
        features_BD: jax.Array | None,
        estimator: jax.Array,
        key: jax.Array,
    ) -> jax.Array:
        """I(prompt; representation): z with the prompt against the same example's z without it (or other examples')."""
        critic, size = trainable["representation_critic"], z_BD.shape[0]
        mean_prompt = jax.lax.stop_gradient(prompt).mean(axis=-2)
        context_BD = jnp.broadcast_to(
            mean_prompt @ critic["kernel"] + jnp.expand_dims(critic["bias"], range(mean_prompt.ndim - 1)), z_BD.shape
        )
        if self.negatives == "in_batch":
            negatives_BKD = jnp.broadcast_to(z_BD[None], (size, *z_BD.shape))
            mask_BK = ~jnp.eye(size, dtype=bool) & (batch["weight"] > 0)[None, :]
        else:
            assert features_BD is not None  # needs_features says so
            negatives_BKD = self._posterior_samples(trainable, features_BD, jax.random.fold_in(key, 3))
            mask_BK = None
        positive_B, negative_BK = representation_scores(z_BD, negatives_BKD, context_BD)
        return select(self.estimators, estimator, positive_B, negative_BK, mask_BK, batch["weight"], self.smile_tau)

    def _posterior_samples(self, trainable: Trainable, features_BD: jax.Array, key: jax.Array) -> jax.Array:
        """K samples [B, K, D] around each example's own un-prompted representation."""
        size = features_BD.shape[0]
        count = self.negatives_per_example or 4 * size
        if not self.variational:
            noise_BKD = jax.random.normal(key, (size, count, features_BD.shape[-1]))
            return features_BD[:, None] + self.noise_scale * noise_BKD
        mean_BE, log_std_BE = encode_posterior(trainable["posterior"], features_BD)
        noise_BKE = jax.random.normal(key, (size, count, self.latent))
        return (mean_BE[:, None] + noise_BKE * jnp.exp(log_std_BE)[:, None]) @ trainable["posterior"]["out"]


def encode_posterior(posterior: dict[str, jax.Array], h_BD: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and log standard deviation [B, E] of the bottleneck; log std is clipped to [-2, 10] (released code)."""
    return h_BD @ posterior["mean"], jnp.clip(h_BD @ posterior["log_std"], -2.0, 10.0)
