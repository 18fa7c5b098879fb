"""Rank classification of real rows: one encoder pass for all answers, or torch with a whole pass for each, as t-zero.

    python -m bench.ranking --data DIR [--vocabulary spiece.model] [--rows 64] [--out DIRECTORY]

The same rows of RTE (2 answers) and HellaSwag (4) with one template and no prompt, in batches of 8. Torch's batches are
padded to their longest input and answer.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from bench import command, real
from bench.synthetic import SHAPES, Size
from bench.turns import Subject, Work, compare

DATA_SETS = {"rte": ("super_glue/rte", 2), "hellaswag": ("hellaswag", 4)}
Answers = list[tuple[np.ndarray, list[tuple[int, ...]]]]  # of rows: the input, and each answer


def answers(rows: Any) -> Answers:
    offsets, index = rows.arrays["input_offsets"], rows.arrays["choice_index"]
    tokens = rows.arrays["input_tokens"]
    return [(tokens[offsets[r] : offsets[r + 1]], rows.choice_list(int(index[r]))) for r in range(len(rows))]


def counted(pairs: Answers, size: Size, passes: bool) -> tuple[int, float]:
    """Tokens and FLOPs of one forward pass of the rows, without padding; `passes`: each answer has its own."""
    from infoprompt_jax.t5.config import T5Config
    from infoprompt_jax.training import speed

    inputs = sum(len(tokens) * (len(choices) if passes else 1) for tokens, choices in pairs)
    targets = sum(len(choice) for _, choices in pairs for choice in choices)
    return inputs + targets, speed.step_flops(T5Config(**SHAPES[size.shape]), inputs, targets) / 2  # no gradient


def facts(pairs: Answers, size: Size) -> dict[str, Any]:
    """Counts of a pass; model FLOPs are those of real tokens with one encoder pass a row, for both sides."""
    tokens, flops = counted(pairs, size, passes=False)
    return {"examples": len(pairs), "tokens": tokens, "model_flops": flops, "device": "cpu"}


def ours(size: Size, rows: Any) -> Work:
    """A pass of the evaluation's own loop."""
    from bench.ours import backbone, listened
    from infoprompt_jax import settings
    from infoprompt_jax.evaluation.predictions import Predictor, Prompted

    model, data = backbone(size.shape, "dots", 1), settings.defaults().data
    predictor = Predictor(model.tokenizer, size.batch, data.buckets, data.max_input_length, title="")

    def step() -> None:
        for _ in predictor.outputs(Prompted.with_each(model, [None]), [[rows]]):
            pass

    return Work(step, facts(answers(rows), size), listened())


def reencoded(size: Size, pairs: Answers) -> Work:
    """A pass in torch: each answer beside a copy of its input."""
    import torch

    from bench.peft_step import plain
    from bench.rows import padded

    model = plain(size).eval()
    batches = [pairs[start : start + size.batch] for start in range(0, len(pairs), size.batch)]

    def step() -> None:
        with torch.inference_mode():
            for batch in batches:
                inputs = padded([tokens for tokens, choices in batch for _ in choices])
                targets = padded([np.array(choice) for _, choices in batch for choice in choices])
                labels = torch.where(targets == 0, -100, targets)
                logits = model(input_ids=inputs, attention_mask=(inputs != 0).long(), labels=labels).logits
                scores = logits.log_softmax(dim=-1).gather(-1, targets[..., None])[..., 0]
                (scores * (targets != 0)).sum(dim=-1).tolist()

    return Work(step, facts(pairs, size) | {"threads": torch.get_num_threads()}, dict)


def subjects(size: Size, rows: Any) -> list[Subject]:
    return [
        Subject("ours", "bench.ranking:ours", {"size": size, "rows": rows}),
        Subject("torch, a pass a choice", "bench.ranking:reencoded", {"size": size, "pairs": answers(rows)}),
    ]


def main(arguments: list[str] | None = None) -> None:
    options = command.parser("Ranking real answers, ours and torch's, in turn.", rounds=3, steps=1)
    real.add_options(options)
    options.add_argument("--rows", type=int, default=64)
    given = options.parse_args(arguments)
    if not given.data:
        print("ranking: skipped, --data names no directory of rows.", flush=True)
        return
    tokenizer = real.vocabulary(given.vocabulary)
    for name, (data_set, choices) in DATA_SETS.items():
        every = real.read(given.data, data_set, "validation", tokenizer, limit=given.rows)
        rows = next(part for part in every if part.max_choices == choices)
        size = Size(given.shape, choices=choices)
        records = compare(subjects(size, rows), given.rounds, given.steps)
        once, each = (counted(answers(rows), size, passes)[1] for passes in (False, True))
        about = {"size": dataclasses.asdict(size), "rounds": given.rounds, "steps": given.steps, "template": rows.name}
        about |= {"by_arithmetic": each / once}
        command.finish(given.out, f"ranking-{name}-{given.shape}", records, **about)


if __name__ == "__main__":
    main()
