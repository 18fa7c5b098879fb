"""A gcloud that records its calls and plays a queued resource with hosts, for the tests of launch/: a script.

CLOUD, its first argument, is a directory. `calls` gets the arguments of each call; `hosts/NAME` is the home directory
of a host, where the commands of ssh really run; `bucket` is gs://bucket. Tests and runs steer it with files:

state     the states that the resource goes through, one a line: each is reported once, the last for ever
queue     those that a created one goes through (default: ACTIVE)
nodes     how many hosts each slice has, one a line (default: 1)
preempt   the hosts are gone from now on; SUSPENDED is what the resource reports, PREEMPTED what its node does
drop      so many calls of ssh are cut after the command has run: status 255, no output
twice     every command of ssh is run twice, as gcloud does when a connection breaks; `ended`: a run ends in between
deaf      the name of a host that gcloud does not reach, and says nothing about in its status
broken    every call fails

It imports little, because the tests call it some hundred times.
"""

from __future__ import annotations

import os
import signal
import sys

CLOUD = sys.argv[1]
HOSTS = f"{CLOUD}/hosts"


def read(name: str, default: str = "") -> list[str]:
    if not os.path.exists(f"{CLOUD}/{name}"):
        return default.split()
    with open(f"{CLOUD}/{name}") as file:
        return file.read().split()


def write(name: str, text: str) -> None:
    with open(f"{CLOUD}/{name}", "w") as file:
        file.write(text)


def run(command: str, home: str = CLOUD) -> tuple[int, str]:
    """The status and the output of a shell command."""
    env = {"HOME": home, "PATH": f"{CLOUD}/host_bin:/usr/bin:/bin", "CLOUD": CLOUD}
    output = f"{CLOUD}/output.{os.getpid()}"
    moves = [(os.POSIX_SPAWN_OPEN, 1, output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)]
    words = ["bash", "-c", 'cd "$HOME" && eval "$0" </dev/null', command]
    _, status = os.waitpid(os.posix_spawn("/bin/bash", words, env, file_actions=moves), 0)
    with open(output) as file:
        text = file.read()
    os.remove(output)
    return os.waitstatus_to_exitcode(status), text


def hosts() -> list[str]:
    return sorted(os.listdir(HOSTS)) if os.path.exists(HOSTS) else []


def lose_hosts() -> None:
    for host in hosts():
        pid = read(f"hosts/{host}/infoprompt_run/pid")
        try:
            os.killpg(os.getpgid(int(pid[0])), signal.SIGKILL)
        except (OSError, IndexError):
            continue  # nothing runs there
    run('rm -rf "$CLOUD/hosts"')


def create() -> int:
    if read("state"):
        return 1
    write("state", "\n".join(read("queue", "ACTIVE")))
    return 0


def report_state() -> int:
    states = read("state")
    if states:
        print(states[0])
        write("state", "\n".join(states[1:] or states))
    if states == ["ACTIVE"] and not read("node_state"):
        for node, count in enumerate(read("nodes", "1")):
            for worker in range(int(count)):
                os.makedirs(f"{HOSTS}/t1v-{node}-w-{worker}", exist_ok=True)
    return 0


def report_nodes() -> int:
    if read("state") == ["ACTIVE"]:
        state = read("node_state", "READY")[0]
        print("".join(f"{state}\t{count}\n" for count in read("nodes", "1")), end="")
    return 0


def reached(options: dict[str, str]) -> list[str]:
    chosen = hosts() if options["--worker"] == "all" else hosts()[:1]
    return [host for host in chosen if host not in read("deaf")]


def ssh(options: dict[str, str]) -> int:
    if not hosts():
        return 1
    status, output = 0, ""
    for host in reached(options):
        for _ in range(2 if read("twice") else 1):
            failed, text = run(options["--command"], f"{HOSTS}/{host}")
            status, output = failed or status, output + text
            if read("twice") == ["ended"]:
                run(
                    "while [ -e infoprompt_run/id ] && [ ! -e infoprompt_run/status ]; do sleep 0.02; done",
                    f"{HOSTS}/{host}",
                )
    drops = int("".join(read("drop")) or 0)
    if drops:
        write("drop", str(drops - 1))
        return 255
    print(output, end="")
    return status


def scp(source: str, target: str, options: dict[str, str]) -> int:
    for host in reached(options) if ":" not in source else ():
        run(f'cp -p "{source}" "{target.partition(":")[2]}"', f"{HOSTS}/{host}")
    return 0


def main() -> int:
    arguments = sys.argv[2:]
    with open(f"{CLOUD}/calls", "a") as calls:
        print(repr(arguments), file=calls)
    words = [word for word in arguments if not word.startswith("--")]
    options = dict(word.split("=", 1) for word in arguments if word.startswith("--") and "=" in word)
    if read("broken"):
        return 1
    if preempted := read("preempt"):
        os.remove(f"{CLOUD}/preempt")
        lose_hosts()
        if preempted == ["SUSPENDED"]:
            write("state", "SUSPENDING\nSUSPENDED")
        else:
            write("node_state", "PREEMPTED")
    if words[:2] == ["storage", "ls"]:
        print(run('find "$CLOUD/bucket" | sed "s#^$CLOUD/bucket#gs://bucket#"')[1], end="")
    if words[0] == "storage":
        return 0
    group, verb = words[2:4]
    if verb in ("ssh", "scp"):
        return ssh(options) if verb == "ssh" else scp(words[4], words[5], options)
    if verb == "delete":
        lose_hosts()
        run('rm -f "$CLOUD/state" "$CLOUD/node_state"')
    if verb == "list":
        return report_nodes() if group == "tpu-vm" else report_state()
    return create() if verb == "create" else 0


if __name__ == "__main__":
    sys.exit(main())
