"""`predict`: texts or rows in, predictions out, from Python."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import ml_collections
import numpy as np

from infoprompt_jax import settings
from infoprompt_jax.data.templates import Example
from infoprompt_jax.errors import UserError
from infoprompt_jax.prompts import saved
from infoprompt_jax.prompts.saved import Prompt
from infoprompt_jax.serving.engine import Engine
from infoprompt_jax.serving.prompt_sources import Chosen
from infoprompt_jax.serving.row_answers import Rendered, answer_rendered
from infoprompt_jax.t5.backbone import Backbone
from infoprompt_jax.training import recorded

Text = str | Mapping[str, Any]
MISSING = ("NAType", "NaTType")  # of pandas, which need not be installed; NaN is null in every template
Given = Prompt | np.ndarray | str | pathlib.Path | None  # what a prompt may be given as
# The fields of a prompt's record that predictions are made with.
FOLLOWED = ("data.max_input_length", "data.max_target_length", "scoring.normalize", "scoring.max_length")


def predict(
    backbone: Backbone,
    texts: Iterable[Text],
    prompt: Given | Sequence[Given] = None,
    choices: Sequence[str] | Sequence[Sequence[str] | None] | None = None,
    *,
    batch_size: int = 64,
    max_input_length: int | None = None,
    max_target_length: int | None = None,
    max_length: int | None = None,
    normalize: str | None = None,
) -> list[dict[str, Any]]:
    """The answer to each text.

    Args:
      backbone: from `load_backbone`.
      texts: strings, which are read as they are; or rows, mappings by column, which the prompt's templates render.
      prompt: for all texts, or a list with one for each: a `Prompt`, the path of a saved one, an array [P, D], or None
        for the backbone alone. A batch mixes those that record the same lengths and scoring.
      choices: the answers to choose from: a list for all strings, or a list for each. None, for all or for one = those
        that the prompt records; without any, the answer is generated.
      batch_size: the most texts in a batch.
      max_input_length: tokens of an input; the rest is cut. None = as the prompt records, else 512.
      max_target_length: tokens of an answer choice; the rest is cut. None = as the prompt records, else 128.
      max_length: tokens of a generated answer. None = as the prompt records, else 32.
      normalize: what scores are divided by, as in `Backbone.score`. None = as the prompt records, else "none".

    Returns:
      A dict for each text. `prediction` is the best choice or the generated text, None where scores or the prompt have
      NaN; `scores` are by choice, log-probabilities in nats. For a row also `templates`, the same for each template;
      its own prediction and scores are over all templates. A labelled row has its `target`.

    Raises:
      UserError: a prompt was trained on another backbone, a text is neither a string nor a row, a row cannot be
        rendered, or choices are missing or equal.
    """
    texts = _listed(texts)
    if not isinstance(backbone, Backbone):
        raise UserError(f"backbone is of type {type(backbone).__name__}: give what load_backbone returns.")
    prompts = _for_each(prompt, len(texts))
    rows = [
        [(rendered, Chosen(None, of_text)) for rendered in _rendered(text, of_text, listed)]
        for text, of_text, listed in zip(texts, prompts, _choices(choices, len(texts)), strict=True)
    ]
    arguments = {
        "data.max_input_length": max_input_length,
        "data.max_target_length": max_target_length,
        "scoring.max_length": max_length,
        "scoring.normalize": normalize,
    }
    followed = [_followed(of_text, arguments) for of_text in prompts]
    answers: dict[int, dict[str, Any]] = {}
    for values in dict.fromkeys(followed):
        places = [place for place, its in enumerate(followed) if its == values]
        engine = Engine(backbone, _config(values, batch_size))
        alike = answer_rendered(engine, [rows[place] for place in places])
        engine.warn_of_cuts()
        answers |= {place: answer.to_json() for place, answer in zip(places, alike, strict=True)}
    return [answers[place] for place in range(len(texts))]


def _listed(texts: Iterable[Text]) -> list[Text]:
    """The texts; UserError where they are one, or hold something else."""
    if isinstance(texts, (str, Mapping)):
        raise UserError("texts is one text, but a list of texts was expected: write [text].")
    if hasattr(texts, "columns"):  # a data frame is iterated by the names of its columns
        raise UserError(
            f"texts is a {type(texts).__name__}: give its rows, as texts.to_dict('records') of pandas or "
            "texts.to_dicts() of Polars, or one column of texts."
        )
    texts = [_plain(text) if isinstance(text, Mapping) else text for text in texts]
    if wrong := [text for text in texts if not isinstance(text, (str, Mapping))]:
        raise UserError(f"texts holds {wrong[0]!r}, but strings were expected, or rows: {{column: value}}.")
    return texts


def _plain(value: Any) -> Any:
    """A row's value as a file has it: NumPy's numbers and arrays as Python's, and what pandas calls missing as None."""
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, np.generic | np.ndarray) and value.dtype.kind not in "mM":  # of a time it is a bare number
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if type(value).__name__ in MISSING else value


def _for_each(prompt: Given | Sequence[Given], count: int) -> list[Prompt | None]:
    """The prompt of each text; one that several texts share is loaded once."""
    many = isinstance(prompt, (list, tuple))
    given: list[Given] = list(prompt) if many else [prompt] * count  # pyright: ignore[reportAssignmentType]
    if len(given) != count:
        raise UserError(f"prompt lists {len(given)} prompts for {count} texts: give one for each, or one for all.")
    loaded: dict[int | str, Prompt | None] = {}
    keys = [str(one) if isinstance(one, (str, pathlib.Path)) else id(one) for one in given]
    for key, one in zip(keys, given, strict=True):
        if key not in loaded:
            loaded[key] = _load(one)
    return [loaded[key] for key in keys]


def _load(given: Given) -> Prompt | None:
    if given is None or isinstance(given, Prompt):
        return given
    if isinstance(given, (str, pathlib.Path)):
        return saved.load_prompt(given, "prompt")
    value = np.asarray(given)
    if value.ndim != 2 or not jnp.issubdtype(value.dtype, jnp.floating):
        raise UserError(
            f"prompt is an array of shape {list(value.shape)} and type {value.dtype}, but floats [P, D] were "
            "expected: give a list with one prompt for each text."
        )
    return Prompt(value.astype(np.float32))


def _followed(prompt: Prompt | None, arguments: Mapping[str, Any]) -> tuple[Any, ...]:
    """The values of FOLLOWED for one text: the argument, else what its prompt records, else None for the default."""
    fields = recorded.recorded_fields(prompt) if prompt else {}
    given = {field: value for field, value in arguments.items() if value is not None}
    return tuple(given.get(field, fields.get(field)) for field in FOLLOWED)


def _config(followed: tuple[Any, ...], batch_size: int) -> ml_collections.ConfigDict:
    """The fields that the engine reads."""
    config = settings.defaults()
    given = {field: value for field, value in zip(FOLLOWED, followed, strict=True) if value is not None}
    given |= {"job": "predict", "train.eval_batch_size": batch_size, "prompt.length": 0}
    for field, value in given.items():
        settings.FIELDS[field].check(field, value)
    config.update_from_flattened_dict(given)
    return settings.check(config)


def _choices(
    choices: Sequence[str] | Sequence[Sequence[str] | None] | None, count: int
) -> Sequence[tuple[str, ...] | None]:
    """The answer choices of each text; None = the prompt's."""
    if choices is None:
        return [None] * count
    if isinstance(choices, str):
        raise UserError(f"choices is the text {choices!r}, but a list of texts was expected.")
    choices = list(choices)
    lists = [choices] * count if all(isinstance(choice, str) for choice in choices) else choices
    if wrong := [one for one in lists if isinstance(one, (str, bytes)) or not isinstance(one, Iterable | None)]:
        raise UserError(f"choices holds {wrong[0]!r}, but texts alone were expected, or a list or None for each text.")
    if len(lists) != count:
        raise UserError(f"choices has {len(lists)} lists for {count} texts: give one for each, or one for all.")
    made = [None if listed is None else tuple(str(choice) for choice in listed) for listed in lists]
    for listed in filter(None, made):
        if len(set(listed)) != len(listed) or len(listed) == 1:
            raise UserError(f"choices has {list(listed)}, but at least two that differ were expected.")
    return made


def _rendered(text: Text, prompt: Prompt | None, choices: tuple[str, ...] | None) -> list[Rendered]:
    """A string as it is, or a row with each of the prompt's templates."""
    tasks = recorded.recorded_tasks(prompt, "the prompt") if prompt else ()
    if isinstance(text, str):
        return [Rendered(None, Example(text, "", _recorded_choices(tasks) if choices is None else choices))]
    if not tasks:
        raise UserError("texts holds a row, which only a prompt with recorded templates renders: give a string.")
    if len(names := {task.name for task in tasks}) > 1:
        raise UserError(f"texts holds a row, but the prompt has templates of {', '.join(sorted(names))}: give strings.")
    if choices is not None:
        raise UserError("choices are for strings; a row's come from the prompt's templates: leave choices out.")
    return [Rendered(task, example) for task in tasks if (example := task.question(text)) is not None]


def _recorded_choices(tasks: Sequence[Any]) -> tuple[str, ...]:
    """The answer choices that the templates have in common; () for free text."""
    listed = {task.choices for task in tasks}
    if len(listed) > 1 or None in listed:
        raise UserError("The prompt's templates have different answer choices: set choices to a list of them.")
    return next(iter(listed), ()) or ()
