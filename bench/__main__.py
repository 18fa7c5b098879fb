"""`python -m bench`: training step against PEFT, XLA's counts, fleet, levers and search; takes some minutes."""

from __future__ import annotations

import sys

from bench import fleet, flops, levers, search, train_step

if __name__ == "__main__":
    for part in (train_step, flops, fleet, levers, search):
        part.main(sys.argv[1:])
