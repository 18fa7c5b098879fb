"""Saved soft prompts in four formats: this project's directory, PEFT adapters, NumPy files and T5X checkpoints.

This project's directory has two files. `prompt.safetensors` holds `prompt/value` [P, D] and the tensors trained with
it: the generator of an instance prompt, the verbalizer, the posterior. `prompt.json` holds the metadata: backbone,
fingerprint, kind, init, tasks, step, metrics. The format is recognised by content, never by file name. A directory may
hold a prompt as this project's files and as PEFT's: the former are read, and the latter must hold the same values.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import logging
import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from infoprompt_jax import checksums, files, foreign
from infoprompt_jax.errors import UserError
from infoprompt_jax.fields import shortened
from infoprompt_jax.prompts import hub, prompts
from infoprompt_jax.t5 import t5x
from infoprompt_jax.t5.backbone import Backbone
from infoprompt_jax.t5.torch_pickle import TorchPickle

log = logging.getLogger(__name__)

AGAIN = "save or copy the prompt again"  # the remedy
TENSORS = "sha256"  # in prompt.json, the SHA-256 sum of prompt.safetensors
VALUE, GENERATOR = "prompt/value", "generator/"  # a name, and the prefix of an instance prompt's tensors
ANSWERING = {"verbalizer/": "verbalizer", "posterior/": "variational bottleneck"}  # of tensors that score answers
PEFT_TYPES = ("PROMPT_TUNING", "P_TUNING", "MULTITASK_PROMPT_TUNING")  # whose prompt is a matrix
FORMATS = "a directory with prompt.safetensors, a PEFT adapter, a NumPy file or a T5X checkpoint"
KNOWN = ", ".join(PEFT_TYPES)
NUMPY_MAGIC = b"\x93NUMPY"
FILES = {
    "infoprompt": {"prompt.json", "prompt.safetensors"},
    "peft": {"adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"},  # .bin before PEFT 0.5
}


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
    name, path = str(path), files.local(path)
    if not os.path.exists(path) and hub.is_identifier(name):
        path = hub.download(name, FILES["infoprompt"] | FILES["peft"])
    with foreign.reading(f"{field}: {shortened(str(path))}", AGAIN):
        prompt = _reader(path, field)(path, field)
        prompt.value_PD = _matrix(prompt.value_PD, path, field)
        for name, array in prompt.tensors.items():
            _check_finite(name, array, path, field)
        return prompt


def listed(path: str | pathlib.Path) -> list[pathlib.Path]:
    """The saved prompts at a path: itself, or the sub-directories that are prompts, by name; [] where there is none."""
    path = files.path(path)
    copy = files.local(path, lambda name: name.endswith((".json", "checkpoint", ".zarray")))  # enough to tell
    with foreign.reading(f"prompt.init={shortened(str(path))}", "correct the path"):
        if os.path.exists(copy) and _find_reader(copy, "path"):
            return [path]
        # A process that is killed while it replaces a prompt leaves the old one under a name that starts with a dot.
        places = [place for place in sorted(copy.glob("*")) if place.is_dir() and not place.name.startswith(".")]
        return [path / place.name for place in places if _find_reader(place, "path")]


def save_prompt(path: str | pathlib.Path, prompt: Prompt, format: str = "infoprompt") -> None:
    """Writes a prompt, whole or not at all; an older prompt of the same format is replaced.

    Args:
      path: of the directory ("infoprompt", "peft") or file ("npy").
      prompt: "peft" and "npy" keep its value and drop `tensors`; "npy" drops the metadata too.
      format: "infoprompt", "peft" or "npy".

    Raises:
      UserError: the format cannot hold this prompt, or the path has something else.
    """
    path = files.path(path)
    if format not in (*FILES, "npy"):
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
        WRITERS[format](partial, prompt)


def check_prompt(prompt: Prompt, width: int, fingerprint: str, field: str) -> None:
    """Checks that a prompt was trained on the backbone of this width and fingerprint.

    Raises:
      UserError: it was trained on another backbone; the message names `field`, the prompt's field or argument.
    """
    if prompt.width != width:
        raise UserError(f"{field}: the prompt has width {prompt.width}, but the backbone's is {width}.")
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
        return not path.exists() or _is_numpy(path)
    return not path.exists() or (path.is_dir() and {file.name for file in path.iterdir()} <= FILES[format])


def _is_numpy(path: pathlib.Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(NUMPY_MAGIC)) == NUMPY_MAGIC


def _write_infoprompt(path: pathlib.Path, prompt: Prompt) -> None:
    from safetensors.numpy import save_file

    path.mkdir()
    tensors = {**prompt.tensors, VALUE: np.asarray(prompt.value_PD, np.float32)}
    save_file({name: np.ascontiguousarray(t) for name, t in tensors.items()}, path / "prompt.safetensors")
    metadata = {"kind": prompt.kind, **prompt.metadata, TENSORS: checksums.of_file(path / "prompt.safetensors")}
    checksums.write_json(path / "prompt.json", metadata)


def _write_peft(path: pathlib.Path, prompt: Prompt) -> None:
    """One matrix [P, D], for the encoder; PEFT's default for such models, [2P, D], has P unused rows."""
    from safetensors.numpy import save_file

    value = np.ascontiguousarray(prompt.value_PD, np.float32)
    length, width = value.shape
    config = {
        "peft_type": "PROMPT_TUNING",
        "task_type": "SEQ_2_SEQ_LM",
        "base_model_name_or_path": prompt.metadata.get("backbone"),
        "num_virtual_tokens": length,
        "token_dim": width,
        "num_transformer_submodules": 1,
        "prompt_tuning_init": "RANDOM",
        "inference_mode": True,
    }
    path.mkdir()
    save_file({"prompt_embeddings": value}, path / "adapter_model.safetensors", metadata={"format": "pt"})
    (path / "adapter_config.json").write_text(json.dumps(config, indent=2))


def _write_npy(path: pathlib.Path, prompt: Prompt) -> None:
    with path.open("wb") as stream:
        np.save(stream, np.asarray(prompt.value_PD, np.float32), allow_pickle=False)


WRITERS = {"infoprompt": _write_infoprompt, "peft": _write_peft, "npy": _write_npy}


def _refusal(path: pathlib.Path, field: str, why: str) -> UserError:
    return UserError(f"{field}: {shortened(str(path))} {why}.")


def _reader(path: pathlib.Path, field: str) -> Callable[[pathlib.Path, str], Prompt]:
    there = os.path.exists(path)
    if there and (reader := _find_reader(path, field)) is not None:
        return reader
    raise _refusal(path, field, f"is not a saved prompt: {FORMATS} was expected" if there else "does not exist")


def _find_reader(path: pathlib.Path, field: str) -> Callable[[pathlib.Path, str], Prompt] | None:
    """What reads the format that is at the path; None where it is none of them."""
    if _is_numpy(path):
        return _read_numpy
    if any((path / name).exists() for name in FILES["infoprompt"]):
        return _read_infoprompt
    if (path / "adapter_config.json").exists():
        return _read_peft
    if (path / ".zarray").exists():
        return _read_zarr
    return _read_t5x if t5x.find(path, field) else None


def _matrix(value: np.ndarray, path: pathlib.Path, field: str) -> np.ndarray:
    """The value as float32 [P, D]."""
    if value.ndim != 2 or not value.size or not jnp.issubdtype(value.dtype, jnp.floating):
        content = f"{value.dtype} of shape {list(value.shape)}"
        raise _refusal(path, field, f"holds {content}, but a matrix [P, D] of floats was expected, neither of them 0")
    with np.errstate(over="ignore"):  # values beyond float32 become infinite, which is refused next
        value = value.astype(np.float32)
    _check_finite("the prompt", value, path, field)
    return value


def _check_finite(name: str, array: np.ndarray, path: pathlib.Path, field: str) -> None:
    if not np.isfinite(array).all():
        raise _refusal(path, field, f"holds NaN or infinity in {name}")


def _json(path: pathlib.Path, name: str, field: str) -> dict[str, Any]:
    with _reading(path, name, field):
        return foreign.table(path / name)


def _reading(path: pathlib.Path, name: str, field: str) -> contextlib.AbstractContextManager[None]:
    return foreign.calling(f"{field}: {str(path)!r} lacks a readable {name}", AGAIN)


def _tensors(path: pathlib.Path, name: str, field: str) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    with _reading(path, name, field):
        if not name.endswith(".bin"):
            return load_file(foreign.regular(path / name))
        file = TorchPickle(path / name)
        return {tensor: file.read(tensor) for tensor in file.names}


def _read_infoprompt(path: pathlib.Path, field: str) -> Prompt:
    tensors = _tensors(path, "prompt.safetensors", field)
    place = f"{field}: the prompt.json of {str(path)!r}"
    changed = f'save the prompt again, or remove the line "{checksums.KEY}" if you have changed the file'
    metadata = checksums.opened(_json(path, "prompt.json", field), place, changed)
    digest = metadata.pop(TENSORS, None)
    if digest not in (None, checksums.of_file(path / "prompt.safetensors")):
        raise _refusal(path, field, "holds a prompt.safetensors that is not what was written: its checksum differs")
    if VALUE not in tensors:
        raise _refusal(path, field, f"holds no {VALUE} in prompt.safetensors")
    value = tensors.pop(VALUE)
    if (path / "adapter_config.json").exists() and not np.array_equal(_read_peft(path, field).value_PD, value):
        raise _refusal(path, field, "holds two prompts that differ: in prompt.safetensors and in the PEFT adapter")
    return Prompt(value, metadata, tensors)


def _read_peft(path: pathlib.Path, field: str) -> Prompt:
    config = _json(path, "adapter_config.json", field)
    if (kind := config.get("peft_type")) not in PEFT_TYPES:
        why = ", which trains keys and values of every layer and not a prompt" if kind == "PREFIX_TUNING" else ""
        raise _refusal(path, field, f"is a PEFT adapter of type {shortened(kind)}{why}: {KNOWN} was expected")
    pickled = (path / "adapter_model.bin").exists() and not (path / "adapter_model.safetensors").exists()
    tensors = _tensors(path, "adapter_model.bin" if pickled else "adapter_model.safetensors", field)
    value = tensors.get("prompt_embeddings")
    if value is not None:
        value = _matrix(value, path, field)
    length, width = config.get("num_virtual_tokens"), config.get("token_dim")
    if value is not None and width not in (None, value.shape[1]):
        raise _refusal(
            path, field, f"holds prompt_embeddings of width {value.shape[1]} for token_dim={shortened(width)}"
        )
    if value is None or not isinstance(length, int) or len(value) not in (length, 2 * length):
        content = "no prompt_embeddings" if value is None else f"{len(value)} rows of prompt_embeddings"
        raise _refusal(path, field, f"holds {content} for num_virtual_tokens={shortened(length)}")
    if kind == "MULTITASK_PROMPT_TUNING":
        if len(value) != length:
            raise _refusal(path, field, "holds a multitask prompt with a part for the decoder, which is no soft prompt")
        value = value * _task_factor(tensors, value.shape, path, field)
    metadata = {"kind": "static", "format": "peft", "backbone": config.get("base_model_name_or_path")}
    if len(value) == 2 * length:
        note = f"rows {length} to {2 * length - 1} of prompt_embeddings were dropped: PEFT never uses the second half"
        log.warning("%s: %s", path, note)
        metadata["note"] = note
    return Prompt(value[:length], metadata)


def _task_factor(tensors: dict[str, np.ndarray], shape: tuple[int, ...], path: pathlib.Path, field: str) -> np.ndarray:
    """What multitask prompt tuning (Wang et al. 2023) multiplies the shared prompt with for its task, [P, D]."""
    rows, columns = (tensors.get(f"prefix_task_{part}") for part in ("rows", "cols"))  # [tasks, R, D], [tasks, P, R]
    if rows is None or columns is None or rows.ndim != 3 or columns.ndim != 3:
        raise _refusal(path, field, "holds no prefix_task_rows and prefix_task_cols of its tasks")
    if len(rows) != 1 or len(columns) != 1:
        many = f"holds a multitask prompt for {len(rows)} tasks, which is one matrix only for one task"
        raise _refusal(path, field, f"{many}: tune it on your task with num_tasks=1 in PEFT, and save that")
    factor = columns[0].astype(np.float32) @ rows[0].astype(np.float32)
    if factor.shape != shape:
        raise _refusal(path, field, f"holds task factors of shape {list(factor.shape)} for a prompt of {list(shape)}")
    return factor


def _read_numpy(path: pathlib.Path, field: str) -> Prompt:
    with foreign.calling(f"{field}: {str(path)!r} cannot be read as a NumPy array", AGAIN):
        value = np.load(path, mmap_mode="r", allow_pickle=False)  # maps no more than the file has
    return Prompt(np.array(value), {"kind": "static", "format": "npy"})


def _read_zarr(path: pathlib.Path, field: str) -> Prompt:
    return Prompt(t5x.read_zarr(path, field), {"kind": "static", "format": "t5x"})


def _read_t5x(path: pathlib.Path, field: str) -> Prompt:
    checkpoint = t5x.Checkpoint(t5x.find(path, field) or path, field)
    names = sorted(name for name in checkpoint.parameters if name.split(".")[-1] == "prompt")
    if len(names) != 1:
        raise checkpoint.refusal(f"should hold one parameter named prompt, but holds {', '.join(names) or 'none'}")
    return Prompt(checkpoint.read(names[0]), {"kind": "static", "format": "t5x", "parameter": names[0]})
