"""torch.save's files are read without torch, and to the bit as torch reads them."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys
import textwrap
import zipfile

import ml_dtypes
import numpy as np
import pytest
from torch_files import HOOKS, NUMBERS, opened, put, refusal, state_dict, storage, tensor, write

from infoprompt_jax.t5.torch_pickle import TorchPickle


def test_a_file_written_by_hand(tmp_path: pathlib.Path) -> None:
    """No torch is needed for this one, neither here nor there."""
    path, parameter = tmp_path / "a.bin", b"ctorch._utils\n_rebuild_parameter\n("
    code = state_dict(
        whole=tensor(),
        transposed=tensor((4, 3), (1, 4)),
        row=tensor((4,), (1,), 8),
        last=tensor((), (), 11),
        empty=tensor((0, 2**40), (2**40, 1), 12),
        parameter=parameter + tensor((2,), (5,)) + put(True) + HOOKS + b"tR",
        brain=tensor((2, 2), (2, 1), stored=storage(4, "BFloat16Storage", "1")),
    )
    # What state dicts carry beside their tensors, and a place in the memo that no list could hold.
    code = code[:-1] + put({"_metadata": {"": {"version": 1}}}) + b"br\xff\xff\xff\xff."
    write(path, code, **{"data/1": NUMBERS[:4].astype(ml_dtypes.bfloat16).tobytes()}).close()
    file, whole = opened(path), NUMBERS.reshape(3, 4)
    expected = {"whole": whole, "transposed": whole.T, "row": whole[2], "last": np.float32(11)}
    expected |= {"empty": np.zeros((0, 2**40)), "parameter": NUMBERS[[0, 5]], "brain": NUMBERS[:4].reshape(2, 2)}
    assert file.names == set(expected)
    for name, value in expected.items():
        found = file.read(name)
        assert found.shape == file.shape(name) == value.shape and found.dtype == file.dtype(name)
        assert found.dtype == (ml_dtypes.bfloat16 if name == "brain" else np.float32)
        np.testing.assert_array_equal(found.astype(np.float32), value)
    program = """
        import sys
        sys.modules["torch"] = None  # makes its import fail
        from infoprompt_jax.t5.torch_pickle import TorchPickle
        assert TorchPickle(sys.argv[1]).read("whole").sum() == 66
    """
    root = pathlib.Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", textwrap.dedent(program), path], check=True, cwd=root)


def test_tensors_are_mapped_and_cannot_be_written(tmp_path: pathlib.Path) -> None:
    mapped = 0
    for length in range(4):  # the storage begins at every remainder of four
        with zipfile.ZipFile(tmp_path / f"{length}.bin", "w") as archive:
            archive.writestr("a/version", b"3" * length)
            archive.writestr("a/data.pkl", state_dict(first=tensor(), tied=tensor((4, 3), (1, 4))))
            archive.writestr("a/data/0", NUMBERS.tobytes())
        file = opened(tmp_path / f"{length}.bin")
        first, tied = file.read("first"), file.read("tied")
        np.testing.assert_array_equal(first, tied.T)
        np.testing.assert_array_equal(file.read("tied", (slice(1, 3), slice(0, 2))), tied[1:3, :2])
        np.testing.assert_array_equal(
            file.read("tied", (np.array([3, 0]), np.array([1, 2]))), [first[1, 3], first[2, 0]]
        )
        assert first.flags.aligned and tied.flags.aligned
        mapped += not (first.flags.owndata or first.flags.writeable)
    assert mapped == 1


def test_archives_for_large_files(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1)  # of gigabytes otherwise: sizes and offsets move to another field
    write(tmp_path / "a.bin", state_dict(weight=tensor())).close()
    assert b"PK\6\6" in (tmp_path / "a.bin").read_bytes()
    np.testing.assert_array_equal(opened(tmp_path / "a.bin").read("weight"), NUMBERS.reshape(3, 4))


KINDS = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("protocol", [2, 4])
def test_reads_what_torch_reads(kind: str, protocol: int, tmp_path: pathlib.Path) -> None:
    torch = pytest.importorskip("torch")
    path, random_bytes = tmp_path / "pytorch_model.bin", np.random.default_rng(0).integers(0, 256, 480, np.uint8)
    whole = torch.from_numpy(random_bytes % 2 if kind == "bool" else random_bytes).view(getattr(torch, kind))
    whole = whole[:60].reshape(5, 12)  # any bits there are: NaN of all kinds, infinities, subnormal numbers
    tensors = {
        "whole": whole,
        "tied": whole,
        "parameter": torch.nn.Parameter(whole.clone(), requires_grad=False),
        "transposed": whole.T,
        "strided": whole[1::2, ::3],
        "narrow": whole.narrow(1, 3, 5),
        "three axes": whole.reshape(5, 3, 4).permute(2, 0, 1),
        "expanded": whole[:, :1].expand(5, 7),
        "row": whole[4],
        "scalar": whole[4, 11],
        "own scalar": whole[4, 11].clone(),
        "empty": torch.empty(0, 3, dtype=whole.dtype),
        "empty part": whole[:, 12:],
        "": torch.ones(1, dtype=whole.dtype),
    }
    torch.save(tensors, path, pickle_protocol=protocol)
    theirs, ours = torch.load(path, weights_only=protocol == 2), TorchPickle(path)  # torch's reader knows protocol 2
    assert ours.names == set(theirs)
    for name, value in theirs.items():
        flat = value.detach().contiguous().reshape(-1).view(torch.uint8)
        found = ours.read(name)
        assert (found.dtype.name, found.shape, found.tobytes()) == (kind, tuple(value.shape), flat.numpy().tobytes())


@pytest.mark.parametrize("checksums", [True, False])
def test_reads_a_state_dict(checksums: bool, tmp_path: pathlib.Path) -> None:
    torch = pytest.importorskip("torch")
    state = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4)).state_dict()
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(checksums)
    try:
        torch.save(state, tmp_path / "a.bin")
    finally:
        torch.serialization.set_crc32_options(before)
    file = TorchPickle(tmp_path / "a.bin")
    assert file.names == set(state)
    for name, value in state.items():
        np.testing.assert_array_equal(file.read(name), value.numpy())


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_refuses_what_else_torch_saves(tmp_path: pathlib.Path) -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(3, 4)
    path, state = tmp_path / "a.bin", model.state_dict()
    saved = {
        "a dict named 'state_dict', but a dict of tensors": {"state_dict": state},
        "a number named 'epoch', but a dict of tensors": {"epoch": 3, "state_dict": state},
        "holds a tensor, but a dict of tensors": state["weight"],
        "pickle instruction EMPTY_LIST": [state],
        r"calls torch\.nn\.modules\.linear\.Linear": model,
        r"calls torch\._utils\._rebuild_tensor_v3": {"weight": state["weight"].to(torch.float8_e4m3fn)},
        "calls .* with arguments that no tensor needs": {"weight": torch.tensor([1j]).conj().imag},
    }
    for message, value in saved.items():
        torch.save(value, path)
        assert re.search(message, refusal(path)), refusal(path)
    torch.save(state, path, _use_new_zipfile_serialization=False)
    assert "before 1.6" in refusal(path)
    torch.jit.save(torch.jit.trace(model, torch.ones(3)), path)
    assert "TorchScript" in refusal(path)
