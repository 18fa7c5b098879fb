#!/usr/bin/env bash
# Trains on Cloud TPUs, one host or many: `launch/tpu_vm.sh --help`. launch/README.md has the order of things.
# shellcheck disable=SC2329 # main calls the functions by the names of the commands
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=launch/tpu_cloud.sh
. "$here/tpu_cloud.sh"
# shellcheck source=launch/tpu_keep.sh
. "$here/tpu_keep.sh"

usage() {
  cat <<'HELP'
usage: launch/tpu_vm.sh [--dry-run] COMMAND [ARGUMENT...]

  create [FLAG...]    request the TPU as a queued resource; flags go to gcloud (--spot, --valid-until-duration=6h)
  setup               copy the files of the current commit to every host and install them there
  run ARGUMENT...     start python -m infoprompt_jax.main ARGUMENT... on every host, and follow it to its end
  keep ARGUMENT...    the same until the run is complete: creates the TPU, sets it up, and does both again after a
                      preemption; the run resumes from its --workdir, gs://BUCKET/RUN
  status              the state of the TPU and of the run on every host
  logs [DIR]          the logs of all hosts, each line behind its host's name; with DIR, saved as DIR/HOST.log
  stop                SIGTERM to the run on every host: it saves and ends; `keep` ends too
  fetch DIR [TO]      copy a --workdir from the first host, or from gs://, to TO (default: .)
  delete [FLAG...]    delete the TPU and its disks; gcloud asks first

--dry-run prints the gcloud commands and runs none.

environment:
  TPU_NAME            the TPU's name                                   needed by every command
  TPU_ZONE            its zone, like us-west4-a                        needed by every command
  TPU_PROJECT         the project; default: gcloud's own
  TPU_TYPE            the accelerator type, like v5litepod-16          needed by create and keep
  TPU_RUNTIME         the runtime, like v2-alpha-tpuv5-lite            needed by create and keep
  TPU_SLICES          how many slices of that type; default: 1
  TPU_CREATE_FLAGS    more flags of create, for keep too: --spot --network=... --service-account=...
  TPU_SSH_FLAGS       flags of ssh and scp, like --internal-ip or --tunnel-through-iap
  TPU_FORWARD         variables that the run gets if they are set; default: HF_TOKEN WANDB_API_KEY
  TPU_SHARED_WORKDIR  1: keep's --workdir is an absolute path on a shared disk that every host mounts
  TPU_DELETE          1: keep deletes the TPU when the run is complete
  TPU_ATTEMPTS        keep ends after so many attempts without a new checkpoint; default: 10
  TPU_POLL            seconds between two looks at the TPU or the run; default: 30
HELP
}

note() {
  printf 'tpu_vm.sh: %s\n' "$*" >&2
}

refuse() {
  printf '%s\n' "$*" >&2
  exit 2
}

need() {
  local variable
  for variable in "$@"; do
    [ -n "${!variable:-}" ] || refuse "$variable is not set: see launch/tpu_vm.sh --help for what it should hold."
  done
}

need_number() {
  [[ $2 =~ ^[0-9]+$ ]] && [ "$2" -ge "$3" ] || refuse "$1 is '$2': expected a whole number, at least $3."
}

run() {
  local states
  need_arguments run "$@"
  count_hosts || refuse "The TPU $TPU_NAME has no host that is ready: see launch/tpu_vm.sh status."
  states=$(run_states) || refuse "The hosts of $TPU_NAME cannot be reached: the lines above say why."
  ! grep -q ' new ' <<<"$states" || refuse "Not every host is set up: launch/tpu_vm.sh setup does so."
  run_id=
  choose_id "$states"
  start_run "$@" || refuse "The run was not started on every host: the lines above say why."
  if [ -n "$dry" ]; then
    follow_once
    return
  fi
  watch
  case $outcome in
    done) note "the run is complete" ;;
    mistake) exit 2 ;;
    stopped) exit 143 ;;
    *)
      note "the run has ended before it was complete, or its hosts do not answer:" \
        "the same command resumes or follows it"
      exit 1
      ;;
  esac
}

need_arguments() {
  [ $# -gt 1 ] ||
    refuse "$1 was given no arguments: expected infoprompt_jax.main's, like" \
      "--config=configs/rte.py --workdir=DIR."
}

status() {
  local state
  state=$(tpu_state) || refuse "gcloud reports no state of the TPU $TPU_NAME: the lines above say why."
  [ -n "$dry" ] || echo "the TPU $TPU_NAME is $state"
  [ -z "$dry" ] && [ "$state" != READY ] || run_states
}

logs() {
  if [ $# -eq 0 ] || [ -n "$dry" ]; then
    on_hosts all logs | sed -n 's/^host //p'
    return
  fi
  mkdir -p "$1"
  on_hosts all logs | awk -v to="$1" '
    sub(/^host /, "") { file = to "/" $1 ".log"; sub(/^[^ ]+ \| /, ""); print >file; files[file] }
    END { for (file in files) print file }'
}

fetch() {
  [ $# -gt 0 ] || refuse "fetch was given no directory: expected the --workdir of a run."
  local path=$1
  case $path in
    gs://*) cloud storage cp "$path" "${2:-.}" --recursive ;;
    /*) copy "$TPU_NAME:$path" "${2:-.}" --recurse --node=0 --worker=0 ;;
    *) copy "$TPU_NAME:infoprompt_jax/$path" "${2:-.}" --recurse --node=0 --worker=0 ;;
  esac
}

main() {
  local command arguments=() argument
  dry=
  exec 3>&1 # where --dry-run prints, also from within $(...)
  for argument in "$@"; do
    if [ "$argument" = --dry-run ]; then dry=1; else arguments+=("$argument"); fi
  done
  set -- ${arguments[@]+"${arguments[@]}"}
  command=${1:---help}
  case $command in
    -h | --help) usage && exit ;;
    create | keep) need TPU_NAME TPU_ZONE TPU_TYPE TPU_RUNTIME ;;
    setup | run | status | logs | stop | fetch | delete) need TPU_NAME TPU_ZONE ;;
    *)
      refuse "'$command' is not a command: expected create, setup, run, keep, status, logs, stop, fetch or delete" \
        "(see launch/tpu_vm.sh --help)."
      ;;
  esac
  shift
  read -ra create_flags <<<"${TPU_CREATE_FLAGS:-}"
  read -ra ssh_flags <<<"${TPU_SSH_FLAGS:-}"
  slices=${TPU_SLICES:-1} attempts=${TPU_ATTEMPTS:-10} poll=${TPU_POLL:-30}
  need_number TPU_SLICES "$slices" 1
  need_number TPU_ATTEMPTS "$attempts" 1
  need_number TPU_POLL "$poll" 0
  scratch=/tmp/tpu_vm
  if [ -z "$dry" ]; then
    command -v gcloud >/dev/null ||
      refuse "gcloud was not found on PATH: install the Google Cloud CLI and log in with it."
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
  fi
  case $command in
    create) create_flags+=("$@") && create ;;
    stop) on_hosts all stop ;;
    delete) tpus queued-resources delete "$TPU_NAME" --force "$@" ;;
    *) "$command" "$@" ;;
  esac
  exit # from within: bash would read on in this file, which may have changed while `keep` ran
}

main "$@"
