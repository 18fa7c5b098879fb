"""Templates: promptsource's meaning, its evaluation templates on real rows, the sandbox, and the shipped templates."""

from __future__ import annotations

import functools
import importlib.resources
import json
import pathlib
import random
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import invented_rows
import jinja2
import pytest

from infoprompt_jax.data.derived_columns import complete
from infoprompt_jax.data.tasks import Task, with_typed_label
from infoprompt_jax.data.template_yaml import choose, load_templates
from infoprompt_jax.data.templates import Example, Template
from infoprompt_jax.errors import UserError

cached_templates = functools.cache(load_templates)
QUICK = 100  # rows of a split; the slow test renders all
YES_OR_NO = {"Appropriate continuation - Yes or No", "Reversed appropriate continuation - Yes or No"}  # of HellaSwag
TEXT_LABELS = ("hellaswag", "social_i_qa")  # whose labels are texts on the hub; those of others are integers
NO_CTX_A = YES_OR_NO | {"complete_first_then"}  # these need ctx_a and ctx_b, which the rows at hand lack


def template(jinja: str, choices: str = "", identity: str = "id") -> Template:
    return Template("test", identity, jinja, choices)


def rows(path: pathlib.Path, limit: int | None = None) -> list[dict]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines][:limit]


def own_data_sets() -> list[str]:
    root = importlib.resources.files("infoprompt_jax.data") / "template_files"
    with importlib.resources.as_file(root) as path:
        return sorted(str(p.parent.relative_to(path)) for p in path.rglob("templates.yaml"))


@pytest.mark.parametrize(
    ("jinja", "choices", "row", "expected"),
    [
        ("{{ a }} ||| {{ answer_choices[y] }}", " No|||Yes ", {"a": "x", "y": 1}, Example("x", "Yes", ("No", "Yes"))),
        ("  {{ a }}\n|||\n b ", "", {"a": "x "}, Example("x", "b", ())),
        ("{{ a }} ||| b", "", {"a": "l ||| r"}, Example("l ||| r", "b", ())),
        ("{{ x }} ||| {{ answer_choices[0] }}", "{{ o | join('|||') }}", {"x": "q", "o": ["a|||b", "c"]},
         Example("q", "a|||b", ("a|||b", "c"))),
        ("{{ a }} ||| {% if y %}b{% endif %}", "", {"a": "x", "y": 0}, None),
        ("{% if y %}{{ a }} ||| b{% endif %}", "", {"a": "x", "y": 0}, None),
        ("{{ a }} ||| b ||| c", "", {"a": "x"}, None),
        ("{{ a.nothing }} ||| b", "", {"a": {}}, None),
        ("{{ a_b }} ||| b", "", {"a-b": "x"}, Example("x", "b", ())),
        ("{% if z is defined %}z{% else %}no z{% endif %} ||| b", "", {}, Example("no z", "b", ())),
        ("{% for p, q in zip(a, b) %}{{ p }}{{ q }}{% endfor %} ||| b", "", {"a": [1, 2], "b": [3, 4]},
         Example("1324", "b", ())),
        ("{{ [3, 1, 3, 1, 2] | most_frequent | join }} ||| b", "", {}, Example("31", "b", ())),
        ("q ||| {{ answer_choices[y] }}", "No ||| Yes", {"y": "1"}, Example("q", "Yes", ("No", "Yes"))),
        ("q ||| {{ answer_choices[y] }}", "No ||| Yes", {"y": 1.0}, Example("q", "Yes", ("No", "Yes"))),
        ("q ||| {{ answer_choices[0] }}", "{{ a }} ||| {{ b }}", {"a": "x", "b": ""}, Example("q", "x", ("x", ""))),
        ("q ||| {{ answer_choices[y] }}", "a ||| b ||| a", {"y": 2}, Example("q", "a", ("a", "b"))),
        ("q ||| {{ answer_choices[y] }}", "{{ o | join('|||') }}", {"y": 2, "o": ["a", "b ", " b"]},
         Example("q", "b", ("a", "b"))),
        ("q ||| {{ answer_choices[0] }}", "{{ a }} ||| {{ b }}", {"a": "x", "b": " x "}, None),
        ("q ||| {{ answer_choices[0] }}", "{{ a }}", {"a": "x"}, None),
    ],
)  # fmt: skip
def test_rendering_means_what_it_means_in_promptsource(
    jinja: str, choices: str, row: dict, expected: Example | None
) -> None:
    assert template(jinja, choices).render(row) == expected


@pytest.mark.parametrize(
    ("jinja", "sentence"),
    [
        ("{{ ''.__class__ }} ||| b", "'__class__' of 'str' object is unsafe"),
        ("{{ ''.__class__.__mro__ }} ||| b", "is unsafe"),
        ("{{ ''['__class__'] }} ||| b", "is unsafe"),
        ("{{ [''] | map(attribute='__class__') | join }} ||| b", "is unsafe"),
        ("{{ '{0.__class__}'.format(a) }} ||| b", "'__class__' of 'str' object is unsafe"),
        ("{{ ('{a.__class__}' ~ '').format_map({'a': a}) }} ||| b", "is unsafe"),
        ("{{ '{a!r}'['format'](a=a) }} ||| b", "formats take neither Python's spelling"),
        ("{{ cycler('').__init__.__globals__ }} ||| b", "is unsafe"),
        ("{{ cycler.__init__.__globals__ }} ||| b", "is unsafe"),
        ("{{ l.append(1) }} ||| b", "is unsafe"),
        ("{{ 'a' * 10000000000 }} ||| b", "more than the 5,000,000 steps and characters"),
        ("{{ 10 ** 10 }} ||| b", "`**` is not available"),
        ("{% for i in range(100000000) %}a{% endfor %} ||| b", "Range too big"),
        ("{{ nothing }} ||| b", "the column 'nothing', but the columns are a, l: rename the column"),
        ("a ||| {{ answer_choices[2] }}", "answer choice 2 (from 0) does not exist; there are 2"),
        ("a ||| {{ answer_choices[0.5] }}", "answer choice 0.5 (from 0) does not exist; there are 2"),
        ("a ||| {{ answer_choices[-1] }}", "answer choice -1 (from 0) does not exist; there are 2"),
        ("a ||| {{ answer_choices['' | int - 1] }}", "answer choice -1 (from 0) does not exist; there are 2"),
        ("{{ a + 1 }} ||| b", "cannot be rendered"),
    ],
)
def test_what_templates_may_not_do_is_refused_in_a_sentence(jinja: str, sentence: str) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)) as error:
        template(jinja, "No ||| Yes").render({"a": "x", "l": [1]})
    assert str(error.value).startswith("template 'test' of task.input") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("jinja", "sentence"),
    [
        ("{{ a ||| b", "is not valid jinja (line 1)"),
        ("a ||| b {#", "is not valid jinja (line 1): Missing end of comment tag"),
        ("no separator", "has no `|||`"),
        ("{% include '/etc/passwd' %} ||| b", "(line 1): `include` is not available in templates."),
        ("{% extends '/etc/passwd' %} ||| b", "(line 1): `extends` is not available in templates."),
        ("{% import '/etc/passwd' as p %} ||| b", "(line 1): `import` is not available in templates."),
        ("{% block a %}{{ self.a() }}{{ self.a() }}{% endblock %} ||| b", "`block` is not available in templates."),
        ("\n{{ 'x' | attr('__class__') }} ||| b", "(line 2): there is no filter 'attr' in templates."),
        ("{% if a is odder %}{% endif %} ||| b", "there is no test 'odder' in templates."),
        ("{% for i in a recursive %}{{ loop(i) }}{% endfor %} ||| b", "`recursive` is not available in templates."),
        ("{{ " + "(" * 5000 + "a" + ")" * 5000 + " }} ||| b", "it is nested deeper than 50 levels."),
        ("{{ a" + "+1" * 5000 + " }} ||| b", "it is nested deeper than 50 levels."),
        ("{{ true }} ||| b", "`{{ true }}` is a constant of jinja's: write the text, or row['true'] for the column."),
        ("a ||| {{ none }}", "`{{ none }}` is a constant of jinja's: write the text, or row['none'] for the column."),
        ("x" * 60_000 + " ||| b", "is longer than the 50000 characters"),
    ],
)
def test_a_broken_template_is_refused_when_it_is_made(jinja: str, sentence: str) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)):
        template(jinja)


@pytest.mark.parametrize("choices", ["yes ||| yes", "yes", " yes|||yes ||| yes"])
def test_written_choices_of_which_no_two_differ_are_refused(choices: str) -> None:
    with pytest.raises(UserError, match=r"no two answer choices that differ in 'yes.*: write at least two, separated"):
        template("{{ a }} ||| {{ answer_choices[0] }}", choices)


def test_written_choices_that_repeat_are_one_choice_each() -> None:
    """promptsource's fine-grained prompts of trec list `description` for two labels."""
    made = template("{{ a }} ||| {{ answer_choices[y] }}", "a ||| b ||| a ||| c ||| b")
    assert made.fixed_choices == ("a", "b", "c") and made.repeated == ("a", "b")
    assert template("{{ a }} ||| b").repeated == template("{{ a }} ||| b", "{{ a }} ||| x").repeated == ()


@pytest.mark.parametrize("choices", [[], [""], ["a"], ["a", "a"]])
def test_a_row_without_two_choices_is_left_out(choices: list[str]) -> None:
    """Also one that has none: it is no question for free text, and no score would ever be right."""
    made = template("{{ q }} ||| {{ right }}", "{{ options | join('|||') }}")
    row = {"q": "which", "right": "a", "options": choices}
    assert made.render(row) is None and made.render_question(row) is None
    by_place = template("{{ q }} ||| {{ answer_choices[1] }}", "{{ options | join('|||') }}")
    assert by_place.render(row) is None
    assert made.render(row | {"options": ["a", "b"]}) == Example("which", "a", ("a", "b"))


def test_random_choices_depend_on_template_and_row_alone() -> None:
    jinja = "{{ range(1000) | choice }} {{ range(1000) | random }} ||| {{ a }}"
    first, second = template(jinja), template(jinja, identity="other")
    drawn = [first.render({"a": a, "not used": a}).input for a in range(20)]
    random.seed(1)
    assert drawn == [first.render({"a": a}).input for a in range(20)]
    assert len(set(drawn)) > 15 and all(len(set(pair.split())) == 2 for pair in drawn)
    assert drawn != [second.render({"a": a}).input for a in range(20)]


def test_fixed_choices_and_columns() -> None:
    fixed = template("{{ a }} {{ zip(b, b) }} ||| {{ answer_choices[y] }}", "{{ 'No' }} ||| Yes")
    assert fixed.fixed_choices == ("No", "Yes") and fixed.columns == {"a", "b", "y"}
    assert template("{{ a }} ||| b", "{{ a }} ||| {{ b }}").fixed_choices is None
    assert template("{{ a }} ||| b").fixed_choices == ()


def write(folder: pathlib.Path, text: str) -> str:
    (folder / "mine").mkdir()
    (folder / "mine" / "templates.yaml").write_text(text)
    return str(folder)


ENTRY = "  {id}: !Template\n    id: {id}\n    name: {id}\n    jinja: 'a ||| b'\n    metadata: !TemplateMetadata\n"


def test_all_means_original_task_prompts_where_there_are_any(tmp_path: pathlib.Path) -> None:
    text = "templates:\n" + "".join(ENTRY.format(id=i) + f"      original_task: {i == 'p'}\n" for i in ("p", "q"))
    templates = load_templates(write(tmp_path, text), "mine/subset")  # served by the folder above
    assert [t.name for t in choose(templates, "all")] == ["p"]
    assert [t.name for t in choose({"q": templates["q"]}, "all")] == ["q"]
    assert [t.name for t in choose(templates, "q")] == ["q"]


ONE = "templates:\n  a:\n    name: n\n    jinja: x ||| y\n    {}"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("templates: [", "is not YAML"),
        ("templates:\n  a: !!python/object/apply:os.system ['true']", "is not YAML"),
        ("templates: {}", "has no templates"),
        ("templates:\n  a: !Template foo", "is not YAML"),
        ("templates:\n  a: !Template [x, y]", "is not YAML"),
        ("templates:\n  a: !Template\n    name: n", "lacks `name` or `jinja`"),
        ("templates:\n  a: !Template\n    name: n\n    jinja: '{% if %} ||| b'", "template 'n' of .*not valid jinja"),
        ("templates: {a: {name: n, jinja: x ||| y}, b: {name: n, jinja: z ||| y}}", "two templates of the name 'n'"),
        ("templates: {a: {name: n, jinja: x ||| y}, a: {name: m, jinja: z ||| y}}", "key 'a' is there twice"),
        ("templates:\n  a: !Template {name: n, jinja: x ||| y, name: m}", "key 'name' is there twice"),
        (
            ONE.format("answer_choices: [No, Yes]"),
            r"'n' of .* has answer_choices=\[False, True\], but one text was expected",
        ),
        (ONE.format("answer_choices: bad ||| good |||"), r"'n' of .*empty answer choice in 'bad \|\|\| good \|\|\|'"),
        (ONE.format("metadata: [a]"), r"'n' of .* has metadata=\['a'\], but a mapping was expected"),
    ],
)
def test_a_file_without_templates_is_named(tmp_path: pathlib.Path, text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as error:
        load_templates(write(tmp_path, text), "mine")
    assert str(tmp_path / "mine" / "templates.yaml") in str(error.value)


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"'entail' is not a template of .*nearest are \['entails'.*task.template"):
        choose(load_templates(None, "super_glue/rte"), "entail")
    with pytest.raises(UserError, match=r"task.template is empty: set it to all, or to one of .*: .*\bentails\b"):
        choose(load_templates(None, "super_glue/rte"), "")  # as configs/predict.py has it
    with pytest.raises(UserError, match=r"no templates for nowhere .*task.templates_dir"):
        load_templates(None, "nowhere")


PLAIN = jinja2.Environment()
PLAIN.globals["zip"] = zip
PLAIN.filters["choice"] = lambda options: options[0]
compiled = functools.cache(PLAIN.from_string)


def reference(jinja: str, row: Mapping[str, Any]) -> list[str]:
    """promptsource's rendering, written down a second time over plain jinja."""
    return [part.strip() for part in compiled(jinja).render(**row).split("|||")]


def evaluation_prompts(shared: pathlib.Path) -> Iterator[tuple[str, Template, list[pathlib.Path]]]:
    """Data set, prompt and files of the published evaluation prompts whose data is there."""
    for line in (shared / "data" / "p3_eval_prompts.tsv").read_text(encoding="utf-8").splitlines():
        name, config, prompt = line.split("\t")
        dataset = {"super_glue": f"super_glue/{config}", "winogrande": f"winogrande/{config}", "anli": "anli"}.get(
            name.removesuffix(f"_{config}").split("_r")[0], name
        )
        files = sorted((shared / "data" / dataset).glob(f"{config}.jsonl" if dataset == "anli" else "*.jsonl"))
        if files:
            yield dataset, cached_templates(str(shared / "data" / "promptsource"), dataset)[prompt], files


def right_answer(dataset: str, prompt: Template, row: dict, shown: str) -> str:
    """The text of the right answer by the row's label, and by the ending that is shown where one was drawn."""
    if prompt.name in YES_OR_NO:
        return "Yes" if f"{row['ctx_b']} {row['endings'][int(row['label'])]}\n" in shown else "No"
    choices = reference(prompt.answer_choices, row)
    return choices[int(row["answer"]) - 1] if dataset.startswith("winogrande") else choices[int(row["label"])]


def check_evaluation_prompts(shared: pathlib.Path, limit: int | None) -> None:
    seen = 0
    for dataset, prompt, files in evaluation_prompts(shared):
        seen += 1
        data = [complete(dataset, row) for file in files for row in rows(file, limit)]
        task = Task(dataset, prompt, "accuracy")
        rendered = [(row, task.render(row)) for row in data]
        assert sum(text is not None for _, text in rendered) > len(data) * 0.3, prompt
        for row, text in rendered:
            if text is None:
                assert dataset == "super_glue/copa" and "{% if question" in prompt.jinja[:20], (prompt, row)
                continue
            assert text.input and text.target in text.choices, (prompt, row)
            assert text.target == right_answer(dataset, prompt, row, text.input), (prompt, row)
    assert seen >= 115  # of 120; those of StoryCloze have data only where its authors gave it out


def test_published_evaluation_prompts_render_on_real_rows(shared: pathlib.Path) -> None:
    check_evaluation_prompts(shared, QUICK)


@pytest.mark.slow
def test_published_evaluation_prompts_render_on_all_real_rows(shared: pathlib.Path) -> None:
    check_evaluation_prompts(shared, None)


def compare_with_plain_jinja(folder: pathlib.Path, templates: str | None, datasets: Iterable[str], number: int) -> int:
    """The number of renderings that were compared, of the first rows of a split with each template of each data set."""
    compared = 0
    for dataset in datasets:
        file = sorted((folder / dataset).glob("*.jsonl"))[-1]
        for prompt in load_templates(templates, dataset).values():
            if prompt.name in NO_CTX_A or re.search(r"\| *choice", prompt.jinja):
                continue
            for row in rows(file, number):
                typed = row if dataset in TEXT_LABELS else with_typed_label(row)
                choices = reference(prompt.answer_choices, typed)
                parts = reference(prompt.jinja, {**typed, "answer_choices": choices})
                text = prompt.render(with_typed_label(row))
                if "|||" in str(row):
                    continue  # which separates the parts in the reference
                differing = list(dict.fromkeys(choices)) if prompt.answer_choices else []
                if len(parts) == 2 and all(parts) and (not prompt.answer_choices or len(differing) > 1):
                    assert text is not None and [text.input, text.target] == parts, prompt
                    assert list(text.choices) == differing, prompt
                else:
                    assert text is None, prompt
                compared += 1
    return compared


def test_every_shipped_template_renders_as_plain_jinja_does(invented: pathlib.Path) -> None:
    assert compare_with_plain_jinja(invented, None, invented_rows.DATASETS, 20) >= 900


def test_every_public_template_renders_as_plain_jinja_does(shared: pathlib.Path) -> None:
    """Of all 55 files where rows of the data set are at hand; the others are read."""
    data, public = shared / "data", shared / "data" / "promptsource"
    names = [str(file.parent.relative_to(public)) for file in sorted(public.rglob("templates.yaml"))]
    assert len(names) == 55 and all(load_templates(str(public), name) for name in names)
    with_rows = {str(file.parent.relative_to(data)) for file in data.rglob("*.jsonl")}
    assert compare_with_plain_jinja(data, str(public), sorted(with_rows & set(names)), 6) > 1300


def test_own_prompts_are_complete() -> None:
    shipped = [dataset for dataset in own_data_sets() if not dataset.startswith("nano/")]  # whose tests are test_world
    assert set(shipped) == {*invented_rows.DATASETS, "bigbench"}
    identities = [t.id for dataset in shipped for t in load_templates(None, dataset).values()]
    assert len(identities) == len(set(identities))
    for dataset in shipped:
        prompts = load_templates(None, dataset)
        assert 3 <= len(prompts) <= 5 or dataset == "bigbench", dataset  # which is asked as its tasks ask
        assert len(choose(prompts, "all")) == len(prompts), dataset
        assert all(re.fullmatch(r"[0-9a-f-]{36}", t.id) and t.metadata.metrics for t in prompts.values()), dataset
        for prompt in prompts.values():
            assert prompt.fixed_choices is None or len(set(prompt.fixed_choices)) == len(prompt.fixed_choices) > 1


@pytest.mark.parametrize("dataset", invented_rows.DATASETS)
def test_own_prompts_give_the_labelled_answer(data_dir: pathlib.Path, dataset: str) -> None:
    files = list((data_dir / dataset).glob("*.jsonl"))
    assert files
    for file in files:
        for prompt in load_templates(None, dataset).values():
            for row in rows(file, QUICK):
                text = prompt.render(row)
                label = int(row["answer"]) - 1 if "answer" in row else int(row.get("label", row.get("relation")))
                assert text.input and text.target == text.choices[label], (prompt, row)


def test_relations_of_semeval_are_in_the_official_order() -> None:
    names = ["Cause-Effect", "Component-Whole", "Content-Container", "Entity-Destination", "Entity-Origin"]
    names += ["Instrument-Agency", "Member-Collection", "Message-Topic", "Product-Producer"]
    expected = [f"{name}({order})" for name in names for order in ("e1,e2", "e2,e1")] + ["Other"]
    assert load_templates(None, "sem_eval_2010_task_8")["names"].fixed_choices == tuple(expected)


def test_own_wording_is_ours(shared: pathlib.Path) -> None:
    def phrases(jinja: str) -> set[tuple[str, ...]]:
        pieces = re.split(r"\{\{.*?\}\}|\{%.*?%\}|\|\|\||\n", jinja.lower(), flags=re.DOTALL)
        words = [re.findall(r"[a-z']+", piece) for piece in pieces]
        return {tuple(w[i : i + 5]) for w in words for i in range(len(w) - 4)}

    public = shared / "data" / "promptsource"
    for dataset in own_data_sets():
        if not (public / dataset).is_dir():
            continue
        theirs = set().union(*(phrases(t.jinja) for t in load_templates(str(public), dataset).values()))
        for prompt in load_templates(None, dataset).values():
            assert not phrases(prompt.jinja) & theirs, prompt
