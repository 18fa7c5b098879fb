"""M prompts trained in one jitted step on one backbone; a usual run is M = 1 and takes the same path.

The trainable tree, its optimiser state, the batch and the hyper-parameters have a leading axis M, and one member's step
is mapped over it; the frozen weights have no such axis. Members are independent: each has its data, random key,
learning rate, weights of the information terms and gradient clipping, and a loss that is not finite stops only that
member. The devices of the mesh share out the rows of each member's batch, or whole members, which then need no
communication. Axes as in `t5/model.py`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding

from infoprompt_jax.batch import Batch
from infoprompt_jax.fleet import optimizers
from infoprompt_jax.infoprompt import streams
from infoprompt_jax.infoprompt.hyper import Hyper
from infoprompt_jax.infoprompt.objective import Objective
from infoprompt_jax.infoprompt.task_losses import token_weights
from infoprompt_jax.infoprompt.trainable import Trainable, inference
from infoprompt_jax.t5 import blocks, partition
from infoprompt_jax.t5.partition import Layout

Tree = TypeVar("Tree")
Metrics = dict[str, jax.Array]  # by name, [M]


class FleetState(NamedTuple):
    """Everything that a run changes and a checkpoint holds; the leading axis of every leaf but `step` is M."""

    step: jax.Array  # int32: steps done
    trainable: Trainable
    optimizer: optax.OptState
    active: jax.Array  # bool: whether the member still trains
    failed: jax.Array  # int32: the step at which the loss was not finite; -1 = never
    best: Trainable  # the part of `trainable` that predictions need, at the best evaluation
    best_metric: jax.Array  # float32; -inf before the first evaluation
    best_step: jax.Array  # int32
    stale: jax.Array  # int32: evaluations since the best


Stepped = tuple[Trainable, optax.OptState, jax.Array, Metrics]  # of a member: and whether the step was finite
Step = Callable[[FleetState, nnx.State, Batch[jax.Array], Hyper[jax.Array], jax.Array], tuple[FleetState, Metrics]]
Scores = Callable[[Trainable, nnx.State, Batch[jax.Array]], jax.Array]
Generate = Callable[[Trainable, nnx.State, Batch[jax.Array], int], jax.Array]
Features = Callable[[nnx.State, jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class Fleet:
    """The program of a fleet. `hyper` and `keys`, both [M], are data and not part of it.

    Its programs take the backbone's weights as `frozen`, a fleet's tree as `trainable`, and a `batch` [M, B, ...].
    """

    objective: Objective  # of one member
    graph: nnx.GraphDef  # of the backbone, for what is no member's
    optimizer: optax.GradientTransformationExtraArgs
    total_steps: int
    mesh: Mesh
    accumulate: int = 1
    placebo: bool = False  # whether the information terms' gradients are rolled: a control, see `_with_placebo`
    at_once: int = 0  # members whose activations are in memory together; 0 = all
    over: str = "rows"  # what the mesh's axes `data` and `fsdp` split: the "rows" of a batch, or its "members"

    def init(self, trainables: list[Trainable]) -> FleetState:
        """The state before the first step, from each member's trainable tree."""
        trainable = jax.tree.map(lambda *leaves: jnp.stack(leaves), *trainables)
        members = len(trainables)
        state = FleetState(
            step=jnp.int32(0),
            trainable=trainable,
            optimizer=jax.vmap(self.optimizer.init)(trainable),
            active=jnp.ones(members, bool),
            failed=jnp.full(members, -1, jnp.int32),
            best=jax.tree.map(jnp.copy, inference(trainable)),
            best_metric=jnp.full(members, -jnp.inf, jnp.float32),
            best_step=jnp.zeros(members, jnp.int32),
            stale=jnp.zeros(members, jnp.int32),
        )
        placed: Any = zip(state, self.state_sharding, strict=True)
        return FleetState(*(partition.place(part, sharding) for part, sharding in placed))

    @property
    def member_sharding(self) -> NamedSharding:
        """Where arrays with a leading axis M lie."""
        return partition.split(self.mesh) if self.over == "members" else partition.replicated(self.mesh)

    @property
    def state_sharding(self) -> FleetState:
        """Where the leaves of a state lie: a prefix of its tree."""
        placed: Any = dict.fromkeys(FleetState._fields, self.member_sharding)
        return FleetState(**placed | {"step": partition.replicated(self.mesh)})

    @property
    def split_axis(self) -> int:
        """The number of the axis of a batch [M, B, ...] that the devices share out."""
        return 0 if self.over == "members" else 1

    def place(self, batch: Any) -> Any:
        """A batch on the mesh, from this process's share of it: `partition.process_places` of its axis `split_axis`."""
        return partition.place_share(batch, self.mesh, self.split_axis)

    @functools.cached_property
    def step(self) -> Step:
        """`step(state, frozen, batch, hyper, keys) -> (state, metrics)`; donates `state`, metrics are [M]."""
        placed = self.state_sharding, partition.replicated(self.mesh)
        return jax.jit(self._step, donate_argnums=0, out_shardings=placed)

    @functools.cached_property
    def head_step(self) -> Callable[..., tuple[FleetState, Metrics]]:
        """`head_step(state, frozen, batch, hyper, keys, number)`: a step on the head loss alone, before training.

        As `step`, for the members whose `head_steps` exceed `number`; the state's own step stays as it is. A member
        whose loss or gradient is not finite stops here, too: it is not trained afterwards.
        """
        return jax.jit(self._head_step, donate_argnums=0, out_shardings=(self.state_sharding, self.member_sharding))

    @functools.cached_property
    def restart(self) -> Callable[[FleetState], FleetState]:
        """The state with an optimiser that has seen no gradient, and its trainable tree as the best so far."""

        def restarted(state: FleetState) -> FleetState:
            tree: Any = state.trainable  # optax's types do not know TypedDicts
            best = jax.tree.map(jnp.copy, inference(state.trainable))
            return state._replace(optimizer=jax.vmap(self.optimizer.init)(tree), best=best)

        return jax.jit(restarted, out_shardings=self.state_sharding)

    @functools.cached_property
    def gradient_norms(self) -> Callable[..., Metrics]:
        """`gradient_norms(state, frozen, batch, hyper, keys)`: of each addend of the loss, [M], as weighted.

        The norm is over the parts that predictions need, so critics do not count.
        """
        return jax.jit(self._gradient_norms, out_shardings=self.member_sharding)

    @functools.cached_property
    def record_best(self) -> Callable[[FleetState, np.ndarray, np.int32], FleetState]:
        """The compiled `record_best`."""
        return jax.jit(record_best, out_shardings=self.state_sharding)

    @functools.cached_property
    def scores(self) -> Scores:
        """`scores(trainable, frozen, batch) -> [M, B, C]`: log-probabilities, or the verbalizer's logits."""

        def mapped(trainable: Trainable, frozen: nnx.State, batch: Batch[jax.Array]) -> jax.Array:
            return self._predicted(lambda member, rows: self.objective.scores(member, frozen, rows), trainable, batch)

        return jax.jit(mapped, out_shardings=partition.replicated(self.mesh))

    @functools.cached_property
    def generate(self) -> Generate:
        """`generate(trainable, frozen, batch, max_length) -> [M, B, max_length]`: tokens, int32."""

        def mapped(trainable: Trainable, frozen: nnx.State, batch: Batch[jax.Array], max_length: int) -> jax.Array:
            def continued(member: Trainable, rows: Batch[jax.Array]) -> jax.Array:
                return self.objective.generate(member, frozen, rows, max_length=max_length)

            return self._predicted(continued, trainable, batch)

        return jax.jit(mapped, static_argnums=3, out_shardings=partition.replicated(self.mesh))

    @functools.cached_property
    def features(self) -> Features:
        """`features(frozen, inputs [B, L]) -> [B, D]`: un-prompted representations, float32."""

        def unprompted(frozen: nnx.State, inputs_BL: jax.Array) -> jax.Array:
            return self.objective.unprompted(nnx.merge(self.graph, frozen), inputs_BL)

        return jax.jit(unprompted, out_shardings=partition.replicated(self.mesh))

    def _step(
        self,
        state: FleetState,
        frozen: nnx.State,
        batch: Batch[jax.Array],
        hyper: Hyper[jax.Array],
        keys: jax.Array,
    ) -> tuple[FleetState, Metrics]:
        def member(
            trainable: Trainable,
            optimizer: optax.OptState,
            active: jax.Array,
            rows: Batch[jax.Array],
            member_hyper: Hyper[jax.Array],
            key: jax.Array,
        ) -> Stepped:
            key = jax.random.fold_in(jax.random.fold_in(key, streams.STEP), state.step)
            progress = state.step / self.total_steps
            gradient = self._gradient(trainable, frozen, rows, member_hyper, key, progress)
            rates = optimizers.step_sizes(member_hyper, state.step, self.total_steps)
            return self._updated(trainable, optimizer, active, gradient, rates)

        trainable, optimizer, finite, metrics = self._each(
            member, state.trainable, state.optimizer, state.active, batch, hyper, keys
        )
        state, metrics = _stopping(state, state.active, finite, metrics)
        return state._replace(step=state.step + 1, trainable=trainable, optimizer=optimizer), metrics

    def _head_step(
        self,
        state: FleetState,
        frozen: nnx.State,
        batch: Batch[jax.Array],
        hyper: Hyper[jax.Array],
        keys: jax.Array,
        number: jax.Array,
    ) -> tuple[FleetState, Metrics]:
        def differentiate(*arguments: Any) -> tuple[optax.Updates, Metrics]:
            gradient, metrics = jax.grad(self.objective.head_loss, has_aux=True)(*arguments)
            return (optimizers.turned(gradient) if self.placebo else gradient), metrics

        def member(
            trainable: Trainable,
            optimizer: optax.OptState,
            active: jax.Array,
            rows: Batch[jax.Array],
            member_hyper: Hyper[jax.Array],
            key: jax.Array,
        ) -> Stepped:
            key = jax.random.fold_in(jax.random.fold_in(key, streams.HEAD_STEP), number)
            gradient = self._mean_gradient(differentiate, trainable, frozen, rows, member_hyper, key, number)
            rates = optimizers.StepSizes(member_hyper.learning_rate, member_hyper.critic_learning_rate)
            return self._updated(trainable, optimizer, active, gradient, rates)

        starting = state.active & (hyper.head_steps > number)
        trainable, optimizer, finite, metrics = self._each(
            member, state.trainable, state.optimizer, starting, batch, hyper, keys
        )
        state, metrics = _stopping(state, starting, finite, metrics)
        return state._replace(trainable=trainable, optimizer=optimizer), metrics

    def _gradient_norms(
        self,
        state: FleetState,
        frozen: nnx.State,
        batch: Batch[jax.Array],
        hyper: Hyper[jax.Array],
        keys: jax.Array,
    ) -> Metrics:
        def member(trainable: Trainable, rows: Batch[jax.Array], member_hyper: Hyper[jax.Array], key: jax.Array) -> Any:
            key = jax.random.fold_in(jax.random.fold_in(key, streams.STEP), state.step)
            key = jax.random.fold_in(key, 0) if self.accumulate > 1 else key
            progress = state.step / self.total_steps
            # The first micro-batch: no more memory than a step.
            rows = jax.tree.map(lambda x: x[:: self.accumulate], rows)
            gradients = self.objective.gradients(trainable, frozen, rows, member_hyper, key, progress)[0]
            return {name: optax.tree.norm(inference(gradient)) for name, gradient in gradients.items()}

        return self._each(member, state.trainable, batch, hyper, keys)

    def _predicted(self, function: Callable[..., Tree], trainable: Trainable, batch: Batch[jax.Array]) -> Tree:
        """As `_each` of `trainable` and `batch`; on one CPU, only as many members together as fill a block."""
        members, rows, length = batch["inputs"].shape
        most = min(self.at_once or members, members)
        if Layout(self.mesh).one_cpu:
            most = blocks.members(members, rows * (length + trainable["prompt"]["value"].shape[1]), most)
        return self._each(function, trainable, batch, at_once=most)

    def _each(self, function: Callable[..., Tree], *arguments: Any, at_once: int | None = None) -> Tree:
        """`function` of each member's part of the arguments, `at_once` of them together; None = the fleet's."""
        members = len(jax.tree.leaves(arguments)[0])
        together = min((self.at_once if at_once is None else at_once) or members, members)
        if self.over == "members":
            return self._each_split(jax.vmap(function, spmd_axis_name=partition.ROWS), arguments, members, together)
        if together == members:
            return jax.vmap(function)(*arguments)
        return jax.lax.map(lambda member: function(*member), arguments, batch_size=together)

    def _each_split(self, mapped: Callable[..., Tree], arguments: Any, members: int, together: int) -> Tree:
        """`mapped`, whose members are split over the devices, `together` at a time: a few of each device's."""
        if together == members:
            return mapped(*arguments)
        devices = partition.row_devices(self.mesh)
        rounds = members // together

        def dealt(x: jax.Array) -> jax.Array:
            x = x.reshape(devices, rounds, together // devices, *x.shape[1:])
            return x.swapaxes(0, 1).reshape(rounds, together, *x.shape[3:])

        def collected(x: jax.Array) -> jax.Array:
            x = x.reshape(rounds, devices, together // devices, *x.shape[2:])
            return x.swapaxes(0, 1).reshape(members, *x.shape[3:])

        results = jax.lax.map(lambda part: mapped(*part), jax.tree.map(dealt, arguments))
        return jax.tree.map(collected, results)

    def _updated(
        self,
        trainable: Trainable,
        optimizer: optax.OptState,
        active: jax.Array,
        differentiated: tuple[optax.Updates, Metrics],
        rates: optimizers.StepSizes,
    ) -> Stepped:
        """A member after the update by this gradient, if it is active and the gradient is finite."""
        gradient, metrics = differentiated
        metrics["gradient_norm"] = optax.tree.norm(gradient)
        tree: Any = trainable  # optax's types do not know TypedDicts
        updates, stepped = self.optimizer.update(gradient, optimizer, tree, step_sizes=rates)
        finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["gradient_norm"])

        def keep(new: Tree, old: Tree) -> Tree:
            return jax.tree.map(lambda a, b: jnp.where(active & finite, a, b), new, old)

        metrics["learning_rate"] = rates.prompt
        updated: Any = optax.apply_updates(tree, updates)
        return keep(updated, trainable), keep(stepped, optimizer), finite, metrics

    def _gradient(self, *arguments: Any) -> tuple[optax.Updates, Metrics]:
        """Gradient over only `trainable`, and the loss's parts."""
        differentiate = self._with_placebo if self.placebo else jax.grad(self.objective.loss, has_aux=True)
        return self._mean_gradient(differentiate, *arguments)

    def _with_placebo(self, *arguments: Any) -> tuple[optax.Updates, Metrics]:
        """The gradient with the information terms' part turned to other coordinates: a control.

        Its size is that of the terms' gradient, its direction has nothing to do with them. Critics are not touched.
        """
        gradients, metrics = self.objective.gradients(*arguments)
        rolled: list[Any] = [
            optimizers.turned(gradient) if name in ("head", "representation") else gradient
            for name, gradient in gradients.items()
        ]
        return jax.tree.map(lambda *each: functools.reduce(jnp.add, each), *rolled), metrics

    def _mean_gradient(
        self,
        differentiate: Callable[..., tuple[optax.Updates, Metrics]],
        trainable: Trainable,
        frozen: nnx.State,
        batch: Batch[jax.Array],
        hyper: Hyper[jax.Array],
        key: jax.Array,
        progress: jax.Array,
    ) -> tuple[optax.Updates, Metrics]:
        """What `differentiate` gives: the mean over `accumulate` micro-batches."""
        if self.accumulate == 1:
            return differentiate(trainable, frozen, batch, hyper, key, progress)
        tokens = token_weights(batch).sum() / self.accumulate

        def micro(index_batch: tuple[jax.Array, Batch[jax.Array]]) -> tuple[optax.Updates, Metrics]:
            index, rows = index_batch[0], {**index_batch[1], "tokens": tokens}
            return differentiate(trainable, frozen, rows, hyper, jax.random.fold_in(key, index), progress)

        # Micro-batch i takes rows i, i + A, ...: each then has rows of all devices that split the batch.
        split = jax.tree.map(lambda x: x.reshape(-1, self.accumulate, *x.shape[1:]).swapaxes(0, 1), batch)
        results = jax.lax.map(micro, (jnp.arange(self.accumulate), split))
        return jax.tree.map(lambda x: x.mean(axis=0), results)


def _stopping(
    state: FleetState, stepping: jax.Array, finite: jax.Array, metrics: Metrics
) -> tuple[FleetState, Metrics]:
    """The state in which those of the `stepping` members have stopped whose step was not finite; metrics of which."""
    stopped = stepping & ~finite
    failed = jnp.where(stopped, state.step, state.failed)
    state = state._replace(active=state.active & ~stopped, failed=failed)
    return state, metrics | {"active": stepping, "finite": finite}


def record_best(state: FleetState, metric: jax.Array, patience: jax.Array) -> FleetState:
    """The state after an evaluation: the best prompts are kept, and members past their patience become inactive.

    Args:
        state: as it was evaluated.
        metric: [M], larger is better.
        patience: evaluations without improvement before a member stops; 0 = never.
    """
    # Of equal evaluations the later one is kept, because it has trained longer; only a higher one resets the patience.
    better = (metric >= state.best_metric) & (state.active | (state.best_metric == -jnp.inf))

    def pick(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(better.reshape(-1, *(1,) * (new.ndim - 1)), new, old)

    stale = jnp.where(metric > state.best_metric, 0, state.stale + 1)
    return state._replace(
        best=jax.tree.map(pick, inference(state.trainable), state.best),
        best_metric=jnp.where(better, metric, state.best_metric),
        best_step=jnp.where(better, state.step, state.best_step),
        stale=stale,
        active=state.active & ((patience == 0) | (stale < patience)),
    )


def member_keys(seeds: list[int]) -> jax.Array:
    """One random key for each member, [M]; a member's key depends only on its seed."""
    return jax.vmap(jax.random.key)(jnp.asarray(np.array(seeds, np.uint32)))
