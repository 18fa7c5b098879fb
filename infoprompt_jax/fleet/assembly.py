"""From a config and its members to a fleet: the one place that puts objective, optimiser and program together."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import ml_collections
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from infoprompt_jax.errors import UserError
from infoprompt_jax.fleet import optimizers
from infoprompt_jax.fleet.fleet import Fleet, member_keys
from infoprompt_jax.fleet.members import Member, hyper_parameters
from infoprompt_jax.infoprompt.hyper import Hyper
from infoprompt_jax.infoprompt.objective import Objective
from infoprompt_jax.infoprompt.representation_loss import OF_ROWS
from infoprompt_jax.t5.backbone import Backbone
from infoprompt_jax.t5.partition import Layout, row_devices
from infoprompt_jax.t5.placement import skeleton


class Assembly(NamedTuple):
    """A fleet's program, and the data of its members that the program takes besides state and batches."""

    fleet: Fleet
    hyper: Hyper[np.ndarray]  # [M]
    keys: jax.Array  # [M], random keys


def assemble(
    config: ml_collections.ConfigDict, members: list[Member], backbone: Backbone, at_once: int | None = None
) -> Assembly:
    """The fleet of these members on the backbone and its mesh.

    Args:
      config: checked by `settings.check`.
      members: as `members.expand` makes them from the config.
      backbone: frozen.
      at_once: the number of members that compute together; None = `fleet.at_once`.

    Raises:
      UserError: train.optimizer is unknown, or fleet.over=members does not fit the mesh.
    """
    estimators = tuple(dict.fromkeys(member.config.infoprompt.estimator for member in members))
    hyper = hyper_parameters(members, estimators)
    train, over = config.train, split_over(config.fleet.over, len(members), config.fleet.at_once, backbone.mesh)
    fleet = compiled_once(
        Fleet(
            objective=make_objective(config, backbone, member_graph(backbone, over), estimators, hyper),
            graph=backbone.graph,
            optimizer=optimizers.optimizer(train.optimizer, train.weight_decay, train.clip_norm, train.clip_apart),
            total_steps=train.steps,
            mesh=backbone.mesh,
            accumulate=train.accumulate,
            placebo=config.infoprompt.placebo,
            at_once=config.fleet.at_once if at_once is None else at_once,
            over=over,
        )
    )
    return Assembly(fleet, hyper, member_keys([member.config.seed for member in members]))


@functools.lru_cache(maxsize=16)
def compiled_once(fleet: Fleet) -> Fleet:
    """The first of equal fleets, which holds the compiled programs: groups of source prompts share theirs."""
    return fleet


def split_over(over: str, members: int, at_once: int, mesh: Mesh) -> str:
    """What the devices share out, "rows" or "members"; "auto" is members where they and `at_once` divide evenly.

    Raises:
      UserError: `over` is "members", and they do not.
    """
    devices, together = row_devices(mesh), min(at_once or members, members)
    fits = members % together == 0 and together % devices == 0
    if over == "members" and not fits:
        raise UserError(
            f"fleet.over='members' needs members and fleet.at_once that divide evenly over mesh.data x mesh.fsdp "
            f"= {devices} devices, but there are {members} members, {together} at once: choose fleet.over='auto'."
        )
    return over if over != "auto" else "members" if fits and devices > 1 else "rows"


def member_graph(backbone: Backbone, over: str) -> nnx.GraphDef:
    """The graph of the backbone for one member of a fleet, whose devices share out "rows" or "members"."""
    return backbone.graph if over == "rows" else skeleton(backbone.config, Layout(backbone.mesh, rows=()))[0]


def make_objective(
    config: ml_collections.ConfigDict,
    backbone: Backbone,
    graph: nnx.GraphDef,
    estimators: tuple[str, ...],
    hyper: Hyper[np.ndarray],
) -> Objective:
    """The static half of the loss; a term whose weight is zero for every member is left out of the program.

    Raises:
      UserError: the representation loss has no negatives.
    """
    info, train = config.infoprompt, config.train
    of_rows = info.negatives in OF_ROWS or (info.negatives == "shuffled" and config.prompt.kind == "instance")
    if np.any(hyper.beta) and of_rows and train.batch_size // train.accumulate < 2:
        raise UserError(
            f"train.batch_size={train.batch_size} with train.accumulate={train.accumulate} leaves one row each, "
            f"but infoprompt.negatives={info.negatives!r} needs others in it: choose a larger batch, "
            "negatives='posterior' or infoprompt.beta=0."
        )
    head_term = bool(np.any(hyper.gamma) or np.any(hyper.head_steps))
    critic, vocabulary = info.critic, ()
    if critic == "auto":
        # The prompted representation lies in the head's space, whether or not the embeddings do.
        in_head_space = info.head == "conditional" and info.representation == "decoder"
        critic = "dot" if backbone.config.tied or in_head_space else "bilinear"
    if head_term and info.head != "released_code":
        vocabulary = tuple(backbone.tokenizer.pieces[: config.prompt.top_k].tolist())
    return Objective(
        graph=graph,
        task_loss=config.train.task_loss,
        kind=config.prompt.kind,
        bottleneck=config.prompt.bottleneck,
        head_term=head_term,
        representation_term=bool(np.any(hyper.beta)),
        estimators=estimators,
        smile_tau=info.smile_tau,
        head=info.head,
        critic=critic,
        score=info.score,
        learn_temperature=info.learn_temperature,
        vocabulary=vocabulary,
        vocabulary_negatives=info.vocabulary_negatives,
        representation=info.representation,
        negatives=info.negatives,
        negatives_per_example=info.negatives_per_example or 4 * config.train.batch_size,
        noise_scale=info.noise_scale,
        variational=info.variational,
        latent=info.latent,
    )
