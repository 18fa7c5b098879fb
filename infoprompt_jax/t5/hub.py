"""Finds a backbone's files: in a local directory, in the hub's cache, or on the hub.

A repository's weights are downloaded in one format, the first that it has: safetensors, `pytorch_model.bin`, the
safetensors of the hub's conversion bot in an open pull request, `flax_model.msgpack`. A cache that has all files of any
of these is used without a request to the hub.
"""

from __future__ import annotations

import fnmatch
import glob
import logging
import os
import pathlib
from typing import TYPE_CHECKING

from infoprompt_jax import bucket, files, foreign
from infoprompt_jax.errors import OfflineError, UserError
from infoprompt_jax.fields import shortened
from infoprompt_jax.network import reachable
from infoprompt_jax.t5 import t5x, weight_files
from infoprompt_jax.t5.tokenizer import FILES, has_vocabulary

if TYPE_CHECKING:
    from huggingface_hub import HfApi

log = logging.getLogger(__name__)

EMBEDDED = ("nano", "mini")  # the backbones that come with the package, in NAME/backbone
BESIDE = ("*.json", "spiece.model")  # downloaded with the weights
# Title and author of the pull requests in which the hub offers a repository's pickles as safetensors.
CONVERSION = ("Adding `safetensors` variant of this model", "SFconvertbot")
NO_NAME = "is neither a directory here nor a hub id such as google/t5-base-lm-adapt."
CONVERTED = "infoprompt_jax_conversion"  # in the cache, the reference to the conversion that was read for main


def find(name: str, revision: str | None = None) -> pathlib.Path:
    """The local directory of checkpoint `name`, which is downloaded if necessary.

    Args:
      name: "nano", "mini", a directory, here or in a bucket, or a hub id.
      revision: of a hub id; None = the default branch.

    Raises:
      OfflineError: the checkpoint is not in the cache and the hub cannot be reached.
      UserError: `name` is neither a directory nor a hub id; the hub does not know it, or has no weights of it that can
        be read; or the package was installed without its backbone.
    """
    if name in EMBEDDED:
        return _embedded(name)
    if bucket.is_in(name):
        return _from_bucket(name)
    path = pathlib.Path(name).expanduser()
    if os.path.isdir(path):
        return path
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise UserError(f"backbone.name={shortened(name)} {NO_NAME}")
    return _from_hub(name, revision or None)


def _embedded(name: str) -> pathlib.Path:
    path = pathlib.Path(__file__).parents[1] / name / "backbone"
    if not (path / "config.json").is_file():
        raise UserError(
            f"backbone.name={name!r} names a backbone that comes with the package, but {path} does not hold it: "
            f"install the package whole, or make it with configs/{name}_pretrain.py."
        )
    return path


def _from_bucket(name: str) -> pathlib.Path:
    """The copy of a directory in a bucket: its configuration, vocabulary and one format of weights; of T5X, one step.

    What a T5X checkpoint holds for an optimizer is left out.
    """
    directory = files.path(name)
    if step := t5x.find(directory):
        inside = "" if step == directory else f"{step.name}/"
        return files.local(name, lambda file: file.startswith(inside) and not file.startswith(f"{inside}state."))
    there = files.names(name)
    formats = [_files_of(directory, format, there) for format in weight_files.FORMATS]
    whole = next((weights for weights in formats if weights and weights <= {*there}), set())
    weights = whole or next(filter(None, formats), set())  # of an incomplete format, the loader says what is missing
    beside = {file for file in there if "/" not in file and any(fnmatch.fnmatch(file, one) for one in BESIDE)}
    return files.local(name, (weights | beside).__contains__)


def find_vocabulary(name: str) -> pathlib.Path:
    """The local path of a vocabulary, a file or a directory; with a file in a bucket, those beside it are copied."""
    path = files.path(name)
    if not bucket.is_in(name) or path.is_dir():
        return files.local(name, (*FILES,).__contains__)
    return files.local(path.parent, (path.name, *FILES).__contains__) / path.name


def _files_of(directory: pathlib.Path, format: str, there: list[str]) -> set[str]:
    """The weight files of a format in a bucket, of which some may be missing; none where it lacks the format."""
    if format in there:
        return {format}
    index = weight_files.index(format)
    if index not in there:
        return set()
    try:
        with foreign.reading(index):
            return {*weight_files.weight_map(foreign.parsed((directory / index).read_text())).values()}
    except UserError:
        return {index}


def _from_hub(name: str, revision: str | None) -> pathlib.Path:
    """The repository's directory in the hub's cache, with weights and, if the hub can be reached, a vocabulary."""
    from huggingface_hub import constants
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UserError(f"backbone.name={shortened(name)} {NO_NAME}") from error
    cached = _cached(name, revision)
    if cached and has_vocabulary(cached):
        return cached
    if constants.HF_HUB_OFFLINE or not reachable(constants.ENDPOINT):
        if cached:  # the vocabulary may be another directory's: backbone.tokenizer
            return cached
        which = f" (backbone.revision={revision!r})" if revision else ""
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the hub cannot be reached"
        raise OfflineError(
            f"backbone.name={name!r}{which} is neither a directory here nor whole in the hub's local cache "
            f"({constants.HF_HUB_CACHE}), and {why}: set backbone.name to a local directory, or start once where there "
            "is a network."
        )
    return _downloaded(name, revision)


def _cached(name: str, revision: str | None) -> pathlib.Path | None:
    """The revision's directory in the cache, if it is whole; without a revision, also that of main's conversion.

    Another pull request in the cache, which was requested by its number, never stands for main.
    """
    return _whole(name, revision) or (None if revision else _whole(name, CONVERTED))


def _whole(name: str, revision: str | None) -> pathlib.Path | None:
    """The revision's directory in the cache, if it has a config.json and all files of one format of weights."""
    import huggingface_hub

    try:  # only one file is requested: the client refuses a directory that lacks any requested file
        snapshot = huggingface_hub.snapshot_download(
            name, revision=revision, allow_patterns=["config.json"], local_files_only=True
        )
    except (OSError, ValueError):  # not in the cache
        return None
    directory = pathlib.Path(snapshot)
    whole = any(weight_files.is_whole(directory, format) for format in weight_files.FORMATS)
    return directory if whole and (directory / "config.json").is_file() else None


def _downloaded(name: str, revision: str | None) -> pathlib.Path:
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.utils import httpx

    api = huggingface_hub.HfApi(endpoint=constants.ENDPOINT)
    try:
        chosen, weights = _weights(api, name, revision)
        path = pathlib.Path(api.snapshot_download(name, revision=chosen, allow_patterns=[*BESIDE, *weights]))
        if chosen != revision:
            with files.whole(path.parents[1] / "refs" / CONVERTED) as partial:
                partial.write_text(path.name, encoding="utf-8")
        return path
    except (OSError, ValueError, LookupError, TypeError, AttributeError, httpx.HTTPError) as error:
        raise UserError(_sentence(name, revision, error, constants.ENDPOINT)) from error


def _sentence(name: str, revision: str | None, error: Exception, hub: str) -> str:
    """What the hub refused, and what to do about it."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    token = "`hf auth login`, or HF_TOKEN in the environment"
    if isinstance(error, GatedRepoError):
        where = f"ask for access at {hub}/{name}"
        return f"backbone.name={name!r} is gated: {where}, and give that account's token by {token}."
    if isinstance(error, RepositoryNotFoundError):
        return f"backbone.name={name!r} is unknown to {hub}, or private: check the name, or give a token by {token}."
    if isinstance(error, RevisionNotFoundError):
        where = f"{hub}/{name}/commits"
        return f"backbone.revision={revision!r} is no branch, tag or commit of {name!r}: choose one of {where}."
    if isinstance(error, HfHubHTTPError) and error.response.status_code == 401:
        return f"backbone.name={name!r}: {hub} refuses the access token that it was sent: give a valid one by {token}."
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
    why = f"could not be downloaded from {hub} ({reason})"
    return f"backbone.name={name!r} {why}: start again, which keeps the files that are complete."


def _weights(api: HfApi, name: str, revision: str | None) -> tuple[str | None, list[str]]:
    """The revision to download, and the names of its weight files."""
    listed = api.list_repo_files(name, revision=revision)
    format = next((format for format in weight_files.FORMATS if weight_files.is_listed(format, listed)), None)
    if format in (None, weight_files.MSGPACK) and revision is None and (pull := _conversion(api, name)):
        log.info(
            "%s has neither safetensors nor %s: the hub's conversion is read, %s.", name, weight_files.PICKLE, pull
        )
        revision, format, listed = pull, weight_files.SAFETENSORS, api.list_repo_files(name, revision=pull)
    if format is None:
        raise UserError(
            f"backbone.name={name!r} has no weights on the hub that can be read: {', '.join(weight_files.FORMATS)} or "
            "the index of one was expected; choose another checkpoint or backbone.revision."
        )
    return revision, [format] if format in listed else _shards(api, name, revision, weight_files.index(format))


def _shards(api: HfApi, name: str, revision: str | None, index: str) -> list[str]:
    """The files that an index names."""
    file = pathlib.Path(api.hf_hub_download(name, index, revision=revision))
    with foreign.calling(f"backbone.name={name!r}: {index} on the hub cannot be used", "choose another checkpoint"):
        shards = sorted({*weight_files.weight_map(foreign.table(file)).values()})
    return [glob.escape(shard) for shard in shards]  # the client takes patterns


def _conversion(api: HfApi, name: str) -> str | None:
    """The open pull request in which the hub's bot converted the current main to safetensors; None if there is none."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        head = api.list_repo_commits(name)[0].commit_id
        pulls = api.get_repo_discussions(name, discussion_type="pull_request", discussion_status="open")
        for pull in pulls:
            if (pull.title, pull.author) == CONVERSION and pull.git_reference:
                commits = [commit.commit_id for commit in api.list_repo_commits(name, revision=pull.git_reference)]
                if commits[1:2] == [head]:
                    return pull.git_reference
    except HfHubHTTPError as error:  # disabled for the repository, or unknown to a mirror
        log.info("%s lists no pull requests (%s).", name, str(error).strip().splitlines()[0])
    return None
