"""What int8 weights cost in precision: `python -m bench.int8 [errors nano] [--out DIRECTORY]`.

`errors` compares layers of a published shape, untrained, with float32: the encoder's states, the logits and the
gradient by the prompt, each as the norm of the difference / the norm. `nano` trains prompts on the embedded backbone
with full and with int8 weights, and evaluates each also on the other's weights.
"""

from __future__ import annotations

import dataclasses
import pathlib
import runpy
import tempfile
from typing import Any

import numpy as np

from bench import command
from bench.synthetic import SHAPES, Size

NANO = pathlib.Path(__file__).parents[1] / "configs" / "nano.py"
HELD = (("float32", "full"), ("float32", "int8"), ("bfloat16", "full"), ("bfloat16", "int8"))


def errors(size: Size, layers: int) -> list[dict[str, Any]]:
    """One record for each way to hold the same weights, of a T5 with so many layers a stack."""
    computed = {held: computations(size, layers, *held) for held in HELD}
    exact = computed[HELD[0]]
    return [
        {
            "subject": f"{weights} weights, {dtype} activations",
            **{f"{name}_error": error(value, exact[name]) for name, value in found.items()},
            "cosine": cosine(found["gradient"], exact["gradient"]),
        }
        for (dtype, weights), found in list(computed.items())[1:]
    ]


def computations(size: Size, layers: int, dtype: str, weights: str) -> dict[str, np.ndarray]:
    """The states, the logits and the gradient by the prompt, of one batch; the weights are the same every time."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from bench import ours
    from infoprompt_jax.t5 import scoring

    sizes = {"num_layers": layers, "num_decoder_layers": layers, "dtype": dtype, "weights": weights}
    backbone = ours.backbone(size.shape, "dots", 1, **sizes)
    batch = {name: value[0] for name, value in size.host_batch().items()}
    prompt_PD = np.random.default_rng(0).standard_normal((size.prompt_length, backbone.config.d_model), np.float32)

    @jax.jit
    def program(frozen: nnx.State, prompt_PD: jax.Array) -> dict[str, jax.Array]:
        def loss(prompt_PD: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            model = nnx.merge(backbone.graph, frozen)
            states_BSD, mask_BS = model.encode(batch["inputs"], prompt_PD)
            logits_BTV = model.logits(model.decode(batch["targets"], states_BSD, mask_BS))
            log_probabilities_BT = scoring.token_log_probabilities(logits_BTV, batch["targets"])
            return -log_probabilities_BT.mean(), (states_BSD, logits_BTV)

        gradient_PD, (states_BSD, logits_BTV) = jax.grad(loss, has_aux=True)(prompt_PD)
        return {"state": states_BSD, "logit": logits_BTV, "gradient": gradient_PD}

    return jax.device_get(jax.tree.map(lambda x: x.astype(jnp.float32), program(backbone.frozen, prompt_PD)))


def error(value: np.ndarray, exact: np.ndarray) -> float:
    return float(np.linalg.norm(value - exact) / np.linalg.norm(exact))


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.vdot(one, other) / np.linalg.norm(one) / np.linalg.norm(other))


def nano(task: str = "entailment", **fields: Any) -> list[dict[str, Any]]:
    """Validation accuracy of prompts, mean over seeds, by the weights that they are trained and evaluated with."""
    import infoprompt_jax as ip

    records = []
    with tempfile.TemporaryDirectory() as runs:
        for trained in ("full", "int8"):
            config = runpy.run_path(str(NANO))["get_config"](task)
            given = {"fleet.presets": ("plain",), "train.references": False, "task.test_split": "", **fields}
            config.update_from_flattened_dict({"backbone.weights": trained, **given})
            summary = ip.train(config, f"{runs}/{trained}")
            names = [member["name"] for member in summary["members"]]
            for evaluated in ("full", "int8"):
                members = tuple({"name": n, "prompt.init": f"{runs}/{trained}/prompts/{n}"} for n in names)
                used = {"job": "evaluate", "backbone.weights": evaluated}
                config.update_from_flattened_dict(
                    {**used, "fleet.members": members, "fleet.seeds": (), "fleet.presets": ()}
                )
                outcome = ip.evaluate(config, f"{runs}/{trained}-{evaluated}")
                scores = [member["final"]["accuracy"] for member in outcome["members"]]
                subject = f"trained with {trained}, evaluated with {evaluated}"
                records.append({"subject": subject, "accuracy": float(np.mean(scores)), "accuracies": scores})
    return records


def main(arguments: list[str] | None = None) -> None:
    options = command.parser("The precision of int8 weights.")
    options.set_defaults(shape="v1.1-xl")
    options.add_argument("parts", nargs="*", help="of errors, nano; both if none is given")
    options.add_argument("--layers", type=int, default=2, help="layers of each stack; 0 = the shape's")
    given = options.parse_args(arguments)
    size = Size(given.shape, batch=2, input_length=32, target_length=4, prompt_length=20)
    layers = given.layers or SHAPES[given.shape]["num_layers"]
    for part in given.parts or ("errors", "nano"):
        if part == "errors":
            about = {"size": dataclasses.asdict(size), "layers": layers}
            command.finish(given.out, f"int8-errors-{given.shape}-{layers}", errors(size, layers), **about)
        else:
            command.finish(given.out, "int8-nano", nano())


if __name__ == "__main__":
    main()
