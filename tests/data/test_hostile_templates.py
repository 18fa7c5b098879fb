"""Templates that ask for more than a machine has: each ends in a sentence, before it takes time or memory."""

from __future__ import annotations

import pathlib
import re
import tracemalloc

import numpy as np
import pytest

from infoprompt_jax.data.templates import Example, Template
from infoprompt_jax.errors import UserError
from infoprompt_jax.prompts.saved import Prompt, load_prompt, save_prompt
from infoprompt_jax.training.recorded import recorded_tasks

MEGABYTES = 40  # that a rendering may hold at its peak; a template without a bound takes more than 1,000
TOO_MUCH = "does what templates may not: it takes more than the 5,000,000 steps and characters that a row may cost"
ROW = {"a": "x", "l": [1, 2], "d": {"k": "v"}, "n": 3}


def doubled(made: str, first: str = "'aaaaaaaa'") -> str:
    """Forty times, a value that is made of two of the value before it."""
    return f"{{% set s = {first} %}}" + f"{{% set s = {made} %}}" * 40 + "x"


def looped(body: str, before: str = "") -> str:
    """A hundred thousand turns of a loop, beside a text of a million characters."""
    before += "{% set a = 'a' * 1000000 %}{% set b = 'a' * 1000000 %}"
    return before + f"{{% for i in range(100000) %}}{body}{{% endfor %}}x"


DOUBLED = {
    name: doubled(made)
    for name, made in {
        "concatenated": "s ~ s",
        "added": "s + s",
        "replaced": "s | replace('a', 'aa')",
        "replaced by a method": "s.replace('a', 'aa')",
        "joined": "[s, s] | join",
        "joined by a method": "''.join([s, s])",
        "its own separator": "s.join(s)",
        "formatted": "'%s%s' % (s, s)",
        "formatted by a method": "'{0}{0}'.format(s)",
        "formatted by a filter": "'%s%s' | format(s, s)",
        "formatted by name": "'%(s)s%(s)s' % {'s': s}",
        "summed": "[s, s] | sum(start='')",
        "repeated": "s * 2",
        "indented": "(s ~ '\n' ~ s) | indent(4)",
    }.items()
}
LISTS = {
    "a list of lists": doubled("[s, s]"),
    "a tuple of tuples": doubled("(s, s)"),
    "a dictionary of dictionaries": doubled("{'a': s, 'b': s}"),
    "a list added": doubled("s + s", "[1]"),
    "a list summed": doubled("[s, s] | sum(start=[])", "[1]"),
    "zipped": doubled("zip(s, s)", "[1, 2]"),
}
DOUBLED |= {
    "a macro": "{% macro m(x) %}{{ x }}{{ x }}{% endmacro %}" + doubled("m(s)"),
    "a set block": "{% set s = 'aaaa' %}" + "{% set s %}{{ s }}{{ s }}{% endset %}" * 40,
    "a filter block": "{% set s = 'aaaa' %}"
    + "{% set s %}{% filter upper %}{{ s }}{{ s }}{% endfilter %}{% endset %}" * 40,
}
AT_ONCE = {
    "a repeat": "{{ 'a' * 1000000000 }}",
    "a repeat from the left": "{{ 1000000000 * 'a' }}",
    "a repeated list": "{{ ([1] * 1000000000) | length }}",
    "center": "{{ 'a'.center(1000000000) }}",
    "center, a filter": "{{ 'a' | center(width=1000000000) }}",
    "ljust": "{{ 'a'.ljust(1000000000) }}",
    "zfill": "{{ 'a'.zfill(1000000000) }}",
    "tabs": "{{ ('\t' * 10000).expandtabs(10000) }}",
    "indent": "{{ ('\n' * 10000) | indent(10000, blank=true) }}",
    "indent by a text": "{{ ('\n' * 10000) | indent('a' * 10000) }}",
    "batch": "{{ 'abc' | batch(1000000000, 'a') | list | length }}",
    "slice": "{{ 'abc' | slice(1000000000) | list | length }}",
    "many places": "{{ ('{:9999}' * 3000).format(*([1] * 3000)) }}",
    "many times one place": "{% set s = 'a' * 100000 %}{{ ('{0}' * 9000).format(s) }}",
    "a long path to a place": "{{ ('{0' ~ '.real' * 900000 ~ '}').format(1) }}",
    "many widths": "{{ ('%9999d' * 3000) % ((1,) * 3000) }}",
    "many times one name": "{% set s = 'a' * 100000 %}{{ ('%(s)s' * 9000) % {'s': s} }}",
    "a search from the right": "{% set s = 'a' * 2000000 %}{{ s.rfind('b' ~ s) }}",
    "a trim": "{% set s = 'a' * 1000000 %}{{ s | trim(chars='b' * 1000000 ~ 'a') }}",
    "a strip": "{% set s = 'a' * 1000000 %}{{ s.strip('b' * 1000000 ~ 'a') }}",
    "a long path": "{% set p = ('real.' * 200000) ~ 'real' %}{{ range(100000) | map(attribute=p) | list | length }}",
    "a long path to sort by": "{% set p = ('real.' * 200000) ~ 'real' %}{{ range(90000) | sort(attribute=p) | last }}",
    "a list of wide characters": "{{ ('\U0001f600' * 2000000) | list | length }}",
    "words": "{{ ('ab ' * 1500000).split() | length }}",
    "many references": "{% set s = 'a' * 1000000 %}{% set t = [" + "s," * 9000 + "] %}",
    "many arguments": "{% macro m() %}{{ varargs | length }}{% endmacro %}" + "{{ m(*range(100000)) }}" * 9,
    "steps given back": "{{ [-1000000000000] | map('$step') | list | length }}" + looped("{{ b }}"),
}
LOOPS = {
    "nested": "{% for i in range(100000) %}" * 4 + "x" + "{% endfor %}" * 4,
    "nested and empty": "{% for i in range(99999) %}" * 3 + "{% endfor %}" * 3,
    "nested with a condition": looped("{% for j in range(99999) if false %}{% endfor %}"),
    "text into a block": "{% set s %}" + looped("x" * 20_000) + "{% endset %}",
    "a slice": looped("{% set c = a[1:] %}"),
    "a comparison": looped("{% if a == b %}{% endif %}"),
    "a comparison, a test": looped("{% if a is eq(b) %}{% endif %}"),
    "a search": looped("{% if 'b' in a %}{% endif %}"),
    "a search of a range": looped("{% if 'b' in r %}{% endif %}", "{% set r = range(100000) %}"),
    "a filter": looped("{% set c = a | upper %}"),
    "a test": looped("{% if a is upper %}{% endif %}"),
    "a method": looped("{% set c = a.count('b') %}"),
    "a change": looped("{% if loop.changed(a ~ i) %}{% endif %}"),
    "a list that grows": looped("{% set n.l = n.l + [i] %}", "{% set n = namespace(l=[]) %}"),
    "a list that deepens": looped("{% set n.l = [n.l] %}", "{% set n = namespace(l=[]) %}"),
    "a text that grows": looped("{% set n.l = n.l ~ 'a' %}", "{% set n = namespace(l='') %}"),
    "a filter on each": looped("{{ range(100000) | map('string') | join }}"),
    "a test of each": looped("{{ range(100000) | select('odd') | list | length }}"),
    "draws": looped("{{ range(100000) | choice }}"),
    "a cycler": looped("{{ c.next() }}", "{% set c = cycler('a' * 1000000) %}"),
    "a dictionary": looped("{% set n.d = dict(n.d, **{i | string: i}) %}", "{% set n = namespace(d={}) %}"),
    "two calls each": "{% macro m(n) %}{% if n %}{{ m(n-1) }}{{ m(n-1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "two macros": "{% macro p(n) %}{% if n %}{% set x = q(n-1) %}{% set x = q(n-1) %}{% endif %}{% endmacro %}"
    "{% macro q(n) %}{% if n %}{% set x = p(n-1) %}{% set x = p(n-1) %}{% endif %}{% endmacro %}{{ p(60) }}",
}
OTHERS = {
    "{% for i in range(100000000) %}{% endfor %}": "Range too big",
    "{% macro m(n) %}{{ m(n) }}{% endmacro %}{{ m(1) }}": "its macros call themselves, or the row is nested, too deep",
    "{{ '%1000000000d' % 1 }}": "widths above 9999",
    "{{ '%.1000000000f' | format(1) }}": "widths above 9999",
    "{{ '%(a)1000000000d' % {'a': 1} }}": "widths above 9999",
    "{{ '%*d' % (1000000000, 1) }}": "nor widths above 9999 and `*`",
    "{{ '{:1000000000}'.format('a') }}": "widths above 9999",
    "{{ '{0:{1}}'.format('a', 1000000000) }}": "widths above 9999",
    "{{ '{:.1000000000f}'.format(1.5) }}": "widths above 9999",
    "{{ '{a:>1000000000}'.format_map({'a': 1}) }}": "widths above 9999",
    "{{ ('a' * 100000).translate({97: 'a' * 100000}) }}": "'translate' of 'str' object is unsafe",
    "{{ n.to_bytes(1000000000) }}": "'to_bytes' of 'Whole' object is unsafe",
    "{{ 9 ** 99999999 }}": "`**` is not available",
    "{% set s = 99 %}" + "{% set s = s * s %}" * 40: "a whole number beyond 64 bits",
    "{{ ('f' * 40000) | int(base=16) }}": "a whole number beyond 64 bits",
    "{{ 1.5 | round(1000000000, 'ceil') }}": "`round` takes at most 15 digits",
    "{{ 5 | round(-1000000000) }}": "`round` takes at most 15 digits",
    "{{ l | tojson(indent=1000000000) }}": "unexpected keyword argument 'indent'",
    "{% for i in l %}" * 30 + "{% endfor %}" * 30: "too many statically nested blocks",
}
HOSTILE = [pytest.param(jinja, TOO_MUCH, id=name) for name, jinja in (DOUBLED | LISTS | AT_ONCE | LOOPS).items()]
HOSTILE += [pytest.param(jinja, sentence) for jinja, sentence in OTHERS.items()]


def refused(made: Template, sentence: str) -> str:
    with pytest.raises(UserError, match=re.escape(sentence)) as error:
        made.render(ROW)
    return str(error.value)


@pytest.mark.parametrize(("jinja", "sentence"), HOSTILE)
def test_too_much_is_refused(jinja: str, sentence: str) -> None:
    """Without the limit, each takes minutes, hours, or all memory."""
    error = refused(Template("test", "id", jinja + " ||| b"), sentence)
    assert error.startswith("template 'test' of task.input ") and "\n" not in error and len(error) < 300


@pytest.mark.parametrize("name", DOUBLED | AT_ONCE)
def test_too_much_is_refused_before_it_is_made(name: str) -> None:
    made = Template("test", "id", (DOUBLED | AT_ONCE)[name] + " ||| b")
    refused(made, TOO_MUCH)  # compiles it
    tracemalloc.start()
    try:
        refused(made, TOO_MUCH)
        assert tracemalloc.get_traced_memory()[1] < MEGABYTES * 1e6
    finally:
        tracemalloc.stop()


def test_answer_choices_share_the_limit_of_their_row() -> None:
    half = "{% for i in range(80000) %}{{ a }}{% endfor %}"
    assert Template("test", "id", f"{half} ||| b").render(ROW) is not None
    assert Template("test", "id", "{{ a }} ||| b", f"{half} ||| b").render(ROW) is not None
    with pytest.raises(UserError, match=TOO_MUCH):
        Template("test", "id", f"{half} ||| b", f"{half} ||| b").render(ROW)


def test_a_long_row_has_a_limit_of_its_own() -> None:
    """A million characters, each of which a template may go through some ten times."""
    made = Template("test", "id", "{{ a | upper | lower | trim | replace('x', 'y') }} ||| {{ a.split() | length }}")
    text = "word " * 500_000
    assert made.render({"a": text}) == Example(text.strip(), "500000")


def test_templates_in_a_saved_prompt_have_the_same_limits(tmp_path: pathlib.Path) -> None:
    entry = {"dataset": "mine", "name": "n", "id": "i", "answer_choices": "", "metric": "exact_match"}
    entry["jinja"] = doubled("s ~ s") + " ||| b"
    save_prompt(tmp_path / "p", Prompt(np.zeros((1, 1), np.float32), {"templates": [entry]}))
    path = str(tmp_path / "p")
    (task,) = recorded_tasks(load_prompt(path), path)
    with pytest.raises(UserError, match=re.escape(f"template 'n' of {path} {TOO_MUCH}")):
        task.render(ROW)
    entry["jinja"] = "{{ " + "[" * 5000 + " }} ||| b"
    with pytest.raises(UserError, match=re.escape(f"template 'n' of {path} is not valid jinja")):
        recorded_tasks(Prompt(np.zeros((1, 1), np.float32), {"templates": [entry]}), path)
