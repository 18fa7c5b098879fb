"""`python -m bench`: what compares speed, in under twenty minutes on two cores. `python -m bench report`: the page."""

from __future__ import annotations

import sys

from bench import fleet, flops, generation, levers, report, search, shares, start, train_step

if __name__ == "__main__":
    if sys.argv[1:] == ["report"]:
        report.main()
    else:
        for part in (train_step, shares, flops, fleet, levers, search, generation, start):
            part.main(sys.argv[1:])
