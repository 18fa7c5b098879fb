"""A config's library, with the retriever that made its keys: opened and checked to fit each other and the backbone."""

from __future__ import annotations

import logging

import ml_collections
from jax.sharding import Mesh

from infoprompt_jax.errors import UserError
from infoprompt_jax.rospr import keys, source_keys
from infoprompt_jax.rospr.library import FIELD, PromptLibrary
from infoprompt_jax.t5.backbone import Backbone

log = logging.getLogger(__name__)


def open_library(config: ml_collections.ConfigDict, mesh: Mesh) -> PromptLibrary:
    """The library `rospr.library`. Raises UserError unless it is whole and fits `rospr`."""
    library = PromptLibrary.load(config.rospr.library, mesh, field=FIELD)
    _check_settings(library, config.rospr)
    if (made_with := library.manifest.backbone.name) != config.backbone.name:  # said before anything is downloaded
        log.info("The library's prompts were made with %s; backbone.name is %s.", made_with, config.backbone.name)
    return library


def load_retriever(config: ml_collections.ConfigDict, library: PromptLibrary, backbone: Backbone) -> Backbone:
    """The retriever `rospr.retriever`, which is the backbone if the config names no other.

    Raises:
      UserError: it cannot be loaded, or the library was made with another retriever or backbone.
    """
    retriever = backbone if source_keys.is_backbone(config) else source_keys.load_retriever(config)
    _check_same(library, backbone, retriever)
    return retriever


def _check_settings(library: PromptLibrary, settings: ml_collections.ConfigDict) -> None:
    if settings.similarity not in ("", library.manifest.similarity):
        raise UserError(
            f"rospr.similarity={settings.similarity!r} is not what the library {str(library.path)!r} was made with, "
            f"{library.manifest.similarity!r}: leave rospr.similarity empty, or choose another {FIELD}."
        )
    if not 1 <= settings.top <= len(library.owners_K):
        raise UserError(
            f"rospr.top={settings.top} is not between 1 and {len(library.owners_K)}, the number of keys of the library "
            f"{str(library.path)!r}: set rospr.top to at most that."
        )


def _check_same(library: PromptLibrary, backbone: Backbone, retriever: Backbone) -> None:
    manifest = library.manifest
    for what, field, made_with, model in (
        ("prompts", "backbone.name", manifest.backbone, keys.model(backbone)),
        ("keys", "rospr.retriever", manifest.retriever, keys.model(retriever)),
    ):
        if made_with != model:
            raise UserError(
                f"The {what} of the library {str(library.path)!r} were made with {made_with}, not with {model}: set "
                f"{field} to the former, or {FIELD} to another library."
            )
