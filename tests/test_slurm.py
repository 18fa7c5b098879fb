"""launch/slurm.sh against an sbatch, an srun and a scontrol that are made up: requeued after it was stopped, or not."""

from __future__ import annotations

import pathlib
import re
import shutil
import subprocess

import pytest

SCRIPT = pathlib.Path(__file__).parents[1] / "launch" / "slurm.sh"

# Runs the tasks of a job at the same time, each with its number; its status is the highest of theirs, as srun's.
SRUN = """#!/bin/bash
printf '%s\\n' "$*" >>"$PLACE/srun"
while [[ $1 == --* ]]; do shift; done
status=0 tasks=()
for ((task = 0; task < SLURM_NTASKS; task++)); do SLURM_PROCID=$task "$@" & tasks+=($!); done
for task in "${tasks[@]}"; do wait "$task" || { last=$?; ((last > status)) && status=$last; }; done
exit "$status"
"""
SCONTROL = '#!/bin/bash\nprintf "%s\\n" "$*" >>"$PLACE/scontrol"\n'


class Cluster:
    """A directory that jobs are submitted from, with a training command in a venv of any name."""

    def __init__(self, place: pathlib.Path, training: str) -> None:
        self.place = place
        for name, text in {"bin/srun": SRUN, "bin/scontrol": SCONTROL, "my venv/bin/python": training}.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(text)
            (place / name).chmod(0o755)

    def sbatch(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Runs the job until it is not requeued any more, from a copy of the script, as SLURM does."""
        copy = shutil.copy(SCRIPT, self.place / "slurm_script")
        options = re.findall(r"^#SBATCH (\S+)$", SCRIPT.read_text(), re.M)
        environment = {
            "PATH": f"{self.place / 'bin'}:/usr/bin:/bin",
            "PLACE": str(self.place),
            "PYTHON": "my venv/bin/python",
            "SLURM_JOB_ID": "7",
            "SLURM_NTASKS": "2",
            "SLURM_TASKS_PER_NODE": "2",
            "SLURM_RESTART_COUNT": "0",
            **env,
        }
        while True:
            command = ["bash", "-c", 'export BATCH=$$; exec bash "$@"', "-", copy, *arguments]
            job = subprocess.run(command, cwd=self.place, env=environment, capture_output=True, text=True, timeout=60)
            if not (self.place / "scontrol").exists():
                return job
            assert "--requeue" in options and (self.place / "scontrol").read_text() == "requeue 7\n"
            (self.place / "scontrol").unlink()
            environment["SLURM_RESTART_COUNT"] = str(int(environment["SLURM_RESTART_COUNT"]) + 1)

    def starts(self) -> list[str]:
        return (self.place / "srun").read_text().splitlines() if (self.place / "srun").exists() else []


# The time limit comes: SLURM signals the tasks, not the script.
STOPPED = """#!/bin/bash
trap 'exit 143' TERM
[ "$SLURM_RESTART_COUNT" -ge 2 ] || kill -TERM $$
printf '%s\\n' "$@" >"$PLACE/arguments.$SLURM_PROCID"
"""


def test_a_stopped_run_is_requeued_until_it_is_complete(tmp_path: pathlib.Path) -> None:
    cluster = Cluster(tmp_path, STOPPED)
    job = cluster.sbatch("--config=configs/rte.py", "--workdir=a b")
    assert job.returncode == 0, job.stderr
    assert len(cluster.starts()) == 3
    for task in (0, 1):
        words = (tmp_path / f"arguments.{task}").read_text().splitlines()
        assert words == ["-u", "-m", "infoprompt_jax.main", "--config=configs/rte.py", "--workdir=a b"]


def test_slurm_signals_the_tasks_before_the_limit() -> None:
    """`B:` would signal the script alone."""
    (signal,) = re.findall(r"^#SBATCH --signal=(\S+)$", SCRIPT.read_text(), re.M)
    assert re.fullmatch(r"TERM@\d+", signal)


def test_the_restarts_have_a_limit(tmp_path: pathlib.Path) -> None:
    cluster = Cluster(tmp_path, "#!/bin/bash\nexit 143\n")
    job = cluster.sbatch("--config=c", MAX_RESTARTS="2")
    assert job.returncode == 143
    assert "after 2 restarts" in job.stderr
    assert len(cluster.starts()) == 3


def test_scancel_ends_the_job_for_good(tmp_path: pathlib.Path) -> None:
    """It signals the script as well as the tasks."""
    cluster = Cluster(tmp_path, '#!/bin/bash\nkill -TERM "$BATCH"; exit 143\n')
    assert cluster.sbatch("--config=c").returncode == 143
    assert len(cluster.starts()) == 1


@pytest.mark.parametrize("status", [1, 2, 137])
def test_a_failure_is_not_repeated(tmp_path: pathlib.Path, status: int) -> None:
    cluster = Cluster(tmp_path, f"#!/bin/bash\nexit {status}\n")
    assert cluster.sbatch("--config=c").returncode == status
    assert len(cluster.starts()) == 1


def test_each_task_sees_all_gpus_of_its_node(tmp_path: pathlib.Path) -> None:
    """JAX gives each task the GPU of the task's number on the node, among those that it sees."""
    cluster = Cluster(tmp_path, "#!/bin/bash\n")
    assert cluster.sbatch("--config=c", SLURM_GPUS_ON_NODE="2", SLURM_TASKS_PER_NODE="2(x4)").returncode == 0
    assert "--gpu-bind=none" in cluster.starts()[0]


@pytest.mark.parametrize(
    "arguments, env, refusal",
    [
        ([], {}, "slurm.sh was given no arguments"),
        (["--config=c"], {"SLURM_JOB_ID": ""}, "This is not a SLURM job"),
        (["--config=c"], {"PYTHON": "none/python"}, "There is no Python at 'none/python'"),
        (["--config=c"], {"SLURM_GPUS_PER_TASK": "1"}, "sbatch was given --gpus-per-task"),
        (["--config=c"], {"SLURM_GPUS_ON_NODE": "8", "SLURM_TASKS_PER_NODE": "1(x2)"}, "A node has 1 tasks and 8 GPUs"),
    ],
)
def test_refuses_in_one_sentence(
    tmp_path: pathlib.Path, arguments: list[str], env: dict[str, str], refusal: str
) -> None:
    cluster = Cluster(tmp_path, "#!/bin/bash\n")
    job = cluster.sbatch(*arguments, **env)
    assert job.returncode == 2
    assert job.stderr.startswith(refusal) and job.stderr.count("\n") == 1
    assert not cluster.starts()
