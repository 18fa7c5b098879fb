"""README's Python runs as pasted, on the embedded backbone."""

from __future__ import annotations

import pathlib
import re
from typing import Any

import numpy as np
import pytest
import tiny_library

import infoprompt_jax as ip

README = pathlib.Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def pasted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The names that there are once every block is pasted into one session, where the runs that it names have been."""
    directory, backbone, names = tmp_path_factory.mktemp("readme"), ip.load_backbone("nano"), {}
    made = {"backbone": backbone.name, "fingerprint": backbone.fingerprint}
    (directory / "runs" / "nano" / "prompts").mkdir(parents=True)
    (directory / "runs" / "nano_rospr-sources").mkdir()
    value_PD = tiny_library.prompt(0, backbone.config.d_model)
    ip.save_prompt(directory / "runs" / "nano" / "prompts" / "plain-seed0", ip.Prompt(value_PD, made))
    tiny_library.random_library(directory / "runs" / "nano_rospr-sources" / "library", backbone, count=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        for block in BLOCKS:
            exec(compile(block, str(README), "exec"), names)
    return names | {"directory": directory}


def test_the_blocks_compute_what_they_name(pasted: dict[str, Any]) -> None:
    """By the suffix of each name: prompts add P positions, and there is one query."""
    backbone, prompt_tokens = pasted["backbone"], tiny_library.P
    rows, length = pasted["tokens_BL"].shape
    _, choices, targets = pasted["choices_BCT"].shape
    assert pasted["scores_BC"].shape == (rows, choices) == (1, 2)
    assert pasted["logits_BTV"].shape == (rows, targets, backbone.config.vocab_size)
    assert pasted["states_BSD"].shape == (rows, prompt_tokens + length, backbone.config.d_model)
    assert pasted["choice"].prompt_PD.shape == (prompt_tokens, backbone.config.d_model)
    assert pasted["hits"].owners_QN.shape == (1, 10)


def test_the_blocks_save_the_prompt(pasted: dict[str, Any]) -> None:
    for path in ("adapter", "prompt.npy"):
        saved = ip.load_prompt(pasted["directory"] / path)
        np.testing.assert_array_equal(saved.value_PD, pasted["prompt"].value_PD)


def test_a_backbone_is_shown_in_three_lines(pasted: dict[str, Any]) -> None:
    first, second, third = repr(pasted["backbone"]).splitlines()
    assert first.startswith("Backbone('nano', fingerprint ") and first.endswith("1.8 M weights in float32")
    assert "4 + 2 layers, D=128, 8 heads of 16, F=320 (gated-gelu), V=2048, head untied" in second
    assert "inputs end in </s>; mesh data=" in third
