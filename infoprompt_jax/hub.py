"""Where a backbone's files are: a local directory, the hub's cache, or the hub; and whether there is a network."""

from __future__ import annotations

import json
import os
import pathlib
import socket
import urllib.parse

from infoprompt_jax.errors import UserError

EMBEDDED = "nano"  # the backbone that comes with the package, nano/backbone
FILES = ["*.json", "*.safetensors", "spiece.model"]  # never a pickle unless there is nothing else and the user asks


def reachable(url: str, seconds: float = 3.0) -> bool:
    """Whether a TCP connection to the URL's host (or to the proxy set for it) opens within `seconds`."""
    parts = urllib.parse.urlsplit(url)
    proxy = os.environ.get(f"{parts.scheme}_proxy") or os.environ.get(f"{parts.scheme.upper()}_PROXY")
    parts = urllib.parse.urlsplit(proxy) if proxy else parts
    try:
        with socket.create_connection((parts.hostname, parts.port or 443), timeout=seconds):
            return True
    except OSError:
        return False


def find(name: str, revision: str | None = None, allow_pickle: bool = False) -> pathlib.Path:
    """The local directory that holds checkpoint `name` ("nano": the package's own), downloaded if need be.

    Raises:
      UserError: neither a directory nor a hub id, not in the cache while offline, or unknown to the hub; or the package
        was installed without its backbone.
    """
    if name == EMBEDDED:
        return _embedded()
    path = pathlib.Path(name).expanduser()
    if path.is_dir():
        return path
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise UserError(
            f"backbone.name={name!r} is neither a directory here nor a hub id such as google/t5-base-lm-adapt."
        )
    return _download(name, revision or None, [*FILES, "pytorch_model*.bin"] if allow_pickle else FILES)


def _embedded() -> pathlib.Path:
    path = pathlib.Path(__file__).with_name("nano") / "backbone"
    if not (path / "config.json").is_file():
        raise UserError(
            f"backbone.name='{EMBEDDED}' names the backbone that comes with the package, but {path} does not hold it: "
            "install the package whole, or make it with configs/nano_pretrain.py."
        )
    return path


def _download(name: str, revision: str | None, patterns: list[str]) -> pathlib.Path:
    import huggingface_hub
    from huggingface_hub import constants

    def snapshot(local: bool) -> pathlib.Path:
        found = huggingface_hub.snapshot_download(
            name, revision=revision, allow_patterns=patterns, local_files_only=local
        )
        return pathlib.Path(found)

    try:
        cached = snapshot(local=True)
        if _is_whole(cached, patterns):
            return cached
    except (OSError, ValueError):  # not in the cache
        pass
    if constants.HF_HUB_OFFLINE or not reachable(constants.ENDPOINT):
        raise UserError(
            f"backbone.name={name!r} is neither a directory here nor in the hub's local cache, and the hub cannot be "
            "reached: set backbone.name to a local directory, or download it where there is a network."
        )
    try:
        found = snapshot(local=False)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"backbone.name={name!r} could not be downloaded from the hub: {reason}") from error
    if not _is_whole(found, patterns):
        raise UserError(
            f"backbone.name={name!r} has no safetensors on the hub: choose a checkpoint that has, or set "
            "backbone.allow_pickle=True to read its pytorch_model.bin."
        )
    return found


def _is_whole(directory: pathlib.Path, patterns: list[str]) -> bool:
    """Whether weights that may be read are there, with every shard: a download may have been broken off."""
    weights = [
        file for pattern in patterns if pattern.endswith(("safetensors", "bin")) for file in directory.glob(pattern)
    ]
    shards = (
        json.loads(index.read_text())["weight_map"].values() for index in directory.glob("*.safetensors.index.json")
    )
    return bool(weights) and all((directory / shard).is_file() for names in shards for shard in names)
