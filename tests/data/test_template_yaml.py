"""Files of templates: YAML that stands for more than it says, and fields of the wrong kind."""

from __future__ import annotations

import itertools
import pathlib
import re
import sys

import pytest

from infoprompt_jax.data.template_yaml import load_templates
from infoprompt_jax.data.templates import Template
from infoprompt_jax.errors import UserError

LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in itertools.pairwise("abcdefg")
)
ENTRY = "templates:\n  a: !Template\n    name: n\n    jinja: x ||| y\n    {}\n"


def load(folder: pathlib.Path, text: str) -> dict[str, Template]:
    (folder / "mine").mkdir(exist_ok=True)
    (folder / "mine" / "templates.yaml").write_text(text, encoding="utf-8")
    return load_templates(str(folder), "mine")


HOSTILE = {
    "aliases": (LAUGHS, "aliases (`*name`, `&name`) are not available"),
    "an anchor": ("templates: &a {}", "aliases (`*name`, `&name`) are not available"),
    "a merged key": ("templates:\n  <<: {a: 1}", "a text was expected as the key"),
    "a key that is a list": ("templates: {[a]: 1}", "a text was expected as the key"),
    "brackets": ("templates: " + "[" * 100_000, "it has more than 20 levels"),
    "braces": ("templates: " + "{a: " * 100_000, "it has more than 20 levels"),
    "indents": ("".join(" " * depth + "a:\n" for depth in range(500)), "it has more than 20 levels"),
    "questions": ("? " * 50_000, "it has more than 20 levels"),
    "too large": ("#" * 4_000_001, "is larger than the 4,000,000 bytes"),
    "a tag for Python": ("templates: !!python/object/apply:os.system ['true']", "the tag 'tag:yaml.org,2002:python/"),
    "a tag by another name": ("%TAG ! tag:yaml.org,2002:python/\n---\ntemplates: !name:os.system [a]", "the tag 'tag:"),
    "bytes": ("templates: !!binary aaaa", "the tag 'tag:yaml.org,2002:binary' is not available"),
    "a set": ("templates: !!set {a}", "the tag 'tag:yaml.org,2002:set' is not available"),
    "another tag": ("templates: !Other {a: b}", "the tag '!Other' is not available"),
    "two documents": ("templates: {}\n---\na: b", "expected a single document"),
    "a character": ("templates: \0", "special characters are not allowed"),
    "the same key": ("templates: {}\ntemplates: {}", "key 'templates' is there twice"),
    "the same key, quoted": ("templates: {1: {name: n, jinja: x ||| y}, '1': {}}", "key '1' is there twice"),
    "a name that is null": ("templates: {a: {name: null, jinja: x ||| y}}", "has name=None, but one text was expected"),
    "a name that is true": ("templates: {a: {name: yes, jinja: x ||| y}}", "has name=True, but one text was"),
    "jinja that is null": ("templates: {a: {name: n, jinja: null}}", "has jinja=None, but one text was expected"),
    "an id that is a list": (ENTRY.format("id: [a]"), "has id=['a'], but one text was expected"),
    "choices that are true": (ENTRY.format("answer_choices: yes"), "has answer_choices=True, but one text was exp"),
    "one metric": (ENTRY.format("metadata: {metrics: Accuracy}"), "has metrics='Accuracy', but a list was expected"),
    "a truth in quotes": (ENTRY.format("metadata: {original_task: 'false'}"), "has original_task='false', but true or"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_is_not_promptsources_is_refused(tmp_path: pathlib.Path, name: str) -> None:
    text, sentence = HOSTILE[name]
    with pytest.raises(UserError, match=re.escape(sentence)) as error:
        load(tmp_path, text)
    assert str(tmp_path / "mine" / "templates.yaml") in str(error.value) and len(str(error.value)) < 500


def test_a_file_that_cannot_be_read_is_named(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "mine" / "templates.yaml"
    path.parent.mkdir()
    path.write_bytes("templates: é".encode("latin-1"))
    with pytest.raises(UserError, match=re.escape(f"{path} cannot be read: it is not UTF-8 text")):
        load_templates(str(tmp_path), "mine")


def test_a_mapping_is_read_in_linear_time(tmp_path: pathlib.Path) -> None:
    """By the number of calls: twice the keys take twice as many."""

    def calls(keys: int) -> int:
        counted = itertools.count()
        sys.setprofile(lambda frame, event, argument: next(counted) if event == "call" else None)
        try:
            with pytest.raises(UserError, match="has no templates under the key"):
                load(tmp_path, "".join(f"k{n}: x\n" for n in range(keys)))
        finally:
            sys.setprofile(None)
        return next(counted)

    assert calls(400) < 2.2 * calls(200)


def test_text_stays_as_it_is_written(tmp_path: pathlib.Path) -> None:
    names = ["007", "1_000", "0x10", "1e5", "2020-01-01", "12:30:00", ".inf", "1.0"]
    text = "templates:\n" + "".join(f"  {name}: {{name: {name}, jinja: x ||| {name}, id: {name}}}\n" for name in names)
    text += f"  last: {{name: last, jinja: x ||| y, id: {'9' * 5000}}}"
    names += ["last"]
    templates = load(tmp_path, text)
    assert list(templates) == names and [template.id for template in templates.values()] == [*names[:-1], "9" * 5000]
    assert templates["007"].jinja == "x ||| 007"


def test_two_thousand_templates_are_read(tmp_path: pathlib.Path) -> None:
    entry = "  {i}: !Template\n    id: {i}\n    name: n{i}\n    jinja: a ||| b\n    answer_choices: null\n"
    metadata = "    metadata: !TemplateMetadata\n      metrics:\n      - Accuracy\n      original_task: true\n"
    text = "templates:\n" + "".join((entry + metadata).format(i=i) for i in range(2000))
    templates = load(tmp_path, text)
    assert len(templates) == 2000 and templates["n7"].metadata.metrics == ("Accuracy",)


def test_a_file_is_parsed_once_until_it_changes(tmp_path: pathlib.Path) -> None:
    """Thousands of source tasks each take one template of the same file."""
    file = tmp_path / "words" / "templates.yaml"
    file.parent.mkdir()
    file.write_text("templates:\n  a: {name: a, jinja: 'x ||| y'}\n")
    first, again = (load_templates(str(tmp_path), "words") for _ in range(2))
    assert first is not again and first["a"] is again["a"]
    file.write_text("templates:\n  a: {name: a, jinja: 'x ||| z'}\n")
    assert load_templates(str(tmp_path), "words")["a"].jinja == "x ||| z"


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ("answer_choice: a ||| b", "has the field 'answer_choice', which is unknown: did you mean answer_choices?"),
        (
            "metadata: {orignal_task: true}",
            "field 'orignal_task', which is unknown: did you mean original_task?",
        ),
    ],
)
def test_a_field_that_no_template_has_is_refused(fields: str, sentence: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)):
        load(tmp_path, f"templates:\n  a: {{name: a, jinja: '{{{{ x }}}} ||| y', {fields}}}\n")
