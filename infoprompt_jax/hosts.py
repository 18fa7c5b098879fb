"""The processes of a run on several hosts: which one this is, and how all of them decide alike.

A run on one host has one process: nothing here waits then. Of several processes, all run the same programs in the same
order. The first one (process 0) also makes the decisions that depend on files, writes the files and reports. The
processes exchange words through the coordination service of `jax.distributed`, which the first one holds. `cluster`
starts it, `watch` ends all processes when one is lost.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any, TypeVar

from infoprompt_jax.errors import UserError

T = TypeVar("T")

LONGEST = 7 * 24 * 3600 * 1000  # milliseconds to wait for the first process; `watch` ends the wait if it is lost

_numbers = itertools.count()  # of the decisions, the same in every process


def service() -> Any:
    """`jax.distributed`'s state: `client`, None in a run on one host, `process_id` and `num_processes`."""
    from jax._src import distributed  # JAX has no public name for it

    return distributed.global_state


def index() -> int:
    """The number of this process; 0 on one host."""
    return service().process_id


def count() -> int:
    """The number of processes; 1 on one host."""
    return service().num_processes


def first() -> bool:
    """Whether this process writes the run's files and reports."""
    return index() == 0


def decided(decide: Callable[[], T]) -> T:
    """What `decide` returns in the first process, in every process; only the first one calls it.

    Every process must come here, in the same order among its decisions.

    Args:
      decide: returns JSON.

    Raises:
      UserError: `decide` raised it; then every process does.
    """
    if count() == 1:
        return decide()
    client, key = service().client, f"decided/{next(_numbers)}"
    if first():
        client.key_value_set(key, json.dumps(_outcome(decide)))
    outcome = json.loads(client.blocking_key_value_get(key, LONGEST))
    if "refused" in outcome:
        raise UserError(outcome["refused"])
    return outcome["decided"]


def _outcome(decide: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"decided": decide()}
    except UserError as error:
        return {"refused": str(error)}


def together(attempt: Callable[[], T]) -> T:
    """What `attempt` returns in this process. All call it; where any raises UserError in it, all raise that one.

    So processes go on, or leave something out, alike. They come here in the same order among their decisions.
    """
    if count() == 1:
        return attempt()
    client, place, values = service().client, f"refusals/{next(_numbers)}/", []
    try:
        values.append(attempt())
    except UserError as error:
        client.key_value_set(f"{place}{index()}", str(error))
    meet()
    if refusals := decided(lambda: [sentence for _, sentence in client.key_value_dir_get(place)]):
        raise UserError(refusals[0])
    return values[0]


def check_same(what: str, value: Any) -> None:
    """Raises UserError where this process does not have the value, JSON, that the first one has; `what` names it."""
    if decided(lambda: value) != value:
        raise UserError(f"{what} of process {index()} differ from those of process 0: give every host the same files.")


def meet() -> None:
    """Returns when every process has come here: what the first one wrote before is there for the others."""
    if count() > 1:
        service().client.wait_at_barrier(f"meeting/{next(_numbers)}", LONGEST)
