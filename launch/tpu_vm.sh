#!/usr/bin/env bash
# Trains on a Cloud TPU VM or a pod slice: `launch/tpu_vm.sh --help`, and launch/README.md for the order of things.
set -euo pipefail

usage() {
  cat <<'HELP'
usage: launch/tpu_vm.sh COMMAND [ARGUMENT...]

  create [FLAG...]    make the TPU; flags go to gcloud (--spot, --network=...)
  setup               copy the files of the current commit to every host and install them there
  run ARGUMENT...     python -m infoprompt_jax.main ARGUMENT... on every host
  fetch DIR [TO]      copy a directory (a run's --workdir) from the first host to TO (default: .)
  delete [FLAG...]    delete the TPU and its disks; gcloud asks first

environment:
  TPU_NAME            the TPU's name                               needed by every command
  TPU_ZONE            its zone, like us-west4-a                    needed by every command
  TPU_PROJECT         the project; default: gcloud's own
  TPU_TYPE            the accelerator type, like v5litepod-16      needed by create
  TPU_RUNTIME         the runtime, like v2-alpha-tpuv5-lite        needed by create
HELP
}

refuse() {
  printf '%s\n' "$1" >&2
  exit 2
}

need() {
  local variable
  for variable in "$@"; do
    [ -n "${!variable:-}" ] || refuse "$variable is not set: see launch/tpu_vm.sh --help for what it should hold."
  done
}

tpu() {
  gcloud compute tpus tpu-vm "$@" --zone="$TPU_ZONE" ${TPU_PROJECT:+--project="$TPU_PROJECT"}
}

on_every_host() {
  tpu ssh "$TPU_NAME" --worker=all --command="$1"
}

setup() {
  local root
  root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  archive=$(mktemp)
  trap 'rm -f "$archive"' EXIT
  git -C "$root" archive --format=tar.gz --output="$archive" HEAD
  tpu scp --worker=all "$archive" "$TPU_NAME:infoprompt_jax.tar.gz"
  # TPU images carry a Python older than 3.11: uv brings one. The lock decides jax's version, jax decides libtpu's.
  on_every_host 'set -e
    mkdir -p infoprompt_jax && tar -xzf infoprompt_jax.tar.gz -C infoprompt_jax && cd infoprompt_jax
    python3 -m pip install --quiet --user uv
    python3 -m uv venv --quiet --allow-existing --python 3.11 .venv
    python3 -m uv pip install --quiet --compile-bytecode -c requirements.lock -r requirements.txt "jax[tpu]"'
}

run() {
  [ $# -gt 0 ] || refuse "run was given no arguments: expected infoprompt_jax.main's, like --config=configs/rte.py --workdir=DIR."
  on_every_host "cd infoprompt_jax && exec .venv/bin/python -m infoprompt_jax.main$(printf ' %q' "$@")"
}

fetch() {
  [ $# -gt 0 ] || refuse "fetch was given no directory: expected the --workdir of a run."
  local path=$1
  case $path in /*) ;; *) path=infoprompt_jax/$path ;; esac
  tpu scp --worker=0 --recurse "$TPU_NAME:$path" "${2:-.}"
}

main() {
  local command=${1:---help}
  case $command in
    -h | --help) usage && exit ;;
    create) need TPU_NAME TPU_ZONE TPU_TYPE TPU_RUNTIME ;;
    setup | run | fetch | delete) need TPU_NAME TPU_ZONE ;;
    *) refuse "'$command' is not a command: expected create, setup, run, fetch or delete (see launch/tpu_vm.sh --help)." ;;
  esac
  shift
  command -v gcloud >/dev/null || refuse "gcloud was not found on PATH: install the Google Cloud CLI and log in with it."
  case $command in
    create) tpu create "$TPU_NAME" --accelerator-type="$TPU_TYPE" --version="$TPU_RUNTIME" "$@" ;;
    delete) tpu delete "$TPU_NAME" "$@" ;;
    *) "$command" "$@" ;;
  esac
}

main "$@"
