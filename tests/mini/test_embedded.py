"""The embedded backbone of English: small, whole, read by others as it is read here, and better than chance on text."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest

import infoprompt_jax as ip
from infoprompt_jax.t5 import hub
from infoprompt_jax.t5.backbone import Backbone
from infoprompt_jax.t5.tokenizer import EOS

LARGEST = 40_000_000  # bytes
TEXTS = ["The Danish physicist Niels Bohr won the prize in 1922.", "Zürich №5: 12,5 % - ça va? 猫"]
# Nobody else's sentences; the first four are praise.
REVIEWS = (
    "The food was delicious and the waiters were friendly.",
    "A warm and funny film with wonderful actors.",
    "I love this radio, it works perfectly and sounds great.",
    "One of the best books that I have read this year.",
    "The room was dirty and the staff was rude.",
    "A boring film with a stupid story.",
    "The battery died after two days, what a waste of money.",
    "I was very disappointed and I will never come back.",
)


@pytest.fixture(scope="module")
def directory() -> pathlib.Path:
    return hub.find("mini")


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return ip.load_backbone("mini")


def tokens(backbone: Backbone, texts: list[str]) -> np.ndarray:
    """[texts, L], each ending in EOS."""
    rows = [np.append(ids, EOS) for ids in backbone.tokenizer.encode(texts)]
    return np.array([np.pad(row, (0, max(map(len, rows)) - len(row))) for row in rows])


def test_the_directory_is_small_and_says_how_it_came_about(directory: pathlib.Path) -> None:
    files = {path.name: path.stat().st_size for path in directory.iterdir()}
    assert {"config.json", "model.safetensors", "spiece.model", "pretraining.json", "README.md"} <= files.keys()
    assert sum(files.values()) <= LARGEST
    account = json.loads((directory / "pretraining.json").read_text())
    assert account["steps"] * account["config"]["train"]["batch_size"] == sum(account["examples"].values())


def test_it_keeps_case_and_reads_any_text(backbone: Backbone) -> None:
    assert [backbone.tokenizer.decode(ids) for ids in backbone.tokenizer.encode(TEXTS)] == [
        TEXTS[0],
        TEXTS[1].replace("№", "No"),  # NFKC
    ]


def test_transformers_gives_the_same_logits(directory: pathlib.Path, backbone: Backbone) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(directory, dtype=torch.float32).eval()
    inputs_BL, targets_BT = tokens(backbone, TEXTS), tokens(backbone, ["Yes", "the physicist"])
    theirs_tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    assert [theirs_tokenizer(text)["input_ids"] for text in TEXTS] == [row[row > 0].tolist() for row in inputs_BL]
    with torch.no_grad():
        start = torch.tensor(np.pad(targets_BT[:, :-1], ((0, 0), (1, 0))))
        mask = torch.tensor((inputs_BL > 0).astype(np.int64))
        theirs = model(input_ids=torch.tensor(inputs_BL), attention_mask=mask, decoder_input_ids=start).logits
    np.testing.assert_allclose(np.asarray(backbone.logits(inputs_BL, targets_BT)), theirs, atol=1e-4, rtol=1e-4)


def test_it_tells_praise_from_complaint(backbone: Backbone) -> None:
    inputs_BL = tokens(backbone, [f"{review} Is this review positive or negative?" for review in REVIEWS])
    choices_CT = tokens(backbone, ["positive", "negative"])
    scores_BC = np.asarray(backbone.score(inputs_BL, np.tile(choices_CT, (len(REVIEWS), 1, 1))))
    assert np.sum(scores_BC.argmax(axis=1) == [0, 0, 0, 0, 1, 1, 1, 1]) >= 7
