"""Prompts on the model hub: written as a repository that this package and PEFT load, with a model card."""

from __future__ import annotations

import dataclasses
import pathlib
import tempfile
from typing import Any

from infoprompt_jax.prompts import hub
from infoprompt_jax.prompts.card import card
from infoprompt_jax.prompts.formats import FILES
from infoprompt_jax.prompts.saved import Prompt, save_prompt

CARD = "README.md"
PATHS = ("backbone", "init", "backbone.name", "backbone.tokenizer")  # metadata and fields that may be a local path


def push_to_hub(prompt: Prompt, name: str, *, private: bool | None = None, license: str | None = None) -> str:
    """Writes a prompt to the model hub, as one commit; `load_prompt(name)` reads it from there.

    The repository holds this project's two files, a README.md that is written from the prompt's metadata and, of a
    static prompt, PEFT's two files. A prompt that stands there is replaced. Of a local path in the metadata, only the
    last part is published.

    Args:
      prompt: to be written.
      name: "user/name", or "name" under the account of the access token. The token is the one of `hf auth login`, or
        the environment variable HF_TOKEN.
      private: whether a new repository is private; None = the account's default.
      license: the hub's name of one, such as "apache-2.0", for the card; None = the card names none.

    Returns:
      The address of the commit.

    Raises:
      UserError: the name is malformed, there is no access token, or the hub refuses the request.
      OfflineError: the hub cannot be reached.
    """
    prompt = dataclasses.replace(prompt, metadata=public(prompt.metadata))
    repository = hub.create(name, private)
    with tempfile.TemporaryDirectory() as directory:
        folder = pathlib.Path(directory, "infoprompt")
        save_prompt(folder, prompt)
        if prompt.kind == "static":
            adapter = pathlib.Path(directory, "peft")
            save_prompt(adapter, prompt, "peft")
            for file in adapter.iterdir():
                file.rename(folder / file.name)
        (folder / CARD).write_text(card(prompt, repository, license), encoding="utf-8")
        message = f"Add a soft prompt of {len(prompt.value_PD)} tokens"
        return hub.upload(repository, folder, [CARD, *FILES["infoprompt"], *FILES["peft"]], message)


def public(metadata: dict[str, Any]) -> dict[str, Any]:
    """The metadata with the last part alone of what is a path on this machine."""
    local = {key: pathlib.Path(str(metadata[key])).expanduser() for key in PATHS if metadata.get(key)}
    changed: dict[str, Any] = {key: path.name for key, path in local.items() if path.is_absolute() or path.exists()}
    if isinstance(metadata.get("fields"), dict):
        changed["fields"] = public(metadata["fields"])
    return metadata | changed
