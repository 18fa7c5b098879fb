"""Checkpoints: the fleet's state and the data position, which a preempted run needs to resume. Written by Orbax.

A checkpoint holds the trainables and their optimiser state, never the backbone. Orbax writes to a temporary directory
and renames it, so a kill at any moment leaves the last complete checkpoint. Batches are a function of the step, so the
data position is the step and the fingerprint of the data. The position also has checksums of itself and of the state:
where a checkpoint is not what was saved, the run goes on from the one before it.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from infoprompt_jax import bucket, checksums, foreign, hosts
from infoprompt_jax.errors import UserError
from infoprompt_jax.t5 import partition

STATE = "state"  # in the position, the checksum of the state

Position = dict[str, Any]  # JSON

log = logging.getLogger(__name__)

# The fields whose rows a position has fingerprints of.
SPLITS = {"data": "task.train_split", "evaluation_data": "task.eval_split", "test_data": "task.test_split"}


class Checkpoints:
    """The last two checkpoints of a run, under `directory`."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory if bucket.is_in(directory) else directory.absolute()

    @functools.cached_property
    def manager(self) -> Any:
        """Orbax's, made where there is something to save or restore: a new run starts without importing Orbax."""
        options = orbax().CheckpointManagerOptions(max_to_keep=2, create=True, enable_async_checkpointing=False)
        return orbax().CheckpointManager(self.directory, options=options)

    def save(self, step: int, state: Any, position: Position) -> None:
        """Saves `state` (a pytree of arrays) and `position` (JSON), unless the step is saved already."""
        if step in self.manager.all_steps():
            return
        position = checksums.sealed({**position, STATE: digest(state)})
        args = orbax().args
        saved = args.Composite(state=args.StandardSave(state), position=args.JsonSave(position))
        with _unlogged():
            self.manager.save(step, args=saved)

    def restore(
        self, state: Any, position: Position, check: Callable[[Position], None] = lambda _: None
    ) -> tuple[Any, Position] | None:
        """The newest whole checkpoint's state and position, with the structure and on the devices of `state`.

        None without a checkpoint. Newer ones that are damaged are deleted, with a warning.

        Args:
          position: the values that the checkpoint's position must have.
          check: raises UserError where the run's other files are not those that a position counts on.

        Raises:
          UserError: it belongs to another run (its `position` has other data or another backbone, or its tree has
            another structure), or no checkpoint is whole.
        """
        if not hosts.decided(self.directory.exists):
            return None
        damaged: dict[int, UserError] = {}
        for step in sorted(self.manager.all_steps(), reverse=True):
            try:
                with _unlogged():
                    before = hosts.together(lambda step=step: self._position(step))
            except UserError as error:
                damaged[step] = error
                continue
            self._check_same(before, position)
            try:
                with _unlogged():
                    restored = hosts.together(lambda step=step, before=before: self._state(step, state, before, check))
            except UserError as error:
                damaged[step] = error
                continue
            for newer, error in damaged.items():
                log.warning("%s The run goes on from the checkpoint of step %d.", error, step)
                self.manager.delete(newer)
            return restored, before
        for error in damaged.values():  # the newest
            raise UserError(
                f"{str(error).rstrip('.')}, and no earlier one can: choose another --workdir, or delete "
                f"{self.directory} to train from the start."
            )
        return None

    def _place(self, step: int) -> str:
        return f"The checkpoint of step {step} in {self.directory}"

    def _position(self, step: int) -> Position:
        """The position of a checkpoint. Raises UserError where it is not what was saved."""
        with foreign.reading(self._place(step)):
            args = orbax().args.Composite(position=orbax().args.JsonRestore())
            content = dict(self.manager.restore(step, args=args)["position"])
            int(content["step"])
        return checksums.opened(content, self._place(step), "it is not restored")

    def _check_same(self, before: Position, position: Position) -> None:
        for name, value in position.items():
            if name != "step" and before.get(name, value) != value:  # older ones lack some names
                field = SPLITS.get(name.rpartition("_of_")[2])
                what = f"the rows and templates of {field} that " if field else "what "
                raise UserError(
                    f"The checkpoint in {self.directory} was made with {name.replace('_', ' ')} "
                    f"{before.get(name)!r}, this run has {value!r}: choose another --workdir, or bring back {what}"
                    "it was made with."
                )

    def _state(self, step: int, state: Any, before: Position, check: Callable[[Position], None]) -> Any:
        """The state of a checkpoint. Raises UserError where it does not fit, or is not what was saved."""
        structure = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
        try:
            with foreign.reading("it"):
                args = orbax().args.Composite(state=orbax().args.StandardRestore(structure))
                restored = self.manager.restore(step, args=args)["state"]
                if before.get(STATE) not in (None, digest(restored)):
                    raise ValueError("its values are not those that were saved: their checksum differs")
                check(before)
        except UserError as error:
            raise UserError(
                f"{self._place(step)} cannot be restored into this run ({str(error).rstrip('.')})."
            ) from error
        return restored


def orbax() -> Any:
    """The module `orbax.checkpoint`."""
    import orbax.checkpoint

    return orbax.checkpoint


@contextlib.contextmanager
def _unlogged() -> Iterator[None]:
    """Keeps Orbax from logging the traceback of an error that it raises, which becomes a sentence."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def digest(state: Any) -> str:
    """The checksum of a state's values, whatever devices hold them."""
    leaves = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state)}
    return checksums.of_arrays({name: _values(leaf) for name, leaf in leaves.items()})


def _values(leaf: jax.Array) -> np.ndarray:
    mesh = leaf.sharding.mesh if isinstance(leaf.sharding, NamedSharding) else None
    return np.asarray(partition.whole(leaf, mesh) if isinstance(mesh, Mesh) else leaf)
