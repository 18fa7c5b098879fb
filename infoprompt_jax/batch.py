"""The batch: the one type that the data pipeline makes (NumPy arrays) and that compiled code reads (JAX arrays).

A batch is a dict, so that it is a pytree and names its fields on the way through `jax.jit` and `jax.vmap`. Shapes below
are those of one fleet member; a fleet's batch has a leading axis M on every field. B rows, L input tokens, T target
tokens, C answer choices, D the model's width.
"""

from __future__ import annotations

from typing import Generic, NotRequired, TypedDict, TypeVar

Array = TypeVar("Array")  # np.ndarray or jax.Array


class Batch(TypedDict, Generic[Array]):
    """Rows of tokenised text; tokens are int32 and padded with PAD = 0 at the end."""

    inputs: Array  # [B, L]
    targets: Array  # [B, T]
    choices: Array  # [B, C, T]; a choice that does not exist is all PAD
    label: Array  # [B] int32: the correct choice; -1 for free text
    weight: Array  # [B] float32: 0 for rows that only fill the batch
    row: Array  # [B] int32: the row's number, in the member's pool (training) or in its task (evaluation)
    features: NotRequired[Array]  # [B, D] float32, training only: cached un-prompted representations
    spread: NotRequired[Array]  # [B] float32, training only: deviation of the features over the rows of the row's task
    tokens: NotRequired[Array]  # [] float32, of micro-batches: target tokens, the mean over the step's


class EvalBatch(Batch[Array], Generic[Array]):
    """A batch whose rows know their task."""

    task: Array  # [B] int32: the number of the row's task among the member's
