"""A repository of the model hub that holds a prompt: downloaded into the hub's cache, or written as one commit.

Where the hub cannot be reached, the cache is read. Only the files that are named are downloaded or replaced. The access
token is the one that the hub's client has: from `hf auth login`, or in the environment variable HF_TOKEN.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from infoprompt_jax.errors import OfflineError, UserError
from infoprompt_jax.network import reachable

if TYPE_CHECKING:
    from huggingface_hub import HfApi

IDENTIFIER = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
NAME = re.compile(r"(\w[\w.-]*/)?\w[\w.-]*", re.ASCII)


def is_identifier(name: str) -> bool:
    """Whether the name could be a hub id, such as user/prompt."""
    return IDENTIFIER.fullmatch(name) is not None


def download(name: str, files: Iterable[str]) -> pathlib.Path:
    """The repository's directory in the hub's cache, with those of the files that it has.

    Raises:
      OfflineError: it is not in the cache and the hub cannot be reached.
      UserError: the hub does not know the name, refuses the download, or has none of the files there.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import LocalEntryNotFoundError
    from huggingface_hub.utils import httpx

    wanted, offline = sorted(files), _is_offline()
    try:
        path = _api().snapshot_download(name, allow_patterns=wanted, local_files_only=offline)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, httpx.HTTPError) as error:
        if offline and isinstance(error, LocalEntryNotFoundError):
            raise OfflineError(
                f"{name!r} is neither a path here nor in the hub's local cache ({constants.HF_HUB_CACHE}), and the hub "
                "cannot be reached: give a local path, or load it once where there is a network."
            ) from error
        reason = _reason(error.__cause__ if isinstance(error, LocalEntryNotFoundError) else error)
        raise UserError(
            f"{name!r} is neither a path here nor could it be downloaded from the hub ({reason}): check the name and, "
            "for a private repository, your access token."
        ) from error
    directory = pathlib.Path(path)
    if not any((directory / file).exists() for file in wanted):
        raise UserError(f"{name!r} on the hub holds no prompt: one of {', '.join(wanted)} was expected.")
    return directory


def create(name: str, private: bool | None) -> str:
    """Makes the repository if it does not exist, and returns its id, user/name.

    Args:
      name: "name", under the token's account, or "user/name".
      private: whether a new repository can be read by its owner only; None = the account's default.

    Raises:
      OfflineError: the hub cannot be reached.
      UserError: there is no access token, the name is malformed, or the hub refuses the request.
    """
    import huggingface_hub
    from huggingface_hub.utils import httpx

    if not NAME.fullmatch(name):
        raise UserError(f"{name!r} is not a name on the hub: 'name' or 'user/name' was expected.")
    if _is_offline():
        raise OfflineError(
            f"{name!r} cannot be written to the hub, which cannot be reached: try it again with a network."
        )
    if huggingface_hub.get_token() is None:
        raise UserError(
            f"{name!r} cannot be written to the hub without an access token: log in with `hf auth login`, or set "
            "HF_TOKEN."
        )
    try:
        return _api().create_repo(name, private=private, exist_ok=True).repo_id
    except (OSError, ValueError, KeyError, httpx.HTTPError) as error:
        raise _refused(name, error) from error


def upload(name: str, folder: pathlib.Path, replaced: Iterable[str], message: str) -> str:
    """Commits a folder's files to a repository, and returns the commit's address.

    Args:
      name: user/name.
      folder: whose files are written.
      replaced: files that are deleted in the same commit where the folder does not have them.
      message: of the commit.

    Raises:
      UserError: the hub refuses the request or cannot be reached any more.
    """
    from huggingface_hub.utils import httpx

    try:
        commit = _api().upload_folder(
            repo_id=name, folder_path=folder, delete_patterns=sorted(replaced), commit_message=message
        )
    except (OSError, ValueError, KeyError, RuntimeError, httpx.HTTPError) as error:
        raise _refused(name, error) from error
    return str(commit.commit_url)


def _api() -> HfApi:
    import huggingface_hub
    from huggingface_hub import constants

    return huggingface_hub.HfApi(endpoint=constants.ENDPOINT)


def _is_offline() -> bool:
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE or not reachable(constants.ENDPOINT)


def _refused(name: str, error: Exception) -> UserError:
    return UserError(
        f"{name!r} could not be written to the hub ({_reason(error)}): check the name, and that your access token may "
        "write there."
    )


def _reason(error: BaseException | None) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
