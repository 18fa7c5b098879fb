"""All measurements: a training step beside PEFT's, XLA's counts, the levers, search. Some minutes."""

from __future__ import annotations

import sys

from bench import flops, levers, search, train_step

if __name__ == "__main__":
    for part in (train_step, flops, levers, search):
        part.main(sys.argv[1:])
