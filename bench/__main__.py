"""All measurements on the default shape: a training step beside PEFT's, XLA's counts, the levers. Some minutes."""

from __future__ import annotations

import sys

from bench import flops, levers, train_step

if __name__ == "__main__":
    for part in (train_step, flops, levers):
        part.main(sys.argv[1:])
