"""One training step: plain prompt tuning, PEFT's, and InfoPrompt's terms with features cached or recomputed.

python -m bench.train_step [--shape v1.0-small] [--out DIRECTORY]
python -m bench.train_step --against CHECKOUT       the plain step of this and of another checkout
"""

from __future__ import annotations

import dataclasses

from bench import command
from bench.synthetic import BOTH, PLAIN, Size
from bench.turns import Subject, compare


def subjects(size: Size, against: str) -> list[Subject]:
    """What is timed; `against` is the directory of another checkout, or ""."""

    def ours(name: str, fields: dict, checkout: str = "") -> Subject:
        return Subject(name, "bench.ours:train_step", {"size": size, "fields": fields}, checkout=checkout)

    plain = ours("plain", PLAIN)
    if against:
        return [plain, ours("plain, other checkout", PLAIN, against)]
    return [
        plain,
        Subject("PEFT", "bench.peft_step:train_step", {"size": size}),
        ours("both terms, features cached", BOTH),
        ours("both terms, features recomputed", BOTH | {"infoprompt.cache_features": False}),
    ]


def main(arguments: list[str] | None = None) -> None:
    options = command.parser("A training step, ours and PEFT's, in turn.")
    options.add_argument("--batch", type=int, default=8)
    options.add_argument("--against", default="", help="directory of another checkout: compare only its plain step")
    given = options.parse_args(arguments)
    size = Size(given.shape, batch=given.batch)
    records = compare(subjects(size, given.against), given.rounds, given.steps)
    name = f"train_step-{given.shape}" + ("-against" if given.against else "")
    command.finish(given.out, name, records, size=dataclasses.asdict(size), rounds=given.rounds, steps=given.steps)


if __name__ == "__main__":
    main()
