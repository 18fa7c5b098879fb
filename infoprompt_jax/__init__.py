"""Soft prompts on a frozen T5 or T0, in JAX: trained (InfoPrompt), and retrieved for tasks without training (RoSPr).

    import infoprompt_jax as ip

    backbone = ip.load_backbone("google/t5-base-lm-adapt")
    prompt = ip.load_prompt("runs/rte/prompts/run")
    scores_BC = backbone.score(tokens_BL, choices_BCT, prompts=prompt.value_PD)

Training is a command: `python -m infoprompt_jax.main --config=configs/rte.py`.
"""

from infoprompt_jax.errors import UserError
from infoprompt_jax.infoprompt.estimators import mutual_information
from infoprompt_jax.prompts.saved import Prompt, load_prompt, save_prompt
from infoprompt_jax.rospr.keys import encode_keys
from infoprompt_jax.rospr.library import PromptLibrary
from infoprompt_jax.t5.backbone import Backbone, load_backbone

__all__ = [
    "Backbone",
    "Prompt",
    "PromptLibrary",
    "UserError",
    "encode_keys",
    "load_backbone",
    "load_prompt",
    "mutual_information",
    "save_prompt",
]
