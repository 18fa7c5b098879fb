"""The names of a fleet's members: `[<name>-]<preset>[-seed<n>]`, as in `plain`, `both-seed3` and `fast-both-seed3`.

`fast` is the name that `fleet.members` gives, `both` the preset and 3 the seed. Members that differ only in their seed
are repetitions of one run: figures draw them in one colour, and tables give their mean and standard deviation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from infoprompt_jax.errors import UserError
from infoprompt_jax.fields import shortened
from infoprompt_jax.plain_text import is_seen

SEED = "-seed"
LONGEST = 200  # bytes; file systems take 255, and a file that is being written has a longer name than its own


def check(name: Any) -> None:
    """Raises UserError unless the name of a member can be that of a directory and stand in one line of a table."""
    if not isinstance(name, str) or not name:
        raise UserError(f"fleet.members sets name={shortened(name)}: a text with at least one character was expected.")
    if name[0] == "." or name[-1] in ". " or any(c in "/\\" or not is_seen(c) for c in name):
        raise UserError(
            f"fleet.members holds the name {shortened(name)}: choose one that can be a directory's name, without "
            "slashes, line ends, control characters and a dot at either end."
        )
    if len(name.encode()) > LONGEST:
        raise UserError(
            f"The member name {shortened(name)} has {len(name.encode())} bytes: choose one of at most {LONGEST} with "
            "its preset and seed, because a directory is named so."
        )


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
