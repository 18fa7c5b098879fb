"""`python -m infoprompt_jax.capacity --model=google/t5-xxl-lm-adapt --topology=v5e:4x4 [--batch=64] [...]`.

Compiles a run's programs for a TPU slice on any machine, and prints whether they fit, the largest batch that does, what
the devices exchange, and the least time of a step. `pip install -r requirements-tpu.txt` brings the compiler.
"""

from __future__ import annotations

import argparse
import ast
import json
import logging
import pathlib
import sys
from typing import Any

from infoprompt_jax import watch
from infoprompt_jax.devices import describe_only
from infoprompt_jax.errors import UserError

MISTAKE, STOPPED = 2, 143  # exit statuses, as of infoprompt_jax.main
LEAST = {"slices": 1, "batch": 0, "input": 1, "target": 1, "choices": 1, "members": 1}


def main(arguments: list[str]) -> None:
    """Answers the case that the command line asks about; a mistake is one sentence."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    options = _parser()
    known, rest = options.parse_known_args(arguments)
    describe_only()
    from infoprompt_jax.capacity import case, report  # JAX, after the environment is set
    from infoprompt_jax.reports import measurements

    try:
        record = case.answer(_case(known, rest), lambda line: print(line, file=sys.stderr, flush=True))
    except UserError as error:
        print("error:", *str(error).split(), file=sys.stderr)
        sys.exit(MISTAKE)
    except KeyboardInterrupt:
        watch.end(STOPPED, "Stopped; nothing is saved, and the same command starts again.")
    print(json.dumps(record, indent=1) if known.json else report.text(record))
    if known.out:
        measurements.save(known.out.parent, known.out.stem, [record])


def _parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="python -m infoprompt_jax.capacity", description=(__doc__ or "").partition("\n\n")[2]
    )
    options.add_argument("--model", default="google/t5-base-lm-adapt", help="hub id of a T5, directory, or nano")
    options.add_argument("--topology", default="v5e:1x1", help="chip and shape of a slice: v5e:4x4, v4:2x2x1, v6e:2x4")
    options.add_argument("--slices", type=int, default=1, help="slices of this shape, joined by the network")
    options.add_argument("--mesh", help="data,fsdp,model; without it chosen to fit the weights")
    options.add_argument("--job", choices=("train", "score"), default="train")
    options.add_argument(
        "--batch", type=int, default=0, help="rows of a member, over all devices; 0 = the largest that fits"
    )
    options.add_argument("--input", type=int, default=512, help="tokens of an input")
    options.add_argument("--target", type=int, default=64, help="tokens of a target, or of an answer choice")
    options.add_argument("--choices", type=int, default=2, help="answer choices of an input")
    options.add_argument("--prompt", type=int, default=100, help="tokens of a prompt")
    options.add_argument("--members", type=int, default=1, help="members of the fleet")
    options.add_argument("--weights", choices=("full", "int8"), default="full", help="how kernels are kept")
    options.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    options.add_argument("--remat", choices=("none", "dots", "narrow", "full"), default="dots")
    options.add_argument("--infoprompt", choices=("on", "off"), default="on", help="both information terms")
    options.add_argument("--json", action="store_true", help="print the record as JSON")
    options.add_argument("--out", type=pathlib.Path, help="file for the record, as JSON")
    options.epilog = "Any field of a run's config: --config.FIELD=VALUE, as in --config.fleet.over=members."
    return options


def _case(known: argparse.Namespace, rest: list[str]) -> Any:
    from infoprompt_jax.capacity.case import Case
    from infoprompt_jax.capacity.programs import Lengths

    for name, least in LEAST.items():
        if (number := getattr(known, name)) < least:
            raise UserError(f"--{name}={number} is out of range: it must be at least {least}.")
    if known.out and known.out.suffix != ".json":
        raise UserError(f"--out={known.out} is not the name of a JSON file: let it end in .json.")
    fields: dict[str, Any] = {
        "prompt.length": known.prompt,
        "backbone.remat": known.remat,
        "backbone.dtype": known.dtype,
    }
    if known.weights != "full":
        fields["backbone.weights"] = known.weights
    if known.members > 1:
        fields["fleet.seeds"] = tuple(range(known.members))
    if known.infoprompt == "on":
        fields |= {"infoprompt.gamma": 0.1, "infoprompt.beta": 0.2}
    return Case(
        model=known.model,
        topology=known.topology,
        slices=known.slices,
        mesh=_mesh(known.mesh),
        job=known.job,
        batch=known.batch,
        lengths=Lengths(known.input, known.target, known.choices),
        fields=tuple((fields | _overridden(rest)).items()),
    )


def _mesh(text: str | None) -> tuple[int, int, int] | None:
    if text is None:
        return None
    numbers = text.split(",")
    if len(numbers) != 3 or not all(number.isdigit() and int(number) for number in numbers):
        raise UserError(f"--mesh={text} is not three numbers of devices: write data,fsdp,model, as in --mesh=2,4,2.")
    return int(numbers[0]), int(numbers[1]), int(numbers[2])


def _overridden(rest: list[str]) -> dict[str, Any]:
    """The config fields of arguments `--config.FIELD=VALUE`."""
    fields: dict[str, Any] = {}
    for argument in rest:
        name, equals, value = argument.partition("=")
        if not name.startswith("--config.") or not equals:
            raise UserError(f"The argument {argument!r} was not expected: options are listed by --help.")
        try:
            fields[name.removeprefix("--config.")] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            fields[name.removeprefix("--config.")] = value
    return fields


if __name__ == "__main__":
    main(sys.argv[1:])
