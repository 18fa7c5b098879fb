"""Real processes that stand for hosts: each has simulated CPU devices, and they meet on the loopback interface.

As a script it is the command in a process that a signal reaches, as `tiny_runs.prepare_to_die` says:

    python tests/several_hosts.py step 5 --config=CONFIG.json --workdir=DIR
"""

from __future__ import annotations

import json
import os
import pathlib
import socket
import subprocess
import sys
import types
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import ml_collections
import tiny_runs

from infoprompt_jax import main
from infoprompt_jax.devices import SIMULATED

ROOT = pathlib.Path(__file__).parents[1]


class Ended(NamedTuple):
    status: int
    printed: str  # standard output
    said: str  # standard error


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def start(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    processes: int = 2,
    devices: int = 4,
    signals: Mapping[int, tuple[str, str]] = types.MappingProxyType({}),
    environment: Mapping[str, str] | None = None,
    place: str = "",
    **fields: object,
) -> list[subprocess.Popen[str]]:
    """The processes of one run, started.

    Args:
      config: its mesh's processes are set.
      devices: of each process.
      signals: by process, the signal that reaches it, and when.
      environment: added to this process's.
      place: the workdir where it is no local path; `workdir` then only names the configs.
      fields: of each process's config; a__b stands for a.b, and a dict has a value for each process that differs.
    """
    address, folder = f"localhost:{free_port()}", workdir.parent / f"{workdir.name}-configs"
    folder.mkdir(exist_ok=True)
    flags = [flag for flag in os.environ["XLA_FLAGS"].split() if SIMULATED not in flag]
    variables = {**(environment or {}), "XLA_FLAGS": " ".join([*flags, f"{SIMULATED}={devices}"])}
    started = []
    for index in range(processes):
        made = config.copy_and_resolve_references()
        made.mesh.update(coordinator=address, processes=processes, process=index)
        chosen = {name: value.get(index) if isinstance(value, dict) else value for name, value in fields.items()}
        made.update_from_flattened_dict({n.replace("__", "."): v for n, v in chosen.items() if v is not None})
        file = folder / f"{index}.json"
        file.write_text(json.dumps(json.loads(made.to_json())))
        command = ["tests/several_hosts.py", *signals[index]] if index in signals else ["-m", "infoprompt_jax.main"]
        started.append(program(*command, f"--config={file}", f"--workdir={place or workdir}", environment=variables))
    return started


def program(*arguments: str, environment: Mapping[str, str] = types.MappingProxyType({})) -> subprocess.Popen[str]:
    """A process of Python, started; `environment` is added to this process's."""
    variables = {**os.environ, **environment, "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    command = [sys.executable, *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=variables, stdout=pipe, stderr=pipe, text=True)


def ended(processes: Sequence[subprocess.Popen[str]]) -> list[Ended]:
    """How the processes end; they are waited for."""
    texts = [process.communicate() for process in processes]
    return [Ended(process.returncode, *text) for process, text in zip(processes, texts, strict=True)]


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path, processes: int = 2, **how: object) -> list[Ended]:
    """Runs `start` to the end."""
    return ended(start(config, workdir, processes, **how))  # pyright: ignore[reportArgumentType]


if __name__ == "__main__":
    tiny_runs.prepare_to_die(*sys.argv[1:3])
    sys.argv[1:3] = []
    main.main()
