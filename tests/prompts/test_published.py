"""Prompts on the model hub: what is pushed loads again, here and by PEFT; its card states what the metadata holds."""

from __future__ import annotations

import ast
import contextlib
import io
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import loopback_hub
import numpy as np
import pytest
import yaml
from huggingface_hub import constants, hf_api
from safetensors.numpy import load_file, save_file
from writable_hub import TOKEN, WritableHub

import infoprompt_jax as ip
from infoprompt_jax.errors import OfflineError, UserError
from infoprompt_jax.prompts.card import card

RANDOM = np.random.default_rng(0)
VALUE = RANDOM.standard_normal((4, 128)).astype(np.float32)
OURS = {"prompt.json", "prompt.safetensors"}
PEFTS = {"adapter_config.json", "adapter_model.safetensors"}
TEMPLATE = {
    "dataset": "super_glue/rte",
    "name": "GPT-3 style",
    "id": "1",
    "jinja": "{{ a|upper }} <i>? ||| {{ c }}",
    "answer_choices": "Yes ||| No",
    "metric": "accuracy",
}
METADATA = {
    "backbone": "nano",
    "init": "vocabulary",
    "task": "super_glue/rte",
    "template": "GPT-3 style",
    "templates": [TEMPLATE],
    "step": 160,
    "metrics": {"accuracy": 0.75, "macro_f1": 0.5},
    "nearest_tokens": ["<pad>", "a|b"],
}


def instance_prompt() -> ip.Prompt:
    return ip.Prompt(VALUE, dict(METADATA), {"generator/down": VALUE, "generator/up": VALUE})


@pytest.fixture
def online(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An empty cache, a token, and a client that may use the network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return monkeypatch


@contextlib.contextmanager
def served(hub: WritableHub, monkeypatch: pytest.MonkeyPatch) -> Iterator[WritableHub]:
    with loopback_hub.served(hub) as hub.address:
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        monkeypatch.setattr(hf_api.api, "endpoint", hub.address)  # PEFT's requests
        template = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield hub


def blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)


def test_what_is_pushed_loads_as_it_was(online: pytest.MonkeyPatch) -> None:
    prompt = ip.Prompt(VALUE, dict(METADATA), {"verbalizer/theta": VALUE.T})
    with served(WritableHub("rte"), online) as hub:
        address = ip.push_to_hub(prompt, "rte", private=True)
        assert address == f"{hub.address}/ann/rte/commit/{hub.heads['main']}" and hub.private
        assert hub.branches["main"].keys() == {"README.md"} | OURS | PEFTS
        loaded = ip.load_prompt("ann/rte")
    online.setattr(constants, "HF_HUB_OFFLINE", True)
    for again in (loaded, ip.load_prompt("ann/rte")):  # from the hub, and from its cache
        np.testing.assert_array_equal(again.value_PD, VALUE)
        assert again.metadata == {"kind": "static"} | METADATA and list(again.tensors) == ["verbalizer/theta"]


def test_a_prompt_is_replaced_and_leaves_nothing_of_the_old_one(online: pytest.MonkeyPatch) -> None:
    """An instance prompt has no PEFT files; those of the static prompt before it would be another prompt."""
    with served(WritableHub("rte"), online) as hub:
        ip.push_to_hub(ip.Prompt(VALUE), "ann/rte")
        hub.branches["main"]["notes.txt"] = b"mine"
        ip.load_prompt("ann/rte")
        ip.push_to_hub(instance_prompt(), "ann/rte")
        assert hub.branches["main"].keys() == {"README.md", "notes.txt"} | OURS
        assert hub.commits == ["Add a soft prompt of 4 tokens"] * 2
        assert ip.load_prompt("ann/rte").kind == "instance"  # the newest, not the one in the cache
        assert "notes.txt" not in hub.requested


def test_paths_of_this_machine_are_not_published(tmp_path: pathlib.Path, online: pytest.MonkeyPatch) -> None:
    local = {"backbone": str(tmp_path / "my-t5"), "init": str(tmp_path / "runs" / "first")}
    local |= {"fields": {"backbone.name": str(tmp_path / "my-t5"), "prompt.kind": "static"}}
    with served(WritableHub("rte"), online) as hub:
        ip.push_to_hub(ip.Prompt(VALUE, METADATA | local), "rte")
        fields = {"backbone.name": "my-t5", "prompt.kind": "static"}
        published = {"kind": "static", "backbone": "my-t5", "init": "first", "fields": fields}
        assert ip.load_prompt("ann/rte").metadata == METADATA | published
        assert not [file for file, content in hub.branches["main"].items() if str(tmp_path).encode() in content]


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("a/b/c", {}, "'a/b/c' is not a name on the hub: 'name' or 'user/name' was expected"),
        ("rte", {"token": None}, "'rte' cannot be written to the hub without an access token: log in with"),
        ("rte", {"token": "hf_of_ben"}, r"'rte' could not be written to the hub \(.*\): check the name, and that your"),
        ("ben/rte", {}, r"'ben/rte' could not be written to the hub \(.*\): check the name"),
        ("rte", {"writable": False}, r"'rte' could not be written to the hub \(.*\): check the name"),
        ("rte", {"offline": True}, "'rte' cannot be written to the hub, which cannot be reached"),
    ],
)
def test_what_the_hub_refuses_gets_one_sentence(
    name: str, changes: dict[str, Any], sentence: str, tmp_path: pathlib.Path, online: pytest.MonkeyPatch
) -> None:
    online.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
    if "token" in changes:
        online.setenv("HF_TOKEN", changes["token"] or "")
    online.setattr(constants, "HF_HUB_OFFLINE", changes.get("offline", False))
    with served(WritableHub("rte", changes.get("writable", True)), online) as hub:
        with pytest.raises(UserError, match=sentence) as error:
            ip.push_to_hub(ip.Prompt(VALUE), name)
        assert "\n" not in str(error.value) and not hub.commits


def test_what_cannot_be_downloaded_gets_one_sentence(online: pytest.MonkeyPatch) -> None:
    with served(WritableHub("rte"), online) as hub:
        with pytest.raises(UserError, match=r"'ann/rte' is neither a path here nor could it be downloaded .* \(.*\)"):
            ip.load_prompt("ann/rte")
        hub.exists, hub.branches["main"] = True, {"README.md": b"", "model.safetensors": b""}
        with pytest.raises(UserError, match=r"'ann/rte' on the hub holds no prompt: one of adapter_config\.json"):
            ip.load_prompt("ann/rte")
        assert not hub.requested
    with pytest.raises(OfflineError, match=r"'ann/rte' is neither a path here nor in the hub's local cache"):
        ip.load_prompt("ann/rte")


def test_two_prompts_in_one_directory_are_refused(tmp_path: pathlib.Path) -> None:
    """Whichever was read, it could be the wrong one."""
    ip.save_prompt(tmp_path / "both", ip.Prompt(VALUE))
    ip.save_prompt(tmp_path / "adapter", ip.Prompt(VALUE), "peft")
    for file in (tmp_path / "adapter").iterdir():
        file.rename(tmp_path / "both" / file.name)
    np.testing.assert_array_equal(ip.load_prompt(tmp_path / "both").value_PD, VALUE)
    file = tmp_path / "both" / "adapter_model.safetensors"
    save_file({"prompt_embeddings": 2 * load_file(file)["prompt_embeddings"]}, file)
    with pytest.raises(UserError, match=r"holds two prompts that differ: in prompt\.safetensors and in the PEFT"):
        ip.load_prompt(tmp_path / "both")


def test_the_card_states_the_metadata() -> None:
    text = card(ip.Prompt(VALUE, METADATA), "ann/rte", license="apache-2.0")
    _, header, body = text.split("---\n", 2)
    assert yaml.safe_load(header) == {
        "license": "apache-2.0",
        "datasets": ["aps/super_glue"],
        "metrics": ["accuracy", "f1"],
        "library_name": "infoprompt_jax",
        "tags": ["soft-prompt", "prompt-tuning", "peft"],
    }
    lines = body.splitlines()
    assert "# rte" in lines and "A soft prompt of 4 tokens for the frozen backbone nano." in lines
    assert not [line for line in lines if line.startswith("| templates")]
    assert {"| accuracy | 0.7500 |", "| macro_f1 | 0.5000 |", "| template | GPT-3 style |", "| step | 160 |"} <= {
        *lines
    }
    assert "| nearest tokens | &#60;pad>; a&#124;b |" in lines
    assert "Answer choices: Yes &#124;&#124;&#124; No" in lines
    start = lines.index("GPT-3 style:")
    assert lines[start + 2 : start + 5] == ["````text", "{{ a|upper }} <i>? ||| {{ c }}", "````"]


def test_the_cards_commands_are_those_that_the_record_needs() -> None:
    """Another ending of inputs is another backbone, and choices that differ are what `ip.predict` takes."""
    repeated = {**TEMPLATE, "answer_choices": "Yes ||| No ||| Yes"}
    metadata = METADATA | {"templates": [repeated], "fields": {"backbone.takes_eos": "no", "backbone.revision": ""}}
    text = card(ip.Prompt(VALUE, metadata), "user/mine")
    assert 'backbone = ip.load_backbone("nano", takes_eos="no")\n' in text
    assert 'prompt=prompt, choices=["Yes", "No"]))' in text


def test_metadata_cannot_spell_markup() -> None:
    """A prompt of somebody else may be pushed again: its metadata shows no picture, link or page of its own."""
    evil = "![x](http://e/t.png) `a` <b> *c* d\\|e\n# f"
    template = TEMPLATE | {"name": evil, "jinja": f"````\n{evil}\n`````"}
    texts = {"backbone": evil, "init": evil, "templates": [template], "metrics": {evil: evil}}
    lines = card(ip.Prompt(VALUE, METADATA | texts), "ann/rte").splitlines()
    shown = "!&#91;x&#93;(http://e/t.png) &#96;a&#96; &#60;b> &#42;c&#42; d&#92;&#124;e # f"
    assert {f"| init | {shown} |", f"| {shown} | {shown} |", f"{shown}:"} <= {*lines}
    assert f"A soft prompt of 4 tokens for the frozen backbone {shown}." in lines
    assert [line for line in lines if line.startswith("``````")] == ["``````text", "``````"]


def test_the_card_claims_nothing_that_the_metadata_lacks() -> None:
    text = card(ip.Prompt(VALUE), "ann/rte")
    header = yaml.safe_load(text.split("---\n")[1])
    assert header.keys() == {"library_name", "tags"}
    assert not re.search("license|accuracy|## T|None|nano", text)
    other = yaml.safe_load(card(instance_prompt(), "ann/rte").split("---\n")[1])
    assert "base_model" not in other and "peft" not in other["tags"]
    trained = {"backbone": "google/t5-base-lm-adapt", "task": "mine, glue/sst2, glue/cola"}
    header = yaml.safe_load(card(ip.Prompt(VALUE, trained), "ann/rte").split("---\n")[1])
    assert (header["base_model"], header["datasets"]) == (trained["backbone"], ["nyu-mll/glue"])


def test_the_cards_commands_load_the_prompt(online: pytest.MonkeyPatch) -> None:
    """As pasted, with nothing in the cache; PEFT's logits are ours."""
    tokens, targets = np.array([[5, 6, 7, 1]]), np.array([[8, 9, 1]])
    names: dict[str, Any] = {}
    with served(WritableHub("rte"), online) as hub:
        ip.push_to_hub(ip.Prompt(VALUE, dict(METADATA)), "rte")
        ours, pefts = blocks(hub.branches["main"]["README.md"].decode())
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(ours, names)
        assert ast.literal_eval(printed.getvalue())[0]["scores"].keys() == {"Yes", "No"}
        logits = names["backbone"].logits(tokens, targets, prompts=names["prompt"].value_PD)
        torch = pytest.importorskip("torch")
        pytest.importorskip("peft")
        exec(pefts, names)
    with torch.no_grad():
        expected = names["model"](input_ids=torch.tensor(tokens), labels=torch.tensor(targets)).logits
    np.testing.assert_allclose(logits, expected.numpy(), atol=1e-4)
