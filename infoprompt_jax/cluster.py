"""How the processes of a run on several hosts meet: from the config, or where SLURM or Cloud TPU starts them.

`join` starts `jax.distributed`, before anything touches a device. Afterwards `jax.devices()` are those of all hosts. On
one host it does nothing, so that a run there needs no network and waits for no one.
"""

from __future__ import annotations

import logging
import os
import re
import urllib.request
from typing import Any

import ml_collections

from infoprompt_jax import hosts, watch
from infoprompt_jax.errors import UserError

HEARTBEAT = 45  # seconds of JAX's own watch, which ends a process that cannot reach the first one any more
MOST_PORT = 2**16 - 1
LONGEST = 24 * 3600  # seconds to wait for the others at the end of a run
METADATA = "http://{}/computeMetadata/v1/instance/attributes/{}"  # what a Cloud TPU VM knows about itself


def join(mesh: ml_collections.ConfigDict) -> None:
    """Meets the run's other processes, if `mesh` or the environment names any.

    Args:
      mesh: the config's section.

    Raises:
      UserError: `mesh` names them by half.
    """
    given = {"coordinator": mesh.coordinator != "", "processes": mesh.processes != -1, "process": mesh.process != -1}
    if mesh.processes == 1 or hosts.service().client is not None:  # one host, or the caller has joined
        return
    if any(given.values()):
        check(mesh, [f"mesh.{name}" for name, is_given in given.items() if not is_given])
        initialize(
            mesh.wait, coordinator_address=mesh.coordinator, num_processes=mesh.processes, process_id=mesh.process
        )
    elif tasks_of_slurm() > 1 or hosts_of_tpu() > 1:
        initialize(mesh.wait)


def check(mesh: ml_collections.ConfigDict, missing: list[str]) -> None:
    """Raises UserError unless all three fields are given and fit each other."""
    if missing:
        raise UserError(
            f"{' and '.join(missing)} must be set too: several processes need mesh.coordinator, mesh.processes and "
            "mesh.process, one needs none of them."
        )
    host, _, port = mesh.coordinator.rpartition(":")
    if not host or not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) <= MOST_PORT:
        raise UserError(
            f"mesh.coordinator={mesh.coordinator!r} is not the address of process 0: host:port is expected, with a "
            f"port from 1 to {MOST_PORT}."
        )
    if mesh.process >= mesh.processes:
        raise UserError(
            f"mesh.process={mesh.process} is out of range: choose 0 to {mesh.processes - 1}, or more mesh.processes."
        )


def initialize(wait: int, **arguments: Any) -> None:
    """Starts `jax.distributed` and the watch. The process ends with a sentence if the others do not come in time."""
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # `watch` does more: it also reacts to Ctrl-C
    watch.explain_aborts(lambda: (watch.LOST, f"error: {absent(wait)}"))
    jax.distributed.initialize(
        **arguments,
        local_device_ids=devices_of_slurm(),
        initialization_timeout=wait,
        heartbeat_timeout_seconds=HEARTBEAT,
        shutdown_timeout_seconds=LONGEST,
    )
    watch.start()
    if not hosts.first():  # the first process reports for all
        logging.getLogger("infoprompt_jax").setLevel(logging.ERROR)


def absent(wait: int) -> str:
    """The sentence about processes that did not come."""
    state = hosts.service()
    return (
        f"Process {state.process_id} of {state.num_processes} waited mesh.wait={wait} seconds for the others at "
        f"{state.coordinator_address}: start all of them, and let that address be reachable from every host."
    )


def tasks_of_slurm() -> int:
    """The number of tasks of the SLURM step that this process is one of; 0 outside of steps."""
    known = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID")
    return int(os.environ.get("SLURM_NTASKS", 0)) if all(name in os.environ for name in known) else 0


def devices_of_slurm() -> list[int] | None:
    """The GPUs of this process where it is SLURM's only one on its host; None = what JAX chooses.

    JAX gives a SLURM task one GPU, that of its number on the host; a task that is alone there has all of them.
    """
    if tasks_of_slurm() < 2 or os.environ.get("SLURM_STEP_TASKS_PER_NODE", "").partition("(")[0] != "1":
        return None
    return list(range(int(os.environ.get("SLURM_GPUS_ON_NODE", 0)))) or None


def hosts_of_tpu() -> int:
    """The number of hosts of this Cloud TPU, over all its slices; 0 on another machine, which is not asked."""
    import jax  # noqa: F401  (it sets the variable where there are no TPU chips)

    if "TPU_SKIP_MDS_QUERY" in os.environ:
        return 0
    named = os.environ.get("TPU_PROCESS_ADDRESSES") or os.environ.get("TPU_WORKER_HOSTNAMES")
    workers = named or _metadata("worker-network-endpoints")
    slices = os.environ.get("MEGASCALE_NUM_SLICES") or ("MEGASCALE_NUM_SLICES" in _metadata("tpu-env")) + 1
    return len(workers.split(",")) * int(slices)


def _metadata(name: str) -> str:
    """An attribute of this TPU VM, from the server on its own host; "" where there is none."""
    server = os.environ.get("GCE_METADATA_IP", "metadata.google.internal")
    request = urllib.request.Request(METADATA.format(server, name), headers={"Metadata-Flavor": "Google"})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.read().decode()
    except OSError:
        return ""
