"""Prompt tuning with PEFT on transformers' T5, in torch: the same shapes, tokens and work as `bench.ours`."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

from bench.synthetic import SHAPES, Size
from bench.turns import Work


def plain(size: Size) -> Any:
    """An untrained T5 of transformers."""
    import torch
    import transformers

    torch.manual_seed(0)
    shape: dict[str, Any] = dict(SHAPES[size.shape])
    feed_forward, tied = shape.pop("feed_forward"), shape.pop("tied")
    shape.pop("scale_decoder_outputs")  # follows from `tied`
    shape |= {"feed_forward_proj": feed_forward, "tie_word_embeddings": tied, "decoder_start_token_id": 0}
    config = transformers.T5Config(**shape, dropout_rate=0.0)
    return transformers.T5ForConditionalGeneration(config)


def model(size: Size) -> Any:
    """The T5, frozen, with a prompt before its encoder's input."""
    return prompted(plain(size), size)


def loaded(checkpoint: pathlib.Path, size: Size) -> Any:
    """The T5 of a directory, frozen, with a prompt before its encoder's input."""
    import torch
    import transformers

    read = transformers.T5ForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32)
    return prompted(read, size)


def prompted(frozen: Any, size: Size) -> Any:
    import peft

    tuning = peft.PromptTuningConfig(
        task_type=peft.TaskType.SEQ_2_SEQ_LM, num_virtual_tokens=size.prompt_length, num_transformer_submodules=1
    )
    return peft.get_peft_model(frozen, tuning).train()


def train_step(size: Size) -> Work:
    """Forward, backward, clipping and AdamW, only on the prompt and in float32."""
    import torch

    facts = {**size.counts(), "model_flops": _flops(size), "device": "cpu", "threads": torch.get_num_threads()}
    return Work(stepped(model(size), size), facts, dict)


def stepped(tuned: Any, size: Size) -> Callable[[], None]:
    """The step of a model with a prompt."""
    import torch

    trained = [p for p in tuned.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.3)
    batch = {name: torch.tensor(rows[0], dtype=torch.long) for name, rows in size.host_batch().items()}
    mask = (batch["inputs"] != 0).long()

    def step() -> None:
        loss = tuned(input_ids=batch["inputs"], attention_mask=mask, labels=batch["targets"]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()

    return step


def _flops(size: Size) -> float:
    """The count of `bench.ours`: 4 FLOPs a weight and position, without attention."""
    from infoprompt_jax.t5.config import T5Config
    from infoprompt_jax.training import speed

    positions = size.input_length + size.prompt_length
    return speed.step_flops(T5Config(**SHAPES[size.shape]), size.batch * positions, size.batch * size.target_length)
