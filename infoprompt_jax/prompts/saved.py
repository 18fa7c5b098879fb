"""Saved soft prompts: read from any of four formats (`formats`), checked against a backbone, written whole."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from infoprompt_jax import files, foreign
from infoprompt_jax.errors import UserError
from infoprompt_jax.fields import shortened
from infoprompt_jax.prompts import formats, hub, prompts
from infoprompt_jax.t5.backbone import Backbone

GENERATOR = "generator/"  # the prefix of an instance prompt's tensors
ANSWERING = {"verbalizer/": "verbalizer", "posterior/": "variational bottleneck"}  # of tensors that score answers


@dataclasses.dataclass(eq=False)
class Prompt:
    """A soft prompt: `value_PD`, float32 [P, D], and by name the `tensors` that were trained with it.

    An instance-conditioned prompt has the tensors generator/down and generator/up, whose output is added to the value.
    """

    value_PD: np.ndarray
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)
    tensors: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def width(self) -> int:
        """D of the backbone that the prompt is for."""
        return self.value_PD.shape[-1]

    @property
    def kind(self) -> str:
        """ "instance" or "static"."""
        return "instance" if self._part(GENERATOR) else "static"

    def rows(self, backbone: Backbone, tokens_BL: jax.Array) -> jax.Array:
        """What the encoder reads before these rows: [P, D], or [B, P, D] of an instance-conditioned prompt.

        Raises:
          UserError: the prompt is for another backbone, answers with more than the backbone's head, or is damaged.
        """
        self._check_parts()
        check_prompt(self, backbone.config.d_model, backbone.fingerprint, "prompts")
        for part, what in ANSWERING.items():
            if self._part(part):
                raise UserError(
                    f"prompts: the prompt was trained with a {what}, without which it answers wrongly: predict with "
                    "ip.predict(backbone, texts, prompt=prompt), or give its matrix alone, prompt.value_PD."
                )
        if self.kind == "static":
            return jnp.asarray(self.value_PD)
        representation = self.metadata.get("representation", prompts.REPRESENTATIONS[0])
        parts = jnp.asarray(self.value_PD), self._part(GENERATOR)
        return _instance_rows(backbone.graph, representation, backbone.frozen, *parts, tokens_BL)

    def _check_parts(self) -> None:
        """Raises UserError unless the value is [P, D] and a generator fits it: down [D, E] and up [E, P, D]."""
        shapes = {
            name: list(array.shape) for name, array in {"value_PD": self.value_PD, **self._part(GENERATOR)}.items()
        }
        named = self.metadata.get("representation", prompts.REPRESENTATIONS[0])
        if self.kind == "instance":
            *size, width = shapes["value_PD"]
            inner = shapes.get("down", [0])[-1:]
            fits = shapes == {"value_PD": [*size, width], "down": [width, *inner], "up": [*inner, *size, width]}
            if not fits or named not in prompts.REPRESENTATIONS:
                raise UserError(
                    f"prompts: the prompt's parts have the shapes {shapes} and the representation {named!r}, which do "
                    "not fit together: load it from where it was saved."
                )
        if self.value_PD.ndim != 2:
            raise UserError(f"prompts: the prompt is of shape {shapes['value_PD']}, but a matrix [P, D] was expected.")

    def _part(self, prefix: str) -> dict[str, np.ndarray]:
        return {n.removeprefix(prefix): array for n, array in self.tensors.items() if n.startswith(prefix)}


@functools.partial(jax.jit, static_argnums=(0, 1))
def _instance_rows(
    graph: nnx.GraphDef,
    representation: str,
    frozen: nnx.State,
    value_PD: jax.Array,
    generator: dict[str, jax.Array],
    tokens_BL: jax.Array,
) -> jax.Array:
    features_BD = prompts.unprompted(nnx.merge(graph, frozen), tokens_BL, representation)
    return prompts.prompt_rows(value_PD, generator, features_BD)


def load_prompt(path: str | pathlib.Path, field: str = "path") -> Prompt:
    """Reads a saved prompt of any supported format.

    Args:
      path: a directory that `save_prompt` wrote; a PEFT adapter's directory; a NumPy file [P, D]; a T5X checkpoint with
        one prompt parameter, or the zarr directory of that parameter. What is none of these and looks like user/name is
        the hub id of the first or the second, and is downloaded.
      field: what errors call the path: the command gives its config field.

    Raises:
      UserError: the path does not exist, is not a prompt, is damaged, or holds NaN or infinity; or a download fails.
      OfflineError: the prompt has to be downloaded and the hub cannot be reached.
    """
    _check_path(path, field)
    name, path = str(path), files.local(path)
    if not os.path.exists(path) and hub.is_identifier(name):
        path = hub.download(name, formats.FILES["infoprompt"] | formats.FILES["peft"])
    with foreign.reading(f"{field}: {shortened(str(path))}", formats.AGAIN):
        value, metadata, tensors = formats.reader(path, field)(path, field)
        prompt = Prompt(formats.matrix(value, path, field), metadata, dict(tensors))
        for name, array in prompt.tensors.items():
            formats.check_finite(name, array, path, field)
        return prompt


def listed(path: str | pathlib.Path) -> list[pathlib.Path]:
    """The saved prompts at a path: itself, or the sub-directories that are prompts, by name; [] where there is none."""
    path = files.path(path)
    copy = files.local(path, lambda name: name.endswith((".json", "checkpoint", ".zarray")))  # enough to tell
    with foreign.reading(f"prompt.init={shortened(str(path))}", "correct the path"):
        if os.path.exists(copy) and formats.find_reader(copy, "path"):
            return [path]
        # A process that is killed while it replaces a prompt leaves the old one under a name that starts with a dot.
        places = [place for place in sorted(copy.glob("*")) if place.is_dir() and not place.name.startswith(".")]
        return [path / place.name for place in places if formats.find_reader(place, "path")]


def save_prompt(path: str | pathlib.Path, prompt: Prompt, format: str = "infoprompt") -> None:
    """Writes a prompt, whole or not at all; an older prompt of the same format is replaced.

    Args:
      path: of the directory ("infoprompt", "peft") or file ("npy").
      prompt: "peft" and "npy" keep its value and drop `tensors`; "npy" drops the metadata too.
      format: "infoprompt", "peft" or "npy".

    Raises:
      UserError: the format cannot hold this prompt, its value is no matrix of numbers, its metadata are not JSON, or
        the path has something else.
    """
    _check_path(path, "path")
    if not isinstance(prompt, Prompt):
        raise UserError(f"prompt is of type {type(prompt).__name__}: give an ip.Prompt, such as ip.Prompt(value_PD).")
    value_PD = np.asarray(prompt.value_PD)
    if value_PD.ndim != 2 or not jnp.issubdtype(value_PD.dtype, jnp.number):
        raise UserError(
            f"The prompt's value is {value_PD.dtype} of shape {list(value_PD.shape)}: a matrix [P, D] of numbers was "
            "expected."
        )
    path = files.path(path)
    if format not in (*formats.FILES, "npy"):
        raise UserError(f"format={format!r} is not one of infoprompt, peft, npy.")
    if prompt.kind == "instance" and format != "infoprompt":
        raise UserError(
            f"An instance-conditioned prompt cannot be saved as {format}, which holds one matrix: "
            "choose format='infoprompt'."
        )
    with foreign.reading(f"The path {shortened(str(path))}", "choose another path"):
        if "\0" in str(path):
            raise ValueError("it has a NUL")
        if not _is_replaceable(path, format):
            raise UserError(f"{str(path)!r} exists and is not a prompt saved as {format}: choose another path.")
    with files.whole(path) as partial:
        metadata = {"kind": prompt.kind, **prompt.metadata}
        try:
            formats.WRITERS[format](partial, formats.Stored(value_PD, metadata, prompt.tensors))
        except TypeError as error:
            raise UserError(f"The prompt's metadata cannot be written as JSON: {error}.") from error


def _check_path(path: Any, name: str) -> None:
    if not isinstance(path, str | os.PathLike):
        raise UserError(f"{name} is of type {type(path).__name__}: a path was expected.")


def check_prompt(prompt: Prompt, width: int, fingerprint: str, field: str) -> None:
    """Checks that a prompt was trained on the backbone of this width and fingerprint.

    Raises:
      UserError: it was trained on another backbone; the message names `field`, the prompt's field or argument.
    """
    if prompt.width != width:
        named = prompt.metadata.get("backbone")
        remedy = (
            f"use the backbone that it was trained on, {named}" if named else "use the backbone that it was trained on"
        )
        raise UserError(f"{field}: the prompt has width {prompt.width}, but the backbone's is {width}: {remedy}.")
    trained_on = prompt.metadata.get("fingerprint")
    if trained_on not in (None, fingerprint):
        name = prompt.metadata.get("backbone", "another backbone")
        raise UserError(
            f"{field}: the prompt was trained on {name} with fingerprint {trained_on}, but this backbone's is "
            f"{fingerprint}: use the former with it, with the same backbone.takes_eos."
        )


def digest(array: np.ndarray) -> str:
    """A fingerprint of a tensor's shape and values, 16 hexadecimal digits."""
    content = np.ascontiguousarray(array, np.float32)
    return hashlib.sha256(f"{content.shape} ".encode() + content.tobytes()).hexdigest()[:16]


def _is_replaceable(path: pathlib.Path, format: str) -> bool:
    if format == "npy":
        return not path.exists() or formats.is_numpy(path)
    return not path.exists() or (path.is_dir() and {file.name for file in path.iterdir()} <= formats.FILES[format])
