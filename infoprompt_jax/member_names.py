"""The names of a fleet's members: `[<name>-]<preset>[-seed<n>]`, as in `plain`, `both-seed3` and `fast-both-seed3`.

`fast` is the name that `fleet.members` gives, `both` the preset and 3 the seed. Members that differ only in their seed
are repetitions of one run: figures draw them in one colour, and tables give their mean and standard deviation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

SEED = "-seed"


def compose(name: str | None, preset: str | None, seed: int | None) -> str:
    """The name of a member; `run` where it has neither name nor preset."""
    stem = "-".join(str(part) for part in (name, preset) if part) or "run"
    return stem if seed is None else f"{stem}{SEED}{seed}"


def without_seed(member: str) -> str:
    """`fast-both` for the member `fast-both-seed3`; a name without a seed stays as it is."""
    stem, _, seed = member.rpartition(SEED)
    return stem if stem and seed.isdigit() else member


def seed(member: str) -> int | None:
    """3 for the member `both-seed3`, None for `both`."""
    stem = without_seed(member)
    return None if stem == member else int(member[len(stem) + len(SEED) :])


def split(member: str) -> tuple[str, str]:
    """The name and the preset: (`fast`, `both`) for the member `fast-both-seed3`, ("", `both`) for `both-seed3`."""
    name, _, preset = without_seed(member).rpartition("-")
    return name, preset


def by_seed(members: Iterable[str]) -> dict[str, list[str]]:
    """Members that differ only in their seed, by their name without it; both in the order of `members`."""
    groups: dict[str, list[str]] = {}
    for member in members:
        groups.setdefault(without_seed(member), []).append(member)
    return groups


def group_title(group: str, members: Sequence[str]) -> str:
    """A group of members in legends and tables: `both (5 seeds)`, or the name of its only member."""
    if len(members) == 1:
        return members[0]
    return f"{group} ({len(members)}{' seeds' if group == without_seed(members[0]) else ''})"
