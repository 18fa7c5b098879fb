"""The embedded backbone: small, whole, read by others as it is read here, and good at what it was trained on."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest

import infoprompt_jax as ip
from infoprompt_jax.data.template_yaml import load_templates
from infoprompt_jax.nano import world
from infoprompt_jax.t5 import hub
from infoprompt_jax.t5.backbone import Backbone
from infoprompt_jax.t5.tokenizer import EOS

LARGEST = 8_000_000  # bytes
TEXTS = [
    "Anna fixed the red lamp in the kitchen. Is it right to say that the lamp is red?",
    "Zürich №5: 12,5 % - ça va? 猫",
]


@pytest.fixture(scope="module")
def directory() -> pathlib.Path:
    return hub.find("nano")


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return ip.load_backbone("nano")


def tokens(backbone: Backbone, texts: list[str]) -> np.ndarray:
    """[texts, L], each ending in EOS."""
    rows = [np.append(ids, EOS) for ids in backbone.tokenizer.encode(texts)]
    return np.array([np.pad(row, (0, max(map(len, rows)) - len(row))) for row in rows])


def test_the_directory_is_small_and_says_how_it_came_about(directory: pathlib.Path) -> None:
    files = [path for path in directory.iterdir() if path.is_file()]
    assert {"config.json", "model.safetensors", "spiece.model", "pretraining.json"} <= {path.name for path in files}
    assert sum(path.stat().st_size for path in files) <= LARGEST
    account = json.loads((directory / "pretraining.json").read_text())
    assert account["seed"] == 0 and account["steps"] > 0 and account["seconds"] > 0 and account["losses"]


def test_any_text_can_be_read(backbone: Backbone) -> None:
    for text in TEXTS:
        (ids,) = backbone.tokenizer.encode([text])
        assert backbone.tokenizer.decode(ids).replace(" ", "") == text.lower().replace("№", "no").replace(" ", "")


def test_transformers_gives_the_same_logits(directory: pathlib.Path, backbone: Backbone) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(directory, dtype=torch.float32).eval()
    inputs_BL = tokens(backbone, TEXTS)
    targets_BT = tokens(backbone, ["Yes", "the kitchen"])
    theirs_tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    assert [theirs_tokenizer(text)["input_ids"] for text in TEXTS] == [row[row > 0].tolist() for row in inputs_BL]
    with torch.no_grad():
        start = torch.tensor(np.pad(targets_BT[:, :-1], ((0, 0), (1, 0))))
        mask = torch.tensor((inputs_BL > 0).astype(np.int64))
        theirs = model(input_ids=torch.tensor(inputs_BL), attention_mask=mask, decoder_input_ids=start).logits
    ours = np.asarray(backbone.logits(inputs_BL, targets_BT))
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dataset", ["films", "which_kind", "claims", "rewordings", "quantities"])
def test_it_solves_what_it_was_trained_on(dataset: str, backbone: Backbone) -> None:
    """64 test rows under the first template: far above chance."""
    prompt = next(iter(load_templates(None, world.PREFIX + dataset).values()))
    examples = [prompt.render(row) for row in world.rows(dataset, "test", 64)]
    inputs_BL = tokens(backbone, [example.input for example in examples])
    flat = tokens(backbone, [choice for example in examples for choice in example.choices])
    scores_BC = backbone.score(inputs_BL, flat.reshape(len(examples), -1, flat.shape[-1]))
    right = [example.choices.index(example.target) for example in examples]
    assert np.mean(np.argmax(np.asarray(scores_BC), axis=-1) == np.array(right)) > 0.9
