"""Tasks and mixtures of a module that the test writes: as rows, trained on, from a cache, by choice; and sentences."""

from __future__ import annotations

import json
import pathlib
import re
import socket
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import tiny_runs
from tiny_data import configure, one_task, write_jsonl

from infoprompt_jax import jobs
from infoprompt_jax.data.examples import examples, source_fingerprint
from infoprompt_jax.data.selection import find_tasks
from infoprompt_jax.data.templates import Example
from infoprompt_jax.errors import OfflineError, UserError
from infoprompt_jax.fleet.members import expand
from infoprompt_jax.t5.backbone import load_backbone
from infoprompt_jax.training.tokenized_splits import TokenizedSplits

DOCUMENT = pathlib.Path(__file__).parents[2] / "docs" / "seqio.md"
HEAD = """
import json
import numpy as np
import seqio
import tensorflow as tf

text = lambda rank=0: seqio.Feature(seqio.PassThroughVocabulary(0), add_eos=False, dtype=tf.string, rank=rank)
both = {"inputs": text(), "targets": text()}


def source(rows, types):
    shapes = {name: (None,) if isinstance(rows[0][name], list) else () for name in types}
    make = lambda split, shuffle_files: tf.data.Dataset.from_generator(
        lambda: iter(rows), output_types=types, output_shapes=shapes
    )
    return seqio.FunctionDataSource(make, splits=["train", "validation"], num_input_examples={"train": len(rows)})


def add(name, rows, types, features=both, preprocessors=()):
    seqio.TaskRegistry.remove(name)
    made = source(rows, types)
    return seqio.TaskRegistry.add(name, made, preprocessors=list(preprocessors), output_features=features)


pair = {"inputs": tf.string, "targets": tf.string}
"""
PLAIN = """
rows = [{"inputs": f"  question {n}", "targets": f"answer {n} "} for n in range(4)]
add("free", rows, pair)
ranked = [
    {"inputs": f"é {n} ||| ?", "targets": ["no", "yes"][n % 2], "answer_choices": ["no", "yes"], "label": n % 2}
    for n in range(12)
]
ranked.append({**ranked[0], "label": -1})
types = {**pair, "answer_choices": tf.string, "label": tf.int64}
add("ranked", ranked, types)
add("choices", [{**row, "choices": row["answer_choices"]} for row in ranked], {**types, "choices": tf.string})
seqio.MixtureRegistry.remove("both")
seqio.MixtureRegistry.add("both", [("ranked", 3.0), ("choices", lambda task: 1)])
"""


@pytest.fixture
def module(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Writes a module into the current directory, and returns its name."""
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> str:
        name = f"tasks_{uuid.uuid4().hex}"
        pathlib.Path(f"{name}.py").write_text(HEAD + text)
        return name

    return write


def registered(name: str, module: str = "", **task: Any) -> list[Example]:
    return list(examples(one_task(configure("", f"seqio:{name}", module=module, **task)), "train"))


def test_a_task_of_text(module: Callable[[str], str]) -> None:
    path = list(sys.path)
    assert registered("free", module(PLAIN)) == [Example(f"question {n}", f"answer {n}") for n in range(4)]
    assert sys.path == path
    task = one_task(configure("", "seqio:free"))  # which is registered now
    assert (task.id, task.metric) == ("seqio:free:registered", "exact_match")
    assert [example.input for example in examples(task, "train[50%:]")] == ["question 2", "question 3"]


@pytest.mark.parametrize("name", ["ranked", "choices"])
def test_a_task_with_answer_choices(module: Callable[[str], str], name: str) -> None:
    read = registered(name, module(PLAIN))
    assert read == [Example(f"é {n} ||| ?", ["no", "yes"][n % 2], ("no", "yes")) for n in range(12)]
    assert one_task(configure("", f"seqio:{name}")).metric == "accuracy"


def test_token_ids_are_decoded_unless_their_text_is_there(
    module: Callable[[str], str], vocabulary: pathlib.Path
) -> None:
    text = f"""
vocabulary = seqio.SentencePieceVocabulary({str(vocabulary)!r})
features = {{name: seqio.Feature(vocabulary, add_eos=True) for name in ("inputs", "targets")}}
rows = [{{"inputs": "the words of it", "targets": "so it is"}}]
steps = [seqio.preprocessors.tokenize, seqio.preprocessors.append_eos]
drop = lambda dataset: dataset.map(lambda row: {{name: row[name] for name in ("inputs", "targets")}})
add("with_text", rows, pair, features, steps)
add("without_text", rows, pair, features, [*steps, drop])
"""
    made = module(text)
    assert registered("with_text", made) == registered("without_text", made) == [Example("the words of it", "so it is")]


SCORED = """
def choices_of(number, inputs, targets, correct):
    return [
        {"idx": [number, n], "inputs": inputs if isinstance(inputs, str) else inputs[n], "targets": target,
         "is_correct": n in correct}
        for n, target in enumerate(targets)
    ]


types = {"idx": tf.int32, "inputs": tf.string, "targets": tf.string, "is_correct": tf.bool}
features = both | {"idx": seqio.Feature(seqio.PassThroughVocabulary(0), dtype=tf.int32, required=False)}
rows = [*choices_of(0, "a", ["x", "y"], {1}), *choices_of(1, "b", "xyz", {1, 2}), *choices_of(2, "c", "xy", {})]
add("scored", rows, types)
add("different", [*choices_of(0, ["a", "b"], ["x", "y"], {1})], types)
"""


def test_a_task_with_an_example_for_each_choice(module: Callable[[str], str]) -> None:
    made = module(SCORED)
    assert registered("scored", made) == [Example("a", "y", ("x", "y")), Example("b", "y", ("x", "y"))]
    with pytest.raises(UserError, match=r"different of seqio asks question \[0\] with different inputs"):
        registered("different", made)


def test_a_mixture_has_its_own_rates(module: Callable[[str], str]) -> None:
    made = module(PLAIN)
    tasks = find_tasks(configure("", "seqio:both", module=made))
    assert [(task.name, task.rate) for task in tasks] == [("seqio:choices", 1.0), ("seqio:ranked", 3.0)]
    alone = find_tasks(configure("", "seqio:choices, seqio:ranked", module=made))
    assert [task.rate for task in alone] == [None, None]
    assert source_fingerprint(tasks[0], "train") != source_fingerprint(alone[0], "train")
    assert source_fingerprint(tasks[0], "train") != source_fingerprint(tasks[0], "train[:3]")
    with pytest.raises(UserError, match="lists the mixture seqio:both, which has rates of its own, beside other"):
        find_tasks(configure("", "seqio:both, seqio:free", module=made))


def test_training_on_a_mixture(module: Callable[[str], str], tmp_path: pathlib.Path) -> None:
    own = {"task__name": "seqio:both", "task__module": module(PLAIN), "task__templates_dir": "", "data__dir": ""}
    config = tiny_runs.config(tmp_path, **own, train__steps=2, fleet__presets=("plain",))
    table = jobs.run(config, str(tmp_path / "run"))
    assert "accuracy" in table
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["examples"] == {"validation": 24}
    splits = TokenizedSplits(config, load_backbone("random"))
    stream = splits.stream(expand(config)[0], find_tasks(config))
    drawn = np.concatenate([stream.pool.split(stream.numbers_of(step))[0] for step in range(500)])
    assert abs((drawn == 1).mean() - 3 / 4) < 4 * (3 / 4 * 1 / 4 / len(drawn)) ** 0.5


def cache(folder: pathlib.Path, rows: Sequence[Mapping[str, Any]], split: str) -> None:
    """Writes rows as seqio caches a task, with its own examples."""
    import seqio
    import tensorflow as tf

    folder.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / f"{split}.tfrecord-00000-of-00001")) as writer:
        for row in rows:
            writer.write(seqio.dict_to_tfexample(row).SerializeToString())
    features = {"inputs": "int32", "targets": "int32", "answer_choices": "string"}
    shapes = {name: {"dtype": dtype, "shape": [None]} for name, dtype in features.items()}
    shapes |= {f"{name}_pretokenized": {"dtype": "string", "shape": []} for name in ("inputs", "targets")}
    info = {"num_shards": 1, "seqio_version": "0.0.6", "split": split, "features": shapes}
    (folder / f"info.{split}.json").write_text(json.dumps(info))
    (folder / f"stats.{split}.json").write_text(json.dumps({"examples": len(rows)}))
    (folder / "COMPLETED").touch()


def cached(count: int, choices: list[str]) -> list[dict[str, Any]]:
    return [
        {
            "inputs": np.array([3, n + 4], np.int32),
            "targets": np.array([5, 1], np.int32),
            "answer_choices": np.array(choices, object),
            "inputs_pretokenized": f"Is {n} even?",
            "targets_pretokenized": f" {choices[n % 2]}" if choices else f" answer {n}",
        }
        for n in range(count)
    ]


def test_the_cache_of_p3_by_the_module_of_the_manual(module: Callable[[str], str], tmp_path: pathlib.Path) -> None:
    (text,) = re.findall(r'^```python\n(""".*?)^```', DOCUMENT.read_text(), re.M | re.S)
    cache(tmp_path / "P3" / "even_numbers", cached(6, ["Yes", "No"]), "train")
    cache(tmp_path / "P3" / "even_numbers", cached(2, ["Yes", "No"]), "validation")
    cache(tmp_path / "P3" / "free_numbers", cached(3, []), "train")
    made = module(text)
    assert registered("even_numbers", made) == [
        Example(f"Is {n} even?", ["Yes", "No"][n % 2], ("Yes", "No")) for n in range(6)
    ]
    assert registered("free_numbers", made) == [Example(f"Is {n} even?", f"answer {n}") for n in range(3)]
    tasks = find_tasks(configure("", "seqio:p3", module=made))
    assert [(task.name, task.rate) for task in tasks] == [("seqio:even_numbers", 6.0), ("seqio:free_numbers", 3.0)]
    with pytest.raises(UserError, match="seqio:free_numbers has no split 'validation', only train"):
        list(examples(tasks[1], "validation"))


def test_our_own_exported_tasks_come_back(tmp_path: pathlib.Path) -> None:
    from infoprompt_jax.data.seqio_adapter import mixture

    write_jsonl(tmp_path / "mine" / "train.jsonl", [{"text": f"{n}", "label": n % 2} for n in range(5)])
    inline = {"input": "{{ text }}?", "target": "{{ answer_choices[label] }}", "answer_choices": "bad ||| good"}
    task = one_task(configure(tmp_path, "mine", **inline))
    mixture([task], "ours")
    (back,) = find_tasks(configure("", "seqio:infoprompt:ours"))
    assert list(examples(back, "train")) == list(examples(task, "train")) and back.rate == 5.0


def test_without_a_network_a_task_of_tfds_says_so_at_once(
    module: Callable[[str], str], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from infoprompt_jax.data import seqio_adapter

    text = f"""
downloads = seqio.TfdsDataSource("glue/rte:2.0.0", tfds_data_dir={str(tmp_path)!r})
seqio.TaskRegistry.add("of_tfds", downloads, preprocessors=[], output_features=both)
"""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        monkeypatch.setattr(seqio_adapter, "DOWNLOADS_FROM", f"https://127.0.0.1:{closed.getsockname()[1]}")
        monkeypatch.delenv("https_proxy", raising=False)
        monkeypatch.delenv("HTTPS_PROXY", raising=False)
        with pytest.raises(OfflineError, match=r"of_tfds of seqio reads glue/rte/2.0.0 of TFDS, .* no network"):
            registered("of_tfds", module(text))


@pytest.mark.parametrize(
    ("text", "name", "fields", "sentence"),
    [
        (
            "import no_such_package",
            "x",
            {},
            "task.module='tasks_.*' cannot be imported: No module",
        ),
        ("raise SyntaxError('odd')", "x", {}, "cannot be imported: odd"),
        (PLAIN, "rankedd", {}, "no task or mixture 'rankedd' after importing task.module=.*; the nearest are ranked"),
        (PLAIN, "free", {"input": "{{ a }}"}, "task.input is set, but seqio:free is text already"),
        (PLAIN, "free", {"templates_dir": "t"}, "task.templates_dir is set, but seqio:free is text already"),
        (PLAIN, "free", {"template": "GPT-3 style"}, "task.template='GPT-3 style' is set, but seqio:free has no temp"),
        (PLAIN, "free", {"metric": "accuracy"}, "task.metric='accuracy' does not fit seqio:free"),
        (
            "add('only', [{'inputs': 'a'}], {'inputs': tf.string}, {'inputs': text()})",
            "only",
            {},
            "only of seqio has no feature 'targets' of text or of token ids: it has None",
        ),
        (
            "def fails(dataset):\n    raise ValueError('odd\\nlines')\n"
            "add('fails', [{'inputs': 'a', 'targets': 'b'}], pair, both, [fails])",
            "fails",
            {},
            "seqio cannot read fails, train: odd: correct task.module",
        ),
        (
            "nothing = seqio.FunctionDataSource(lambda split, shuffle_files: None, splits=[])\n"
            "seqio.TaskRegistry.add('unsplit', nothing, preprocessors=[], output_features=both)",
            "unsplit",
            {},
            "seqio knows no splits of unsplit: Task unsplit has no splits: correct task.module",
        ),
        (
            "step = seqio.CacheDatasetPlaceholder(required=True)\n"
            "add('uncached', [{'inputs': 'a', 'targets': 'b'}], pair, both, [step])",
            "uncached",
            {},
            "uncached of seqio is read from a cache alone, .* with seqio.add_global_cache_dirs",
        ),
        (
            "add('target', [{'inputs': 'a', 'targets': 'b', 'choices': ['x', 'y']}],\n"
            "    {**pair, 'choices': tf.string})",
            "target",
            {},
            r"seqio:target, train, row 0 \(from 0\): .* target 'b', which is not one of its answer choices x, y",
        ),
        (
            PLAIN + "seqio.MixtureRegistry.add('odd', [('free', lambda task: 1 / 0)])",
            "odd",
            {},
            "The rates of the seqio mixture 'odd' cannot be computed: division by zero: correct task.module",
        ),
    ],
)
def test_what_cannot_be_used_is_a_sentence(
    module: Callable[[str], str], text: str, name: str, fields: dict[str, str], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence) as error:
        registered(name, module(text), **fields)
    assert "\n" not in str(error.value)
