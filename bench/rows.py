"""Training on real rows: ours in buckets of similar length, PEFT's shuffled and padded a batch, as its users do.

    python -m bench.rows --data DIR [--vocabulary spiece.model] [--rows 128] [--out DIRECTORY]

A turn is a pass over the same rows, drawn from the training splits of SST-2 and RTE with all their templates. Ours
sorts windows of 16 batches by length, so that rows are a multiple of 16 batches. Batches are made within the time.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from bench import command, real
from bench.synthetic import PLAIN, SHAPES, Size
from bench.turns import Subject, Work, compare

DATA_SETS = {"sst2": "glue/sst2", "rte": "super_glue/rte"}
Tokens = list[tuple[np.ndarray, np.ndarray]]  # of rows: input and target


def stream(rows: list[Any], size: Size) -> Any:
    """The training batches of a run with these rows, one `Rows` a template."""
    from infoprompt_jax.data.batches import Stream, mixing_rates

    return Stream(rows, mixing_rates([len(part) for part in rows]), 0, size.batch)


def chosen(rows: list[Any], size: Size, batches: int) -> Tokens:
    """The rows of the first batches."""
    made, tokens = stream(rows, size), []
    for step in range(batches):
        for task, row in zip(*made.indices(step), strict=True):
            arrays = rows[task].arrays
            first, last = arrays["input_offsets"][row : row + 2]
            start, end = arrays["target_offsets"][arrays["target_index"][row] :][:2]
            tokens.append((arrays["input_tokens"][first:last], arrays["target_tokens"][start:end]))
    return tokens


def facts(tokens: Tokens, size: Size, padded: int) -> dict[str, Any]:
    """Counts of a pass; model FLOPs are those of real tokens and the prompt, the same for both sides."""
    from infoprompt_jax.t5.config import T5Config
    from infoprompt_jax.training import speed

    inputs, targets = (sum(len(pair[place]) for pair in tokens) for place in (0, 1))
    positions = inputs + size.prompt_length * len(tokens)
    return {
        "examples": len(tokens),
        "tokens": inputs + targets,
        "padding_share": 1 - inputs / padded,
        "model_flops": speed.step_flops(T5Config(**SHAPES[size.shape]), positions, targets),
        "device": "cpu",
    }


def ours(size: Size, rows: list[Any], batches: int) -> Work:
    """A pass: the run's own batches, placed and stepped."""
    import jax

    from bench.ours import assemble, backbone, configured, listened
    from infoprompt_jax.data.batches import train_batches

    config = configured(size, PLAIN)
    made, one = assemble(backbone(size.shape, "dots", 1), size, config), stream(rows, size)
    states = [made.state]

    def passed() -> Any:
        return train_batches([one], 0, batches, config.data.buckets, config.data.max_input_length, config.data.threads)

    def step() -> None:
        for batch in passed():
            placed = made.fleet.place(batch)
            states[0], metrics = made.fleet.step(states[0], made.backbone.frozen, placed, made.hyper, made.keys)
        jax.block_until_ready((states[0], metrics))

    padded = sum(batch["inputs"].size for batch in passed())
    return Work(step, facts(chosen(rows, size, batches), size, padded), listened())


def peft(size: Size, tokens: Tokens) -> Work:
    """A pass over the same rows in random order, each batch padded to its longest row."""
    import torch

    from bench.peft_step import model

    tuned = model(size)
    trained = [p for p in tuned.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.3)
    order = np.random.default_rng(0).permutation(len(tokens)).reshape(-1, size.batch)
    batches = [[tokens[row] for row in rows] for rows in order.tolist()]

    def step() -> None:
        for batch in batches:
            inputs, targets = (padded([pair[place] for pair in batch]) for place in (0, 1))
            labels = torch.where(targets == 0, -100, targets)
            loss = tuned(input_ids=inputs, attention_mask=(inputs != 0).long(), labels=labels).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            loss.item()

    positions = sum(max(len(pair[0]) for pair in batch) * len(batch) for batch in batches)
    return Work(step, facts(tokens, size, positions) | {"threads": torch.get_num_threads()}, dict)


def padded(rows: list[np.ndarray]) -> Any:
    """The rows as a tensor, filled up with 0 to the longest."""
    import torch

    return torch.nn.utils.rnn.pad_sequence([torch.tensor(row, dtype=torch.long) for row in rows], batch_first=True)


def subjects(size: Size, rows: list[Any], batches: int) -> list[Subject]:
    return [
        Subject("ours", "bench.rows:ours", {"size": size, "rows": rows, "batches": batches}),
        Subject("PEFT", "bench.rows:peft", {"size": size, "tokens": chosen(rows, size, batches)}),
    ]


def main(arguments: list[str] | None = None) -> None:
    options = command.parser("A pass over real training rows, ours and PEFT's, in turn.", rounds=3, steps=1)
    real.add_options(options)
    options.add_argument("--only", nargs="*", default=[*DATA_SETS], choices=[*DATA_SETS], help="of these data sets")
    options.add_argument("--batch", type=int, default=8)
    options.add_argument("--rows", type=int, default=128, help="rows of a pass; a multiple of 16 batches")
    given = options.parse_args(arguments)
    if given.rows % (16 * given.batch):
        options.error(f"--rows={given.rows} is no multiple of 16 batches of --batch={given.batch} rows.")
    size = Size(given.shape, batch=given.batch)
    if not given.data:
        print("rows: skipped, --data names no directory of rows.", flush=True)
        return
    for name, data_set in ((name, DATA_SETS[name]) for name in given.only):
        rows = real.read(given.data, data_set, "train", real.vocabulary(given.vocabulary))
        records = compare(subjects(size, rows, given.rows // given.batch), given.rounds, given.steps)
        about = {"size": dataclasses.asdict(size), "rounds": given.rounds, "steps": given.steps, "data_set": data_set}
        command.finish(given.out, f"rows-{name}-{given.shape}", records, **about)


if __name__ == "__main__":
    main()
