#!/usr/bin/env bash
# Trains on GPUs of a SLURM cluster: sbatch OPTION... launch/slurm.sh ARGUMENT..., with infoprompt_jax.main's arguments.
# sbatch's options name the resources; launch/README.md has examples. One task runs on each GPU and finds the others
# through SLURM's environment.
#
# 120 s before the time limit, and when the job is preempted, SLURM sends SIGTERM to the tasks: the run saves and ends
# with 143. The job then goes back into the queue, and resumes from --workdir. `scancel` ends it for good.
#
#   PYTHON          the interpreter; default: .venv/bin/python, below the directory where sbatch was called
#   MAX_RESTARTS    how often the job goes back into the queue; default: 100
#
#SBATCH --job-name=infoprompt
#SBATCH --output=slurm-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=TERM@120
set -euo pipefail

refuse() {
  printf '%s\n' "$*" >&2
  exit 2
}

python=${PYTHON:-.venv/bin/python}
gpus=${SLURM_GPUS_ON_NODE:-0}
tasks=${SLURM_TASKS_PER_NODE:-1} # like 8, 8(x2), or 8(x2),4
tasks=${tasks%%[(,]*}

[ -n "${SLURM_JOB_ID:-}" ] ||
  refuse "This is not a SLURM job: start it with sbatch OPTION... launch/slurm.sh ARGUMENT..."
[ $# -gt 0 ] ||
  refuse "slurm.sh was given no arguments: expected infoprompt_jax.main's, like" \
    "--config=configs/rte.py --workdir=DIR."
command -v "$python" >/dev/null ||
  refuse "There is no Python at '$python': name one, as in PYTHON=/path/to/venv/bin/python sbatch ..."
[ -z "${SLURM_GPUS_PER_TASK:-}" ] ||
  refuse "sbatch was given --gpus-per-task: expected --gpus-per-node, so that each task sees the node's GPUs" \
    "and takes its own."
[ "$gpus" -eq 0 ] || [ "$tasks" -eq "$gpus" ] ||
  refuse "A node has $tasks tasks and $gpus GPUs: expected one task for each GPU, as in" \
    "sbatch --gpus-per-node=$gpus --ntasks-per-node=$gpus."

# scancel also signals this shell; the time limit and preemption signal only the tasks.
cancelled=
trap 'cancelled=1' TERM

# A task that ends leaves the others time to save. srun's status is the highest of all tasks'.
options=(--label --kill-on-bad-exit=0 --wait=300)
[ "$gpus" -eq 0 ] || options+=(--gpu-bind=none)
status=0
srun "${options[@]}" "$python" -u -m infoprompt_jax.main "$@" || status=$?

if [ "$status" -eq 143 ] && [ -z "$cancelled" ]; then
  if [ "${SLURM_RESTART_COUNT:-0}" -ge "${MAX_RESTARTS:-100}" ]; then
    echo "The run was stopped and has saved, after $SLURM_RESTART_COUNT restarts:" \
      "the same sbatch command resumes it." >&2
  else
    echo "The run was stopped and has saved: job $SLURM_JOB_ID goes back into the queue." >&2
    scontrol requeue "$SLURM_JOB_ID"
  fi
fi
exit "$status"
