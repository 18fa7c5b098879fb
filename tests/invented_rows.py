"""Rows in the format of each data set that has shipped templates, made of invented sentences.

Labels follow from the text where that is easy, so that a row reads like one of its data set. Each split of a data set
is drawn from a seed of its own: the same rows every time.
"""

from __future__ import annotations

import json
import pathlib
import random
from collections.abc import Callable
from typing import Any

from infoprompt_jax.files import whole

ROWS = {"train": 200, "validation": 40}
WHO = ("Anna", "the baker", "a tall student", "our neighbour", "the old pilot", "Tomas", "a small child", "the nurse")
DOES = ("paints", "repairs", "sells", "carries", "cleans", "finds", "measures", "describes")
WHAT = ("a red boat", "the garden gate", "two lamps", "a wooden chair", "the broken clock", "an empty box", "the map")
WHERE = ("in the harbour", "near the school", "behind the mill", "on the hill", "at the market", "under the bridge")
GOOD = ("a warm and funny film", "the best scene of the year", "a bright little story", "lovely, quick and clever")
BAD = ("a dull and noisy film", "the worst scene of the year", "a grey little story", "slow, long and empty")
TOPICS = ("two nations sign a treaty", "the home side wins the cup", "a bank lowers its rates", "a new chip is faster")

Row = dict[str, Any]
Choose = random.Random


def statement(choose: Choose) -> tuple[str, str]:
    """A sentence, and its first part alone, which follows from it."""
    part = f"{choose.choice(WHO)} {choose.choice(DOES)} {choose.choice(WHAT)}"
    return f"{part} {choose.choice(WHERE)}.".capitalize(), f"{part}.".capitalize()


def pair(choose: Choose, follows: bool) -> tuple[str, str]:
    """A premise, and a hypothesis that follows from it or is about something else."""
    premise, part = statement(choose)
    return premise, part if follows else statement(choose)[0]


def inference(labels: int) -> Callable[[Choose, int], Row]:
    def row(choose: Choose, number: int) -> Row:
        label = number % labels
        premise, hypothesis = pair(choose, label == 0)
        return {"premise": premise, "hypothesis": hypothesis, "label": label, "idx": number}

    return row


def commitment(choose: Choose, number: int) -> Row:
    """Labels as uneven as CommitmentBank's: a row in sixteen is neutral (2)."""
    label = 2 if number % 16 == 0 else number % 2
    premise, hypothesis = pair(choose, label == 0)
    return {"premise": premise, "hypothesis": hypothesis, "label": label, "idx": number}


def opinion(column: str) -> Callable[[Choose, int], Row]:
    return lambda choose, number: {
        column: f"{choose.choice((BAD, GOOD)[number % 2])} {choose.choice(WHERE)}",
        "label": number % 2,
    }


def acceptability(choose: Choose, number: int) -> Row:
    words = statement(choose)[0].split()
    if number % 2 == 0:
        choose.shuffle(words)
    return {"sentence": " ".join(words), "label": number % 2, "idx": number}


def paraphrase(choose: Choose, number: int) -> Row:
    first, second = pair(choose, number % 2 == 1)
    return {"sentence1": first, "sentence2": second, "label": number % 2, "idx": number}


def news(choose: Choose, number: int) -> Row:
    return {"text": f"{TOPICS[number % 4]} {choose.choice(WHERE)}.".capitalize(), "label": number % 4}


def relation(choose: Choose, number: int) -> Row:
    first, second = (words.split()[-1] for words in choose.sample(WHAT, 2))
    return {"sentence": f"The <e1>{first}</e1> was in the <e2>{second}</e2>.", "relation": number % 19}


def endings(choose: Choose, number: int) -> Row:
    four = [f"{does} {choose.choice(WHAT)}." for does in choose.sample(DOES, 4)]
    return {"activity_label": "Work", "ctx": f"{statement(choose)[0]} she", "endings": four, "label": str(number % 4)}


def alternative(choose: Choose, number: int) -> Row:
    premise, choice = statement(choose)
    choices = (choice, statement(choose)[0])
    kind = ("cause", "effect")[number // 2 % 2]
    return {"premise": premise, "choice1": choices[0], "choice2": choices[1], "question": kind, "label": number % 2}


def word_sense(choose: Choose, number: int) -> Row:
    what = choose.choice(WHAT)
    first, second = (f"{choose.choice(WHO)} {choose.choice(DOES)} {what}.".capitalize() for _ in range(2))
    return {"word": what.split()[-1], "sentence1": first, "sentence2": second, "label": number % 2, "idx": number}


def reference(choose: Choose, number: int) -> Row:
    who, what = choose.choice(WHO), choose.choice(WHAT)
    text = f"{who} {choose.choice(DOES)} {what} because it is old."
    return {"text": text, "span1_text": (who, what)[number % 2], "span2_text": "it", "label": number % 2}


def blank(choose: Choose, number: int) -> Row:
    first, second = choose.sample(WHO, 2)
    sentence = f"{first} helps {second} because _ is tired."
    return {"sentence": sentence, "option1": first, "option2": second, "answer": str(number % 2 + 1)}


DATASETS: dict[str, Callable[[Choose, int], Row]] = {
    "ag_news": news,
    "anli": inference(3),
    "glue/cola": acceptability,
    "glue/mrpc": paraphrase,
    "glue/sst2": opinion("sentence"),
    "hellaswag": endings,
    "rotten_tomatoes": opinion("text"),
    "sem_eval_2010_task_8": relation,
    "super_glue/cb": commitment,
    "super_glue/copa": alternative,
    "super_glue/rte": inference(2),
    "super_glue/wic": word_sense,
    "super_glue/wsc.fixed": reference,
    "winogrande/winogrande_xl": blank,
}
SPLITS = {"anli": ("dev_r1", "dev_r2", "dev_r3"), "ag_news": ("train", "test")}
SPLITS["sem_eval_2010_task_8"] = ("train", "test")


def rows(dataset: str, split: str) -> list[Row]:
    choose = random.Random(f"{dataset}/{split}")
    return [DATASETS[dataset](choose, number) for number in range(ROWS.get(split, ROWS["validation"]))]


def write(directory: pathlib.Path) -> pathlib.Path:
    """Writes every data set as <data set>/<split>.jsonl; returns the directory."""
    for dataset in DATASETS:
        for split in SPLITS.get(dataset, tuple(ROWS)):
            with whole(directory / dataset / f"{split}.jsonl") as partial:
                partial.write_text("".join(json.dumps(row) + "\n" for row in rows(dataset, split)))
    write_bigbench(directory)
    return directory


def write_bigbench(directory: pathlib.Path) -> None:
    """A task of BIG-bench's file format, whose questions have from two to five answers."""
    choose, examples = random.Random(0), []
    for number in range(ROWS["validation"]):
        answers = [f"{who} {choose.choice(DOES)} it" for who in choose.sample(WHO, 2 + number % 4)]
        scores = {answer: int(place == 0) for place, answer in enumerate(answers)}
        examples.append({"input": f"Who is {choose.choice(WHERE)}?", "target_scores": scores})
    content = {"name": "novel_concepts", "examples": examples, "metrics": ["multiple_choice_grade"]}
    with whole(directory / "bigbench" / "novel_concepts" / "task.json") as partial:
        partial.write_text(json.dumps(content))


def write_vocabulary(directory: pathlib.Path, pieces: int = 400) -> pathlib.Path:
    """Trains spiece.model on the invented sentences with the settings of T5's: unigram, no byte pieces, case kept."""
    import sentencepiece

    texts = [value for name in DATASETS for row in rows(name, "train") for value in row.values()]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([text for text in texts if isinstance(text, str)]),
        model_prefix=str(directory / "spiece"),
        vocab_size=pieces,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return directory / "spiece.model"
