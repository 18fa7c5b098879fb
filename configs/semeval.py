"""A soft prompt for SemEval-2010 task 8 (relation classification, 19 labels), scored by macro F1.

    python -m infoprompt_jax.main --config=configs/semeval.py --config.data.dir=DATA

TFDS does not have this data set: it is read from files, sem_eval_2010_task_8/{train,test}.jsonl under `data.dir`, with
fields `sentence` and `relation` (0 to 18, in the order of Hugging Face's version). It has no validation split: the last
1,000 training rows pick the best prompt, and the test split is scored once, at the end. There is one template, because
19 choices make evaluation slow. T5 base, LM-adapted, is downloaded. The variants are those of `rte.py`, as in
--config=configs/semeval.py:64,smoke.
"""

from __future__ import annotations

import ml_collections

from infoprompt_jax import settings, variants


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    config = settings.defaults()
    config.task.name = "sem_eval_2010_task_8"
    config.task.template = "phrase"
    config.task.train_split = "train[:7000]"
    config.task.eval_split = "train[7000:]"
    config.task.test_split = "test"
    config.task.metric = "macro_f1"
    config.prompt.init = "labels"
    config.train.steps = 8000
    config.train.eval_batch_size = 32
    return variants.apply(config, variant)
