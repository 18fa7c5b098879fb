"""The numbers that each member of a fleet may set for itself; the one list of them.

They are data, not constants of the compiled program, so members that differ in them share one program.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

Array = TypeVar("Array")  # jax.Array or np.ndarray


class Hyper(NamedTuple, Generic[Array]):
    """Arrays [M] for a fleet, scalars for one member; float32, the two indices int32."""

    beta: Array  # weight of the representation loss
    gamma: Array  # weight of the head loss
    kappa: Array  # weight of the variational bottleneck's KL divergence
    decay: Array  # share of these three weights that is gone at the last step
    temperature: Array  # of the critics' scores, unless their form is "product"
    head_steps: Array  # number of steps on the head loss alone, before training
    learning_rate: Array  # of the prompt
    critic_learning_rate: Array  # of everything else
    warmup: Array  # share of the steps
    schedule: Array  # index into `optimizers.SCHEDULES`
    estimator: Array  # index into the objective's estimators
