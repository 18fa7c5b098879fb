"""Saved prompts: every format gives back what was saved, PEFT's gives PEFT's logits, and damage is refused."""

from __future__ import annotations

import json
import logging
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tiny_t5
import tiny_t5x
from flax import serialization
from safetensors.numpy import load_file, save_file
from tiny_t5 import logits
from torch_files import put, state_dict, storage, tensor, write

from infoprompt_jax.errors import UserError
from infoprompt_jax.prompts.saved import Prompt, check_prompt, listed, load_prompt, save_prompt
from infoprompt_jax.t5 import t5x

RANDOM = np.random.default_rng(0)
VALUE = RANDOM.standard_normal((6, 32)).astype(np.float32)
INPUTS, TARGETS = np.array([[5, 6, 7, 8], [9, 10, 0, 0]]), np.array([[11, 12, 13], [14, 15, 16]])


def instance_prompt() -> Prompt:
    shapes = {"down": (32, 4), "up": (4, 6, 32)}
    return Prompt(VALUE, {}, {f"generator/{name}": RANDOM.standard_normal(shape) for name, shape in shapes.items()})


@pytest.mark.parametrize("format", ["infoprompt", "peft", "npy"])
def test_every_format_gives_the_value_back(format: str, tmp_path: pathlib.Path) -> None:
    save_prompt(tmp_path / "prompt", Prompt(VALUE), format)
    found = load_prompt(str(tmp_path / "prompt"))
    assert found.value_PD.dtype == np.float32 and found.metadata["kind"] == "static"
    np.testing.assert_array_equal(found.value_PD, VALUE)
    assert [path.name for path in tmp_path.iterdir()] == ["prompt"]


def test_ours_keeps_metadata_and_what_was_trained_with_the_prompt(tmp_path: pathlib.Path) -> None:
    metadata = {"kind": "static", "backbone": "a/b", "fingerprint": "0a", "step": 3, "metrics": {"accuracy": 50.0}}
    save_prompt(tmp_path / "prompt", Prompt(VALUE, metadata, {"verbalizer/theta": VALUE.T}))
    found = load_prompt(tmp_path / "prompt")
    assert found.metadata == metadata and list(found.tensors) == ["verbalizer/theta"]
    np.testing.assert_array_equal(found.tensors["verbalizer/theta"], VALUE.T)


def test_instance_prompts_fit_our_format_only(tmp_path: pathlib.Path) -> None:
    prompt = instance_prompt()
    save_prompt(tmp_path / "prompt", prompt)
    found = load_prompt(tmp_path / "prompt")
    assert found.width == 32 and found.kind == found.metadata["kind"] == "instance"
    np.testing.assert_array_equal(found.value_PD, VALUE)
    tiny_t5.assert_same(found.tensors, prompt.tensors)
    for format in ("peft", "npy"):
        with pytest.raises(UserError, match="choose format='infoprompt'"):
            save_prompt(tmp_path / format, prompt, format)


@pytest.fixture(scope="module", params=["v1.0", "v1.1"])
def backbone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    pytest.importorskip("torch")
    path = tmp_path_factory.mktemp("backbone") / request.param
    tiny_t5.torch_t5(request.param).save_pretrained(path)
    return path


def peft_logits(model: Any) -> np.ndarray:
    import torch

    tokens, shifted = torch.tensor(INPUTS), torch.tensor(np.pad(TARGETS[:, :-1], ((0, 0), (1, 0))))
    with torch.no_grad():
        return model(input_ids=tokens, attention_mask=tokens != 0, decoder_input_ids=shifted).logits.numpy()


def test_a_prompt_moved_to_peft_gives_our_logits(backbone: pathlib.Path, tmp_path: pathlib.Path) -> None:
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    save_prompt(tmp_path / "adapter", Prompt(VALUE, {"backbone": str(backbone)}), "peft")
    model = transformers.T5ForConditionalGeneration.from_pretrained(backbone)
    found = peft_logits(peft.PeftModel.from_pretrained(model, tmp_path / "adapter").eval())
    np.testing.assert_allclose(found, logits(tiny_t5.load(backbone), INPUTS, TARGETS, VALUE), atol=1e-4)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["num_transformer_submodules"] == 1 and config["base_model_name_or_path"] == str(backbone)


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "adapter_model.bin"])
@pytest.mark.parametrize("submodules", [None, 1])
def test_a_peft_prompt_moved_here_gives_its_logits(
    backbone: pathlib.Path, tmp_path: pathlib.Path, submodules: int | None, file: str, caplog: pytest.LogCaptureFixture
) -> None:
    """PEFT's own default for such models is a matrix twice as long as the prompt."""
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    config = peft.PromptTuningConfig(
        task_type="SEQ_2_SEQ_LM", num_virtual_tokens=5, num_transformer_submodules=submodules
    )
    model = peft.get_peft_model(transformers.T5ForConditionalGeneration.from_pretrained(backbone), config).eval()
    model.save_pretrained(tmp_path / "adapter", safe_serialization=file.endswith(".safetensors"))
    assert (tmp_path / "adapter" / file).exists()
    with caplog.at_level(logging.WARNING, logger="absl"):
        prompt = load_prompt(tmp_path / "adapter")
    assert prompt.value_PD.shape == (5, 32) and prompt.metadata["backbone"] == str(backbone)
    np.testing.assert_allclose(
        logits(tiny_t5.load(backbone), INPUTS, TARGETS, prompt.value_PD), peft_logits(model), atol=1e-4
    )
    said = [text for text in (prompt.metadata.get("note", ""), caplog.text) if "rows 5 to 9" in text]
    assert len(said) == (0 if submodules else 2)


def peft_config(kind: str) -> Any:
    peft = pytest.importorskip("peft")
    fields: dict[str, Any] = {"task_type": "SEQ_2_SEQ_LM", "num_virtual_tokens": 5}
    if kind == "P_TUNING":
        return peft.PromptEncoderConfig(**fields, encoder_hidden_size=8)
    if kind == "PREFIX_TUNING":
        return peft.PrefixTuningConfig(**fields)
    fields["num_tasks"] = 2 if kind == "two tasks" else 1
    fields["num_transformer_submodules"] = 2 if kind == "decoder" else 1
    return peft.MultitaskPromptTuningConfig(**fields)


@pytest.mark.parametrize("kind", ["P_TUNING", "one task"])
def test_peft_prompts_of_other_kinds(kind: str, backbone: pathlib.Path, tmp_path: pathlib.Path) -> None:
    import peft
    import torch
    import transformers

    model = peft.get_peft_model(transformers.T5ForConditionalGeneration.from_pretrained(backbone), peft_config(kind))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "prompt_encoder" in name:  # PEFT's first values would hardly change the logits
                parameter.copy_(torch.randn_like(parameter))
    model.eval().save_pretrained(tmp_path / "adapter")
    prompt = load_prompt(tmp_path / "adapter")
    expected = logits(tiny_t5.load(backbone), INPUTS, TARGETS, prompt.value_PD)
    if kind == "P_TUNING":
        np.testing.assert_allclose(peft_logits(model), expected, atol=1e-4)
    else:  # PEFT makes the decoder's input from the labels
        tokens, labels, tasks = torch.tensor(INPUTS), torch.tensor(TARGETS), torch.zeros(2, dtype=torch.long)
        with torch.no_grad():
            found = model(input_ids=tokens, attention_mask=tokens != 0, labels=labels, task_ids=tasks).logits
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("PREFIX_TUNING", "type 'PREFIX_TUNING', which trains keys and values of every layer"),
        ("decoder", "a part for the decoder"),
        ("two tasks", r"multitask prompt for 2 tasks, .* num_tasks=1 in PEFT"),
    ],
)
def test_peft_adapters_that_are_no_matrix_are_refused(kind: str, words: str, tmp_path: pathlib.Path) -> None:
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    model = transformers.T5ForConditionalGeneration(transformers.T5Config(**tiny_t5.SIZES))
    peft.get_peft_model(model, peft_config(kind)).save_pretrained(tmp_path / "adapter")
    with pytest.raises(UserError, match=words):
        load_prompt(tmp_path / "adapter")


@pytest.fixture
def pickled(tmp_path: pathlib.Path) -> pathlib.Path:
    """An adapter as PEFT saved it before version 0.5."""
    save_prompt(tmp_path / "pickled", Prompt(VALUE), "peft")
    (tmp_path / "pickled" / "adapter_model.safetensors").unlink()
    code = tensor(VALUE.shape, (VALUE.shape[1], 1), stored=storage(VALUE.size))
    entries = {"data/0": VALUE.tobytes()}
    write(tmp_path / "pickled" / "adapter_model.bin", state_dict(prompt_embeddings=code), **entries).close()
    return tmp_path / "pickled"


def test_pickled_peft_prompts(pickled: pathlib.Path) -> None:
    np.testing.assert_array_equal(load_prompt(pickled).value_PD, VALUE)
    save_file({"prompt_embeddings": 2 * VALUE}, pickled / "adapter_model.safetensors")
    np.testing.assert_array_equal(load_prompt(pickled).value_PD, 2 * VALUE)  # where both are, PEFT reads this one
    save_prompt(pickled, Prompt(3 * VALUE), "peft")
    np.testing.assert_array_equal(load_prompt(pickled).value_PD, 3 * VALUE)
    assert not (pickled / "adapter_model.bin").exists()


def test_pickled_peft_prompts_run_nothing(pickled: pathlib.Path) -> None:
    write(pickled / "adapter_model.bin", b"cposix\nsystem\n" + put(("exit",)) + b"R.").close()
    with pytest.raises(
        UserError,
        match=r"lacks a readable adapter_model\.bin: calls posix\.system.*run: save or copy the prompt again\.$",
    ):
        load_prompt(pickled)


def test_released_prompts(shared: pathlib.Path) -> None:
    path = shared / "fixtures" / "prompts" / "rte.npy"
    prompt = load_prompt(path)
    assert prompt.value_PD.shape == (100, 768)
    np.testing.assert_array_equal(prompt.value_PD, np.load(path))


@pytest.fixture
def t5x_prompt(tmp_path: pathlib.Path) -> pathlib.Path:
    """A T5X model directory with one step, whose prompt is a zarr array in two chunks."""
    tensorstore = pytest.importorskip("tensorstore")
    name, step = "target.encoder.prompt.prompt.prompt", tmp_path / "model" / "checkpoint_7"
    store = {"driver": "file", "path": str(step / name)}
    metadata = {"shape": [6, 32], "chunks": [3, 32], "dtype": "<f4", "compressor": {"id": "gzip", "level": 1}}
    spec = {"driver": "zarr", "kvstore": store, "metadata": metadata}
    tensorstore.open(spec, create=True).result().write(VALUE).result()
    stored = {**spec, "kvstore": {"driver": "gfile", "path": name}}
    target = {"encoder": {"prompt": {"prompt": {"prompt": stored}}, "encoder_norm": {"scale": np.ones(32, "f")}}}
    content = {"version": 3, "optimizer": {"target": target}}
    (step / "checkpoint").write_bytes(serialization.msgpack_serialize(content))
    return step


def test_t5x_prompts(t5x_prompt: pathlib.Path, tmp_path: pathlib.Path) -> None:
    for path in (t5x_prompt.parent, t5x_prompt, t5x_prompt / "target.encoder.prompt.prompt.prompt"):
        np.testing.assert_array_equal(load_prompt(path).value_PD, VALUE)
    assert load_prompt(t5x_prompt).metadata["parameter"] == "encoder.prompt.prompt.prompt"
    tiny_t5x.write(tmp_path / "promptless")
    with pytest.raises(UserError, match="holds none"):
        load_prompt(tmp_path / "promptless")


@pytest.mark.parametrize("relative", [True, False])
def test_t5x_reads_nothing_outside_its_directory(t5x_prompt: pathlib.Path, relative: bool) -> None:
    shutil.move(t5x_prompt / "target.encoder.prompt.prompt.prompt", t5x_prompt.parent / "elsewhere")
    checkpoint = t5x.Checkpoint(t5x_prompt)
    checkpoint.parameters["encoder.prompt.prompt.prompt"]["kvstore"]["path"] = (
        "../elsewhere" if relative else str(t5x_prompt.parent / "elsewhere")
    )
    with pytest.raises(UserError, match=r"lacks a readable \.zarray"):
        checkpoint.read("encoder.prompt.prompt.prompt")


def npy(array: Any) -> Callable[[pathlib.Path], None]:
    def write(path: pathlib.Path) -> None:
        with path.open("wb") as stream:
            np.save(stream, array, allow_pickle=True)

    return write


def ours(value: np.ndarray = VALUE, file: str = "prompt.safetensors", cut: int | None = None) -> Callable:
    def write(path: pathlib.Path) -> None:
        save_prompt(path, Prompt(value))
        (path / file).write_bytes((path / file).read_bytes()[:cut])

    return write


def peft(**fields: Any) -> Callable[[pathlib.Path], None]:
    def write(path: pathlib.Path) -> None:
        save_prompt(path, Prompt(VALUE), "peft")
        config = json.loads((path / "adapter_config.json").read_text()) | fields
        (path / "adapter_config.json").write_text(json.dumps(config))

    return write


def scalar(path: pathlib.Path) -> None:
    save_prompt(path, Prompt(VALUE), "peft")
    save_file({"prompt_embeddings": np.zeros((), np.float32)}, path / "adapter_model.safetensors")


BROKEN: dict[str, tuple[Callable[[pathlib.Path], Any], str]] = {
    "nothing": (lambda path: None, "does not exist"),
    "empty directory": (lambda path: path.mkdir(), "is not a saved prompt"),
    "text": (lambda path: path.write_text("a prompt"), "is not a saved prompt"),
    "vector": (npy(VALUE[0]), r"float32 of shape \[32\]"),
    "integers": (npy(VALUE.astype(int)), r"int64 of shape"),
    "objects": (npy(np.array([[{}]])), "cannot be read as a NumPy array"),
    "too large": (npy(VALUE.astype(np.float64) * 1e300), "NaN or infinity"),
    "not finite": (ours(np.where(VALUE > 2, np.nan, VALUE)), "NaN or infinity"),
    "cut": (ours(cut=-4), r"lacks a readable prompt\.safetensors"),
    "cut metadata": (ours(file="prompt.json", cut=3), r"lacks a readable prompt\.json"),
    "scalar": (scalar, r"float32 of shape \[\], but a matrix"),
    "LoRA": (peft(peft_type="LORA"), "type 'LORA': PROMPT_TUNING, P_TUNING, MULTITASK_PROMPT_TUNING was expected"),
    "no rows": (npy(VALUE[:0]), r"float32 of shape \[0, 32\]|cannot be read"),
    "no width": (npy(VALUE[:, :0]), r"float32 of shape \[6, 0\]|cannot be read"),
    "another width": (peft(token_dim=16), "prompt_embeddings of width 32 for token_dim=16"),
    "rows": (peft(num_virtual_tokens=4), "6 rows of prompt_embeddings for num_virtual_tokens=4"),
}


@pytest.mark.parametrize("write,message", BROKEN.values(), ids=BROKEN)
def test_what_is_no_prompt_is_refused_in_one_sentence(write: Callable, message: str, tmp_path: pathlib.Path) -> None:
    write(tmp_path / "prompt")
    with pytest.raises(UserError, match=message) as caught:
        load_prompt(tmp_path / "prompt", field="rospr.library")
    assert str(caught.value).startswith("rospr.library: ") and "\n" not in str(caught.value)


def test_not_finite_generators_are_refused(tmp_path: pathlib.Path) -> None:
    save_prompt(tmp_path / "prompt", instance_prompt())
    file = tmp_path / "prompt" / "prompt.safetensors"
    save_file(load_file(file) | {"prompt/up": np.full((4, 6, 32), np.inf)}, file)
    with pytest.raises(UserError, match=r"prompt\.safetensors that is not what was written"):
        load_prompt(tmp_path / "prompt")
    (tmp_path / "prompt" / "prompt.json").write_text('{"kind": "instance"}')  # as a former version wrote it
    with pytest.raises(UserError, match="NaN or infinity in prompt/up"):
        load_prompt(tmp_path / "prompt")


def test_what_was_changed_after_it_was_saved_is_refused(tmp_path: pathlib.Path) -> None:
    """Until the person who changed the metadata removes their checksum."""
    save_prompt(tmp_path / "prompt", instance_prompt())
    file = tmp_path / "prompt" / "prompt.json"
    content = json.loads(file.read_text()) | {"representation": "mean_encoder"}
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r'prompt\.json .* not what was written.*remove the line "checksum"'):
        load_prompt(tmp_path / "prompt")
    del content["checksum"]
    file.write_text(json.dumps(content))
    assert load_prompt(tmp_path / "prompt").metadata["representation"] == "mean_encoder"


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (VALUE, "prompt is of type ndarray: give an ip.Prompt"),
        (Prompt(VALUE[0]), r"float32 of shape \[32\]: a matrix \[P, D\]"),
        (Prompt(np.full((2, 3), "a")), "<U1 of shape"),
        (Prompt(VALUE, {"tags": {"a"}}), "metadata cannot be written as JSON: Object of type set"),
    ],
)
def test_what_is_no_prompt_is_not_saved(prompt: Any, message: str, tmp_path: pathlib.Path) -> None:
    save_prompt(tmp_path / "prompt", Prompt(2 * VALUE))
    with pytest.raises(UserError, match=message):
        save_prompt(tmp_path / "prompt", prompt)
    assert [path.name for path in tmp_path.iterdir()] == ["prompt"]
    np.testing.assert_array_equal(load_prompt(tmp_path / "prompt").value_PD, 2 * VALUE)


@pytest.mark.parametrize("path", [None, 3])
def test_what_is_no_path_is_refused(path: Any) -> None:
    for call in (lambda: load_prompt(path), lambda: save_prompt(path, Prompt(VALUE))):
        with pytest.raises(UserError, match=f"path is of type {type(path).__name__}: a path was expected"):
            call()


def test_saving_replaces_its_own_kind_and_nothing_else(tmp_path: pathlib.Path) -> None:
    path, other = tmp_path / "prompt", tmp_path / "other.txt"
    for format in ("infoprompt", "peft"):
        save_prompt(path, Prompt(VALUE), format)
        save_prompt(path, Prompt(2 * VALUE), format)
        np.testing.assert_array_equal(load_prompt(path).value_PD, 2 * VALUE)
        (path / "notes.txt").write_text("mine")
        for replacing in ("infoprompt", "peft", "npy"):
            with pytest.raises(UserError, match="choose another path"):
                save_prompt(path, Prompt(VALUE), replacing)
        shutil.rmtree(path)
    other.write_text("mine")
    with pytest.raises(UserError, match="choose another path"):
        save_prompt(other, Prompt(VALUE), "npy")
    with pytest.raises(UserError, match="format='pickle'"):
        save_prompt(path, Prompt(VALUE), "pickle")


def test_what_a_killed_process_leaves_is_no_prompt(tmp_path: pathlib.Path) -> None:
    for name in ("run", ".run.17.old", ".run.18.partial"):
        save_prompt(tmp_path / name, Prompt(np.zeros((2, 4), np.float32)))
    assert listed(tmp_path) == [tmp_path / "run"]


def test_prompts_of_other_backbones_are_refused() -> None:
    check_prompt(Prompt(VALUE), 32, "0a", "prompt.init")
    check_prompt(Prompt(VALUE, {"fingerprint": "0a"}), 32, "0a", "prompt.init")
    with pytest.raises(UserError, match=r"^prompt\.init: .*width 32.*64"):
        check_prompt(Prompt(VALUE), 64, "0a", "prompt.init")
    with pytest.raises(UserError, match=r"^prompt\.init: .*a/b.*0b.*0a"):
        check_prompt(Prompt(VALUE, {"fingerprint": "0b", "backbone": "a/b"}), 32, "0a", "prompt.init")
