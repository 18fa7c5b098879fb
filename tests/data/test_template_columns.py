"""What templates make of a row's columns: labels of every spelling, nulls, names of any kind."""

from __future__ import annotations

import pathlib
import re
from typing import Any

import pytest
from tiny_data import INLINE, configure, one_task, write_jsonl

from infoprompt_jax.data.examples import checked, examples
from infoprompt_jax.data.tasks import Task
from infoprompt_jax.data.templates import Example, Template
from infoprompt_jax.errors import UserError


def render(jinja: str, row: dict[str, Any], choices: str = "") -> Example | None:
    return Template("test", "id", jinja, choices).render(row)


@pytest.mark.parametrize("label", [1, 1.0, "1", "1.0", " 1.00 ", True, "true", "True", "TRUE"])
def test_one_in_every_spelling(label: Any) -> None:
    for answers in ("answer_choices", "['No', 'Yes']", "('No', 'Yes')"):
        example = render(f"q ||| {{{{ {answers}[label] }}}}", {"label": label}, "No ||| Yes")
        assert example == Example("q", "Yes", ("No", "Yes"))


@pytest.mark.parametrize("label", [0, 0.0, "0", "0.0", False, "false", "False"])
def test_zero_in_every_spelling(label: Any) -> None:
    assert render("q ||| {{ answer_choices[label] }}", {"label": label}, "No ||| Yes") == Example(
        "q", "No", ("No", "Yes")
    )


@pytest.mark.parametrize("label", [1, 1.0, "1", "1.0", " 1 "])
def test_a_template_may_compare_the_label_with_a_number(label: Any) -> None:
    jinja = "{{ label }} ||| {% if label == 1 %}Yes{% else %}No{% endif %}"
    task = Task("mine", Template("test", "id", jinja, "No ||| Yes"), "accuracy")
    for example in (task.render({"label": label}), task.question({"label": label})):
        assert example == Example("1", "Yes", ("No", "Yes"))


@pytest.mark.parametrize("label", [2, 2.0, "2", "2.0"])
def test_a_template_may_compare_the_label_with_a_text(label: Any) -> None:
    jinja = (
        "q ||| {% if label == 2 | string %}Yes{% else %}No{% endif %}, {% if label != '2' %}Yes{% else %}No{% endif %}"
    )
    task = Task("mine", Template("test", "id", jinja), "exact_match")
    assert task.render({"label": label}) == Example("q", "Yes, No")
    assert task.render({"label": 3}) == Example("q", "No, Yes")
    for keys in ("{2: 'Yes'}", "{'2': 'Yes'}"):
        by_key = Task("mine", Template("test", "id", f"q ||| {{{{ {keys}[label] }}}}"), "exact_match")
        assert by_key.render({"label": label}) == Example("q", "Yes")


def test_a_whole_number_of_any_column_equals_its_text() -> None:
    jinja = "q ||| {% if answer == '1' and answer == 1 and ids[0] == '2' %}{{ answer + 1 }}{% else %}no{% endif %}"
    assert render(jinja, {"answer": 1, "ids": [2]}) == Example("q", "2")
    assert render(jinja, {"answer": 2, "ids": [2]}) == Example("q", "no")
    assert render("q ||| {{ answer == '1' }}", {"answer": True}) == Example("q", "False")


@pytest.mark.parametrize("label", [False, "False", "false", True, "True", " TRUE "])
def test_a_template_may_ask_whether_the_label_is_true(label: Any) -> None:
    jinja = "{{ label }} ||| {% if label %}Yes{% else %}No{% endif %}, {% if label == 1 %}Yes{% else %}No{% endif %}"
    answer = "Yes" if str(label).strip().lower() == "true" else "No"
    task = Task("mine", Template("test", "id", jinja), "exact_match")
    assert task.render({"label": label}) == Example(str(label).strip(), f"{answer}, {answer}")


@pytest.mark.parametrize("label", ["true", "01", "1.5", "one"])
def test_a_label_that_is_no_number_stays_as_it_is(label: str) -> None:
    task = Task("mine", Template("test", "id", "q ||| {{ label }}", f"{label} ||| other"), "accuracy")
    assert task.render({"label": label}) == Example("q", label, (label, "other"))


@pytest.mark.parametrize("label", [2, "2", 0.5, "0.5", "-2", "-0", "1e0", "positive", "\u0661", "\uff11"])
def test_a_label_that_is_no_choice(label: Any) -> None:
    with pytest.raises(UserError, match=rf"answer choice {label} \(from 0\) does not exist; there are 2"):
        render("q ||| {{ answer_choices[label] }}", {"label": label}, "No ||| Yes")


def test_a_label_that_is_the_text_of_a_choice() -> None:
    sentence = "there are 2, and 'Yes' is the text of one: write {{ label }}, not {{ answer_choices[label] }}."
    with pytest.raises(UserError, match=re.escape(sentence)):
        render("q ||| {{ answer_choices[label] }}", {"label": "Yes"}, "No ||| Yes")
    assert render("q ||| {{ label }}", {"label": "Yes"}, "No ||| Yes") == Example("q", "Yes", ("No", "Yes"))


def test_rows_without_a_label_are_left_out(tmp_path: pathlib.Path) -> None:
    missing = [{"label": label} for label in (-1, -1.0, "-1", "-1.0", " ", "", "NaN", None)] + [{}]
    write_jsonl(tmp_path / "mine/train.jsonl", [{"text": "a"} | row for row in [*missing, {"label": "1.0"}]])
    task = one_task(configure(tmp_path, "mine", **INLINE))
    assert list(checked(task, "train"))[:-1] == [None] * 9
    assert [example.label for example in examples(task, "train")] == [1]
    write_jsonl(tmp_path / "mine/train.jsonl", [{"text": "a", "stars": 1}, {"text": "b"}])
    with pytest.raises(
        UserError, match=r"mine, train, row 0 \(from 0\): .*column 'label'.*are text, stars, and no other"
    ):
        list(examples(one_task(configure(tmp_path, "mine", **INLINE)), "train"))


@pytest.mark.parametrize(
    ("jinja", "text"),
    [
        ("[{{ a }}]", "[]"),
        ("[{{ a | upper }}]", "[]"),
        ("[{{ a ~ 'x' }}]", "[x]"),
        ("[{{ 'x'.join([a, a]) }}]", "[x]"),
        ("[{{ d.inner }}]", "[]"),
        ("{{ l | join('+') }}", "1++2"),
        ("{{ a or 'nothing' }}", "nothing"),
        ("{{ a is none }} {{ a is not none }}", "True False"),
        ("{{ a == none }} {{ a != none }} {{ none == a }}", "True False True"),
        ("{{ empty is none }} {{ empty == none }} {{ unknown is none }}", "False False True"),
        ("{{ a | length }} {{ a == '' }}", "0 True"),
    ],
)
def test_a_null_is_empty_text_and_still_none(jinja: str, text: str) -> None:
    row = {"a": None, "d": {"inner": None}, "l": [1, None, 2], "empty": "", "unknown": None}
    assert render(jinja + " ||| b", row) == Example(text, "b")


def test_a_null_where_the_answer_is_leaves_the_row_out() -> None:
    assert render("{{ q }} ||| {{ a }}", {"q": "x", "a": None}) is None
    assert render("{{ q }} ||| {{ a }}", {"q": None, "a": "x"}) is None


def test_nulls_leave_random_draws_as_they_were() -> None:
    example = render("{{ range(1000) | choice }} {{ a }} ||| b", {"a": None})
    assert example == Example("112", "b")


@pytest.mark.parametrize(
    ("jinja", "text"),
    [
        ('{{ row["Tweet text"] }}', "t"),
        ('{{ row["Tweet text"] | upper }} {{ id }}', "T 7"),
        ("{{ row['of-text'] }} {{ of_text }}", "h h"),
        ("{{ row.id }} {{ row['?'] }}", "7 ||| or"),
        ("{% for name in row %}{{ name }};{% endfor %}", "Tweet text;id;of-text;?;null;"),
        ("[{{ row['null'] }}]", "[]"),
    ],
)
def test_any_column_by_the_row(jinja: str, text: str) -> None:
    row = {"Tweet text": "t", "id": 7, "of-text": "h", "?": "||| or", "null": None}
    assert render(jinja + " ||| b", row) == Example(text, "b")


def test_a_column_called_row_is_that_column() -> None:
    assert render("{{ row }} {{ text }} ||| b", {"row": 3, "text": "x"}) == Example("3 x", "b")


@pytest.mark.parametrize(
    ("jinja", "sentence"),
    [
        ("{{ Tweet text }}", 'line 1): .*; a column with a space in its name is row["Tweet text"], or rename it'),
        ("x\n{{- Tweet text | upper }}", 'line 2): .*row["Tweet text"]'),
        ("{{ a if }}", r"line 1): (?!.*row\[)"),
    ],
)
def test_a_name_with_a_space_is_explained(jinja: str, sentence: str) -> None:
    pattern = sentence if "(?!" in sentence else re.escape(sentence).replace(r"\.\*", ".*")
    with pytest.raises(UserError, match=pattern.replace("line 1):", r"line 1\):")):
        Template("test", "id", jinja + " ||| b")


@pytest.mark.parametrize(
    "jinja", ['{{ row["Tweet"] }}', "{{ row['Tweet'] | upper }}", "{{ Tweet }}", "{{ Tweet.x[0] }}", "{{ [1][Tweet] }}"]
)
def test_a_missing_column_is_an_error(jinja: str) -> None:
    with pytest.raises(UserError, match="uses the column 'Tweet', but the columns are Tweet text, b_c: rename"):
        render("{% if optional is defined %}{{ optional }}{% endif %}" + jinja + " ||| b", {"Tweet text": 1, "b-c": 2})


@pytest.mark.parametrize("name", ["range", "dict", "cycler", "joiner", "namespace", "zip", "lipsum", "loop", "caller"])
def test_a_column_called_as_jinjas_functions(name: str) -> None:
    assert render(f"{{{{ {name} }}}} ||| b", {name: "mine"}) == Example("mine", "b")


def test_jinjas_functions_beside_columns_of_their_names() -> None:
    row = {"range": "mine", "a": [1, 2]}
    assert render("{% for n in range(2) %}{{ n }}{% endfor %}{{ a | length }} ||| b", row) == Example("012", "b")


def test_what_a_template_sets_is_no_column() -> None:
    made = Template("test", "id", "{% set x = a %}{% if y %}{% set z = 1 %}{{ z }}{% endif %}{{ z }}{{ x }} ||| b")
    assert made.columns == {"a", "y"}
    assert made.render({"a": "t", "y": 1, "z": 5}) == Example("11t", "b")
    assert render("{% set a = a | upper %}{{ a }} ||| b", {"a": "x"}) == Example("X", "b")


def test_lists_cannot_be_changed() -> None:
    for jinja in ("{% set l = [] %}{% if l.append(1) %}{% endif %}", "{{ a.append(1) }}", "{% do a.pop() %}"):
        with pytest.raises(UserError, match=r"does what templates may not: .*append|not valid jinja"):
            render(jinja + "x ||| b", {"a": [1]})


def test_markup_and_other_scripts_stay_as_they_are() -> None:
    text = "<b>&amp; “é” \u200b日本 🙂\u2028\r\n"
    assert render("{{ a }}. ||| b", {"a": text}) == Example(f"{text}.", "b")


FUNCTIONS = ["range", "zip", "dict", "cycler", "joiner", "namespace"]


@pytest.mark.parametrize(
    "name", [*FUNCTIONS, "self", "super", "lipsum", "varargs", "kwargs", "caller", "loop", "context"]
)
def test_a_column_of_a_name_of_jinjas_is_listed_and_required(name: str) -> None:
    made = Template("test", "id", f"{{{{ {name} }}}}. {{{{ a }}}} ||| {{{{ {name} | upper }}}}")
    assert made.columns == {"a", name}
    assert made.render({name: "mine", "a": "x"}) == Example("mine. x", "MINE")
    assert made.render({name: None, "a": "x"}) is None
    with pytest.raises(UserError, match=f"uses the column '{name}', but the columns are a: rename"):
        made.render({"a": "x"})


def test_functions_of_jinjas_are_called_beside_columns_of_their_names() -> None:
    row = dict.fromkeys(FUNCTIONS, "mine")
    called = "{{ range(2) | join }}{{ zip('a', 'b')[0] | join }}{{ dict(a=1).a }}{{ cycler(3).next() }}{{ joiner()() }}"
    made = Template("test", "id", called + "{{ namespace(b=2).b }}{{ range }}{{ zip }} ||| {{ dict }}{{ namespace }}")
    assert made.columns == {"range", "zip", "dict", "namespace"}
    assert made.render(row) == Example("01ab132minemine", "minemine")


@pytest.mark.parametrize(
    "name", ["items", "keys", "values", "get", "copy", "title", "count", "index", "upper", "update"]
)
def test_a_part_of_a_column_of_a_methods_name(name: str) -> None:
    row = {"d": {name: "part"}, "e": {"other": 1}}
    assert render(f"{{{{ d.{name} }}}} {{{{ d['{name}'] }}}}[{{{{ e.{name} }}}}] ||| b", row) == Example(
        "part part[]", "b"
    )
    jinja = "{% for k, v in d.items() %}{{ k }}={{ v }} {{ d.get(k) }} {{ d.values() | join }}{% endfor %} ||| b"
    assert render(jinja, row) == Example(f"{name}=part part part", "b")


def test_words_of_jinjas_loops_and_macros_are_theirs_inside_them() -> None:
    row = {"loop": "mine", "l": ["a", "b"], "caller": "c"}
    jinja = "{{ loop }}{% for x in l %}{{ loop.index }}{{ x }}{% endfor %}{{ caller }} ||| b"
    assert render(jinja, row) == Example("mine1a2bc", "b")
    with pytest.raises(UserError, match="cannot be rendered: it prints jinja's LoopContext, which has no text"):
        render("{% for x in l %}{{ loop }}{% endfor %} ||| b", row)
    jinja = "{% macro range(n) %}<{{ n }}>{% endmacro %}{{ range(3) }} ||| b"
    assert render(jinja, row) == Example("<3>", "b")


def test_a_name_with_an_underscore_is_the_column_that_is_spelled_so() -> None:
    for row in ({"of-text": "hyphen", "of_text": "underscore"}, {"of_text": "underscore", "of-text": "hyphen"}):
        assert render("{{ of_text }} {{ row['of-text'] }} ||| b", row) == Example("underscore hyphen", "b")


def test_answer_choices_is_a_column_of_a_template_without_them() -> None:
    assert render("{{ answer_choices }} ||| b", {"answer_choices": "mine"}) == Example("mine", "b")
    row = {"answer_choices": "mine"}
    assert render("{{ answer_choices[0] }} ||| b", row, "b ||| c") == Example("b", "b", ("b", "c"))


@pytest.mark.parametrize(
    ("jinja", "sentence"),
    [
        ("{{ a }}", "it prints a list, which has no text: write `| join(', ')`, or one of its items"),
        ("{{ d }}", "it prints a dictionary, which has no text: write the name of one of its keys, or `| tojson`"),
        ("{{ by }}", "it prints bytes, which have no text: decode the column first"),
        ("{{ d.get('x') }}", "it prints `none`, which has no text"),
        ("{{ 'a' ~ d.get('x') }}", "it prints `none`, which has no text"),
        ("{{ [d.get('x')] | join }}", "it prints `none`, which has no text"),
        ("{{ '%s' % d.get('x') }}", "it prints `none`, which has no text"),
        ("{{ '%s' | format(a) }}", "it prints a list"),
        ("{{ d.get('x') | upper }}", "it prints `none`, which has no text"),
        ("{{ by | trim }}", "it prints bytes"),
        ("{{ a | string }}", "it prints a list"),
        ("{{ [a] | join }}", "it prints a list"),
        ("{{ 'x' | replace('x', d.get('x')) }}", "it prints `none`"),
        ("{{ inf }}", "it prints inf, which is no number"),
        ("{{ t.upper }}", "it prints the function 'upper', which has no text: call it, upper()"),
        ("{{ range(3) }}", "it prints a list"),
        ("{{ a | map('string') }}", "it prints a list"),
        ("{% macro m() %}{% endmacro %}{{ m }}", "it prints jinja's Macro"),
        ("{{ '%r' % t }}", "formats take neither Python"),
        ("{{ '%s' % d }}", "it prints a dictionary"),
        ("{{ '{}'.format(a) }}", "it prints a list"),
        ("{{ '{!r}'.format(t) }}", "formats take neither Python"),
        ("{{ t.format }}", "it prints the function 'format', which has no text"),
        ("{{ '%(k)s %(x)s' % {'k': 1, 'x': a} }}", "it prints a list"),
    ],
)
def test_nothing_is_printed_in_pythons_spelling(jinja: str, sentence: str) -> None:
    row = {"a": [1, "x"], "d": {"k": 1}, "by": b"x", "inf": float("inf"), "t": "x"}
    with pytest.raises(UserError, match=re.escape(sentence)):
        render(jinja + " ||| b", row)


def test_what_has_a_text_is_printed() -> None:
    row = {"i": 3, "f": 1.5, "t": True, "n": float("nan"), "l": ["a", None, float("nan")], "d": {"x": float("nan")}}
    assert render("{{ i }} {{ f }} {{ t }} [{{ n }}{{ d.x }}] {{ l | join('-') }} ||| b", row) == Example(
        "3 1.5 True [] a--", "b"
    )
    assert render("{{ l | tojson }} {{ n is none }} {{ '%s %.1f' % (i, f) }} ||| b", row) == Example(
        '["a", "", ""] True 3 1.5', "b"
    )


def test_formats_of_three_kinds() -> None:
    row = {"t": "x", "f": 1.256, "d": {"k": 3}}
    assert render("{{ '&{1:>4}|{0.k}|{f:.2f}{{}}'.format(d, t, f=f) }} ||| b", row) == Example("&   x|3|1.26{}", "b")
    assert render("&{{ '%5d%%|%-3s|' | format(d.k, t) }}{{ '%(k)05d' % d }} ||| b", row) == Example(
        "&    3%|x  |00003", "b"
    )
    jinja = "{{ '{k}'.format_map(d) }} {{ 'in 12345678 days: %s' % t }} ||| b"
    assert render(jinja, row) == Example("3 in 12345678 days: x", "b")


def test_choices_that_draw_depend_on_the_row() -> None:
    made = Template("test", "id", "{{ a }} ||| {{ answer_choices[0] }}", "{{ ['p', 'q', 'r', 's'] | choice }} ||| x")
    assert made.fixed_choices is None
    assert len({made.render({"a": a}) for a in range(20)}) > 2


@pytest.mark.parametrize("choices", ["{{ 'Yes' }}", "{{ 'a' }} ||| a", "{{ ['a', 'a'] | join('|||') }}"])
def test_one_choice_for_every_row_is_refused(choices: str) -> None:
    with pytest.raises(UserError, match=r"has no two answer choices that differ in .*: write at least two, separated"):
        Template("test", "id", "{{ a }} ||| {{ answer_choices[0] }}", choices)


def test_choices_that_jinja_makes_and_repeats_are_listed_as_such() -> None:
    made = Template("test", "id", "{{ a }} ||| {{ answer_choices[y] }}", "{{ 'a' }} ||| b ||| a")
    assert made.fixed_choices == ("a", "b") and made.repeated == ("a",)
    assert made.render({"a": "x", "y": 2}) == Example("x", "a", ("a", "b"))
    with pytest.raises(UserError, match="has an empty answer choice"):
        Template("test", "id", "{{ a }} ||| {{ answer_choices[y] }}", "{{ 'a' }} ||| {{ '' }}")


def test_fixed_choices_that_fail_are_a_sentence() -> None:
    with pytest.raises(UserError, match=r"^template 'test' of task.input does what templates may not: it takes more"):
        Template("test", "id", "{{ a }} ||| b", "{{ 'a' * 1000000000 }} ||| b")
