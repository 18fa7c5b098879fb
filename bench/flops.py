"""FLOPs of one training step by XLA's count, in units of the forward pass: `python -m bench.flops [--out DIRECTORY]`.

Nothing is timed. Layers are unrolled, because XLA counts a loop's body once. The program is counted before it is
optimised: in an unrolled program, unlike in a loop, the compiler may merge recomputed values with the originals.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from bench import command
from bench.synthetic import PLAIN, SHAPES, Size


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
    """The norm of the gradient with respect to trained and frozen weights, so that XLA removes no part as unused."""
    import jax
    import optax

    whole = jax.grad(loss, argnums=(0, 1), has_aux=True)
    return lambda *arguments: optax.tree.norm(whole(*arguments)[0])


def records(size: Size) -> list[dict[str, Any]]:
    """FLOPs of the loss, of its gradient by the prompt for each remat policy, and of its gradient by all weights."""
    import jax

    from bench import ours
    from infoprompt_jax.training import speed

    depth = max(SHAPES[size.shape]["num_layers"], SHAPES[size.shape]["num_decoder_layers"])
    counts = {}
    for remat in ("none", "dots", "narrow", "full"):
        made = ours.setup(size, PLAIN | {"backbone.remat": remat, "backbone.unroll": depth})
        loss, arguments = made.fleet.objective.loss, member_arguments(made)
        if remat == "none":
            counts["forward"] = counted(loss, arguments)
            counts["gradient of the whole tree, and its norm"] = counted(norm_of_everything(loss), arguments)
        counts[f"gradient of the prompt, remat={remat}"] = counted(jax.grad(loss, has_aux=True), arguments)
    positions = size.input_length + size.prompt_length
    counts["gradient of the prompt, model FLOPs (4 N)"] = speed.step_flops(
        made.backbone.config, size.batch * positions, size.batch * size.target_length
    )
    return [{"subject": n, "flops": f, "forwards": f / counts["forward"]} for n, f in sorted(counts.items())]


def main(arguments: list[str] | None = None) -> None:
    given = command.parser("FLOPs of a training step by XLA's count.").parse_args(arguments)
    size = Size(given.shape)
    name = f"flops-{given.shape}"
    command.finish(given.out, name, records(size), size=dataclasses.asdict(size))


if __name__ == "__main__":
    main()
