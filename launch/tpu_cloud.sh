# shellcheck shell=bash
# What launch/tpu_vm.sh does with gcloud: the queued resource, its hosts, and the run on them. Sourced.
#
# gcloud runs a command on a host again when the connection breaks, and skips a host that it cannot prepare. So every
# command of host_run.sh may run twice, and an answer counts only with as many lines as there are hosts.

# gcloud itself, or its command line with --dry-run.
cloud() {
  local word quote="'\\''"
  if [ -z "$dry" ]; then
    gcloud "$@"
    return
  fi
  printf 'gcloud' >&3
  for word in "$@"; do
    [[ $word =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]] || word="'${word//\'/$quote}'"
    printf ' %s' "$word" >&3
  done
  printf '\n' >&3
}

tpus() {
  cloud compute tpus "$@" --zone="$TPU_ZONE" ${TPU_PROJECT:+--project="$TPU_PROJECT"}
}

create() {
  local nodes=(--node-id="$TPU_NAME")
  [ "$slices" -eq 1 ] || nodes=(--node-count="$slices" --node-prefix="$TPU_NAME")
  tpus queued-resources create "$TPU_NAME" "${nodes[@]}" --accelerator-type="$TPU_TYPE" \
    --runtime-version="$TPU_RUNTIME" ${create_flags[@]+"${create_flags[@]}"}
}

# READY, MISSING, LOST (some host is preempted or deleted), or what the queued resource is: WAITING_FOR_RESOURCES,
# PROVISIONING, SUSPENDED, FAILED ... Fails when gcloud does. `list` tells a missing TPU from a failed question.
tpu_state() {
  local state
  state=$(tpus queued-resources list --filter="name~/$TPU_NAME\$" --format="value(state.state)") || return
  if [ "$state" = ACTIVE ]; then
    state=$(nodes | awk -v slices="$slices" '
      $1 == "READY" { ready++ }
      $1 ~ /^(PREEMPTED|TERMINATED|STOPPED|STOPPING|DELETING)$/ { lost++ }
      END { print lost || NR < slices ? "LOST" : ready == NR ? "READY" : "STARTING" }') || return
  fi
  printf '%s\n' "${state:-MISSING}"
}

# A line for each slice: its state and how many hosts it has.
nodes() {
  tpus tpu-vm list --filter="queuedResource~/$TPU_NAME\$" --format="value(state,networkEndpoints.len())"
}

count_hosts() {
  hosts=$(nodes | awk '{ sum += $2 } END { print sum + 0 }') || return
  [ "$hosts" -gt 0 ] || [ -n "$dry" ]
}

# A shell command on the hosts `all`, or on the first one, `0`. A host that is gone is given up after a minute.
ssh_to() {
  tpus queued-resources ssh "$TPU_NAME" --node="$1" --worker="$1" --ssh-flag="-o ConnectTimeout=20" \
    --ssh-flag="-o ServerAliveInterval=20" --command="$2" ${ssh_flags[@]+"${ssh_flags[@]}"} </dev/null
}

# A command of host_run.sh. A host that is not set up says so.
on_hosts() {
  local which=$1 script=infoprompt_jax/launch/host_run.sh words
  shift
  words=$(printf ' %q' "$@")
  ssh_to "$which" "if [ -e $script ]; then bash $script$words; else echo \"host \$(hostname) new - -\"; fi"
}

copy() {
  tpus queued-resources scp "$@" ${ssh_flags[@]+"${ssh_flags[@]}"} </dev/null
}

setup() {
  local commit script=infoprompt_jax/launch/host_run.sh
  commit=$(git -C "$here" rev-parse HEAD) || return
  [ -n "$dry" ] || git -C "$here/.." archive --format=tar.gz --output="$scratch/code" "$commit" || return
  git -C "$here" diff --quiet HEAD || note "changes that are not committed are not sent"
  copy "$scratch/code" "$TPU_NAME:infoprompt_jax.tar.gz" --node=all --worker=all || return
  ssh_to all "if [ -e $script ]; then bash $script idle; fi && mkdir -p infoprompt_jax && \
rm -f infoprompt_jax/.ready && tar -xzf infoprompt_jax.tar.gz -C infoprompt_jax && bash $script install $commit"
}

# The id of the run that is going on, after the hosts' states; else the last one, if its start failed; else a new one.
choose_id() {
  local going
  going=$(awk '$2 == "running" { print $4; exit }' <<<"$1")
  run_id=${going:-${run_id:-$(date +%Y%m%d%H%M%S)-$$-$RANDOM}}
}

# Starts the run `run_id` on every host, where it was not started yet. Fails with 3 if another one is going on.
start_run() {
  [ -n "$dry" ] || write_environment || return
  copy "$scratch/environment" "$TPU_NAME:infoprompt_environment" --node=all --worker=all || return
  on_hosts all start "$run_id" "$@"
}

# The variables to forward, in a file of mode 600, which scp keeps. awk reads them, so that `bash -x` prints none.
write_environment() {
  (
    umask 077
    awk -v names="${TPU_FORWARD-HF_TOKEN WANDB_API_KEY}" 'BEGIN {
      count = split(names, name, " ")
      for (i = 1; i <= count; i++) if (name[i] in ENVIRON) {
        if (ENVIRON[name[i]] ~ /\n/) { print name[i] " has more than one line: expected one." > "/dev/stderr"; exit 2 }
        print name[i] "=" ENVIRON[name[i]]
      }
    }' >"$scratch/environment"
  )
}

# A line for each host that answers: its name, the run's state and exit status, and the run's id.
run_states() {
  on_hosts all state "$@" | sed -n 's/^host //p'
}
