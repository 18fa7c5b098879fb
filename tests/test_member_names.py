"""Names of members: made from a config, read by figures and tables."""

from __future__ import annotations

import pytest

from infoprompt_jax import member_names

NAMES = {
    (None, None, None): "run",
    (None, "both", None): "both",
    (None, None, 3): "run-seed3",
    (None, "both", 10): "both-seed10",
    ("fast", "both", 3): "fast-both-seed3",
    ("fast", None, None): "fast",
}


@pytest.mark.parametrize("parts", NAMES, ids=NAMES.values())
def test_a_name_is_read_as_it_was_composed(parts: tuple[str | None, str | None, int | None]) -> None:
    name, preset, seed = parts
    member = member_names.compose(*parts)
    assert member == NAMES[parts]
    assert member_names.seed(member) == seed
    assert member_names.without_seed(member) == member_names.compose(name, preset, None)
    if preset:
        assert member_names.split(member) == (name or "", preset)


def test_members_that_differ_in_their_seed_are_one_group() -> None:
    members = ["plain-seed0", "both-seed10", "plain-seed1", "run", "a-seedling"]
    groups = member_names.by_seed(members)
    assert groups == {
        "plain": ["plain-seed0", "plain-seed1"],
        "both": ["both-seed10"],
        "run": ["run"],
        "a-seedling": ["a-seedling"],
    }
    titles = [member_names.group_title(name, group) for name, group in groups.items()]
    assert titles == ["plain (2 seeds)", "both-seed10", "run", "a-seedling"]
    assert member_names.group_title("all members", members) == "all members (5)"
