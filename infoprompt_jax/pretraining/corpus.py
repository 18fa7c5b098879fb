"""A corpus on disk: plain text and prompted rows that a backbone of a real language is pretrained on.

    corpus.json              "shares": how often each data set is drawn, relative to the others
    text/*.txt.xz            plain text, a paragraph a line
    rows/*.jsonl.xz          prompted rows, a file a data set: dataset, template, input, target
    validation/text.txt.xz   text that is only measured on
    validation/*.jsonl.xz    prompted rows that are only measured on; they have choices too
    vocabulary/              may be there; otherwise a run trains its own

`experiments/mini_corpus.py` writes the one of `mini`. Tokens are kept in the cache, by the content of the files.
"""

from __future__ import annotations

import hashlib
import itertools
import lzma
import pathlib
from collections.abc import Iterator
from typing import TextIO

import ml_collections

from infoprompt_jax import files, foreign
from infoprompt_jax.data import tokenization
from infoprompt_jax.data.rows import Rows
from infoprompt_jax.data.templates import Example
from infoprompt_jax.errors import UserError
from infoprompt_jax.fields import shortened
from infoprompt_jax.t5.tokenizer import Tokenizer

SAMPLED = 30_000  # paragraphs, and as many prompted rows, that the vocabulary is trained on
LONGEST_LINE = 2**24  # characters
AGAIN = "make the corpus again with experiments/mini_corpus.py"  # the remedy
WHOLE = 2**20  # tokens: no paragraph is longer

Measured = tuple[str, str, Rows]  # a data set, a template and its rows


class Corpus:
    """The corpus in the folder `config.pretrain.corpus`; `config.data` has the lengths and the cache."""

    def __init__(self, config: ml_collections.ConfigDict) -> None:
        """Raises UserError where the folder has no `corpus.json`, text or rows."""
        self.path, self.data = pathlib.Path(config.pretrain.corpus).expanduser(), config.data
        self.cache = files.cache_directory(config.data.cache_dir) / "corpus"
        self.texts, self.prompted = self._files("text/*.txt.xz"), self._files("rows/*.jsonl.xz")
        if not (self.path / "corpus.json").is_file() or not self.texts or not self.prompted:
            raise UserError(
                f"pretrain.corpus={config.pretrain.corpus!r} is no corpus: a folder with corpus.json, text and rows "
                "was expected; make one with experiments/mini_corpus.py."
            )
        self.shares = self._shares(self.path / "corpus.json")

    def _files(self, pattern: str) -> list[pathlib.Path]:
        return sorted(self.path.glob(pattern))

    def _shares(self, file: pathlib.Path) -> dict[str, float]:
        with foreign.reading(f"pretrain.corpus: {file}", AGAIN):
            shares = foreign.table(file)["shares"]
            for name, share in shares.items():
                if not isinstance(share, int | float) or isinstance(share, bool) or share < 0:
                    raise ValueError(f"the share of {name} is {shortened(share)}, but a number from 0 was expected")
            return shares

    def sample(self) -> Iterator[str]:
        """Lines of all files, evenly, for the vocabulary."""
        for of_kind in (self.texts, self.prompted):
            counts = [sum(1 for _ in lines(file)) for file in of_kind]
            every = max(1, sum(counts) // SAMPLED)
            for file in of_kind:
                if file in self.texts:
                    yield from itertools.islice(lines(file), 0, None, every)
                else:
                    chosen = itertools.islice(prompted(file), 0, None, every)
                    yield from (f"{example.input} {example.target}" for _, _, example in chosen)

    def text(self, tokenizer: Tokenizer) -> Rows:
        """The paragraphs of the plain text, without EOS."""
        return self._text(self.texts, tokenizer, "the plain text")

    def held_out_text(self, tokenizer: Tokenizer) -> Rows:
        """The paragraphs that are only measured on."""
        return self._text([self.path / "validation" / "text.txt.xz"], tokenizer, "the held-out text")

    def _text(self, read: list[pathlib.Path], tokenizer: Tokenizer, name: str) -> Rows:
        examples = (Example(line, "") for file in read for line in lines(file))
        return tokenization.tokenize(examples, tokenizer, self.cache, fingerprint(*read), False, WHOLE, 1, name=name)

    def rows(self, tokenizer: Tokenizer) -> dict[str, Rows]:
        """The prompted rows, by data set."""
        made: dict[str, Rows] = {}
        for file in self.prompted:
            dataset = next((name for name, _, _ in prompted(file)), "")
            made[dataset] = self._rows((x for _, _, x in prompted(file)), tokenizer, fingerprint(file), dataset)
        return made

    def validation(self, tokenizer: Tokenizer) -> list[Measured]:
        """The prompted rows that are only measured on, by data set and template."""
        made = []
        for file in self._files("validation/*.jsonl.xz"):
            for (dataset, template), of_task in itertools.groupby(prompted(file), key=lambda row: row[:2]):
                examples = [example for _, _, example in of_task]
                content = f"{fingerprint(file)} {template}"
                made.append(
                    (dataset, template, self._rows(iter(examples), tokenizer, content, f"{dataset}:{template}"))
                )
        return made

    def _rows(self, examples: Iterator[Example], tokenizer: Tokenizer, content: str, name: str) -> Rows:
        lengths = self.data.max_input_length, self.data.max_target_length
        return tokenization.tokenize(examples, tokenizer, self.cache, content, True, *lengths, name=name)


def lines(file: pathlib.Path) -> Iterator[str]:
    """The lines of an .xz file, without their ends. Raises UserError where it is damaged or has an endless line."""
    with foreign.reading(f"pretrain.corpus: {file}", AGAIN), _opened(file) as stream:
        while line := stream.readline(LONGEST_LINE):
            if len(line) == LONGEST_LINE:
                raise ValueError(f"it has a line of {LONGEST_LINE:,} characters or more")
            yield line.rstrip("\n")


def _opened(file: pathlib.Path) -> TextIO:
    return lzma.open(foreign.regular(file), "rt", encoding="utf-8", newline="\n")


def prompted(file: pathlib.Path) -> Iterator[tuple[str, str, Example]]:
    """The data set, the template and the example of each prompted row."""
    for number, line in enumerate(lines(file), 1):
        with foreign.reading(f"pretrain.corpus: {file}, line {number},", AGAIN):
            row = foreign.parsed(line)
            texts = [row[name] for name in ("dataset", "template", "input", "target")]
            choices = tuple(row.get("choices", ()))
            if not all(isinstance(text, str) for text in (*texts, *choices)):
                raise ValueError("it holds something else than texts")
        dataset, template, input_, target = texts
        yield dataset, template, Example(input_, target, choices)


def fingerprint(*read: pathlib.Path) -> str:
    """A hash of the content of files."""
    with foreign.reading(f"pretrain.corpus: {read[0].parent}", AGAIN):
        digests = [hashlib.sha256(foreign.regular(file).read_bytes()).hexdigest() for file in read]
    return hashlib.sha256("".join(digests).encode()).hexdigest()
