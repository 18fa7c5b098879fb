# shellcheck shell=bash
# Following a run to its end, and keeping it alive on TPUs that are preempted. Sourced by launch/tpu_vm.sh.

# Follows the run `run_id` until `outcome` is known: done, mistake (exit status 2), stopped (by `stop`), or again.
watch() {
  local states missed=0 shown=0
  outcome=
  while :; do
    states=$(run_states "$run_id") || true
    show_log
    outcome=$(judge "$states")
    case $outcome in
      running) missed=0 ;;
      unknown)
        missed=$((missed + 1))
        case $(tpu_state || true) in
          READY | STARTING | "") ;; # a connection has failed
          *) outcome=again && return ;;
        esac
        ;;
      partly) # some hosts have ended, others not: those end by themselves within a minute
        missed=$((missed + 1))
        ;;
      *) show_failures && return ;;
    esac
    if [ "$missed" -ge "$attempts" ]; then
      note "$missed times in a row, not every one of the $hosts hosts answered that it runs"
      [ -z "$states" ] || on_hosts all stop end || true # without any answer, the connection may be at fault
      outcome=again
      return
    fi
    sleep "$poll"
  done
}

# What the hosts' states come to. Of a run's hosts one may be mistaken and the others ended by it: a mistake counts.
judge() {
  awk -v hosts="$hosts" -v id="$run_id" '
    $4 == id { state[$1] = $2; status[$1] = $3 } # the last answer of each host
    END {
      for (host in state) {
        if (state[host] == "running") running++
        else if (state[host] ~ /^(ended|stopped|lost)$/) over++
        if (state[host] == "stopped") stopped++
        if (state[host] == "ended" && status[host] == 0) complete++
        if (state[host] == "ended" && status[host] == 2) mistakes++
      }
      if (running + over < hosts) print "unknown"
      else if (running && over) print "partly"
      else if (running) print "running"
      else if (mistakes) print "mistake"
      else if (stopped) print "stopped"
      else if (complete == hosts) print "done"
      else print "again"
    }' <<<"$1"
}

# The first host's new lines: process 0 reports for all.
show_log() {
  local line number
  while IFS= read -r line; do
    number=${line%%:*}
    [[ $number =~ ^[0-9]+$ ]] && [ "$number" -gt "$shown" ] || continue # gcloud may have run it twice
    printf '%s\n' "${line#*:}"
    shown=$number
  done < <(on_hosts 0 log "$shown" || true)
}

show_failures() {
  case $outcome in
    mistake) on_hosts all logs 1 failed | sed -n 's/^host //p' >&2 || true ;;
    again) on_hosts all logs 20 failed | sed -n 's/^host //p' >&2 || true ;;
  esac
}

keep() {
  local before after failures=0
  run_id=
  need_arguments keep "$@"
  workdir=$(workdir_of "$@")
  need_lasting_workdir
  if [ -n "$dry" ]; then
    rehearse "$@"
    return
  fi
  while :; do
    before=$(saved)
    attempt "$@"
    case $outcome in
      done) break ;;
      mistake) refuse "The run ended with a mistake, which another attempt would repeat: the lines above name it." ;;
      stopped) note "the run was stopped; the same command resumes it" && exit 143 ;;
    esac
    after=$(saved)
    failures=$((failures + 1))
    [ "$after" = "$before" ] || failures=0
    if [ "$failures" -ge "$attempts" ]; then
      note "$failures attempts have brought no new checkpoint under $workdir:" \
        "the TPU is left as it is (launch/tpu_vm.sh delete)"
      exit 1
    fi
    sleep $((poll * failures))
  done
  note "the run is complete"
  if [ "${TPU_DELETE:-}" = 1 ]; then
    remove
  else
    note "the TPU $TPU_NAME still costs money: launch/tpu_vm.sh delete"
  fi
}

# One start of the run, on a TPU that is made and set up if need be.
attempt() {
  local commit states status=0
  outcome=again
  await_tpu || return 0
  count_hosts || return 0
  commit=$(git -C "$here" rev-parse HEAD)
  states=$(run_states "" "$commit") || return 0
  if grep -q ' new ' <<<"$states" && ! grep -q ' running ' <<<"$states"; then
    note "setting up every host ($hosts)"
    setup || return 0
  fi
  choose_id "$states"
  note "starting or following the run on every host ($hosts)"
  start_run "$@" || status=$?
  [ "$status" -ne 3 ] || refuse "Another run is going on the TPU: the line above names it."
  [ "$status" -eq 0 ] || return 0
  watch
  run_id=
}

# Waits until every host is ready. Creates a TPU that is missing; deletes, once, one that is preempted or failed.
await_tpu() {
  local state last='' removed=''
  while :; do
    state=$(tpu_state) || return
    [ "$state" = "$last" ] || note "the TPU $TPU_NAME is $state"
    last=$state
    case $state in
      READY) return ;;
      MISSING) create || return ;;
      SUSPENDED | LOST | FAILED)
        [ "$state" != FAILED ] || tpus queued-resources describe "$TPU_NAME" --format="yaml(state)" >&2 || true
        [ -z "$removed" ] || return 1
        remove || return
        removed=1
        ;;
    esac
    sleep "$poll"
  done
}

remove() {
  tpus queued-resources delete "$TPU_NAME" --force --quiet
}

workdir_of() {
  local argument before=
  for argument in "$@"; do
    case $argument in --workdir=*) echo "${argument#--workdir=}" ;; esac
    [ "$before" != --workdir ] || echo "$argument"
    before=$argument
  done | tail -n 1
}

need_lasting_workdir() {
  case $workdir in
    gs://?*) return ;;
    "") refuse "keep was given no --workdir: expected --workdir=gs://BUCKET/RUN, which outlives the TPU." ;;
    /*) [ "${TPU_SHARED_WORKDIR:-}" != 1 ] || return 0 ;;
  esac
  refuse "The --workdir '$workdir' is lost with the TPU: expected gs://BUCKET/RUN, or an absolute path on a shared" \
    "disk that every host mounts, with TPU_SHARED_WORKDIR=1."
}

# The names of the run's checkpoints: an attempt that adds one has brought progress.
saved() {
  case $workdir in
    gs://*) cloud storage ls "${workdir%/}/**" ;;
    *) on_hosts 0 saved "$workdir" ;;
  esac 2>/dev/null | sed -nE 's#(.*/checkpoints/[0-9]+).*#\1#p' | sort -u || true
}

# What `keep` runs, in its order, for --dry-run.
rehearse() {
  run_id=ID hosts=0 shown=0
  saved
  tpu_state >/dev/null
  create
  nodes
  setup
  start_run "$@"
  follow_once
  note "after a preemption: the call below, then all of those above"
  remove
}

follow_once() {
  local shown=0
  run_states "$run_id"
  show_log
}
