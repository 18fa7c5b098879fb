"""A soft prompt for RTE (textual entailment, 2,490 training examples), scored by accuracy.

    python -m infoprompt_jax.main --config=configs/rte.py
    python -m infoprompt_jax.main --config=configs/rte.py:3b        also: infoprompt, 11b, 64, 256, ...

The first writes to runs/rte, the second to runs/rte-3b; --workdir=DIR names another directory. The backbone, T5 base or
XL, LM-adapted, is downloaded. Data come from TFDS, or from files under `data.dir` as
super_glue/rte/{train,validation}.jsonl:

    ... --config.data.dir=DATA --config.backbone.name=MODEL_DIRECTORY

All templates of the data set are trained on as a mixture: the package's own, or promptsource's with
--config.task.templates_dir=DIR. Variants, joined by commas; if two set one field, the later counts:
    infoprompt   adds InfoPrompt's two terms, weighted as in the released code. They are off by default, because the
                 measurements so far show no gain (docs/claims.md)
    3b, 11b      the larger LM-adapted T5s, in bfloat16 with micro-batches; set mesh.fsdp to spread the weights
    64, 256      few-shot, with a prompt of 20 tokens, as is usual there
    nano         needs no network: a tiny embedded backbone, real rows if data.dir has them, else generated ones
    mini         an embedded backbone that reads English, with real rows; those in data.dir need no network
    smoke        a few steps on a few examples, to check that everything works here

Four paired seeds with and without the terms, in one run:

    python -m infoprompt_jax.main --config=configs/rte.py:infoprompt \
        --config.fleet.seeds="(0,1,2,3)" --config.fleet.presets="('both','plain')"
"""

from __future__ import annotations

import ml_collections

from infoprompt_jax import settings, variants


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    config = settings.defaults()
    config.task.name = "super_glue/rte"
    config.prompt.init = "labels"  # label words, then sampled vocabulary
    config.train.steps = 4000
    return variants.apply(config, variant)
