"""launch/tpu_vm.sh against a gcloud that records what it was called with: quoting, refusals, what reaches the hosts."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile

import pytest

SCRIPT = pathlib.Path(__file__).parents[1] / "launch" / "tpu_vm.sh"
TPU = {"TPU_NAME": "pod", "TPU_ZONE": "us-west4-a", "TPU_TYPE": "v5litepod-16", "TPU_RUNTIME": "v2-alpha-tpuv5-lite"}
AWKWARD = [
    "--workdir=runs/a b",
    '--config.task.input={{ premise }} "so" it\'s',
    "$(touch caught)",
    "a;b",
    "two\nlines",
    "",
    "naïve",
]

# Appends its arguments as one JSON line; keeps a copy of an archive that is sent, since the sender removes it.
RECORDER = """#!{python}
import json, pathlib, shutil, sys
home = pathlib.Path({home!r})
with open(home / "calls", "a") as calls:
    print(json.dumps(sys.argv[1:]), file=calls)
for argument in sys.argv[1:]:
    if argument.startswith("/") and pathlib.Path(argument).is_file():
        shutil.copy(argument, home / "sent")
"""


def executable(path: pathlib.Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


class Cloud:
    """A directory that stands for the cloud: a recording gcloud in bin/, and a host's home directory."""

    def __init__(self, home: pathlib.Path) -> None:
        self.home = home
        executable(home / "bin" / "gcloud", RECORDER.format(python=sys.executable, home=str(home)))

    def launch(self, *arguments: str, script: pathlib.Path = SCRIPT, **env: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.home / 'bin'}{os.pathsep}{os.environ['PATH']}"
        command = [str(shutil.which("bash")), str(script), *arguments]
        return subprocess.run(command, env={"PATH": path, **env}, cwd=self.home, capture_output=True, text=True)

    @property
    def calls(self) -> list[list[str]]:
        record = self.home / "calls"
        return [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []


@pytest.fixture
def cloud(tmp_path: pathlib.Path) -> Cloud:
    return Cloud(tmp_path)


def test_run_gives_every_host_the_arguments_unchanged(cloud: Cloud) -> None:
    assert cloud.launch("run", *AWKWARD, **TPU).returncode == 0
    (call,) = cloud.calls
    assert call[:5] == ["compute", "tpus", "tpu-vm", "ssh", "pod"]
    assert "--worker=all" in call and "--zone=us-west4-a" in call
    # What sshd does on the host: the command goes to a shell in the home directory.
    command = next(a for a in call if a.startswith("--command=")).removeprefix("--command=")
    dump = f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n"
    executable(cloud.home / "infoprompt_jax" / ".venv" / "bin" / "python", dump)
    host = subprocess.run(["bash", "-c", command], cwd=cloud.home, capture_output=True, text=True, check=True)
    assert json.loads(host.stdout) == ["-m", "infoprompt_jax.main", *AWKWARD]
    assert not list(cloud.home.rglob("caught"))


def test_setup_sends_the_commit_and_installs_the_lock(cloud: Cloud) -> None:
    root = cloud.home / "a checkout"
    (root / "launch").mkdir(parents=True)
    script = shutil.copy(SCRIPT, root / "launch")
    git = ["git", "-c", "user.name=n", "-c", "user.email=e", "-C", str(root)]
    for arguments in (["init", "-q"], ["add", "launch"], ["commit", "-qm", "One"]):
        subprocess.run([*git, *arguments], check=True)
    (root / "uncommitted").touch()
    result = cloud.launch("setup", script=script, **TPU)
    assert result.returncode == 0, result.stderr
    copy, install = cloud.calls
    assert "--worker=all" in copy and "pod:infoprompt_jax.tar.gz" in copy
    with tarfile.open(cloud.home / "sent") as archive:
        assert archive.getnames() == ["launch", "launch/tpu_vm.sh"]
    assert "--worker=all" in install
    assert '-c requirements.lock -r requirements.txt "jax[tpu]"' in " ".join(install)
    assert not any(pathlib.Path(a).exists() for a in copy)  # the archive is gone from this machine


@pytest.mark.parametrize(
    "directory, remote", [("runs/rte", "pod:infoprompt_jax/runs/rte"), ("/mnt/rte", "pod:/mnt/rte")]
)
def test_fetch_copies_from_the_first_host(cloud: Cloud, directory: str, remote: str) -> None:
    assert cloud.launch("fetch", directory, "here", **TPU, TPU_PROJECT="p q").returncode == 0
    (call,) = cloud.calls
    assert call[3:] == ["scp", "--worker=0", "--recurse", remote, "here", "--zone=us-west4-a", "--project=p q"]


def test_create_and_delete_pass_flags_on(cloud: Cloud) -> None:
    assert cloud.launch("create", "--spot", "--labels=a=b c", **TPU).returncode == 0
    assert cloud.launch("delete", "--quiet", **TPU).returncode == 0
    create, delete = cloud.calls
    kind = ["--accelerator-type=v5litepod-16", "--version=v2-alpha-tpuv5-lite"]
    assert create[3:] == ["create", "pod", *kind, "--spot", "--labels=a=b c", "--zone=us-west4-a"]
    assert delete[3:] == ["delete", "pod", "--quiet", "--zone=us-west4-a"]


@pytest.mark.parametrize(
    "arguments, missing, said",
    [
        (["run", "--config=c"], "TPU_NAME", "TPU_NAME is not set"),
        (["delete"], "TPU_ZONE", "TPU_ZONE is not set"),
        (["create"], "TPU_TYPE", "TPU_TYPE is not set"),
        (["start"], "", "'start' is not a command"),
        (["run"], "", "run was given no arguments"),
        (["fetch"], "", "fetch was given no directory"),
    ],
)
def test_refuses_in_one_sentence(cloud: Cloud, arguments: list[str], missing: str, said: str) -> None:
    result = cloud.launch(*arguments, **{k: v for k, v in TPU.items() if k != missing})
    assert result.returncode == 2
    assert result.stderr.startswith(said) and result.stderr.count("\n") == 1
    assert cloud.calls == []


def test_refuses_without_gcloud(cloud: Cloud) -> None:
    (cloud.home / "empty").mkdir()
    result = cloud.launch("delete", **TPU, PATH=str(cloud.home / "empty"))
    assert result.returncode == 2
    assert "gcloud was not found" in result.stderr


def test_help_names_every_variable(cloud: Cloud) -> None:
    result = cloud.launch("--help")
    assert result.returncode == 0
    assert all(variable in result.stdout for variable in TPU)
