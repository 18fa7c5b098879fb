"""PEFT's prompt tuning on transformers' T5, in bfloat16, with torch's fused attention."""

from __future__ import annotations

import functools
import time
from typing import Any

import peft
import torch
import transformers

from bench.device.cases import NEW_TOKENS, Case
from bench.device.timing import repeated
from bench.synthetic import SHAPES, Size

DTYPE = torch.bfloat16


def device(shape: str) -> torch.device:
    """The GPU; for toy shapes also the CPU, where published shapes take hours."""
    if shape != "toy" and not torch.cuda.is_available():
        raise RuntimeError("torch has no GPU here: PEFT is measured only on NVIDIA GPUs")
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@functools.cache
def model(shape: str) -> Any:
    """An untrained, frozen T5 on the device, with as much of torch's fused attention as transformers supports."""
    sizes: dict[str, Any] = dict(SHAPES[shape])
    feed_forward, tied = sizes.pop("feed_forward"), sizes.pop("tied")
    sizes.pop("scale_decoder_outputs")  # follows from `tied`
    sizes |= {"feed_forward_proj": feed_forward, "tie_word_embeddings": tied, "decoder_start_token_id": 0}
    config = transformers.T5Config(**sizes, dropout_rate=0.0)
    with device(shape):
        kind = transformers.T5ForConditionalGeneration
        made = kind._from_config(config, dtype=DTYPE, attn_implementation="sdpa")
    return made.requires_grad_(False)


@functools.cache
def tuned(shape: str, prompt_length: int) -> Any:
    """The model with a prompt before its encoder's input."""
    tuning = peft.PromptTuningConfig(
        task_type=peft.TaskType.SEQ_2_SEQ_LM, num_virtual_tokens=prompt_length, num_transformer_submodules=1
    )
    torch.manual_seed(0)
    return peft.get_peft_model(model(shape), tuning).to(device(shape))


def train(case: Case) -> dict[str, Any]:
    """Forward, backward, clipping and AdamW, only on the prompt; the batch is already on the device."""
    switches = case.options
    prompted = tuned(case.size.shape, case.size.prompt_length).train()
    batch = on_device(case.size)
    trained = [parameter for parameter in prompted.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.3)
    last: list[Any] = [None]

    def step() -> None:
        last[0] = prompted(**batch, use_cache=False).loss  # a cache is only for generation
        last[0].backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    base, blocks = prompted.get_base_model(), layers(prompted)
    if switches.get("checkpointed"):
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    try:
        torch.compiler.reset()  # its limit of programs for one function includes those of other batches
        for block in blocks if switches.get("compiled") else ():
            block.compile()  # layers of one kind share a program
        facts = measured(case, step)
    finally:
        base.gradient_checkpointing_disable()
        for block in blocks:
            block._compiled_call_impl = None
    return facts | {"loss": float(last[0].detach())}


def generate(case: Case) -> dict[str, Any]:
    """Greedy decoding of `NEW_TOKENS` tokens a row, with a key/value cache."""
    prompted = tuned(case.size.shape, case.size.prompt_length).eval()
    batch = on_device(case.size)
    del batch["labels"]
    lengths: list[int] = []

    def step() -> None:
        with torch.inference_mode():
            # No end token: no row ends early, and none is checked for it.
            made = prompted.generate(
                **batch, max_new_tokens=NEW_TOKENS, do_sample=False, num_beams=1, use_cache=True, eos_token_id=None
            )
        lengths.append(made.shape[1] - 1)  # the start token comes first

    facts = measured(case, step)
    if set(lengths) != {NEW_TOKENS}:
        raise ValueError(f"continuations had {sorted(set(lengths))} tokens, expected {NEW_TOKENS}")
    return facts


def product(case: Case) -> dict[str, Any]:
    """The matrix products of `ours.product`."""
    where, sizes = device(case.size.shape), SHAPES[case.size.shape]
    rows = case.size.batch * (case.size.input_length + case.size.prompt_length)
    shapes = ((rows, sizes["d_model"]), (sizes["d_model"], sizes["d_ff"]), (sizes["d_ff"], sizes["d_model"]))
    x, into, back = (torch.randn(shape, dtype=DTYPE, device=where) for shape in shapes)
    return measured(case, lambda: (x @ into) @ back)


def measured(case: Case, step: Any) -> dict[str, Any]:
    """The times of `step`, with its first run apart, and the peak memory of this case's tensors."""
    where = device(case.size.shape)
    cuda = where.type == "cuda"
    wait = torch.cuda.synchronize if cuda else lambda: None
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    since = time.perf_counter()
    step()
    wait()
    facts: dict[str, Any] = {"compile_seconds": time.perf_counter() - since, **repeated(step, wait, case.seconds)}
    if cuda:
        facts |= {"memory_bytes": torch.cuda.max_memory_allocated(), "device": torch.cuda.get_device_name()}
    else:
        facts["device"] = "cpu"
    attention = {} if case.kind == "product" else {"attention": model(case.size.shape).config._attn_implementation}
    return facts | {"devices": 1, "platform": where.type} | attention


def on_device(size: Size) -> dict[str, torch.Tensor]:
    rows, where = size.host_batch(), device(size.shape)
    batch = {name: torch.tensor(rows[name][0], dtype=torch.long, device=where) for name in ("inputs", "targets")}
    return {
        "input_ids": batch["inputs"],
        "attention_mask": (batch["inputs"] != 0).long(),
        "labels": batch["targets"],
    }


def layers(prompted: Any) -> list[Any]:
    base = prompted.get_base_model()
    return [*base.encoder.block, *base.decoder.block]
