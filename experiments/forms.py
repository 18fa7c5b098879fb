"""Which form of InfoPrompt's terms is chosen, and whether it is confirmed: docs/claims.md, Protocol.

    python -m experiments.forms run [NAME ...] [--workdir runs/forms]    trains missing runs; again: resumes
    python -m experiments.forms report                                   writes the tables

A run is `experiments/forms_config.py:<text>` with a text of `RUNS`. Its result is results/forms/<name>.json.
"""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Sequence

from experiments import forms_report
from experiments.arms import Experiment
from experiments.forms_config import CHOOSING, CONFIRMING, SAME_CHOICES

CONFIG = pathlib.Path(__file__).with_name("forms_config.py")
RESULTS = pathlib.Path(__file__).parent / "results" / "forms"


def runs() -> list[str]:
    """The texts of all runs, in the order of their value: an interrupted experiment has the most important ones."""
    texts: list[str] = []
    for of in forms_report.ROUNDS:
        chosen = [f"{task},{of.primary},{a},{forms_report.CHOSEN}" for a in ("plain", *of.tried) for task in CHOOSING]
        texts += [text for text in chosen if not (text.startswith("causes") and ",labels," in text)]
        texts += confirming(of.primary, ("plain", of.form), of.seeds)
    for of in forms_report.ROUNDS:
        texts += confirming(of.long, ("plain", of.form), of.settings[of.long])
        texts += confirming(of.primary, (f"{of.form}-placebo",), of.seeds)
        texts += [f"{task},{of.primary},labels,{of.seeds}" for task in SAME_CHOICES]
        texts += confirming(of.primary, ("plain", of.form), f"{of.seeds},initial")
        for setting in sorted(of.settings.keys() - {of.primary, of.long}):
            texts += confirming(setting, ("plain", of.form), of.settings[setting])
    return texts


def confirming(setting: str, arms: Sequence[str], seeds: str) -> list[str]:
    return [f"{task},{setting},{arm},{seeds}" for task in CONFIRMING for arm in arms]


RUNS = {text.replace(",", "-"): text for text in runs()}
EXPERIMENT = Experiment(CONFIG, RUNS, RESULTS)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("what", choices=("run", "report"))
    options.add_argument("names", nargs="*", metavar="NAME", help="runs; none = all, in the order of their value")
    options.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("runs/forms"))
    chosen = options.parse_args()
    if chosen.what == "run":
        EXPERIMENT.run(chosen.names, chosen.workdir)
    else:
        forms_report.write(RESULTS)


if __name__ == "__main__":
    main()
