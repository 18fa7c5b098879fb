"""A file system of two megabytes, and a file that fills it up."""

from __future__ import annotations

import pathlib
import subprocess
from collections.abc import Iterator

import pytest

SIZE = 2 * 2**20  # bytes


@pytest.fixture
def disk(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """The file system's directory."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", tmp_path], capture_output=True)
    if mounted.returncode:
        pytest.skip("a file system can only be mounted by root, on Linux")
    yield tmp_path
    subprocess.run(["umount", "-l", tmp_path], check=True)


def fill(directory: pathlib.Path, left: int) -> pathlib.Path:
    """A file that leaves so many bytes of the disk."""
    ballast = directory / "ballast"
    ballast.write_bytes(bytes(SIZE - left - 8192))
    return ballast
