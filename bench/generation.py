"""Greedy generation with a soft prompt: ours, and PEFT's on transformers' T5 in torch.

python -m bench.generation [--batch 32] [--tokens 32] [--shape v1.1-base] [--out DIRECTORY]
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from bench import command
from bench.synthetic import SHAPES, Size
from bench.turns import Subject, Work, compare


def facts(size: Size, tokens: int) -> dict[str, Any]:
    """Counts of one batch; model FLOPs are 2 N a position."""
    from infoprompt_jax.t5.config import T5Config
    from infoprompt_jax.training import speed

    positions = size.batch * (size.input_length + size.prompt_length)
    flops = speed.step_flops(T5Config(**SHAPES[size.shape]), positions, size.batch * tokens) / 2
    return {"examples": size.batch, "tokens": size.batch * tokens, "model_flops": flops, "device": "cpu"}


def ours(size: Size, tokens: int) -> Work:
    import jax

    from bench.ours import backbone, listened

    model = backbone(size.shape, "dots", 1)
    width = model.config.d_model
    prompt_PD = np.random.default_rng(0).standard_normal((size.prompt_length, width)).astype(np.float32)
    inputs = size.host_batch()["inputs"][0]
    return Work(
        lambda: jax.block_until_ready(model.generate(inputs, tokens, prompt_PD)), facts(size, tokens), listened()
    )


def peft(size: Size, tokens: int) -> Work:
    import torch

    from bench.peft_step import model

    tuned = model(size).eval()
    inputs = torch.tensor(size.host_batch()["inputs"][0], dtype=torch.long)
    # No end token: no row ends early.
    options = {"max_new_tokens": tokens, "do_sample": False, "num_beams": 1, "use_cache": True, "eos_token_id": None}

    def step() -> None:
        with torch.inference_mode():
            made = tuned.generate(input_ids=inputs, attention_mask=(inputs != 0).long(), **options)
        if made.shape[1] != tokens + 1:  # the start token comes first
            raise ValueError(f"continuations have {made.shape[1] - 1} tokens, expected {tokens}")

    return Work(step, facts(size, tokens) | {"threads": torch.get_num_threads()}, dict)


def subjects(size: Size, tokens: int) -> list[Subject]:
    arguments = {"size": size, "tokens": tokens}
    return [
        Subject("ours", "bench.generation:ours", arguments),
        Subject("PEFT and transformers", "bench.generation:peft", arguments),
    ]


def main(arguments: list[str] | None = None) -> None:
    options = command.parser("Greedy generation, ours and PEFT's, in turn.", rounds=3, steps=1)
    options.add_argument("--batch", type=int, default=32)
    options.add_argument("--tokens", type=int, default=32)
    given = options.parse_args(arguments)
    size = Size(given.shape, batch=given.batch)
    records = compare(subjects(size, given.tokens), given.rounds, given.steps)
    about = {"size": dataclasses.asdict(size), "tokens": given.tokens, "rounds": given.rounds, "steps": given.steps}
    command.finish(given.out, f"generation-{given.shape}", records, **about)


if __name__ == "__main__":
    main()
