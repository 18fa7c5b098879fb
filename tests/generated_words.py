"""A small task in files, which an untrained backbone can learn: a line of animals or of tools, and which are more."""

from __future__ import annotations

import json
import pathlib
import random

from infoprompt_jax.files import whole

ANIMALS = ("ant", "bat", "cat", "dog", "eel", "fox", "gnu", "hen")
TOOLS = ("axe", "bit", "drill", "file", "hammer", "jig", "level", "plane")
ROWS = {"train": 512, "validation": 128}


def row(choose: random.Random) -> dict[str, str | int]:
    label = choose.randrange(2)
    majority = choose.randrange(5, 8)
    words = choose.choices((ANIMALS, TOOLS)[label], k=majority) + choose.choices(
        (TOOLS, ANIMALS)[label], k=7 - majority
    )
    choose.shuffle(words)
    return {"words": " ".join(words), "label": label}


def write(directory: pathlib.Path) -> None:
    """Writes generated/words/{train,validation}.jsonl; the same rows every time."""
    choose = random.Random(0)
    for split, count in ROWS.items():
        with whole(directory / "generated" / "words" / f"{split}.jsonl") as partial:
            partial.write_text("".join(json.dumps(row(choose)) + "\n" for _ in range(count)))
