"""All measurements: a training step beside PEFT's, XLA's counts, a fleet, the levers, search. Some minutes."""

from __future__ import annotations

import sys

from bench import fleet, flops, levers, search, train_step

if __name__ == "__main__":
    for part in (train_step, flops, fleet, levers, search):
        part.main(sys.argv[1:])
