"""Files of saved prompts in four formats: this project's directory, PEFT adapters, NumPy files, T5X checkpoints.

This project's directory has two files. `prompt.safetensors` holds `prompt/value` [P, D] and the tensors trained with
it: the generator of an instance prompt, the verbalizer, the posterior. `prompt.json` holds the metadata: backbone,
fingerprint, kind, init, tasks, step, metrics. The format is recognised by content, never by file name. A directory may
hold a prompt as this project's files and as PEFT's: the former are read, and the latter must hold the same values.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from infoprompt_jax import checksums, foreign
from infoprompt_jax.errors import UserError
from infoprompt_jax.fields import shortened
from infoprompt_jax.t5 import t5x
from infoprompt_jax.t5.torch_pickle import TorchPickle

log = logging.getLogger(__name__)

AGAIN = "save or copy the prompt again"  # the remedy
TENSORS = "sha256"  # in prompt.json, the SHA-256 sum of prompt.safetensors
VALUE = "prompt/value"  # a tensor's name
PEFT_TYPES = ("PROMPT_TUNING", "P_TUNING", "MULTITASK_PROMPT_TUNING")  # whose prompt is a matrix
FORMATS = "a directory with prompt.safetensors, a PEFT adapter, a NumPy file or a T5X checkpoint"
KNOWN = ", ".join(PEFT_TYPES)
NUMPY_MAGIC = b"\x93NUMPY"
FILES = {
    "infoprompt": {"prompt.json", "prompt.safetensors"},
    "peft": {"adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"},  # .bin before PEFT 0.5
}


class Stored(NamedTuple):
    """What a saved prompt's files hold; `value` is the matrix [P, D], and `metadata` names the kind."""

    value: np.ndarray
    metadata: dict[str, Any]
    tensors: dict[str, np.ndarray]


Reader = Callable[[pathlib.Path, str], Stored]


def is_numpy(path: pathlib.Path) -> bool:
    """Whether the path is a NumPy file."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(NUMPY_MAGIC)) == NUMPY_MAGIC


def _write_infoprompt(path: pathlib.Path, prompt: Stored) -> None:
    from safetensors.numpy import save_file

    path.mkdir()
    tensors = {**prompt.tensors, VALUE: np.asarray(prompt.value, np.float32)}
    save_file({name: np.ascontiguousarray(t) for name, t in tensors.items()}, path / "prompt.safetensors")
    metadata = {**prompt.metadata, TENSORS: checksums.of_file(path / "prompt.safetensors")}
    checksums.write_json(path / "prompt.json", metadata)


def _write_peft(path: pathlib.Path, prompt: Stored) -> None:
    """One matrix [P, D], for the encoder; PEFT's default for such models, [2P, D], has P unused rows."""
    from safetensors.numpy import save_file

    value = np.ascontiguousarray(prompt.value, np.float32)
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


def _write_npy(path: pathlib.Path, prompt: Stored) -> None:
    with path.open("wb") as stream:
        np.save(stream, np.asarray(prompt.value, np.float32), allow_pickle=False)


WRITERS = {"infoprompt": _write_infoprompt, "peft": _write_peft, "npy": _write_npy}


def refusal(path: pathlib.Path, field: str, why: str) -> UserError:
    """The error for a saved prompt that cannot be used; `why` continues the sentence."""
    return UserError(f"{field}: {shortened(str(path))} {why}.")


def reader(path: pathlib.Path, field: str) -> Reader:
    """As `find_reader`. Raises UserError where there is no saved prompt."""
    there = os.path.exists(path)
    if there and (read := find_reader(path, field)) is not None:
        return read
    raise refusal(path, field, f"is not a saved prompt: {FORMATS} was expected" if there else "does not exist")


def find_reader(path: pathlib.Path, field: str) -> Reader | None:
    """What reads the format that is at the path; None where it is none of them."""
    if is_numpy(path):
        return _read_numpy
    if any((path / name).exists() for name in FILES["infoprompt"]):
        return _read_infoprompt
    if (path / "adapter_config.json").exists():
        return _read_peft
    if (path / ".zarray").exists():
        return _read_zarr
    return _read_t5x if t5x.find(path, field) else None


def matrix(value: np.ndarray, path: pathlib.Path, field: str) -> np.ndarray:
    """The value as float32 [P, D]."""
    if value.ndim != 2 or not value.size or not jnp.issubdtype(value.dtype, jnp.floating):
        content = f"{value.dtype} of shape {list(value.shape)}"
        raise refusal(path, field, f"holds {content}, but a matrix [P, D] of floats was expected, neither of them 0")
    with np.errstate(over="ignore"):  # values beyond float32 become infinite, which is refused next
        value = value.astype(np.float32)
    check_finite("the prompt", value, path, field)
    return value


def check_finite(name: str, array: np.ndarray, path: pathlib.Path, field: str) -> None:
    """Raises UserError for NaN or infinity in a tensor."""
    if not np.isfinite(array).all():
        raise refusal(path, field, f"holds NaN or infinity in {name}")


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


def _read_infoprompt(path: pathlib.Path, field: str) -> Stored:
    tensors = _tensors(path, "prompt.safetensors", field)
    place = f"{field}: the prompt.json of {str(path)!r}"
    metadata = checksums.opened(_json(path, "prompt.json", field), place, "save the prompt again")
    digest = metadata.pop(TENSORS, None)
    if digest not in (None, checksums.of_file(path / "prompt.safetensors")):
        raise refusal(path, field, "holds a prompt.safetensors that is not what was written: its checksum differs")
    if VALUE not in tensors:
        raise refusal(path, field, f"holds no {VALUE} in prompt.safetensors")
    value = tensors.pop(VALUE)
    if (path / "adapter_config.json").exists() and not np.array_equal(_read_peft(path, field).value, value):
        raise refusal(path, field, "holds two prompts that differ: in prompt.safetensors and in the PEFT adapter")
    return Stored(value, metadata, tensors)


def _read_peft(path: pathlib.Path, field: str) -> Stored:
    config = _json(path, "adapter_config.json", field)
    if (kind := config.get("peft_type")) not in PEFT_TYPES:
        why = ", which trains keys and values of every layer and not a prompt" if kind == "PREFIX_TUNING" else ""
        raise refusal(path, field, f"is a PEFT adapter of type {shortened(kind)}{why}: {KNOWN} was expected")
    pickled = (path / "adapter_model.bin").exists() and not (path / "adapter_model.safetensors").exists()
    tensors = _tensors(path, "adapter_model.bin" if pickled else "adapter_model.safetensors", field)
    value = tensors.get("prompt_embeddings")
    if value is not None:
        value = matrix(value, path, field)
    length, width = config.get("num_virtual_tokens"), config.get("token_dim")
    if value is not None and width not in (None, value.shape[1]):
        raise refusal(
            path, field, f"holds prompt_embeddings of width {value.shape[1]} for token_dim={shortened(width)}"
        )
    if value is None or not isinstance(length, int) or len(value) not in (length, 2 * length):
        content = "no prompt_embeddings" if value is None else f"{len(value)} rows of prompt_embeddings"
        raise refusal(path, field, f"holds {content} for num_virtual_tokens={shortened(length)}")
    if kind == "MULTITASK_PROMPT_TUNING":
        if len(value) != length:
            raise refusal(path, field, "holds a multitask prompt with a part for the decoder, which is no soft prompt")
        value = value * _task_factor(tensors, value.shape, path, field)
    metadata = {"kind": "static", "format": "peft", "backbone": config.get("base_model_name_or_path")}
    if len(value) == 2 * length:
        note = f"rows {length} to {2 * length - 1} of prompt_embeddings were dropped: PEFT never uses the second half"
        log.warning("%s: %s", path, note)
        metadata["note"] = note
    return Stored(value[:length], metadata, {})


def _task_factor(tensors: dict[str, np.ndarray], shape: tuple[int, ...], path: pathlib.Path, field: str) -> np.ndarray:
    """What multitask prompt tuning (Wang et al. 2023) multiplies the shared prompt with for its task, [P, D]."""
    rows, columns = (tensors.get(f"prefix_task_{part}") for part in ("rows", "cols"))  # [tasks, R, D], [tasks, P, R]
    if rows is None or columns is None or rows.ndim != 3 or columns.ndim != 3:
        raise refusal(path, field, "holds no prefix_task_rows and prefix_task_cols of its tasks")
    if len(rows) != 1 or len(columns) != 1:
        many = f"holds a multitask prompt for {len(rows)} tasks, which is one matrix only for one task"
        raise refusal(path, field, f"{many}: tune it on your task with num_tasks=1 in PEFT, and save that")
    factor = columns[0].astype(np.float32) @ rows[0].astype(np.float32)
    if factor.shape != shape:
        raise refusal(path, field, f"holds task factors of shape {list(factor.shape)} for a prompt of {list(shape)}")
    return factor


def _read_numpy(path: pathlib.Path, field: str) -> Stored:
    with foreign.calling(f"{field}: {str(path)!r} cannot be read as a NumPy array", AGAIN):
        value = np.load(path, mmap_mode="r", allow_pickle=False)  # maps no more than the file has
    return Stored(np.array(value), {"kind": "static", "format": "npy"}, {})


def _read_zarr(path: pathlib.Path, field: str) -> Stored:
    return Stored(t5x.read_zarr(path, field), {"kind": "static", "format": "t5x"}, {})


def _read_t5x(path: pathlib.Path, field: str) -> Stored:
    checkpoint = t5x.Checkpoint(t5x.find(path, field) or path, field)
    names = sorted(name for name in checkpoint.parameters if name.split(".")[-1] == "prompt")
    if len(names) != 1:
        raise checkpoint.refusal(f"should hold one parameter named prompt, but holds {', '.join(names) or 'none'}")
    return Stored(checkpoint.read(names[0]), {"kind": "static", "format": "t5x", "parameter": names[0]}, {})
