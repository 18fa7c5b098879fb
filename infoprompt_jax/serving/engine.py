"""Answers to questions: texts with their answer choices, each read with its own prompt.

Questions of many tasks are answered together. Those whose prompts are plain matrices of one length share batches, one
prompt a row. A prompt with more trained parts (a generator, a verbalizer, a posterior) has batches of its own.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Hashable, Sequence

import jax
import ml_collections
import numpy as np

from infoprompt_jax.data.rows import Rows
from infoprompt_jax.data.templates import Example
from infoprompt_jax.data.tokenization import Part, tokenized
from infoprompt_jax.errors import UserError
from infoprompt_jax.evaluation import metrics
from infoprompt_jax.evaluation.predictions import Members, Models, Predictor, Prompted
from infoprompt_jax.fleet.assembly import assemble
from infoprompt_jax.fleet.members import PRESETS, expand
from infoprompt_jax.infoprompt.trainable import inference
from infoprompt_jax.prompts import saved
from infoprompt_jax.prompts.saved import Prompt
from infoprompt_jax.t5 import partition
from infoprompt_jax.t5.backbone import Backbone
from infoprompt_jax.training import recorded
from infoprompt_jax.training.initial import with_saved_parts

log = logging.getLogger(__name__)

VERBALIZER, POSTERIOR = recorded.VERBALIZER, "posterior/"  # a tensor of a prompt, [C, D]; and a prefix of tensors


@dataclasses.dataclass(frozen=True, eq=False)
class Question:
    """A text with its answer choices (none: the answer is generated), and the prompt that it is read with."""

    example: Example
    prompt: Prompt | None = None


@dataclasses.dataclass(frozen=True)
class Answer:
    """The choice with the largest score, or the generated text.

    `scores` are the choices' log-probabilities in nats, in the choices' order; {} for a generated text. Where one is
    NaN, or the prompt of a generated text is not finite, there is no prediction.
    """

    prediction: str | None
    scores: dict[str, float]


class Engine:
    """A backbone that answers questions, with the batches, lengths and scores of a config.

    `cut_inputs` counts the inputs that were longer than `data.max_input_length`, `cut_answers` the questions of which
    an answer choice was longer than `data.max_target_length`.
    """

    def __init__(
        self, backbone: Backbone, config: ml_collections.ConfigDict, before_batch: Callable[[], None] = lambda: None
    ) -> None:
        self.backbone, self.config, self.before_batch = backbone, config, before_batch
        self.cut_inputs = self.cut_answers = 0
        self._members: dict[Prompt, Members] = {}
        self._checked: set[tuple[Prompt, tuple[str, ...] | bool]] = set()

    def answers(self, questions: Sequence[Question]) -> list[Answer]:
        """The answers, in the order of the questions.

        Raises:
          UserError: a prompt is for another backbone or, by what was trained with it, for other answer choices or
            undivided scores; two answer choices of a question are the same tokens; or whatever `before_batch` raises.
        """
        groups: dict[Hashable, list[int]] = {}
        for place, question in enumerate(questions):
            groups.setdefault(self._group(question), []).append(place)
        placed: dict[int, Answer] = {}
        for places in groups.values():
            placed |= zip(places, self._answers([questions[place] for place in places]), strict=True)
        return [placed[place] for place in range(len(questions))]

    def warn_of_cuts(self, section: str = "") -> None:
        """Logs how many inputs and answer choices were cut; `section` is what callers write before a field: `data.`."""
        for count, what, field in (
            (self.cut_inputs, "inputs were", "max_input_length"),
            (self.cut_answers, "inputs have answer choices that were", "max_target_length"),
        ):
            if count:
                log.warning("%d %s cut to %s%s=%d tokens.", count, what, section, field, self.config.data[field])

    def _group(self, question: Question) -> Hashable:
        """What questions must have in common to share batches."""
        prompt, choices = question.prompt, question.example.choices
        ranked = bool(choices)
        if prompt is None:
            return ranked, None  # a matrix may have the length 0
        pair = prompt, choices if VERBALIZER in prompt.tensors else ranked
        if pair not in self._checked:
            saved.check_prompt(prompt, self.backbone.config.d_model, self.backbone.fingerprint, "prompt.init")
            check_choices(prompt, choices)
            check_divisor(prompt, self.config.scoring.normalize)
            self._checked.add(pair)
        return ranked, prompt if prompt.tensors else len(prompt.value_PD)

    def _answers(self, questions: Sequence[Question]) -> list[Answer]:
        data = self.config.data
        rows = in_memory([question.example for question in questions], self.backbone, data)
        self.cut_inputs += rows.truncated_inputs
        self.cut_answers += rows.truncated_answers if rows.max_choices else 0
        prompt = questions[0].prompt
        if prompt and (verbalizer_CD := prompt.tensors.get(VERBALIZER)) is not None:
            rows = dataclasses.replace(rows, max_choices=max(rows.max_choices, len(verbalizer_CD)))  # one size of C
        predictor = Predictor(
            self.backbone.tokenizer,
            self._batch_size(len(questions)),
            data.buckets,
            data.max_input_length,
            self.config.scoring.normalize,
            before_batch=self.before_batch,
            title="",
        )
        answers: list[Answer] = [Answer(None, {})] * len(questions)
        for batch, scores_NBC, texts_NB in predictor.outputs(self._models(questions), [[rows]]):
            for place in np.flatnonzero(batch["weight"][0] > 0):
                row = batch["row"][0][place]
                if scores_NBC is not None:
                    answers[row] = ranked(questions[row].example.choices, scores_NBC[0][place])
                elif texts_NB is not None and is_finite(questions[row].prompt):
                    answers[row] = Answer(str(texts_NB[0][place]), {})
        return answers

    def _batch_size(self, count: int) -> int:
        """`train.eval_batch_size`, or for fewer questions the next power of two; a multiple of the devices."""
        devices = partition.row_devices(self.backbone.mesh)
        enough, most = 1 << max(count - 1, 0).bit_length(), self.config.train.eval_batch_size
        return min(max(most // devices, 1), -(-enough // devices)) * devices

    def _models(self, questions: Sequence[Question]) -> Models:
        """What computes the scores of one group."""
        length = self.config.scoring.max_length
        prompts = list(dict.fromkeys(question.prompt for question in questions))
        if len(prompts) > 1:
            values = [question.prompt.value_PD for question in questions if question.prompt]
            # Put together for each batch: all prompts of a large library at once would fill the device.
            return Prompted(self.backbone, lambda row_B: [np.stack([values[row] for row in row_B])], length)
        (prompt,) = prompts
        if prompt is None or not prompt.tensors:
            return Prompted.with_each(self.backbone, [None if prompt is None else prompt.value_PD], length)
        if prompt not in self._members:
            self._members[prompt] = member(prompt, self.config, self.backbone)
        return self._members[prompt]


def in_memory(examples: Sequence[Example], model: Backbone, data: ml_collections.ConfigDict) -> Rows:
    """The examples in the model's tokens, cut to the lengths of `config.data`; raises UserError as `tokenized` does."""
    part = Part(examples, "", "the rows to predict")
    lengths = data.max_input_length, data.max_target_length
    return tokenized([part], model.tokenizer, part.fingerprint, model.config.takes_eos, *lengths)


def ranked(choices: Sequence[str], scores_C: np.ndarray) -> Answer:
    """The answer by the scores of these choices; further scores belong to padding."""
    scores = scores_C[: len(choices)]
    best = int(metrics.answers(scores))
    by_choice = dict(zip(choices, map(float, scores), strict=True))
    return Answer(None if best == metrics.NO_ANSWER else choices[best], by_choice)


def is_finite(prompt: Prompt | None) -> bool:
    return prompt is None or bool(np.isfinite(prompt.value_PD).all())


def check_choices(prompt: Prompt, choices: Sequence[str]) -> None:
    """Raises UserError where what was trained with a prompt scores other answer choices, or in another order."""
    posterior = any(name.startswith(POSTERIOR) for name in prompt.tensors)
    if not choices and (posterior or VERBALIZER in prompt.tensors):
        raise UserError(
            "prompt.init: the prompt was trained to rank answer choices, and there are none: set task.answer_choices."
        )
    if (verbalizer_CD := prompt.tensors.get(VERBALIZER)) is None:
        return
    known = [task.choices for task in recorded.recorded_tasks(prompt, "prompt.init")]
    if tuple(choices) not in known and (known or len(choices) > len(verbalizer_CD)):
        trained = " or ".join(" ||| ".join(listed or ()) for listed in dict.fromkeys(known))
        raise UserError(
            f"prompt.init: the prompt's verbalizer was trained for the answer choices "
            f"{trained or len(verbalizer_CD)}, in this order, but here they are {' ||| '.join(choices)}: leave "
            "task.answer_choices to the prompt, or use a prompt that was trained without a verbalizer."
        )


def check_divisor(prompt: Prompt, normalize: str) -> None:
    """Raises UserError where scores of a verbalizer, which are no log-probabilities, would be divided."""
    if VERBALIZER in prompt.tensors and normalize != "none":
        raise UserError(
            f"scoring.normalize={normalize!r} divides log-probabilities, but the prompt ranks by its verbalizer's "
            "scores: set scoring.normalize to none."
        )


def member(prompt: Prompt, config: ml_collections.ConfigDict, backbone: Backbone) -> Members:
    """A fleet of one member that predicts with all that was trained with the prompt.

    Raises:
      UserError: a trained part does not fit the fields that the prompt records.
    """
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(recorded.recorded_fields(prompt) | PRESETS["plain"])  # critics predict nothing
    config.prompt.length = len(prompt.value_PD)
    config.fleet.update(seeds=(), presets=("run",), members=())
    fleet = assemble(config, expand(config), backbone).fleet
    first = fleet.objective.init(prompt.value_PD, jax.random.key(0), prompt.tensors.get(VERBALIZER))
    whole = with_saved_parts(first, prompt, config.prompt.init, untrained=False)
    trainable = inference(fleet.init([whole]).trainable)
    return Members(fleet, backbone, trainable, config.scoring.max_length)
