"""From the command line to a config: the config file is run, then single fields are overridden.

The file may also be the config.json of a run: then the config is that run's, and the command goes on in its workdir.
A mistake on the line or inside the user's config file becomes one sentence.
"""

from __future__ import annotations

import difflib
import pathlib
import re
import runpy
import shlex
import textwrap
import traceback
from collections.abc import Sequence
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags

from infoprompt_jax import config_files, files, saved_config, settings
from infoprompt_jax.data import counterparts
from infoprompt_jax.errors import UserError
from infoprompt_jax.fields import shortened
from infoprompt_jax.t5 import hub

USAGE = "python -m infoprompt_jax.main --config=FILE.py[:VARIANT,...] [--workdir=DIR] [--config.FIELD=VALUE ...]"
OPTIONS = ("config", "workdir", "help")
OFFLINE = ("mini", "nano")  # the variants of the tasks' configs that need no network: for real rows, and for any
HELP = """\
{usage}

  --config        a file; its docstring is its manual. Or RUN/config.json: the fields of a run. These come with the
                  package, and work in every directory that has no such file of its own:
{shipped}
  --workdir       directory of the run's files; without it runs/FILE[-VARIANT], or RUN. The same command again resumes.
                  Another job than the config's own gets a directory of its own: runs/FILE-JOB, or RUN/JOB
  --config.FIELD  overrides one field; docs/configuration.md lists all fields. Examples:
                  --config.train.steps=100 --config.backbone.name=DIR "--config.fleet.seeds=(0,1,2)"
"""


def help_text() -> str:
    """The options, and the configs that come with the package."""
    names = textwrap.wrap(", ".join(config_files.shipped()), width=100)
    return HELP.format(usage=USAGE, shipped=textwrap.indent("\n".join(names), " " * 18))


def parse(arguments: Sequence[str]) -> tuple[ml_collections.ConfigDict, str]:
    """The config and the workdir of a command line (program name first).

    Raises:
      UserError: an unknown option or field, a value of the wrong type, or a config file that cannot be run.
    """
    options, program, *rest = _options(arguments)
    rest = _last_tuples(rest)
    _check_options(rest)
    named = options["config"].value
    if not named:
        raise UserError(f"--config is missing: {USAGE}.")
    config = read_config(named)
    own_job = config.get("job", "")
    _check_fields(rest)
    overrides = flags.FlagValues()
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=overrides, sys_argv=[program, *rest])
    except flags.Error as error:
        raise UserError(f"The command line cannot be read: {_line(error)}.") from error
    if stray := _parsed(overrides, [program, *rest])[1:]:
        raise UserError(f"The argument {stray[0]!r} was not expected: options are written --name=value.")
    _check_template(config, rest)
    other_job = config.get("job", "") if config.get("job", "") != own_job else ""
    return with_prompt(config, rest, named), options["workdir"].value or default_workdir(named, other_job)


def with_prompt(config: ml_collections.ConfigDict, arguments: Sequence[str], named: str) -> ml_collections.ConfigDict:
    """The config with what its saved prompt records, if its job uses one: see `training.prompt_config`.

    With the config.json of a run (`named`), that is the run's prompt unless `arguments` name another one.
    """
    if config.get("job") not in ("evaluate", "predict"):
        return config
    from infoprompt_jax.training import prompt_config  # imports JAX, which other commands load once they are checked

    typed = [field for argument in arguments if (field := _field(argument))]
    prompts = files.path(named).parent / "prompts"
    if is_saved(named) and prompts.is_dir() and "prompt.init" not in typed:
        config.prompt.init = str(prompts)
        # Where a member began is no longer of interest: it ended with the prompt of its name.
        members = ({f: value for f, value in fields.items() if f != "prompt.init"} for fields in config.fleet.members)
        config.fleet.members = tuple(members)
    elif is_saved(named) and "prompt.init" not in typed and prompt_config.is_untrained(config):
        raise UserError(
            f"{prompts.parent} holds no prompts, which a run writes at its end: complete the run with --config={named} "
            "alone, or set prompt.init to a saved prompt."
        )
    return prompt_config.completed(config, typed)


def help_requested(arguments: Sequence[str]) -> bool:
    """Whether `--help` or `-h` is among the arguments. Raises UserError where they cannot be read."""
    return _options(arguments)[0]["help"].value


def default_workdir(named: str, other_job: str = "") -> str:
    """`runs/<config>[-<variant>]` for `--config=<config>.py[:<variant>]`, and `<run>` for `--config=<run>/config.json`.

    `other_job`: the job, where the command line asks for another one than the config's own. Its workdir is
    `runs/<config>[-<variant>]-<job>`, or `<run>/<job>`.
    """
    if is_saved(named):
        return str(files.path(named).parent / other_job)
    file, _, variant = named.partition(":")
    parts = [pathlib.Path(file).stem, *re.findall(r"[\w.]+", variant), *filter(None, [other_job])]
    return str(pathlib.Path("runs", "-".join(parts)))


def is_saved(named: str) -> bool:
    """Whether `--config` names the config.json of a run."""
    return named.endswith(".json")


def offline_command(arguments: Sequence[str]) -> str | None:
    """The command that does the same without a network; None if the config has no such variant.

    It is that of `mini` where `data.dir` has the rows, and otherwise that of `nano`, which can generate others.
    """
    options, program, *rest = _options(arguments)
    kept = [argument for argument in rest if not argument.lstrip("-").startswith("config.backbone.")]
    for variant in OFFLINE:
        named = f"--config={options['config'].value.partition(':')[0]}:{variant}"
        try:
            config, _ = parse([program, named, *kept])
            config.task.counterpart = True
            generated = counterparts.counterpart(config) is not config
        except UserError:
            continue
        if config.backbone.name in hub.EMBEDDED and not (generated and variant == "mini"):
            return f"python -m infoprompt_jax.main {shlex.join([named, *kept])}"
    return None


def _options(arguments: Sequence[str]) -> tuple[Any, ...]:
    """The command's flags, the program's name and the arguments that are left."""
    options = flags.FlagValues()
    for name in ("config", "workdir"):
        flags.DEFINE_string(name, None, "", flag_values=options)
    flags.DEFINE_bool("help", False, "", short_name="h", flag_values=options)
    return options, *_parsed(options, arguments, known_only=True)


def read_config(path: str) -> ml_collections.ConfigDict:
    """What `get_config` of a file returns; it is called with VARIANT if the path is FILE:VARIANT.

    Of a file that ends in .json, the config of the run that wrote it.

    Raises:
      UserError: the file cannot be read or run (with the line that failed), or returns no config.
    """
    if is_saved(path):
        return saved_config.read(path)
    file, *variant = path.split(":", 1)
    file = config_files.locate(file)
    try:
        if pathlib.Path(file).is_dir():
            raise UserError(f"--config={path} is a directory: give a config file, or of a run its config.json.")
        get_config = runpy.run_path(file).get("get_config")
        config = get_config(*variant) if get_config else None
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"--config={path} cannot be read: {error.strerror or error}.") from error
    except Exception as error:  # the file is the user's own code
        raise UserError(f"--config={path}{_place(error, file)}: {_line(error)}.") from error
    if not isinstance(config, ml_collections.ConfigDict):
        raise UserError(
            f"--config={path} has no get_config() that returns a config: start from infoprompt_jax.settings.defaults() "
            "and return it."
        )
    return config


def _parsed(values: flags.FlagValues, arguments: Sequence[str], known_only: bool = False) -> list[str]:
    try:
        return values(arguments, known_only=known_only)
    except flags.Error as error:
        raise UserError(f"The command line cannot be read: {_line(error)}.") from error
    except (RecursionError, MemoryError) as error:  # of Python's parser, which reads tuples
        raise UserError("The command line cannot be read: a value is nested too deeply.") from error


def _check_fields(arguments: Sequence[str]) -> None:
    known = settings.flatten(settings.defaults().to_dict())
    for argument in arguments:
        field = _field(argument)
        if field and field not in known:
            raise UserError(f"--config.{field} does not exist{settings.nearest(field, known)}")


def _check_options(arguments: Sequence[str]) -> None:
    """Raises UserError for an option that does not exist, with the one that is meant."""
    known = [*OPTIONS, *(f"config.{field}" for field in settings.FIELDS)]
    for before, argument in zip(["", *arguments], arguments, strict=False):
        is_value = bool(_field(before)) and "=" not in before  # as in `--config.prompt.text --dashes`
        option = re.match(r"--([A-Za-z_][^=]*)", argument)
        if option and not is_value and not _field(argument):
            close = difflib.get_close_matches(option[1], known, n=1)
            hint = f"did you mean --{close[0]}?" if close else f"{USAGE}."
            raise UserError(f"--{option[1]} is no option: {hint}")


def _check_template(config: ml_collections.ConfigDict, arguments: Sequence[str]) -> None:
    """Raises UserError for the name of a template on the line, where the config has a template of its own."""
    task = config.get("task", {})
    if "task.template" in map(_field, arguments) and task.get("template") not in ("", "all") and task.get("input"):
        raise UserError(
            f"task.template={task.template!r} is set, but task.input={shortened(task.input)} is the template: set "
            "task.input, task.target and task.answer_choices to nothing, too, or leave task.template."
        )


def _last_tuples(arguments: Sequence[str]) -> list[str]:
    """The arguments without the earlier ones of a tuple: the last one counts, as with other fields.

    ml_collections would put the elements of all of them into one tuple.
    """
    kept: list[str] = []
    later: set[str] = set()
    for argument in reversed(arguments):
        field = _field(argument) or ""
        declared = settings.FIELDS.get(field)
        if declared and isinstance(declared.default, tuple):
            if field in later:
                if "=" not in argument:
                    kept.pop()  # its value
                continue
            later.add(field)
        kept.append(argument)
    return kept[::-1]


def _field(argument: str) -> str | None:
    """The config field that an argument sets; None for other arguments."""
    match = re.match(r"--?(?:no)?config\.([^=]*)", argument)
    return match[1] if match else None


def _place(error: Exception, file: str) -> str:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f", line {lines[-1]}" if lines else ""


def _line(error: Exception) -> str:
    """An error's message on one line, without the list of all fields that ml_collections adds."""
    text = " ".join(str(error).split()).split(" Other fields present")[0].removeprefix("'").rstrip(".")
    for former, name in settings.RENAMED.items():
        if text.startswith(f'Key "{former.rpartition(".")[2]}" does not exist'):
            text += f"; {former} is called {name} now"
    return text if isinstance(error, flags.Error) else f"{type(error).__name__}: {text}"
