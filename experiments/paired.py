"""Members of a fleet compared in pairs.

A preset's member and the plain one of the same seed start from the same prompt and see the same batches, so that their
difference is taken seed by seed. Intervals are over the seeds (experiments/estimates.py). The tasks of a mean over
tasks and the test rows are fixed: intervals cover neither other tasks nor other rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.claims_results import Result
from experiments.estimates import Estimate, ratio_of_deviations, student
from infoprompt_jax import member_names

Member = Mapping[str, Any]


def of_preset(result: Result, preset: str) -> list[Member]:
    """The preset's members in the order of their seeds; `preset` may have a name before it, as in `x3-both`."""
    names = member_names.by_seed(result["members"]).get(preset, [])
    return [result["members"][name] for name in sorted(names, key=lambda name: member_names.seed(name) or 0)]


def having(results: Sequence[Result], preset: str) -> list[Result]:
    """The runs that have members of the preset."""
    return [result for result in results if of_preset(result, preset)]


def values(result: Result, preset: str, field: str) -> np.ndarray:
    """[seeds]: a field of the preset's members, in the order of the seeds.

    Two fields are computed from the validation accuracies: `mean curve`, over a member's evaluations, and `last`. A
    member that never reached the quality counts with the step after the last evaluation.
    """
    return np.array([_value(member, field) for member in of_preset(result, preset)])


def _value(member: Member, field: str) -> float:
    curve = member["curve"]
    if field == "mean curve":
        return float(np.mean([value for _, value in curve]))
    if field == "last":
        return curve[-1][1]
    if field == "steps_to_quality" and member[field] is None:
        return curve[-1][0] + curve[1][0] - curve[0][0]
    return member[field]


def gains(result: Result, preset: str, field: str) -> np.ndarray:
    """[seeds]: the preset minus plain prompt tuning."""
    return values(result, preset, field) - values(result, "plain", field)


def difference(result: Result, preset: str, field: str, base: Result | None = None, plain: str = "plain") -> Estimate:
    """Mean of the paired differences to plain prompt tuning, whose members are those of `base` if it is given.

    Raises:
      ValueError: the two runs have different seeds, rows or backbones.
    """
    base = base or result
    check_pairs(base, result)
    return student(values(result, preset, field) - values(base, plain, field))


def mean_gains(results: Iterable[Result], preset: str, field: str) -> np.ndarray:
    """[seeds]: the preset minus plain prompt tuning, each seed's mean over the runs."""
    return np.mean([gains(result, preset, field) for result in results], axis=0)


def pooled(results: Iterable[Result], preset: str, field: str) -> Estimate:
    """The mean over runs of the paired differences."""
    return student(mean_gains(results, preset, field))


def spread(results: Iterable[Result], preset: str, field: str) -> Estimate:
    """Standard deviation over seeds, the preset's over plain prompt tuning's: the geometric mean over runs."""
    pairs = [[values(result, name, field) for name in (preset, "plain")] for result in results]
    return ratio_of_deviations(np.array(pairs))


def joined(base: Result, terms: Result) -> Result:
    """A run of `pair` with the members of `terms`: head and representation, which ran apart from it.

    Raises:
      ValueError: the two runs have different seeds, rows, backbones or evaluated steps.
    """
    check_pairs(base, terms)
    if _steps(base) != _steps(terms):
        raise ValueError(f"{terms['run']} does not belong to {base['run']}: they were evaluated at other steps.")
    reached = {
        name: next((step for step, value in member["curve"] if value >= base["quality"]), None)
        for name, member in terms["members"].items()
    }
    members = {name: {**member, "steps_to_quality": reached[name]} for name, member in terms["members"].items()}
    return {**base, "members": {**base["members"], **members}}


def check_pairs(base: Result, other: Result) -> None:
    """Whether members of the two runs can be compared seed by seed.

    Raises:
      ValueError: the two runs have different seeds, rows or backbones.
    """
    one, two = base["fingerprints"], other["fingerprints"]  # older results have fewer
    same = all(one[name] == two[name] for name in one.keys() & two.keys())
    if not same or _pairing(base) != _pairing(other):
        raise ValueError(f"{other['run']} does not belong to {base['run']}: seeds, rows or backbone differ.")


def _pairing(result: Result) -> tuple[Any, ...]:
    return {member_names.seed(name) for name in result["members"]}, result["training_examples"]


def _steps(result: Result) -> set[tuple[int, ...]]:
    return {tuple(step for step, _ in member["curve"]) for member in result["members"].values()}
