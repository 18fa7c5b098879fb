"""Retrieves a soft prompt for an unseen task from a library, without training, and predicts with it.

    python -m infoprompt_jax.main --config=configs/nano_rospr.py:sources
    python -m examples.retrieval

The first command trains prompts of 20 data sets into a library, without a download. The texts of the unseen task are
encoded as the library's keys were. Each votes for the prompts of its nearest keys; the three prompts with most votes
are averaged by their votes. docs/rospr.md has the method and its results.
"""

from __future__ import annotations

import infoprompt_jax as ip

LIBRARY = "runs/nano_rospr-sources/library"
TEXTS = [
    "Clara cleaned the brown tram in the cellar. Does it follow that Clara cleaned a vehicle?",
    "Ella painted the pink ant in the museum. Does it follow that Linda painted the ant?",
    "Henry lost the blue ball in the garden. Does it follow that Henry lost a ball?",
]


def tokens(backbone: ip.Backbone, texts: list[str]) -> list[list[int]]:
    """Token ids [Q, L]: each row ends in </s>, which is 1, and is padded with 0."""
    rows = [[*ids, 1] for ids in backbone.tokenizer.encode(texts)]
    return [row + [0] * (max(map(len, rows)) - len(row)) for row in rows]


def main() -> None:
    library = ip.PromptLibrary.load(LIBRARY)
    backbone = ip.load_backbone("nano")
    choice = library.retrieve(ip.encode_keys(backbone, tokens(backbone, TEXTS)), top=10, interpolate=3)
    for owner, weight in zip(choice.owners, choice.weights, strict=True):
        print(f"{weight:.2f} {library.entries[owner].name}")
    for text, answer in zip(TEXTS, ip.predict(backbone, TEXTS, choice.prompt_PD, choices=["yes", "no"]), strict=True):
        print(text, answer["prediction"])


if __name__ == "__main__":
    main()
