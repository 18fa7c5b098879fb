"""A model card: the README.md of a prompt's repository on the hub, written from the prompt's metadata.

It states what the metadata holds and nothing else. The front matter is YAML, as the hub reads it.
"""

from __future__ import annotations

import json
import re
from typing import Any

from infoprompt_jax.plain_text import in_markdown
from infoprompt_jax.prompts.hub import is_identifier
from infoprompt_jax.prompts.saved import Prompt

# The hub's names of data sets and metrics, where they are not ours; a data set that is not listed here is in the text.
DATASETS = {
    "glue": "nyu-mll/glue",
    "super_glue": "aps/super_glue",
    "sem_eval_2010_task_8": "SemEvalWorkshop/sem_eval_2010_task_8",
}
METRICS = {"macro_f1": "f1", "matthews": "matthews_correlation"}
ELSEWHERE = ("metrics", "templates", "fields")  # shown in a section of their own, or in prompt.json alone
LOADED = {"revision": "", "tokenizer": "", "takes_eos": "auto"}  # of the backbone, with the defaults of their fields
EMBEDDED = "nano"
NANO = 'pathlib.Path(ip.__file__).parent / "nano" / "backbone"'


def card(prompt: Prompt, name: str, license: str | None = None) -> str:
    """The text of a prompt's README.md.

    Args:
      prompt: whose metadata is described; what it lacks is left out.
      name: of its repository, user/name.
      license: the hub's name of one, such as apache-2.0; None = the card names none.
    """
    parts = [introduction(prompt, name), usage(prompt, name), templates(prompt), training(prompt)]
    return front_matter(prompt, license) + "\n" + "\n".join(part for part in parts if part)


def front_matter(prompt: Prompt, license: str | None) -> str:
    """The YAML block that the hub reads: licence, base model, data sets, metrics and tags."""
    from huggingface_hub import ModelCardData

    backbone: str | None = prompt.metadata.get("backbone")
    metrics: dict[str, float] = prompt.metadata.get("metrics") or {}
    data = ModelCardData(
        license=license,
        base_model=backbone if is_identifier(str(backbone)) else None,
        datasets=list(dict.fromkeys(DATASETS[c] for c in _collections(prompt) if c in DATASETS)) or None,
        metrics=list(dict.fromkeys(METRICS.get(metric, metric) for metric in metrics)) or None,
        library_name="infoprompt_jax",
        tags=["soft-prompt", "prompt-tuning", *(["peft"] if prompt.kind == "static" else [])],
    )
    return f"---\n{data.to_yaml()}\n---\n"


def introduction(prompt: Prompt, name: str) -> str:
    """What the prompt is, and a table of its metrics."""
    length, backbone = len(prompt.value_PD), prompt.metadata.get("backbone")
    kind = "An instance-conditioned soft prompt" if prompt.kind == "instance" else "A soft prompt"
    text = f"# {name.rpartition('/')[2]}\n\n{kind} of {length} tokens"
    text += f" for the frozen backbone {_cell(backbone)}.\n" if backbone else ".\n"
    if metrics := prompt.metadata.get("metrics"):
        rows = "".join(f"| {_cell(metric)} | {_number(value)} |\n" for metric, value in metrics.items())
        text += f"\n| metric | value |\n| --- | --- |\n{rows}"
    return text


def usage(prompt: Prompt, name: str) -> str:
    """How the prompt is used: by this package and, if it is static, by PEFT."""
    backbone = prompt.metadata.get("backbone") or "BACKBONE"
    choices = _choices(prompt)
    text = f"""\
## Use

```python
import infoprompt_jax as ip

backbone = ip.load_backbone({_quoted(backbone)}{_keywords(prompt)})
prompt = ip.load_prompt({_quoted(name)})
print(ip.predict(backbone, ["A text."], prompt=prompt{f", choices={_quoted(choices)}" if choices else ""}))
```
"""
    if prompt.kind == "instance":
        return f"{text}\nPEFT cannot hold an instance-conditioned prompt.\n"
    imports = "import pathlib\n\nimport infoprompt_jax as ip\n" if backbone == EMBEDDED else ""
    return f"""\
{text}
The repository also holds the prompt as a PEFT adapter. It gives the same logits:

```python
{imports}import peft
import transformers

t5 = transformers.AutoModelForSeq2SeqLM.from_pretrained({NANO if backbone == EMBEDDED else _quoted(backbone)})
model = peft.PeftModel.from_pretrained(t5, {_quoted(name)})
```
{_dropped(prompt)}"""


def templates(prompt: Prompt) -> str:
    """The templates that the prompt was trained with, as promptsource writes them."""
    text = ""
    for template in prompt.metadata.get("templates") or []:
        answers, jinja = template.get("answer_choices"), str(template.get("jinja", ""))
        fence = "`" * max(4, 1 + max(map(len, re.findall("`+", jinja)), default=0))
        text += f"\n{_cell(template.get('name', 'template'))}:\n\n{fence}text\n{jinja}\n{fence}\n"
        text += f"\nAnswer choices: {_cell(answers)}\n" if answers else ""
    return f"## Templates\n{text}" if text else ""


def training(prompt: Prompt) -> str:
    """A table of the rest of the metadata."""
    left = {key: value for key, value in prompt.metadata.items() if key not in ELSEWHERE}
    shown = {key: value for key, value in left.items() if value not in (None, "", [], {})}
    if not shown:
        return ""
    rows = "".join(f"| {_cell(key.replace('_', ' '))} | {_cell(value)} |\n" for key, value in shown.items())
    return f"## Training\n\n| what | value |\n| --- | --- |\n{rows}"


def _quoted(value: Any) -> str:
    """A string or a list of strings as Python writes it, in double quotes."""
    return json.dumps(value, ensure_ascii=False)


def _dropped(prompt: Prompt) -> str:
    parts = sorted({tensor.partition("/")[0] for tensor in prompt.tensors})
    if not parts:
        return ""
    names = ", ".join(parts)
    return f"\nThe adapter holds the prompt alone. What was trained with it is in `prompt.safetensors`: {names}.\n"


def _choices(prompt: Prompt) -> list[str]:
    """The answer choices that all templates write alike; [] where there are none, or rows have their own."""
    written = {template.get("answer_choices") for template in prompt.metadata.get("templates") or []}
    (one,) = written if len(written) == 1 else ("",)
    return list(dict.fromkeys(choice.strip() for choice in one.split("|||"))) if one and "{" not in one else []


def _keywords(prompt: Prompt) -> str:
    """The arguments of `load_backbone` without which it loads another backbone than the recorded one."""
    fields = prompt.metadata.get("fields")
    given = (
        {name: fields.get(f"backbone.{name}", default) for name, default in LOADED.items()}
        if isinstance(fields, dict)
        else {}
    )
    return "".join(f", {name}={_quoted(value)}" for name, value in given.items() if value != LOADED[name])


def _collections(prompt: Prompt) -> list[str]:
    """Of super_glue/rte, super_glue; of all data sets that the prompt was trained on."""
    return [task.strip().partition("/")[0] for task in str(prompt.metadata.get("task", "")).split(",")]


def _cell(value: Any) -> str:
    """A value as text that stays in one cell of a table and is no markup."""
    if isinstance(value, dict):
        value = [f"{key}: {item}" for key, item in value.items()]
    text = "; ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return in_markdown(text)


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else _cell(value)
