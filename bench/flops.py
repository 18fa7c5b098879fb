"""What XLA counts for one training step, in units of the forward pass: `python -m bench.flops [--out DIRECTORY]`.

Nothing is timed, and layers are unrolled, for XLA counts a loop's body once. The program is counted before it is
optimised: the compiler may merge what an unrolled program recomputes with the original, and in a loop it cannot.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from bench import command
from bench.synthetic import SHAPES, Size

PLAIN = {"infoprompt.gamma": 0.0, "infoprompt.beta": 0.0}


def member_arguments(made: Any) -> tuple[Any, ...]:
    """The first member's (trainable, frozen, batch, hyper, key, progress), as `Objective.loss` takes them."""
    import jax

    trainable, batch, hyper = jax.tree.map(lambda leaf: leaf[0], (made.state.trainable, made.batch, made.hyper))
    return trainable, made.backbone.frozen, batch, hyper, made.keys[0], 0.0


def counted(program: Any, arguments: tuple[Any, ...]) -> float:
    import jax

    analysis: Any = jax.jit(program).lower(*arguments).cost_analysis()
    return analysis["flops"]


def norm_of_everything(loss: Any) -> Any:
    """The norm of the gradient by trained and frozen weights together, so that none of it is left out as unused."""
    import jax
    import optax

    whole = jax.grad(loss, argnums=(0, 1), has_aux=True)
    return lambda *arguments: optax.tree.norm(whole(*arguments)[0])


def records(size: Size) -> list[dict[str, Any]]:
    """FLOPs of the loss, of its gradient by the prompt under each remat policy, and by the whole tree."""
    import jax

    from bench import ours
    from infoprompt_jax.training import speed

    depth = max(SHAPES[size.shape]["num_layers"], SHAPES[size.shape]["num_decoder_layers"])
    found = {}
    for remat in ("none", "dots", "full"):
        made = ours.setup(size, PLAIN | {"backbone.remat": remat, "backbone.unroll": depth})
        loss, arguments = made.fleet.objective.loss, member_arguments(made)
        if remat == "none":
            found["forward"] = counted(loss, arguments)
            found["gradient of the whole tree, and its norm"] = counted(norm_of_everything(loss), arguments)
        found[f"gradient of the prompt, remat={remat}"] = counted(jax.grad(loss, has_aux=True), arguments)
    positions = size.input_length + size.prompt_length
    found["gradient of the prompt, model FLOPs (4 N)"] = speed.step_flops(
        made.backbone.config, size.batch * positions, size.batch * size.target_length
    )
    return [{"subject": n, "flops": f, "forwards": f / found["forward"]} for n, f in sorted(found.items())]


def main(arguments: list[str] | None = None) -> None:
    given = command.parser("FLOPs of a training step by XLA's count.").parse_args(arguments)
    size = Size(given.shape)
    name = f"flops-{given.shape}"
    counts = records(size)
    command.finish(given.out, name, counts, size=dataclasses.asdict(size))


if __name__ == "__main__":
    main()
