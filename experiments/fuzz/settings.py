"""Values of config fields, by all three ways that they come in: the command line, a config file, a run's config.json.

A config that is accepted is expanded into its members, claims a workdir and is read back from there. Each field must
hold the value that was written, in the range that arithmetic in float32 and int32 has.
"""

from __future__ import annotations

import ast
import json
import math
import pathlib
import random
from typing import Any

import numpy as np

from experiments.fuzz.cases import Case
from infoprompt_jax import command_line, saved_config, settings
from infoprompt_jax.errors import UserError
from infoprompt_jax.fleet import members
from infoprompt_jax.training.workdir import Workdir

HUGE = "9" * 5000
TEXTS = {
    int: ["0", "-1", "1", "7", "3000000000", "4294967296", str(2**63), str(2**64), HUGE, "1e3", "1.0", "0x10", "1_000",
          "\uff11", "", " 5", "five", "None", "True", "nan", "inf", "-0", "+3", "(1,)", "1;2", "--1", "2**40", "007"],
    float: ["0", "-1", "1e-9", "0.5", "1", "1.0000001", "2", "1e38", "1e39", "1e300", "1e400", "-1e-300", "1e-320",
            "nan",
            "inf", "-inf", "Infinity", "", "half", "1e", "0x1p3", "1_0.5", "\uff11", "True", "None", "-0.0", HUGE,
            "(0.5,)"],
    bool: ["true", "false", "True", "0", "1", "yes", "no", "", "2", "None", "t", "TRUE", "on"],
    str: ["", "a", " ", "\0", "a\nb", "\u202e", "n" * 5000, "../../x", "~", "$HOME", "a,b", "None", "<script>",
            "\ud800",
          "é", "-", "--x", "gs://", "http://x", "%s", "{}", "{{ 1 }}", "a ||| b", "|||", "train[:50%]", "plain"],
    tuple: ["()", "(1,)", "(1,2)", "(2,1)", "(1,1)", "(0,)", "(-1,)", "(3000000000,)", f"({HUGE},)", "(1.5,)", "('a',)",
            "[1,2]", "1", "1,2", "", "(1", "(True,)", "(None,)", "((1,),)", "('plain','plain')", "('both','plain')",
            "('run',)", "(1e400,)", "(" * 200 + ")" * 200, "(" * 100_000, "({'seed': 1},)",
            "({'name': 'a'},{'name': 'a'})",
            "({'name': '../x'},)", "({'seed': 1.5},)", "({'nonsense': 1},)", "({'train.learning_rate': 1e39},)",
            "({'name': 'a\\nb'},)", "({1: 2},)", "({'name': ''},)", "({'infoprompt.gamma': -1.0},)",
            "({'name': 'n' * 9},)", "({'task.name': 5},)", "(64, 32)", "(8, 16, 1024)", "(1099511627776,)",
            "({'seed': True},)", "({'name': 'A'},{'name': 'a'})", "({'name': None},)", "({'name': 3},)"],
}  # fmt: skip
LITERALS = [
    "None", "True", "0", "-1", "1", "5.0", "0.5", "1e39", "1e400", "float('nan')", "10**400", "-10**9", "10**10", "'5'",
    "''", "b'x'", "[1]", "(1, 2)", "(1, 1)", "{}", "{'a': 1}", "(True,)", "('x',)", "(2**40,)", "object()", "lambda: 1",
    "'\\0'", "'\\ud800'", "'x' * 10**6", "((),)", "set()", "1j", "Ellipsis", "__import__('numpy').float32(0.5)",
    "__import__('numpy').int64(3)", "__import__('numpy').float64('nan')", "__import__('decimal').Decimal(1)",
    "range(3)",
]  # fmt: skip
VALUES = [None, True, 0, -1, 1, 5.0, 0.5, 1e39, math.nan, math.inf, 10**30, "5", "", "\0", "\ud800", [], [1], [1,
          1], [[1]],
          {}, {"a": 1}, "None", [None], [True], ["run", "run"], 2**32, 2**53 + 1, -0.0, 1e-320]  # fmt: skip
FILES = (
    ("get_config missing", "x = 1"),
    ("returns nothing", "def get_config(): pass"),
    ("returns a dict", "def get_config(): return {'job': 'train'}"),
    ("a syntax error", "def get_config(:"),
    ("an exception", "def get_config(): return 1 / 0"),
    ("an exception at import", "raise KeyError('x')"),
    ("too deep", "def get_config(): return get_config()"),
    ("a class that is no config", "class get_config: pass"),
    ("takes two arguments", "def get_config(a, b): return settings.defaults()"),
    ("NUL", "\0"),
    ("not UTF-8", "\udce9"),
    ("an unknown field", "def get_config():\n    c = settings.defaults()\n    c.trian = 1\n    return c"),
    ("an unlocked field", "def get_config():\n    c = settings.defaults().unlock()\n    c.trian = 1\n    return c"),
    ("a section replaced", "def get_config():\n    c = settings.defaults().unlock()\n    c.train = 5\n    return c"),
    ("a field removed", "def get_config():\n    c = settings.defaults().unlock()\n    del c.seed\n    return c"),
    ("empty", ""),
    ("a config of its own", "import ml_collections\ndef get_config(): return ml_collections.ConfigDict()"),
    ("another warning", "import warnings\ndef get_config():\n    warnings.warn('x')\n    return None"),
)  # fmt: skip
LINES = (
    [], ["--config"], ["--config="], ["--config=FILE", "stray"], ["--config=FILE", "--config.train.steps"],
    ["--config=FILE", "--config.train=5"], ["--config=FILE", "--config.=1"], ["--config=FILE", "--config..steps=1"],
    ["--config=FILE", "--noconfig.train.references"], ["--config=FILE", "--config.train.references"],
    ["--config=FILE", "--flagfile=/nonexistent"], ["--config=FILE", "--undefok=x", "--x"], ["--config=FILE", "--",
    "--x"],
    ["--config=FILE", "-1"], ["--config=FILE", "--help=maybe"], ["--config=FILE", "--config.train.step=1"],
    ["--config=FILE", "--config.train.steps=1=2"], ["--config=FILE:variant"], ["--config=FILE:"], ["--config=/"],
    ["--config=FILE", "--config.fleet.variants=('plain',)"], ["--config=FILE", "--workdir"], ["--config=nothing.py"],
    ["--config=FILE", "--config.train.steps.more=1"], ["--config=FILE", "--config.train.steps[0]=1"], ["--config=\0"],
    ["--config=FILE", "--config.fleet.seeds[0]=1"], ["--config=FILE", "--config=FILE"], ["--config=" + "n" * 5000],
    ["--config=FILE", "--configg=1"], ["--config=FILE", "---config.seed=1"], ["--config=FILE", "--config.seed",
    "--x=1"],
    ["--config=FILE", "--config.train.steps=1", "--flagfile"], ["--config=FILE.json"], ["--config=\ud800.py"],
)  # fmt: skip
SKIPPED = ("job", "task.module", "data.tfds_dir", "mesh.coordinator")  # they run other code, or reach for the network


def case(choose: random.Random, folder: pathlib.Path) -> Case:
    """One config, with one to three fields that are odd."""
    return choose.choice([typed, typed, typed, repeated, written, written, saved, saved, damaged, line])(choose, folder)


def _fields(choose: random.Random) -> list[str]:
    known = [name for name in settings.FIELDS if name not in SKIPPED]
    return choose.sample(known, choose.choice([1, 1, 1, 2, 3]))


def _file(folder: pathlib.Path, body: str = "") -> pathlib.Path:
    path = folder / "mine.py"
    text = (
        f"from infoprompt_jax import settings\n\ndef get_config():\n    c = settings.defaults()\n{body}    return c\n"
    )
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return path


def typed(choose: random.Random, folder: pathlib.Path) -> Case:
    """Fields on the command line."""
    given = {name: choose.choice(TEXTS[type(settings.FIELDS[name].default)]) for name in _fields(choose)}
    arguments = ["main", f"--config={_file(folder)}", *(f"--config.{name}={text}" for name, text in given.items())]
    right = {name: meaning(settings.FIELDS[name].default, text) for name, text in given.items()}
    shown = " ".join(f"--config.{name}={text!r:.60}" for name, text in given.items())
    return Case(shown, lambda: accepted(arguments, folder, right), "right")


def meaning(default: Any, text: str) -> Any:
    """The value that a text on the command line stands for; None where it stands for none."""
    try:
        if isinstance(default, bool):
            return {"true": True, "t": True, "1": True, "yes": True, "y": True}.get(text.lower(), False)
        if isinstance(default, int):
            return int(text, 0) if text.strip().lower().startswith("0x") else int(text)
        if isinstance(default, float):
            return float(text)
        if isinstance(default, tuple):
            value = ast.literal_eval(text)
            return tuple(value) if isinstance(value, list | tuple) else (value,)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return text


def repeated(choose: random.Random, folder: pathlib.Path) -> Case:
    """A field that is there twice on the command line: the last one counts."""
    pairs = [("fleet.seeds", "(0,1)", "(2,3)"), ("fleet.presets", "('both',)", "('plain',)"), ("seed", "1", "2"),
             ("data.buckets", "(32,)", "(64,)"), ("train.steps", "5", "6"), ("task.name", "a", "b"),
             ("rospr.methods", "('none',)", "('rospr',)")]  # fmt: skip
    name, first, last = choose.choice(pairs)
    arguments = ["main", f"--config={_file(folder)}", f"--config.{name}={first}", f"--config.{name}={last}"]
    right = {name: meaning(settings.FIELDS[name].default, last)}
    return Case(f"--config.{name}={first} --config.{name}={last}", lambda: accepted(arguments, folder, right), "right")


def written(choose: random.Random, folder: pathlib.Path) -> Case:
    """Fields in a config file, as Python."""
    given = {name: choose.choice(LITERALS) for name in _fields(choose)}
    body = "".join(f"    c.{name} = {literal}\n" for name, literal in given.items())
    if choose.random() < 0.3:  # past the type check of ml_collections
        updates = ", ".join(f"'{name}': {literal}" for name, literal in given.items())
        body = f"    with c.ignore_type():\n        c.update_from_flattened_dict({{{updates}}})\n"
    arguments = ["main", f"--config={_file(folder, body)}"]
    shown = " ".join(f"c.{name} = {literal}" for name, literal in given.items())
    return Case(shown, lambda: accepted(arguments, folder, {}), "right")


def saved(choose: random.Random, folder: pathlib.Path) -> Case:
    """Fields in a run's config.json."""
    content = saved_config.content(settings.defaults())
    given = {name: choose.choice(VALUES) for name in _fields(choose)}
    for name, value in given.items():
        group, _, field = name.rpartition(".")
        (content[group] if group else content)[field] = value
    path = folder / "config.json"
    path.write_bytes(json.dumps(content).encode())
    right = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    shown = f"config.json: {given!r:.200}"
    return Case(shown, lambda: accepted(["main", f"--config={path}"], folder / "other", right), "right")


def damaged(choose: random.Random, folder: pathlib.Path) -> Case:
    """A run's config.json that is cut, doubled or flipped, and config files that cannot be run."""
    if choose.random() < 0.4:
        what, text = choose.choice(FILES)
        path = folder / "mine.py"
        path.write_bytes(f"from infoprompt_jax import settings\n{text}\n".encode("utf-8", "surrogateescape"))
        return Case(f"config file: {what}", lambda: accepted(["main", f"--config={path}"], folder, {}))
    text = json.dumps(saved_config.content(settings.defaults()), indent=1)
    place = choose.randrange(len(text))
    harmless = {"a mark before it": "\ufeff" + text, "spaces after it": text + "\n \n"}
    broken = {
        "cut": text[:place],
        "empty": "",
        "an array": "[]",
        "null": "null",
        "deep": "[" * 100_000,
        "doubled": text + text,
        "a field twice": text.replace('"steps": 2000', '"steps": 5, "steps": 2000'),
        "a section that is a number": json.dumps(json.loads(text) | {"train": 5}),
        "a field that is an object": json.dumps(json.loads(text) | {"seed": {"a": 1}}),
        "an unknown field": json.dumps(json.loads(text) | {"trian": 5}),
        "an integer of 5,000 digits": text.replace('"steps": 2000', f'"steps": {HUGE}'),
        "NUL": text + "\0",
    }
    kinds = harmless if choose.random() < 0.15 else broken
    what = choose.choice(list(kinds))
    path = folder / "config.json"
    path.write_text(kinds[what], encoding="utf-8")
    right = "right" if kinds is harmless or (what == "cut" and not text[place:].strip()) else None
    return Case(f"config.json: {what}", lambda: accepted(["main", f"--config={path}"], folder / "other", {}), right)


def line(choose: random.Random, folder: pathlib.Path) -> Case:
    """Odd command lines. Several of them are right; what counts is that none ends in a traceback."""
    path, arguments = _file(folder), choose.choice(LINES)
    given = ["main", *(argument.replace("FILE", str(path)) for argument in arguments)]
    return Case(f"command line: {arguments!r:.200}", lambda: accepted(given, folder, {}), lambda result: True)


def accepted(arguments: list[str], folder: pathlib.Path, right: dict[str, Any]) -> str:
    """`right` if each field holds what it should, else what is wrong. Raises UserError if the config is refused."""
    config, _ = command_line.parse(arguments)
    settings.check(config)
    expanded = members.expand(config)
    directory = Workdir(folder / "workdir", config)
    with directory.claim():
        read = saved_config.read(folder / "workdir" / "config.json")
    try:
        Workdir(folder / "workdir", config)
    except UserError as error:
        return f"the workdir that it claimed refuses it: {error}"
    flat = settings.flatten(config.to_dict())
    for name, value in right.items():
        if not same(flat[name], value):
            return f"{name} is {flat[name]!r}, which was written as {value!r}"
    for name, value in settings.flatten(read.to_dict()).items():
        if name not in saved_config.PROCESSES and not same(value, flat[name]):
            return f"{name} is {flat[name]!r}, but {value!r} in the config.json that it wrote"
    for member in expanded:
        for name, value in settings.flatten(member.config.to_dict()).items():
            if wrong := misfit(name, value):
                return f"{name}={value!r:.80} of member {member.name!r}: {wrong}"
    return "right"


def same(value: Any, right: Any) -> bool:
    """Whether the values are equal, and neither is a bool where the other is a number."""
    return (
        value == right and isinstance(value, bool) == isinstance(right, bool) and _is_whole(value) == _is_whole(right)
    )


def _is_whole(value: Any) -> bool:
    return isinstance(value, tuple)


def misfit(name: str, value: Any) -> str:
    """Why a field cannot be computed with; "" where it can."""
    if isinstance(value, float):
        with np.errstate(over="ignore", under="ignore"):
            if not math.isfinite(np.float32(value)):
                return "not finite in float32"
            if value and not np.float32(value):
                return "zero in float32"
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**31) <= value < 2**32:
        return "beyond what arrays are indexed with"
    if isinstance(value, str) and ("\0" in value or any("\ud800" <= sign <= "\udfff" for sign in value)):
        return "no operating system takes such a text"
    return _unfit(name, value)


def _unfit(name: str, value: Any) -> str:
    """Why a value of the right kind does not fit this field; "" where it does."""
    if name == "data.buckets" and list(value) != sorted(set(value)):
        return "not ascending"
    if name == "fleet.seeds" and (len(set(value)) < len(value) or not all(0 <= seed < 2**32 for seed in value)):
        return "not distinct seeds from 0 to 2 ** 32 - 1"
    weights = ("infoprompt.gamma", "infoprompt.beta", "infoprompt.kappa", "train.learning_rate")
    if name in weights and not 0 <= value < 1e30:
        return "not a weight"
    return ""
