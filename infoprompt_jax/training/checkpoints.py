"""Checkpoints: the fleet's state and the data position, which a preempted run needs to resume. Written by Orbax.

A checkpoint holds the trainables and their optimiser state, never the backbone. Orbax writes to a temporary directory
and renames it, so a kill at any moment leaves the last complete checkpoint. Batches are a function of the step, so the
data position is the step and the fingerprint of the data.
"""

from __future__ import annotations

import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp

from infoprompt_jax import bucket
from infoprompt_jax.errors import UserError


class Checkpoints:
    """The last two checkpoints of a run, under `directory`."""

    def __init__(self, directory: pathlib.Path) -> None:
        options = ocp.CheckpointManagerOptions(max_to_keep=2, create=True, enable_async_checkpointing=False)
        self.directory = directory if bucket.is_in(directory) else directory.absolute()
        self.manager = ocp.CheckpointManager(self.directory, options=options)

    def save(self, step: int, state: Any, position: dict[str, Any]) -> None:
        """Saves `state` (a pytree of arrays) and `position` (JSON), unless the step is saved already."""
        if step in self.manager.all_steps():
            return
        saved = ocp.args.Composite(state=ocp.args.StandardSave(state), position=ocp.args.JsonSave(position))
        self.manager.save(step, args=saved)

    def restore(self, state: Any, position: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        """The newest checkpoint's state and position, with the structure and on the devices of `state`; None without
        one.

        Raises:
          UserError: it belongs to another run (its `position` has other data or another backbone, or its tree has
            another structure), or it cannot be read.
        """
        step = self.manager.latest_step()
        if step is None:
            return None
        structure = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
        try:
            before = self.manager.restore(step, args=ocp.args.Composite(position=ocp.args.JsonRestore()))["position"]
            for name, value in position.items():
                if name != "step" and before.get(name, value) != value:  # older ones lack some names
                    raise UserError(
                        f"The checkpoint in {self.directory} was made with {name.replace('_', ' ')} "
                        f"{before.get(name)!r}, this run has {value!r}: choose another --workdir, or bring back what "
                        "it was made with."
                    )
            args = ocp.args.Composite(state=ocp.args.StandardRestore(structure))
            return self.manager.restore(step, args=args)["state"], before
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise UserError(
                f"The checkpoint of step {step} in {self.directory} cannot be restored into this run "
                f"({str(error).strip().splitlines()[0][:200]}): choose another --workdir or delete that step."
            ) from error
