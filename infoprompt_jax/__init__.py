"""Soft prompts on a frozen T5 or T0, in JAX: trained (InfoPrompt), and retrieved for tasks without training (RoSPr).

    import infoprompt_jax as ip

    backbone = ip.load_backbone("google/t5-base-lm-adapt")
    prompt = ip.load_prompt("runs/rte/prompts/run")
    scores_BC = backbone.score(tokens_BL, choices_BCT, prompts=prompt)
    summary = ip.train(config, "runs/mine")

Training is also a command: `python -m infoprompt_jax.main --config=configs/rte.py`. A name is imported when it is first
used, so that `import infoprompt_jax` takes no time and needs no accelerator.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from infoprompt_jax.errors import ARGUMENTS, UserError, in_python

if TYPE_CHECKING:
    from infoprompt_jax.evaluation.metrics import register_metric
    from infoprompt_jax.infoprompt.estimators import mutual_information, register_estimator
    from infoprompt_jax.prompts.published import push_to_hub
    from infoprompt_jax.prompts.saved import Prompt, load_prompt, save_prompt
    from infoprompt_jax.rospr.keys import encode_keys
    from infoprompt_jax.rospr.library import PromptLibrary
    from infoprompt_jax.rospr.library_files import Entry
    from infoprompt_jax.rospr.library_sources import SourcePrompt
    from infoprompt_jax.serving.texts import predict
    from infoprompt_jax.t5.backbone import Backbone, load_backbone
    from infoprompt_jax.training.evaluate import evaluate
    from infoprompt_jax.training.train import train
    from infoprompt_jax.version import __version__ as __version__

__all__ = [
    "Backbone",
    "Entry",
    "Prompt",
    "PromptLibrary",
    "SourcePrompt",
    "UserError",
    "encode_keys",
    "evaluate",
    "load_backbone",
    "load_prompt",
    "mutual_information",
    "predict",
    "push_to_hub",
    "register_estimator",
    "register_metric",
    "save_prompt",
    "train",
]

_MODULES = {
    "Backbone": "t5.backbone",
    "Entry": "rospr.library_files",
    "Prompt": "prompts.saved",
    "PromptLibrary": "rospr.library",
    "SourcePrompt": "rospr.library_sources",
    "__version__": "version",
    "encode_keys": "rospr.keys",
    "evaluate": "training.evaluate",
    "load_backbone": "t5.backbone",
    "load_prompt": "prompts.saved",
    "mutual_information": "infoprompt.estimators",
    "predict": "serving.texts",
    "push_to_hub": "prompts.published",
    "register_estimator": "infoprompt.estimators",
    "register_metric": "evaluation.metrics",
    "save_prompt": "prompts.saved",
    "train": "training.train",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    if name in ARGUMENTS:
        value = globals()[name] = in_python(value, ARGUMENTS[name])
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
