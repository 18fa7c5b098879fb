"""launch/tpu_vm.sh against a gcloud that records its calls and plays preemption: tests/recording_gcloud.py.

What ssh runs on a host runs for real, in that host's home directory; only pip, uv and the training command are made up.
"""

from __future__ import annotations

import ast
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parents[1]
TPU = {"TPU_NAME": "pod", "TPU_ZONE": "us-west4-a", "TPU_TYPE": "v5litepod-16", "TPU_RUNTIME": "v2-alpha-tpuv5-lite"}
AWKWARD = ["--workdir=a b", '--x={{ p }} "so" it\'s', "$(touch caught)", "a;b", "two\nlines", "", "naïve"]
WORKDIR = "--workdir=gs://bucket/run"
SECRETS = {"HF_TOKEN": "hf_secret=1 $x", "WANDB_API_KEY": "wandb_secret"}

# On a host: `uv venv` makes a Python that is the test's training command.
PYTHON3 = """#!/bin/bash
echo "$*" >>"$HOME/installed"
if [ "$3" = venv ]; then mkdir -p .venv/bin && cp "$CLOUD/training" .venv/bin/python; fi
"""
# A training command: counts its starts on a host, and saves a checkpoint.
COUNTED = """#!/bin/bash
starts=$CLOUD/starts.$(hostname)
echo start >>"$starts"
number=$(wc -l <"$starts")
save() { mkdir -p "$CLOUD/bucket/run/checkpoints/$1" && touch "$CLOUD/bucket/run/checkpoints/$1/state"; }
"""


def executable(path: pathlib.Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A repository with launch/ in its only commit."""
    path = tmp_path_factory.mktemp("launch") / "a checkout"
    shutil.copytree(ROOT / "launch", path / "launch")
    git = ["git", "-c", "user.name=n", "-c", "user.email=e", "-C", str(path)]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "One"]):
        subprocess.run([*git, *arguments], check=True)
    (path / "not committed").touch()
    return path


class Cloud:
    """A directory that stands for the cloud, with gcloud in bin/, and calls of launch/tpu_vm.sh."""

    def __init__(self, path: pathlib.Path, checkout: pathlib.Path) -> None:
        self.path, self.checkout = path, checkout
        gcloud = f'exec "{sys.executable}" -S -E -I "{ROOT}/tests/recording_gcloud.py" "{path}" "$@"\n'
        executable(path / "bin" / "gcloud", f"#!/bin/bash\n{gcloud}")
        executable(path / "host_bin" / "hostname", '#!/bin/bash\nbasename "$HOME"\n')
        executable(path / "host_bin" / "python3", PYTHON3)
        (path / "tmp").mkdir()
        (path / "bucket").mkdir()

    def has(self, **files: str) -> None:
        """Sets files that steer the cloud; `training` is the training command, after COUNTED."""
        for name, text in files.items():
            executable(self.path / name, COUNTED + text if name == "training" else text)

    def command(self, *arguments: str) -> list[str]:
        return [str(shutil.which("bash")), str(self.checkout / "launch" / "tpu_vm.sh"), *arguments]

    def environment(self, **env: str) -> dict[str, str]:
        path = f"{self.path / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return {"PATH": path, "TMPDIR": str(self.path / "tmp"), "TPU_POLL": "0", **env}

    def launch(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        command, environment = self.command(*arguments), self.environment(**env)
        return subprocess.run(command, env=environment, cwd=self.path, capture_output=True, text=True, timeout=60)

    def made(self, **env: str) -> None:
        """The TPU, set up, before a test's calls."""
        for command in ("create", "status", "setup"):
            result = self.launch(command, **TPU, **env)
            assert result.returncode == 0 or command == "create", result.stderr
        (self.path / "calls").unlink()

    @property
    def calls(self) -> list[list[str]]:
        record = self.path / "calls"
        return [ast.literal_eval(line) for line in record.read_text().splitlines()] if record.exists() else []

    def called(self, verb: str) -> list[list[str]]:
        return [call for call in self.calls if verb in call[:4]]

    def starts(self) -> list[int]:
        """How often the training command was started, on each host."""
        return [len(path.read_text().splitlines()) for path in sorted(self.path.glob("starts.*"))]


@pytest.fixture
def cloud(tmp_path: pathlib.Path, checkout: pathlib.Path) -> Iterator[Cloud]:
    cloud = Cloud(tmp_path, checkout)
    yield cloud
    cloud.launch("delete", "--quiet", **TPU)  # ends what still runs on a host


@pytest.mark.parametrize("how, seen", [("SUSPENDED", "SUSPENDED"), ("PREEMPTED", "LOST")])
def test_keep_goes_on_after_a_preemption_until_the_run_is_complete(cloud: Cloud, how: str, seen: str) -> None:
    cloud.has(nodes="2", queue="WAITING_FOR_RESOURCES PROVISIONING ACTIVE")
    cloud.has(
        training=f"""
        save "$number"
        if [ "$number" = 1 ]; then
            echo step 1
            case $(hostname) in *-w-0)
                until [ -e "$CLOUD/starts.t1v-0-w-1" ]; do sleep 0.02; done
                echo {how} >"$CLOUD/preempt" ;;
            esac
            exec sleep 60
        fi
        echo "complete $*"
        """
    )
    flags = "--spot --valid-until-duration=6h"
    result = cloud.launch("keep", "--config=configs/rte.py", WORKDIR, **TPU, TPU_CREATE_FLAGS=flags, TPU_DELETE="1")
    assert result.returncode == 0, result.stderr
    verbs = [verb for call in cloud.calls for verb in call[3:4] if verb in ("create", "delete")]
    assert verbs == ["create", "delete", "create", "delete"]
    assert all({"--spot", "--valid-until-duration=6h", "--node-id=pod"} < {*call} for call in cloud.called("create"))
    assert all({"--force", "--quiet"} < {*call} for call in cloud.called("delete"))
    assert f"complete -m infoprompt_jax.main --config=configs/rte.py {WORKDIR}\n" in result.stdout
    states = re.findall(r"the TPU pod is (\w+)", result.stderr)
    made = ["MISSING", "WAITING_FOR_RESOURCES", "PROVISIONING", "READY"]
    assert [state for state in states if state != "SUSPENDING"] == [*made, seen, *made]
    assert cloud.starts() == [2, 2]


def test_keep_ends_with_a_mistake(cloud: Cloud) -> None:
    """Exit status 2 on one host, whose end makes the other end too. It is not started again, even by gcloud."""
    cloud.has(
        twice="ended",
        nodes="2",
        training='case $(hostname) in *-w-1) echo "error: train.steps is 0." >&2; exit 2 ;; *) exit 143 ;; esac',
    )
    result = cloud.launch("keep", WORKDIR, **TPU)
    assert result.returncode == 2
    assert "t1v-0-w-1 | error: train.steps is 0.\n" in result.stderr
    assert "The run ended with a mistake" in result.stderr
    assert cloud.starts() == [1, 1]


def test_a_run_outlives_broken_connections(cloud: Cloud) -> None:
    """And is started once, although gcloud runs the command to start it twice, and reports a failure."""
    training = """echo one; [ "$number" -gt 1 ] || echo 4 >"$CLOUD/drop"
        until [ "$(<"$CLOUD/drop")" = 0 ]; do sleep 0.02; done; echo two"""
    cloud.has(twice="1", training=training)
    result = cloud.launch("keep", WORKDIR, **TPU)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("one\n") == result.stdout.count("two\n") == 1
    assert cloud.starts() == [1]


def test_a_host_that_gcloud_skips_is_not_complete(cloud: Cloud) -> None:
    cloud.has(nodes="2", training="")
    cloud.made()
    cloud.has(deaf="t1v-0-w-1")
    result = cloud.launch("run", WORKDIR, **TPU, TPU_ATTEMPTS="2")
    assert result.returncode == 1
    assert "not every one of the 2 hosts answered" in result.stderr


def test_a_host_that_hangs_after_anothers_end_is_ended(cloud: Cloud) -> None:
    training = """[ "$number" = 1 ] || exit 0
        case $(hostname) in *-w-1) exit 1 ;; esac
        sleep 60 & trap 'kill %1; exit 143' TERM; wait"""
    cloud.has(nodes="2", training=training)
    result = cloud.launch("keep", WORKDIR, **TPU, TPU_ATTEMPTS="3")
    assert result.returncode == 0, result.stderr
    assert cloud.starts() == [2, 2]


def test_keep_ends_after_attempts_without_a_checkpoint(cloud: Cloud) -> None:
    """A failure with a checkpoint does not count; two without end it."""
    cloud.has(training='if [ "$number" = 1 ]; then save "$number"; fi; echo "Traceback $number"; exit 1')
    result = cloud.launch("keep", WORKDIR, **TPU, TPU_ATTEMPTS="2")
    assert result.returncode == 1
    assert cloud.starts() == [3]
    assert "2 attempts have brought no new checkpoint under gs://bucket/run" in result.stderr
    assert "t1v-0-w-0 | Traceback 3" in result.stderr
    assert len(cloud.called("create")) == 1 and not cloud.called("delete")


def test_keep_tries_again_when_the_request_fails(cloud: Cloud) -> None:
    cloud.has(queue="FAILED")
    result = cloud.launch("keep", WORKDIR, **TPU, TPU_ATTEMPTS="2")
    assert result.returncode == 1
    assert len(cloud.called("describe")) == 4 and 2 <= len(cloud.called("create")) <= 4


def test_keep_does_not_take_a_failing_gcloud_for_a_missing_tpu(cloud: Cloud) -> None:
    cloud.has(broken="1")
    assert cloud.launch("keep", WORKDIR, **TPU, TPU_ATTEMPTS="2").returncode == 1
    assert not cloud.called("create")


def test_stop_saves_and_ends_keep(cloud: Cloud) -> None:
    cloud.has(training="sleep 60 & trap 'kill %1; save 9; exit 143' TERM; echo training; wait")
    keep = subprocess.Popen(
        cloud.command("keep", WORKDIR), env=cloud.environment(**TPU), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert keep.stdout and keep.stdout.readline() == b"training\n"
    assert "t1v-0-w-0 running -" in cloud.launch("status", **TPU).stdout
    assert cloud.launch("stop", **TPU).returncode == 0
    assert keep.communicate(timeout=60)[1].endswith(b"the run was stopped; the same command resumes it\n")
    assert keep.returncode == 143
    assert (cloud.path / "bucket/run/checkpoints/9").exists()
    assert "t1v-0-w-0 stopped 143" in cloud.launch("status", **TPU).stdout


def test_run_follows_the_same_run_and_refuses_another(cloud: Cloud) -> None:
    os.mkfifo(cloud.path / "release")
    cloud.has(training='echo started; read -r -t 30 _ <>"$CLOUD/release"; echo over; exit 2')
    cloud.made()
    command, env = cloud.command("run", "a b"), cloud.environment(**TPU)
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE) as first:
        assert first.stdout and first.stdout.readline() == b"started\n"
        first.kill()  # the terminal is closed
    other = cloud.launch("run", "a", "b", **TPU)
    assert other.returncode == 2
    assert r"host t1v-0-w-0 runs a\ b already: stop it first" in other.stderr
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE) as again:
        assert again.stdout and again.stdout.readline() == b"started\n"
        (cloud.path / "release").write_text("\n")
        assert again.stdout.read() == b"over\n"
    assert again.returncode == 2
    assert cloud.starts() == [1]


def test_run_gives_every_host_the_arguments_unchanged(cloud: Cloud) -> None:
    cloud.has(nodes="1 1", training='printf "%s\\0" "$@" >"$CLOUD/got.$(hostname)"')
    cloud.made(TPU_SLICES="2")
    result = cloud.launch("run", *AWKWARD, **TPU, TPU_SLICES="2")
    assert result.returncode == 0, result.stderr
    files = sorted(cloud.path.glob("got.*"))
    assert len(files) == 2
    assert all(file.read_text().split("\0")[2:-1] == AWKWARD for file in files)
    assert not list(cloud.path.rglob("caught"))


def test_run_and_setup_refuse_a_host_in_the_wrong_state(cloud: Cloud) -> None:
    os.mkfifo(cloud.path / "release")
    cloud.has(training='echo started; read -r -t 30 _ <>"$CLOUD/release"')
    refused = cloud.launch("run", "a", **TPU)
    assert refused.returncode == 2 and "has no host that is ready" in refused.stderr
    cloud.launch("create", **TPU)
    cloud.launch("status", **TPU)
    refused = cloud.launch("run", "a", **TPU)
    assert refused.returncode == 2 and "Not every host is set up" in refused.stderr
    cloud.made()
    with subprocess.Popen(cloud.command("run", "a"), env=cloud.environment(**TPU), stdout=subprocess.PIPE) as run:
        assert run.stdout and run.stdout.readline() == b"started\n"
        refused = cloud.launch("setup", **TPU)
        assert refused.returncode == 3 and "host t1v-0-w-0 runs a : stop it before setup" in refused.stderr
        (cloud.path / "release").write_text("\n")
    assert run.returncode == 0


def test_setup_sends_the_commit_and_installs_the_lock(cloud: Cloud) -> None:
    cloud.has(nodes="2", training="")
    cloud.made()
    for home in (cloud.path / "hosts").iterdir():
        assert "-c requirements.lock -r requirements.txt -r requirements-tpu.txt\n" in (home / "installed").read_text()
        with tarfile.open(home / "infoprompt_jax.tar.gz") as archive:
            assert {name.partition("/")[0] for name in archive.getnames()} == {"launch"}
    assert not list((cloud.path / "tmp").iterdir())


def test_create_makes_one_node_or_several_slices(cloud: Cloud) -> None:
    assert cloud.launch("create", "--spot", "--labels=a=b c", **TPU, TPU_PROJECT="p q").returncode == 0
    cloud.launch("delete", "--quiet", **TPU)
    assert cloud.launch("create", **TPU, TPU_SLICES="2", TPU_CREATE_FLAGS="--spot --network=n").returncode == 0
    one, two = (call[3:] for call in cloud.called("create"))
    kind = ["--accelerator-type=v5litepod-16", "--runtime-version=v2-alpha-tpuv5-lite"]
    assert one[:5] == ["create", "pod", "--node-id=pod", *kind]
    assert one[5:] == ["--spot", "--labels=a=b c", "--zone=us-west4-a", "--project=p q"]
    assert two[:6] == ["create", "pod", "--node-count=2", "--node-prefix=pod", *kind]
    assert two[6:] == ["--spot", "--network=n", "--zone=us-west4-a"]


def test_tokens_reach_the_run_and_nothing_else(cloud: Cloud) -> None:
    """Not a command line, not what is printed, even by bash -x; the file that carries them is for its owner only."""
    cloud.has(
        training='stat -c %a "$CLOUD"/tmp/*/environment; printf %s "$HF_TOKEN,$WANDB_API_KEY,$OTHER" >"$CLOUD/got"'
    )
    cloud.made()
    command = ["bash", "-x", *cloud.command("run", WORKDIR)[1:]]
    environment = cloud.environment(**TPU, **SECRETS, OTHER="x")
    result = subprocess.run(command, env=environment, cwd=cloud.path, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert (cloud.path / "got").read_text() == "hf_secret=1 $x,wandb_secret,"
    assert result.stdout == "600\n"
    printed = result.stdout + result.stderr + (cloud.path / "calls").read_text()
    assert "secret" not in printed
    left = [path for path in cloud.path.rglob("*") if path.is_file() and "secret" in path.read_text(errors="ignore")]
    assert [path.name for path in left] == ["got"]


@pytest.mark.parametrize(
    "command, printed",
    [
        (["keep", WORKDIR, "--config=a b"], [" create ", "install", "scp", "start ID", "--config=a b", " delete "]),
        (["run", WORKDIR], ["start", WORKDIR]),
        (["create", "--spot"], ["queued-resources create pod --node-id=pod", "--spot"]),
        (["setup"], ["host_run.sh install"]),
        (["status"], ["queued-resources list", "host_run.sh state"]),
        (["logs", "saved logs"], ["host_run.sh logs"]),
        (["stop"], ["host_run.sh stop"]),
        (["fetch", "gs://bucket/run"], ["gcloud storage cp gs://bucket/run . --recursive"]),
        (["delete"], ["queued-resources delete pod --force --zone=us-west4-a"]),
    ],
    ids=lambda words: words[0].strip(),
)
def test_dry_run_prints_the_commands_and_runs_none(cloud: Cloud, command: list[str], printed: list[str]) -> None:
    result = cloud.launch("--dry-run", *command, **TPU, **SECRETS)
    assert result.returncode == 0, result.stderr
    unquoted = re.sub(r"\\(.)", r"\1", result.stdout)
    assert [text for text in printed if text not in unquoted] == []
    assert all(line.startswith("gcloud ") for line in result.stdout.splitlines())
    assert "secret" not in result.stdout + result.stderr
    assert cloud.calls == [] and not list((cloud.path / "tmp").iterdir()) and not (cloud.path / "saved logs").exists()


def test_logs_of_all_hosts(cloud: Cloud) -> None:
    cloud.has(nodes="2", training='echo "from $(hostname) | x"')
    cloud.made()
    cloud.launch("run", WORKDIR, **TPU)
    shown = cloud.launch("logs", **TPU).stdout
    assert shown == "t1v-0-w-0 | from t1v-0-w-0 | x\nt1v-0-w-1 | from t1v-0-w-1 | x\n"
    assert cloud.launch("logs", "saved logs", **TPU).returncode == 0
    saved = {path.name: path.read_text() for path in (cloud.path / "saved logs").iterdir()}
    assert saved == {f"t1v-0-w-{n}.log": f"from t1v-0-w-{n} | x\n" for n in (0, 1)}


@pytest.mark.parametrize(
    "directory, remote", [("runs/rte", "pod:infoprompt_jax/runs/rte"), ("/mnt/rte", "pod:/mnt/rte")]
)
def test_fetch_copies_from_the_first_host(cloud: Cloud, directory: str, remote: str) -> None:
    assert cloud.launch("fetch", directory, "here", **TPU, TPU_SSH_FLAGS="--internal-ip").returncode == 0
    (call,) = cloud.calls
    assert call[3:6] == ["scp", remote, "here"]
    assert {"--recurse", "--node=0", "--worker=0", "--internal-ip", "--zone=us-west4-a"} == {*call[6:]}


@pytest.mark.parametrize(
    "arguments, missing, refusal",
    [
        (["run", "--config=c"], "TPU_NAME", "TPU_NAME is not set"),
        (["delete"], "TPU_ZONE", "TPU_ZONE is not set"),
        (["create"], "TPU_TYPE", "TPU_TYPE is not set"),
        (["start"], "", "'start' is not a command"),
        (["run"], "", "run was given no arguments"),
        (["fetch"], "", "fetch was given no directory"),
        (["keep", "--config=c"], "", "keep was given no --workdir"),
        (["keep", "--workdir=runs/rte"], "", "The --workdir 'runs/rte' is lost with the TPU"),
        (["keep", "--workdir", "/mnt/rte"], "", "The --workdir '/mnt/rte' is lost with the TPU"),
        (["keep", WORKDIR, "--workdir=gs://"], "", "The --workdir 'gs://' is lost with the TPU"),
    ],
)
def test_refuses_in_one_sentence(cloud: Cloud, arguments: list[str], missing: str, refusal: str) -> None:
    result = cloud.launch(*arguments, **{k: v for k, v in TPU.items() if k != missing})
    assert result.returncode == 2
    assert result.stderr.startswith(refusal) and result.stderr.count("\n") == 1
    assert cloud.calls == []


@pytest.mark.parametrize("variable, value", [("TPU_SLICES", "0"), ("TPU_ATTEMPTS", "many"), ("TPU_POLL", "1s")])
def test_refuses_what_is_no_number(cloud: Cloud, variable: str, value: str) -> None:
    result = cloud.launch("status", **{**TPU, variable: value})
    assert result.returncode == 2
    assert f"{variable} is '{value}': expected a whole number" in result.stderr


def test_keep_takes_a_shared_disk_when_it_is_named_so(cloud: Cloud, tmp_path: pathlib.Path) -> None:
    workdir = tmp_path / "mounted"
    cloud.has(training=f'mkdir -p "{workdir}/checkpoints/$number"; [ "$number" -gt 1 ]')
    result = cloud.launch("keep", f"--workdir={workdir}", **TPU, TPU_SHARED_WORKDIR="1", TPU_ATTEMPTS="1")
    assert result.returncode == 0, result.stderr
    assert cloud.starts() == [2]


def test_refuses_without_gcloud(cloud: Cloud) -> None:
    (cloud.path / "empty").mkdir()
    (cloud.path / "empty" / "dirname").symlink_to(str(shutil.which("dirname")))
    result = cloud.launch("delete", **TPU, PATH=str(cloud.path / "empty"))
    assert result.returncode == 2
    assert "gcloud was not found" in result.stderr


def test_help_names_every_variable(cloud: Cloud) -> None:
    result = cloud.launch("--help")
    assert result.returncode == 0
    scripts = "".join(path.read_text() for path in (ROOT / "launch").glob("tpu_*.sh"))
    assert {*re.findall(r"\$\{?(TPU_[A-Z_]+)", scripts)} <= {*re.findall(r"TPU_[A-Z_]+", result.stdout)}


def test_the_scripts_are_clean() -> None:
    scripts = [str(ROOT / "launch" / name) for name in ("tpu_vm.sh", "host_run.sh", "slurm.sh")]
    shellcheck = pathlib.Path(sys.executable).parent / "shellcheck"
    command = [str(shellcheck), "--external-sources", "--check-sourced", *scripts]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("gcloud"), reason="the Google Cloud CLI is not installed")
def test_gcloud_knows_every_command_and_flag(cloud: Cloud) -> None:
    """Its own parser reads what --dry-run prints; nothing is sent."""
    flags = "--spot --valid-until-duration=6h --network=n --service-account=a@b.c --scopes=cloud-platform"
    lines: list[str] = []
    for extra in ({}, {"TPU_SLICES": "2", "TPU_PROJECT": "p", "TPU_SSH_FLAGS": "--tunnel-through-iap"}):
        for command in (["keep", WORKDIR], ["logs"], ["stop"], ["fetch", "runs/rte"], ["fetch", "gs://bucket/run"]):
            printed = cloud.launch("--dry-run", *command, **TPU, TPU_CREATE_FLAGS=flags, **extra).stdout
            lines += printed.splitlines()
    file = cloud.path / "commands.json"
    file.write_text(json.dumps([{"command_string": line} for line in {*lines}]))
    command = ["gcloud", "meta", "lint-gcloud-commands", f"--commands-file={file}"]
    environment = {**os.environ, "CLOUDSDK_CONFIG": str(cloud.path / "config")}
    lint = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    results = json.loads(lint[lint.index("[") :])
    assert len(results) == len({*lines}) > 10
    assert [result["error_message"] for result in results if not result["success"]] == []
