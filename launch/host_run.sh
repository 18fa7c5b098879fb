#!/usr/bin/env bash
# A run on one TPU host. It is detached from the connection that starts it, so that it outlives a broken one.
# launch/tpu_vm.sh calls this on every host; every answer starts with "host" and the host's name.
#
#   idle                    fails if a run is going
#   install COMMIT          make .venv; then the host is set up for this commit
#   start ID ARGUMENT...    start python -m infoprompt_jax.main ARGUMENT...; for the same ID once
#   state [ID [COMMIT]]     host NAME STATE STATUS ID, where STATE is
#                           new (not set up for COMMIT), ready (nothing was started, or not ID), running,
#                           ended, stopped (by `stop`) or lost (killed with what watched it)
#   log FROM                the log's lines after line FROM, each behind its number
#   logs [LINES [failed]]   the log, each line behind the host's name; only if the run has failed
#   stop [end]              SIGTERM: the run saves and ends; with `end`, it counts as ended, not as stopped
#   saved DIR               the checkpoints under DIR
#
# Beside the installation, in infoprompt_run: id, arguments, pid, status, stopped, log, and lock, held by a run.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
place=$(dirname "$root")/infoprompt_run
name=$(hostname)

content() {
  cat "$place/$1" 2>/dev/null || true
}

running() {
  [ -e "$place/lock" ] && ! flock --nonblock "$place/lock" true
}

idle() {
  running || return 0
  echo "host $name runs $(content arguments): stop it before setup (launch/tpu_vm.sh stop)." >&2
  exit 3
}

install() {
  cd "$root"
  # TPU images carry a Python older than 3.11: uv brings one. The lock decides jax's version, jax decides libtpu's.
  python3 -m pip install --quiet --user uv
  python3 -m uv venv --quiet --allow-existing --python 3.11 .venv
  python3 -m uv pip install --quiet --compile-bytecode \
    -c requirements.lock -r requirements.txt -r requirements-tpu.txt
  printf '%s\n' "$1" >.ready
}

start() {
  local id=$1 arguments
  shift
  arguments=$(printf '%q ' "$@")
  mkdir -p "$place"
  take_environment
  exec 9>>"$place/lock"
  if ! flock --nonblock 9; then
    [ "$(content id)$(content arguments)" != "$id$arguments" ] || return 0
    echo "host $name runs $(content arguments)already: stop it first (launch/tpu_vm.sh stop)." >&2
    exit 3
  fi
  [ "$(content id)" != "$id" ] || return 0
  rm -f "$place/pid" "$place/status" "$place/stopped"
  printf '%s' "$arguments" >"$place/arguments"
  printf '%s\n' "$id" >"$place/id"
  cd "$root"
  setsid bash "$root/launch/host_run.sh" supervise "$@" </dev/null >"$place/log" 2>&1 &
}

# Variables such as HF_TOKEN come in a file that only its owner reads, never on a command line. It is removed at once.
take_environment() {
  local file line
  file=$(dirname "$root")/infoprompt_environment
  [ -e "$file" ] || return 0
  while IFS= read -r line; do
    export "${line?}"
  done <"$file"
  rm -f "$file"
}

supervise() {
  local status=0 run
  "$root/.venv/bin/python" -m infoprompt_jax.main "$@" 9>&- &
  run=$!
  trap 'kill -TERM "$run" 2>/dev/null' TERM # a host that shuts down ends all its processes so
  printf '%s\n' "$run" >"$place/pid"
  wait "$run" || status=$?
  while kill -0 "$run" 2>/dev/null; do # a signal ended the wait, not the run
    status=0
    wait "$run" || status=$?
  done
  printf '%s\n' "$status" >"$place/status.part"
  mv "$place/status.part" "$place/status"
}

state() {
  local id=${1:-} commit=${2:-} now
  now=ready
  if running; then
    now=running
  elif [ ! -e "$root/.ready" ] || { [ -n "$commit" ] && [ "$(<"$root/.ready")" != "$commit" ]; }; then
    now=new
  elif [ -n "$(content id)" ] && { [ -z "$id" ] || [ "$(content id)" = "$id" ]; }; then
    now=lost
    [ -z "$(content status)" ] || now=ended
    [ ! -e "$place/stopped" ] || now=stopped
  fi
  echo "host $name $now $(content status | grep . || echo -) $(content id)"
}

log() {
  # A line that is still being written waits for the next call.
  awk -v from="$1" -v to="$(content log | wc -l)" 'NR > from && NR <= to { print NR ":" $0 }' <(content log)
}

logs() {
  [ "${2:-}" != failed ] || [ "$(content status)" != 0 ] || return 0
  content log | if [ -n "${1:-}" ]; then tail -n "$1"; else cat; fi | sed "s/^/host $name | /"
}

stop() {
  running || return 0
  [ "${1:-}" = end ] || touch "$place/stopped"
  for _ in {1..50}; do [ ! -s "$place/pid" ] || break; sleep 0.1; done
  kill -TERM "$(content pid)" 2>/dev/null || true
}

saved() {
  find "$1" -path '*/checkpoints/*' -prune -print 2>/dev/null || true
}

"$@"
