"""What counts as an overlap: copies under another tokenisation, near-duplicates; and what does not."""

from __future__ import annotations

import pytest

from experiments.overlap import Overlap, words

REVIEW = "this does n't make sense , and it 's one of the longest films that i have seen -lrb- so far -rrb- ."
LONG = " ".join(f"word{number}" for number in range(40))
SPLITS = {"sst2/validation": [REVIEW, "fantastic !", "what is the capital of uganda ?"], "anli/dev_r1": [LONG]}


@pytest.fixture(scope="module")
def overlap() -> Overlap:
    return Overlap(SPLITS)


@pytest.mark.parametrize(
    ("text", "splits"),
    [
        (REVIEW, {"sst2/validation"}),
        ("This doesn't make sense, and it's one of the longest films (so far).", {"sst2/validation"}),
        ("Is this positive? It\u2019s one of the longest films that I have not seen.", {"sst2/validation"}),
        ("Review: one of the longest films that I liked.", set()),  # seven words in a row
        ("Review: it's one of the longest films that I liked.", {"sst2/validation"}),
        ("FANTASTIC", {"sst2/validation"}),
        ("a fantastic film", set()),
        ("q: What is the capital of Uganda? a: Kampala", {"sst2/validation"}),
        ("what is the capital of Kenya ?", set()),
        (" ".join(LONG.split()[:12]), set()),
        (" ".join(LONG.split()[20:33]), {"anli/dev_r1"}),
        (f"{REVIEW}\n{LONG}", {"sst2/validation", "anli/dev_r1"}),
        ("", set()),
    ],
)
def test_overlaps(overlap: Overlap, text: str, splits: set[str]) -> None:
    assert list(overlap.found_in([text])) == [splits]


def test_words_do_not_run_from_one_text_into_the_next(overlap: Overlap) -> None:
    half = LONG.split()
    texts = [" ".join(half[:10]), " ".join(half[10:20]), LONG]
    assert list(overlap.found_in(texts)) == [set(), set(), {"anli/dev_r1"}]


def test_clitics_are_joined_to_their_word() -> None:
    assert words("It 's what he does n't , can't & won\u2019t do .") == [
        "its",
        "what",
        "he",
        "doesnt",
        "cant",
        "wont",
        "do",
    ]
