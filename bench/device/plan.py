"""The cases, in the order of importance.

Groups alternate between this project and torch, so that an interrupted run has results of both. The first batch of a
group is the most important; the largest show where memory ends.
"""

from __future__ import annotations

from typing import Any

from bench.device.cases import Case, Group
from bench.synthetic import BOTH, PLAIN, Size

OURS, PEER = "bench.device.ours", "bench.device.peer"
# One process at a time uses the device, so JAX may allocate nearly all of it. The peer's process counts with JAX.
OUR_VARIABLES = {"XLA_CLIENT_MEM_FRACTION": "0.93", "TF_CPP_MIN_LOG_LEVEL": "1"}
PEER_VARIABLES = {"JAX_PLATFORMS": "cpu", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
NO_TRITON = {"XLA_FLAGS": "--xla_gpu_enable_triton_gemm=false"}


def train(shape: str, batch: int, length: int = 128, fields: dict[str, Any] | None = None, **named: Any) -> Case:
    """A training step of this project; `named`: `topic`, `what` (of the name), `beside` and fields of `Size`."""
    topic, what, beside = named.pop("topic", "train"), named.pop("what", ""), named.pop("beside", "")
    size = Size(f"v1.1-{shape}", batch=batch, input_length=length, **named)
    name = f"{shape}-{what or 'train-ours'}-L{length}-b{batch}"
    return Case(name, topic, f"{OURS}:train", size, PLAIN | (fields or {}), beside)


def peer_train(shape: str, batch: int, length: int = 128, **switches: bool) -> Case:
    """A training step of PEFT; the switches are `compiled` and `checkpointed`."""
    sized = f"L{length}-b{batch}"
    name = "-".join([shape, "train-peft", *switches, sized])
    size = Size(f"v1.1-{shape}", batch=batch, input_length=length)
    return Case(name, "train", f"{PEER}:train", size, dict(switches), f"{shape}-train-ours-{sized}")


def product(shape: str, module: str, side: str) -> Case:
    return Case(f"{shape}-product-{side}", "product", f"{module}:product", Size(f"v1.1-{shape}", batch=32))


def score(shape: str, shared: bool) -> Case:
    size = Size(f"v1.1-{shape}", batch=32, choices=4)
    beside = "" if shared else f"{shape}-score-shared-L128-b32"
    name = f"{shape}-score-{'shared' if shared else 'reencoded'}-L128-b32"
    return Case(name, "score", f"{OURS}:score", size, PLAIN | {"shared": shared}, beside)


def generate(shape: str, batch: int, ours: bool) -> Case:
    name = f"{shape}-generate-{{}}-L128-b{batch}"
    size = Size(f"v1.1-{shape}", batch=batch)
    if ours:
        return Case(name.format("ours"), "generate", f"{OURS}:generate", size, dict(PLAIN))
    return Case(name.format("peft"), "generate", f"{PEER}:generate", size, beside=name.format("ours"))


def ours(name: str, *cases: Case, share: float = 1.0, flags: dict[str, str] | None = None) -> Group:
    return Group(name, cases, (OURS,), OUR_VARIABLES | (flags or {}), share)


def peer(name: str, *cases: Case, share: float = 1.0) -> Group:
    return Group(name, cases, (PEER,), PEER_VARIABLES, share)


def terms(shape: str, batch: int) -> list[Case]:
    """InfoPrompt's terms, with un-prompted features cached or computed in every step."""
    shared: dict[str, Any] = {"topic": "infoprompt", "beside": f"{shape}-train-ours-L128-b{batch}"}
    recomputed = BOTH | {"infoprompt.cache_features": False}
    return [
        train(shape, batch, fields=BOTH, what="infoprompt-cached", **shared),
        train(shape, batch, fields=recomputed, what="infoprompt-recomputed", **shared),
    ]


def fleets(shape: str) -> list[Case]:
    """64 members with one row each and with four rows each, beside one member with as many rows."""
    cases = []
    for rows in (1, 4):
        one = train(shape, 64 * rows, topic="fleet", what="one-run")
        fleet = {"members": 64, "topic": "fleet", "beside": one.name}
        cases += [one, train(shape, rows, what="fleet-64", **fleet)]
        if rows == 1:
            eight = {"fleet.at_once": 8}
            cases.append(train(shape, rows, fields=eight, what="fleet-64-by-8", **fleet))
    return cases


def sweeps(shape: str) -> list[Case]:
    """Prompt lengths, input lengths and layers a scan iteration, each beside the plain step of 32 rows."""
    beside = {"beside": f"{shape}-train-ours-L128-b32"}
    prompts: Any = {"topic": "prompt length", **beside}
    inputs: Any = {"topic": "input length", "what": "inputs", **beside}
    unrolls: Any = {"topic": "unroll", **beside}
    return [
        *(train(shape, 32, prompt_length=p, what=f"prompt-{p}", **prompts) for p in (20, 200)),
        *(train(shape, 32, length, **inputs) for length in (64, 256, 512)),
        *(train(shape, 32, fields={"backbone.unroll": u}, what=f"unroll-{u}", **unrolls) for u in (2, 12)),
        *(train(shape, 32, prompt_length=p, what=f"prompt-{p}", **prompts) for p in (5, 50)),
        train(shape, 32, 1024, **inputs),
    ]


def remats(shape: str) -> list[Case]:
    """What the backward pass recomputes, also for batches for which the default policy lacks memory."""
    beside = f"{shape}-train-ours-L128-b32"
    policies = [
        train(shape, 32, fields={"backbone.remat": p}, topic="remat", what=f"remat-{p}", beside=beside)
        for p in ("none", "full")
    ]
    full = {"backbone.remat": "full"}
    return [
        *policies,
        train(shape, 256),
        train(shape, 256, fields=full, topic="remat", what="remat-full", beside=beside),
    ]


def quantised(shape: str, held: str, *lengths: int) -> Group:
    """Scoring, generation and training with weights held as bf16 or int8, beside bf16 and XLA's estimate.

    In the order of their memory, so that the peak of the process is that of the case.
    """

    def case(what: str, length: int, **named: Any) -> Case:
        size = Size(f"v1.1-{shape}", batch=32, input_length=length, choices=4)
        name, fields = f"{shape}-{{}}-{what}-L{length}-b32", {"backbone.weights": held} if held == "int8" else {}
        beside = name.format("bf16") if held == "int8" else ""
        options = PLAIN | fields | named
        return Case(name.format(held), "int8", f"{OURS}:{what}", size, options, beside, estimate=what != "generate")

    steps = [case("train", length) for length in lengths]
    return ours(f"{shape} {held}", case("score", 128, shared=True), case("generate", 128), *steps)


def attention(shape: str) -> list[Case]:
    """Attention to the encoder's positions by cuDNN beside XLA's, also with layers unrolled."""
    cases = []
    for batch, length, unroll in ((32, 128, 1), (128, 128, 1), (32, 512, 1), (32, 128, 8), (128, 128, 8)):
        fields = {"backbone.attention": "cudnn", "backbone.unroll": unroll}
        what = "cudnn" if unroll == 1 else f"cudnn-unroll-{unroll}"
        beside = f"{shape}-train-ours-L{length}-b{batch}"
        cases.append(train(shape, batch, length, fields, topic="attention", what=what, beside=beside))
    return cases


def groups() -> list[Group]:
    """All groups, in order."""
    sizes = ((32, 128), (128, 128), (8, 128), (32, 512), (8, 512), (64, 128))
    flags = train("xl", 32, topic="flags", what="no-triton", beside="xl-train-ours-L128-b32")
    return [
        ours("xl ours", *(train("xl", *size) for size in sizes), product("xl", OURS, "jax"), share=0.4),
        peer(
            "xl peft",
            *(peer_train("xl", *size) for size in ((32, 128), (8, 128), (8, 512), (64, 128), (32, 512), (128, 128))),
            product("xl", PEER, "torch"),
            generate("xl", 32, ours=False),
            peer_train("xl", 128, checkpointed=True),
            share=0.25,
        ),
        ours("xl terms", *terms("xl", 32), score("xl", True), score("xl", False), generate("xl", 32, ours=True)),
        ours("base ours", train("base", 32), train("base", 128), *fleets("base"), generate("base", 32, ours=True)),
        peer("base peft", peer_train("base", 32), peer_train("base", 128), generate("base", 32, ours=False)),
        peer("xl compiled", peer_train("xl", 32, compiled=True)),  # may take minutes to compile
        ours("xl remat", *remats("xl")),
        ours("base sweeps", *sweeps("base")),
        peer("base compiled", peer_train("base", 32, compiled=True), peer_train("base", 128, compiled=True)),
        ours("large ours", train("large", 32), train("large", 128)),
        peer("large peft", peer_train("large", 32), peer_train("large", 128)),
        ours("xl attention", *attention("xl")),
        ours("xl flags", flags, flags=NO_TRITON),
        quantised("xl", "bf16", 128, 512),
        quantised("xl", "int8", 128, 512),
        quantised("xxl", "int8", 128),
        quantised("xxl", "bf16", 128),
    ]
