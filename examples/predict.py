"""Predicts rows that are in memory, with a saved prompt.

    python -m examples.train
    python -m examples.predict

The first command trains the prompt, in a minute and without a download. A saved prompt records its backbone, its
template and its answer choices, so that a row needs only the columns that the template names. docs/predict.md has the
rest: files of rows, a prompt for each row, several templates.
"""

from __future__ import annotations

import math

import infoprompt_jax as ip

PROMPT = "runs/example/prompts/run"
PREMISE = "Clara cleaned the brown tram in the cellar. Simon bought the black wardrobe in the library."
ROWS = [
    {"premise": PREMISE, "hypothesis": "Clara cleaned a vehicle in the cellar."},
    {"premise": PREMISE, "hypothesis": "Simon cleaned a vehicle in the cellar."},
]


def main() -> None:
    prompt = ip.load_prompt(PROMPT)
    backbone = ip.load_backbone(prompt.metadata["backbone"])
    for row, answer in zip(ROWS, ip.predict(backbone, ROWS, prompt), strict=True):
        scores = ", ".join(f"{choice} {math.exp(score):.2f}" for choice, score in answer["scores"].items())
        print(f"{row['hypothesis']} {answer['prediction']} (probabilities: {scores})")


if __name__ == "__main__":
    main()
