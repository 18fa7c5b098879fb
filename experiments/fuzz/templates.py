"""Templates: bombs that must be refused, sane ones that must render as expected, answer choices, and YAML files.

A bomb is a template of a few characters whose text, time or memory has no bound. A sane one is put together from pieces
whose text is known.
"""

from __future__ import annotations

import json
import pathlib
import random
from collections.abc import Callable
from typing import Any

from experiments.fuzz import reading
from experiments.fuzz.cases import Case
from infoprompt_jax.errors import UserError

BIG = ("1000000000", "99999999999", "50000000", "2147483648")
HUGE = "9" * 5000
LONGEST = 2_000_000
JINJA = json.dumps("Review: {{ text }} End ||| {{ answer_choices[label] }}")  # the clean file's
GROWING = (
    "{%% set n = namespace(a=%s) %%}{%% for i in range(%d) %%}{%% set n.a = %s %%}{%% endfor %%}{{ n.a | length }}"
)
# They must be refused, or give a text of at most LONGEST characters. $BIG is a large number.
BOMBS = (
    '{{ "$BIGd" | format(1) }}',
    '{{ "%$BIGd" | format(1) }}',
    '{{ "%$BIGd" % 1 }}',
    '{{ "%.$BIGf" % 1.5 }}',
    '{{ "%*d" % ($BIG, 1) }}',
    '{{ "{:>$BIG}".format(1) }}',
    '{{ "{:{}}".format(1, $BIG) }}',
    '{{ "{:.$BIGf}".format(1.5) }}',
    "{{ text.center($BIG) }}",
    "{{ text.ljust($BIG) }}",
    "{{ text.zfill($BIG) }}",
    '{{ "\\t".expandtabs($BIG) }}',
    "{{ text | center($BIG) }}",
    '{{ "a\\nb" | indent($BIG) }}',
    '{{ text | replace("", "x" * 10000) | replace("", "y" * 10000) | replace("", "z" * 10000) }}',
    '{{ ("x" * 10000).replace("x", "y" * 10000) }}',
    '{{ ("x" * 10000).join(range(99999) | map("string")) }}',
    "{{ range($BIG) | list | length }}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in [a, b] %}{% endfor %}{% endfor %}{% endfor %}x",
    "{% for a in range(99999) %}{% for b in range(99999) %}.{% endfor %}{% endfor %}",
    "{{ range(99999) | list | most_frequent | length }}",
    "{{ range(99999) | batch(1, 0) | list | length }}{{ [1] | slice($BIG) | list | length }}",
    "{{ [1] | batch($BIG, 0) | list | length }}",
    "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
    "{% macro f(x) %}{{ f(x) }}{{ f(x) }}{% endmacro %}{{ f(1) }}",
    "{% macro f(n) %}{% if n > 0 %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}x{% endmacro %}{{ f(40) }}",
    "{% for x in [1, 2] recursive %}{{ loop([x, x]) }}{% endfor %}",
    "{% block a %}{{ self.a() }}{% endblock %}",
    "{% set n = namespace(a=10) %}{% for i in range(60) %}{% set n.a = n.a * n.a %}{% endfor %}{{ n.a }}",
    "{% set n = namespace(a=99) %}{% for i in range(60) %}{% set n.a = n.a * n.a %}{% endfor %}x",
    "{{ 10 ** $BIG }}",
    "{{ 2 ** 2 ** 2 ** 2 ** 2 ** 2 }}",
    "{{ $HUGE }}",
    '{{ ("9" * 9999) | int }}',
    "{{ [[[1] * 9999] * 9999] * 9999 }}",
    '{% set n = namespace(a=[]) %}{% for i in range(99999) %}{% set n.a = [n.a] %}{% endfor %}{{ n.a }}',
    '{{ ("<" * 10000) | striptags }}' * 300,
    '{{ (("http://" * 1400) ~ "x") | urlize | length }}' * 900,
    '{{ ("a " * 5000) | wordwrap(1) | wordwrap(1) }}' * 900,
    "{{ (range(99999) | list + range(99999) | list) | sort | unique | list | length }}" * 500,
    "{{ range(99999) | sum(start=[]) }}",
    '{{ ["x" * 9999] * 9999 | join }}',
    '{{ (["x" * 9999] * 9999) | join("") | length }}',
    '{{ dict(a="x" * 9999) | xmlattr | length }}{{ (["x" * 9999] * 9999) | tojson | length }}',
    '{{ "x" * 10000 * 10000 }}',
    "{{ text * $BIG }}",
    "{{ [text] * $BIG }}",
    '{{ lipsum($BIG) }}',
    '{% set x %}{% for i in range(99999) %}{{ "x" * 9999 }}{% endfor %}{% endset %}{{ x | length }}',
    '{% filter center($BIG) %}x{% endfilter %}',
)  # fmt: skip
ERRORS = (  # must be refused
    '{{ text.split("") }}',
    "{{ text.encode() }}",
    "{{ text.__class__ }}",
    '{{ text | attr("__class__") }}',
    '{{ "{0.__class__.__mro__}".format(text) }}',
    '{{ ("{0.__class__}" ~ "").format_map({"a": 1}) }}',
    "{{ self.__init__.__globals__ }}",
    "{{ cycler.__init__.__globals__ }}",
    "{{ [].append(1) }}",
    "{{ answer_choices.append(text) }}",
    '{% include "x" %}',
    '{% import "x" as y %}',
    '{% extends "x" %}',
    "{% break %}",
    "{{ caller() }}",
    "{{ super() }}",
    "{{ loop.index }}",
    "{{ text.nothing.more }}",
    "{{ nothing }}",
    "{{ 1 / 0 }}",
    '{{ text + 1 }}',
    "{{ text | nofilter }}",
    "{{ text is notest }}",
    "{{ answer_choices[5] }}",
    "{{ answer_choices[-1] }}",
    "{{ text() }}",
    "{{ label() }}",
    "{{ [3, 'a'] | sort }}",
    "{{ '%' % () }}",
    "{{ '%s %s' % text }}",
    "{{ '{} {}'.format(1) }}",
    "{% for a, b in [1] %}{% endfor %}",
    "{{ (" * 3000 + "1" + ") }}" * 3000,
    "{{ " + "(" * 20000 + "1" + ")" * 20000 + " }}",
    "{{ " + "not " * 12000 + "1 }}",
    "{{ " + "-" * 40000 + "1 }}",
    "{{ " + "[" * 20000 + "]" * 20000 + " }}",
    "{{ " + "1 if 1 else " * 4000 + "1 }}",
    "{% for i in range(1) %}" * 60 + "{% endfor %}" * 60 + "x{{ 1 / 0 }}",
    "{% if 1 %}" * 2000 + "{% endif %}" * 2000 + "x{{ 1 / 0 }}",
    "{{ text",
    "{% if %}",
    "{% endfor %}",
    "{{ }}",
    "{% set %}",
    "{{ text | }}",
    "{{ Tweet text }}",
    "{% raw %}",
    "{#",
    "{{ '\\ud800' }}{{ 1/0 }}",
)  # fmt: skip
PIECES: tuple[tuple[str, Callable[[str, int], str]], ...] = (
    ("plain", lambda text, label: "plain"),
    ("{{ text }}", lambda text, label: text),
    ("{{ text | upper }}", lambda text, label: text.upper()),
    ("{{ text | length }}", lambda text, label: str(len(text))),
    ("{% if label == 1 %}A{% else %}B{% endif %}", lambda text, label: "BA"[label]),
    ("{% for w in text.split() %}{{ w }},{% endfor %}", lambda text, label: "".join(f"{w}," for w in text.split())),
    ("{{ text[:3] }}", lambda text, label: text[:3]),
    ('{{ text | replace("x", "y") }}', lambda text, label: text.replace("x", "y")),
    ("{% set t = text %}{{ t }}", lambda text, label: text),
    ('{{ "%s!" | format(text) }}', lambda text, label: f"{text}!"),
    ('{{ "%5d|" % label }}', lambda text, label: f"{label:5d}|"),
    ('{{ answer_choices | join(", ") }}', lambda text, label: "bad, good"),
    ("{{ [1, 2] | sum }}", lambda text, label: "3"),
    ("{{ range(3) | list | length }}", lambda text, label: "3"),
    ("{{ (label + 1) * 3 }}", lambda text, label: str(3 * (label + 1))),
    ("{# a comment #}", lambda text, label: ""),
    ("{% raw %}{{ x }}{% endraw %}", lambda text, label: "{{ x }}"),
    ('{{ text ~ "-" ~ label }}', lambda text, label: f"{text}-{label}"),
    ('{{ "ab" * 3 }}', lambda text, label: "ababab"),
    ("{% macro f(x) %}[{{ x }}]{% endmacro %}{{ f(text) }}", lambda text, label: f"[{text}]"),
    ("{{ ['a', 'b'][label] }}", lambda text, label: "ab"[label]),
    ("{{ text | trim | capitalize | lower }}", lambda text, label: text.strip().lower()),
    ("{% for i in range(300) %}{{ i % 7 }}{% endfor %}", lambda text, label: "".join(str(i % 7) for i in range(300))),
    ("{{ text.center(40) }}|", lambda text, label: f"{text.center(40)}|"),
    ("{{ '' if label else 'no' }}", lambda text, label: "" if label else "no"),
    ("{% for a, b in zip([1, 2], [3, 4]) %}{{ a * b }} {% endfor %}.", lambda text, label: "3 8 ."),
    ("{{ [1, 1, 2] | most_frequent | first }}", lambda text, label: "1"),
)
LISTS: tuple[tuple[str, bool], ...] = (  # answer choices, and whether they may be taken
    ("bad ||| good", True),
    ("  bad  |||  good  ", True),
    ("bad ||| good ||| fine", True),
    ("bad ||| bad", False),
    ("bad", False),
    ("good", False),
    ("bad ||| good ||| good", False),
    ("bad ||| ", False),
    ("||| good", False),
    ("|||", False),
    ("bad|||good", True),
    ("bad || good", False),
    ("bad ||||||good", False),
    ("bad ||| \ud800 ||| ?", False),
    ("{{ 1 / 0 }} ||| x", False),
    ("{{ nothing }} ||| x", False),
    ("{{ 'bad' }} ||| good", True),
    ("{{ 'bad ||| good' }}", True),
    ("{% for c in ['bad', 'good'] %}{{ c }}{{ ' ||| ' if not loop.last }}{% endfor %}", True),
    ("{{ 'bad' * 99999999 }} ||| good", False),
    ("{{ '%99999999d' % 1 }} ||| good", False),
    ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}bad ||| good", False),
    ("{{ 'bad'", False),
    ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }} ||| good", False),
    ("bad\0 ||| good\0", False),
    ("BAD ||| bad", False),
)


def case(choose: random.Random, folder: pathlib.Path) -> Case:
    """One template."""
    return choose.choice([bombs, bombs, growing, sane, sane, choices, yaml])(choose, folder)


def _rows(choose: random.Random, folder: pathlib.Path, count: int = 3) -> list[reading.Row]:
    rows = reading.table(choose, count)
    reading.write(folder, ".jsonl", reading.jsonl(rows))
    return rows


def _fields(source: str, target: str = "{{ answer_choices[label] }}", listed: str = "bad ||| good") -> dict[str, str]:
    return {"task.input": source, "task.target": target, "task.answer_choices": listed}


def bombs(choose: random.Random, folder: pathlib.Path) -> Case:
    """A bomb or an error, in the input, the target or the answer choices."""
    _rows(choose, folder)
    kinds = choose.choice([BOMBS, BOMBS, ERRORS])
    bomb = choose.choice(kinds).replace("$BIG", choose.choice(BIG)).replace("$HUGE", HUGE)
    place = choose.choice(["input", "input", "target", "choices"])
    if "answer_choices" in bomb or "{% block" in bomb:
        place = "input"
    fields = {
        "input": _fields(f"a {bomb}"),
        "target": _fields("a {{ text }}", f"b {bomb}", ""),
        "choices": _fields("a {{ text }}", "x", f"x ||| {bomb}"),
    }[place]
    run = reading.reader(folder, fields)
    is_bounded = (lambda result: len(str(result)) <= LONGEST) if kinds is BOMBS else None
    return Case(f"{place}: {bomb:.150}", run, is_bounded)


def growing(choose: random.Random, folder: pathlib.Path) -> Case:
    """A value that doubles: a text, a list, a number, a mapping. Few doublings are harmless."""
    rows = _rows(choose, folder)
    times = choose.choice([3, 5, 8, 20, 30, 40, 60, 200])
    start, step, size = choose.choice(
        [
            ("'x'", "n.a ~ n.a", 1),
            ("'x'", "n.a + n.a", 1),
            ("'xy'", "n.a * 2", 2),
            ("[1]", "n.a + n.a", 1),
            ("'x'", "n.a.replace('x', 'xx')", 1),
            ("'x'", "n.a | replace('x', 'xx')", 1),
            ("'x'", "'%s%s' % (n.a, n.a)", 1),
            ("'x'", "'{0}{0}'.format(n.a)", 1),
            ("'x'", "[n.a, n.a] | join", 1),
            ("'x'", "''.join([n.a, n.a])", 1),
            ("'x'", "(n.a | list + n.a | list) | join", 1),
        ]
    )
    source = GROWING % (start, times, step)
    right = [[f"a {size * 2**times}", reading.CHOICES[row["label"]], row["label"]] for row in rows]
    return Case(f"{start}, {times} times {step}", reading.reader(folder, _fields(f"a {source}")), right)


def sane(choose: random.Random, folder: pathlib.Path) -> Case:
    """Pieces whose text is known. They must not be refused."""
    rows = _rows(choose, folder)
    pieces = choose.choices(PIECES, k=choose.randint(1, 8))
    source = "Q: " + " ".join(piece for piece, _ in pieces) + " end"
    texts = ["Q: " + " ".join(text(row["text"], row["label"]) for _, text in pieces) + " end" for row in rows]
    right = [[text, reading.CHOICES[row["label"]], row["label"]] for text, row in zip(texts, rows, strict=True)]
    return Case(f"sane: {source:.200}", accepting(reading.reader(folder, _fields(source))), right)


def accepting(run: Callable[[], Any]) -> Callable[[], Any]:
    """The same for an input that must not be refused: a sentence becomes a wrong result."""

    def result() -> Any:
        try:
            return run()
        except UserError as error:
            return f"refused: {error}"

    return result


def choices(choose: random.Random, folder: pathlib.Path) -> Case:
    """Answer choices that are equal, alike, single, empty, or made by jinja."""
    rows = _rows(choose, folder)
    listed, is_taken = choose.choice(LISTS)
    fields = _fields("Review: {{ text }} End", listed=listed)
    run = reading.reader(folder, fields)
    return Case(
        f"choices {listed!r:.100}", run, reading.expected(rows) if is_taken else lambda result: _allowed(listed, result)
    )


def _allowed(listed: str, result: list[reading.Text]) -> bool:
    """What is odd but means what it says: case, control signs."""
    first, _, second = listed.partition(" ||| ")
    return listed in ("bad\0 ||| good\0", "BAD ||| bad") and all(target in (first, second) for _, target, _ in result)


def yaml(choose: random.Random, folder: pathlib.Path) -> Case:
    """A file of templates with an odd or broken part; the clean one holds the template of `reading.template`."""
    rows = _rows(choose, folder)
    entry = f"    name: good or bad\n    id: a\n    answer_choices: bad ||| good\n    jinja: {JINJA}\n"
    clean = f"dataset: mine\ntemplates:\n  a: !Template\n{entry}"
    harmless, broken = _harmless(clean), _broken(choose, clean)
    odd = _odd(clean, entry)
    kinds = choose.choice([harmless, odd, odd, broken])
    what = choose.choice(list(kinds))
    path = folder / "templates" / reading.NAME / "templates.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(kinds[what], encoding="utf-8", newline="")
    run = reading.reader(folder, {"task.templates_dir": str(folder / "templates")})
    right = None if kinds is broken or what in MUST_BE_REFUSED else reading.expected(rows)
    return Case(f"YAML: {what}", accepting(run) if kinds is harmless else run, right)


def _harmless(clean: str) -> dict[str, str]:
    """Files that mean the same."""
    return {
        "clean": clean,
        "with a mark": "\ufeff" + clean,
        "with CRLF": clean.replace("\n", "\r\n"),
        "with metadata": clean + "    metadata: !TemplateMetadata {original_task: true, metrics: [Accuracy]}\n",
        "with null metadata": clean + "    metadata: null\n",
        "with a comment": "# comment\n" + clean,
        "with a reference": clean + "    reference: ''\n",
        "with a name that is a number": clean.replace("good or bad", "2024"),
    }


def _odd(clean: str, entry: str) -> dict[str, str]:
    """Files that may be refused, or mean the same."""
    laughs = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    deep = "[" * 3000 + "]" * 3000
    return {
        "laughs": f"a0: &a0 [x, x, x, x, x, x, x, x, x]\n{laughs}{clean}",
        "laughs as metadata": f"a0: &a0 [x, x, x, x, x, x, x, x, x]\n{laughs}{clean}    metadata: {{metrics: *a11}}\n",
        "an alias of itself": f"b: &b [*b]\n{clean}",
        "a mapping in itself": f"b: &b {{c: *b}}\n{clean}",
        "merged": f"base: &base\n  x: 1\nmore:\n  <<: *base\n{clean}",
        "deep": f"b: {deep}\n{clean}",
        "deep mappings": "b: " + "{a: " * 3000 + "1" + "}" * 3000 + f"\n{clean}",
        "a wide mapping": clean + "    metadata:\n" + "".join(f"      k{n}: {n}\n" for n in range(20_000)),
        "equal keys": clean + "    name: other\n",
        "two templates of one key": clean + f"  a: !Template\n{entry.replace('good or bad', 'other')}",
        "two templates of one name": clean + f"  b: !Template\n{entry}",
        "a Python object": f"b: !!python/object/apply:os.system ['true']\n{clean}",
        "an unknown tag": f"b: !Other {{}}\n{clean}",
        "an integer of 5,000 digits": f"b: {HUGE}\n{clean}",
        "a date that is none": f"b: 2024-13-45\n{clean}",
        "a float": f"b: 1e999\n{clean}",
        "two documents": f"{clean}---\n{clean}",
        "tabs": clean.replace("    name", "\tname"),
        "binary": f"b: !!binary '???'\n{clean}",
        "a set": f"b: !!set {{a, b}}\n{clean}",
        "a list as a key": f"? [a, b]\n: 1\n{clean}",
        "a mapping as a key": f"? {{a: b}}\n: 1\n{clean}",
    }


def _broken(choose: random.Random, clean: str) -> dict[str, str]:
    """Files that must be refused."""
    return {
        "cut": clean[: choose.randrange(20, len(clean) - 60)],
        "empty": "",
        "a text": "hello",
        "a number": "5",
        "a list": "- a\n- b\n",
        "templates as a list": clean.replace("  a: !Template", "  - !Template"),
        "templates empty": "templates: {}\n",
        "templates null": "templates: null\n",
        "jinja as a number": clean.replace(JINJA, "5"),
        "jinja as null": clean.replace(JINJA, "null"),
        "jinja as a list": clean.replace(JINJA, "[a, b]"),
        "no name": clean.replace("    name: good or bad\n", ""),
        "choices as a list": clean.replace("bad ||| good", "[bad, good]"),
        "choices as false": clean.replace("bad ||| good", "false"),
        "choices as 0": clean.replace("bad ||| good", "0"),
        "metadata as a list": clean + "    metadata: [1]\n",
        "metrics as a number": clean + "    metadata: {metrics: 5}\n",
        "original_task as a text": clean + "    metadata: {original_task: 'no'}\n",
        "name as null": clean.replace("good or bad", "null"),
        "name as a list": clean.replace("good or bad", "[a]"),
        "id as a list": clean.replace("id: a", "id: [a]"),
        "a NUL": clean + "\0",
        "a control sign": clean.replace("good or", "good \x07 or"),
        "long jinja": clean.replace(JINJA, json.dumps("x" * 60_000 + " {{ text }} ||| a")),
    }


MUST_BE_REFUSED = (
    "equal keys",
    "two templates of one key",
    "two templates of one name",
    "two documents",
    "a Python object",
)
