"""A soft prompt for your own data: files and three lines of template, no code to write.

Put your rows into DATA/mine/train.jsonl and DATA/mine/validation.jsonl (or another format of docs/data.md):

    {"review": "Arrived late, but works.", "stars": "good"}

and write a template that shows a row to the model, in jinja2 over the row's fields:

    python -m infoprompt_jax.main --config=configs/own_data.py --config.data.dir=DATA

T5 base, LM-adapted, is downloaded; --config.backbone.name=MODEL_DIRECTORY reads a local checkpoint. The variant `mini`
needs no network: its backbone, which reads English, is in the package (docs/mini.md). With the repository's example
rows, {"text": "The ferry to the castle leaves at nine.", "topic": "travel"}, and a template for them:

    python -m infoprompt_jax.main --config=configs/own_data.py:mini --config.data.dir=examples/data \
        --config.task.input="{{ text }} What is this about?" --config.task.target="{{ topic }}" \
        --config.task.answer_choices="sports ||| money ||| computers ||| travel"

`task.answer_choices` lists the answers that the model may give, separated by |||; `task.target` must render to one of
them. With an integer `label` field, the target is {{ answer_choices[label] }}. Leave `answer_choices` empty for free
text: the model then generates its answer, which is scored by exact match.

Several templates go into a file in promptsource's format instead, TEMPLATES/mine/templates.yaml (docs/data.md shows
one), and the variant `templates` leaves out the template of this config:

    python -m infoprompt_jax.main --config=configs/own_data.py:templates --config.data.dir=DATA \
        --config.task.templates_dir=TEMPLATES

The other variants are those of `rte.py`, as in --config=configs/own_data.py:64,smoke.
"""

from __future__ import annotations

import ml_collections

from infoprompt_jax import settings, variants


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    config = settings.defaults()
    config.data.dir = "data"
    config.task.name = "mine"
    config.train.steps = 1000
    names = variant.split(",")
    if "templates" not in names:
        config.task.input = "Review: {{ review }}\nIs the customer's opinion of the product good or bad?"
        config.task.target = "{{ stars }}"
        config.task.answer_choices = "good ||| bad"
    return variants.apply(config, ",".join(name for name in names if name != "templates"))
