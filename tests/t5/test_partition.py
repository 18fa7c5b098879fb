"""Eight simulated devices give what one gives, however the mesh splits them; weights that no rule fits are refused."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from jax.sharding import PartitionSpec as P

from infoprompt_jax.errors import UserError
from infoprompt_jax.fleet.assembly import split_over
from infoprompt_jax.t5 import partition
from infoprompt_jax.t5.partition import Rule

MESHES = {"data": (8, 1, 1), "fsdp": (1, 8, 1), "model": (1, 1, 8), "all": (2, 2, 2)}
SPLITS = [
    ("data", "rows", 0),
    ("model", "rows", 0),
    ("data", "members", 8),
    ("all", "members", 4),
    *(
        pytest.param(*rest, marks=pytest.mark.slow)
        for rest in (("fsdp", "rows", 0), ("all", "rows", 0), ("data", "members", 0))
    ),
]


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    return outcome(tiny.one_device())


def outcome(mesh: jax.sharding.Mesh, over: str = "rows", at_once: int = 0) -> dict[str, np.ndarray]:
    """Losses of three steps of 16 members, the prompts after them, and scores of the fleet and of the backbone."""
    model, members = tiny.backbone(mesh), 16
    program = tiny.fleet(model, over=over, at_once=at_once, critic="bilinear")
    batches = [tiny.batch(members, rows=8, seed=k) for k in range(3)]
    hyper = tiny.hyper(*({"learning_rate": 0.1 + m / 100} for m in range(members)))
    state, metrics = tiny.run(program, model, list(range(members)), hyper, batches)
    scores = program.scores(state.trainable, model.frozen, program.place(batches[0]))
    value = np.asarray(model.embed(np.arange(5, 10)[None])[0])
    rows = {name: values[0] for name, values in batches[0].items()}
    return {
        "loss": metrics["loss"],
        "head_mi": metrics["head_mi"],
        "prompts": np.asarray(state.trainable["prompt"]["value"]),
        "fleet's scores": np.asarray(scores),
        "scores": np.asarray(model.score(rows["inputs"], rows["choices"], prompts=value)),
        "scores of a few rows": np.asarray(model.score(rows["inputs"][:3], rows["choices"][:3], prompts=value)),
        "generated": np.asarray(model.generate(rows["inputs"], 4, prompts=value)),
    }


@pytest.mark.parametrize(("mesh", "over", "at_once"), SPLITS)
def test_results_do_not_depend_on_the_mesh(mesh: str, over: str, at_once: int, expected: dict[str, np.ndarray]) -> None:
    for name, values in outcome(partition.make_mesh(*MESHES[mesh]), over, at_once).items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("over", ["rows", "members"])
@pytest.mark.parametrize("platform", ["cpu", "tpu"])  # the layers repeated in the program, or scanned
def test_members_generate_on_a_mesh_what_each_generates_alone(
    platform: str, over: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token that some rows generate is made the end token: members' rows end at different places, some never."""
    end, batch, alone = 311, tiny.batch(4, rows=8), tiny.backbone(tiny.one_device())
    values = [np.asarray(alone.embed(np.arange(5 + m, 9 + m)[None])[0]) for m in range(4)]
    endless = np.stack([alone.generate(rows, 6, value) for rows, value in zip(batch["inputs"], values, strict=True)])
    ended = np.cumsum(endless == end, axis=-1) > (endless == end)
    assert ended.any() and not ended.any(axis=-1).all()
    monkeypatch.setattr(partition.Layout, "platform", platform)
    monkeypatch.setattr("infoprompt_jax.t5.model.EOS", end)
    model = tiny.backbone(partition.make_mesh(2, 2, 2))
    program = dataclasses.replace(tiny.fleet(model, over=over))  # a new one, traced for this platform
    trainable = tiny.start(program, model, list(range(4))).trainable
    trainable["prompt"]["value"] = jnp.asarray(np.stack(values))
    found = program.generate(trainable, model.frozen, program.place(batch), 6)
    np.testing.assert_array_equal(found, np.where(ended, 0, endless))


def test_weights_lie_where_the_rules_say() -> None:
    model = tiny.backbone(partition.make_mesh(2, 2, 2))
    query = model.frozen["encoder"]["layers"]["attention"]["query"][...]
    assert query.sharding.spec == P(None, "fsdp", "model")
    assert {shard.data.shape for shard in query.addressable_shards} == {(2, 32, 32)}
    assert model.frozen["encoder"]["norm"]["scale"][...].sharding.is_fully_replicated


def test_members_lie_on_one_device_each() -> None:
    model = tiny.backbone(partition.make_mesh())
    state = tiny.start(tiny.fleet(model, over="members"), model, list(range(16)))
    for leaf in jax.tree.leaves(state.trainable) + jax.tree.leaves(state.optimizer):
        assert leaf.sharding.shard_shape(leaf.shape) == (2, *leaf.shape[1:])


@pytest.mark.parametrize(
    ("path", "shape", "model", "fsdp"),
    [
        ("embedding", (6, 8), 1, 1),
        ("head", (8, 6), 0, 1),
        ("decoder/layers/attention/query", (3, 6, 8), 2, 1),
        ("decoder/layers/cross/key", (3, 6, 8), 2, 1),
        ("encoder/layers/attention/value", (3, 6, 8), 2, 1),
        ("decoder/layers/cross/out", (3, 8, 6), 1, 2),
        ("encoder/layers/mlp/wi_0", (3, 6, 8), 2, 1),
        ("encoder/layers/mlp/wi_1", (3, 6, 8), 2, 1),
        ("encoder/layers/mlp/wo", (3, 8, 6), 1, 2),
        ("encoder/relative_bias/embedding", (6, 6), None, None),
        ("decoder/layers/cross_norm/scale", (3, 6), None, None),
        ("decoder/norm/scale", (6,), None, None),
    ],
)
def test_each_axis_of_the_mesh_splits_one_side(
    path: str, shape: tuple[int, ...], model: int | None, fsdp: int | None
) -> None:
    """`model` splits columns of what reads the residual stream and rows of what writes to it, `fsdp` the other side."""
    spread = partition.shardings({path: shape}, partition.make_mesh(1, 2, 4))[path]
    divisors = [4 ** (axis == model) * 2 ** (axis == fsdp) for axis in range(len(shape))]
    assert spread.shard_shape(shape) == tuple(size // by for size, by in zip(shape, divisors, strict=True))


def test_first_match_wins_and_an_unmatched_weight_is_named() -> None:
    mesh = partition.make_mesh(2, 1, 4)
    rules = (Rule("^a", P("model"), "first"), Rule("^ab", P(), "second"))
    assert partition.shardings({"ab": (8,)}, mesh, rules)["ab"].spec == P("model")
    with pytest.raises(UserError, match="No partition rule matches the weight 'decoder/new'"):
        partition.shardings({"decoder/new": (8,)}, mesh, rules)


def test_an_uneven_split_is_refused() -> None:
    with pytest.raises(UserError, match=r"'head' of shape \(6, 4\) cannot be split over mesh.model=4: .* divisor of 6"):
        partition.shardings({"head": (6, 4)}, partition.make_mesh(2, 1, 4))
    with pytest.raises(UserError, match=r"'embedding' .* over mesh.model=2 x mesh.fsdp=2: choose a divisor of 6"):
        partition.shardings({"embedding": (4, 6)}, partition.make_mesh(2, 2, 2))


@pytest.mark.parametrize("shape", [(-1, 1, 3), (3, 1, 1), (4, 1, 4), (-1, 1, 0), (-1, 0, 1), (-1, 3, 1), (2, 2, 4)])
def test_a_mesh_that_does_not_fit_is_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(UserError, match=r"does not fit 8 devices"):
        partition.make_mesh(*shape)


def test_one_device_is_the_same_code() -> None:
    assert dict(tiny.one_device().shape) == {"data": 1, "fsdp": 1, "model": 1}


@dataclasses.dataclass(frozen=True)
class Chip:
    """What `make_mesh` reads of a device: TPUs of a multislice report their slice."""

    id: int
    slice_index: int
    platform: str = "cpu"
    device_kind: str = "cpu"
    process_index: int = 0


def test_data_spans_the_slices_and_the_other_axes_do_not() -> None:
    chips = [Chip(number, slice_index=number % 2) for number in range(8)]
    mesh = partition.make_mesh(-1, 2, 2, devices=chips)
    assert mesh.devices.shape == (2, 2, 2)
    assert [{chip.slice_index for chip in part.flat} for part in mesh.devices] == [{0}, {1}]


@pytest.mark.parametrize(("slices", "fsdp"), [(2, 8), (3, 1), (1, 1), (4, 1), (0, 1)])
def test_slices_that_do_not_fit_are_refused(slices: int, fsdp: int) -> None:
    chips = [Chip(number, slice_index=number // 4) for number in range(8)]
    with pytest.raises(UserError, match=f"mesh.slices={slices} does not fit mesh.data={8 // fsdp} and 2 reported"):
        partition.make_mesh(-1, fsdp, 1, slices, chips)


@pytest.mark.parametrize(("over", "axis"), [("rows", 1), ("members", 0)])
def test_a_batch_is_split_over_data_and_fsdp(over: str, axis: int) -> None:
    model, batch = tiny.backbone(partition.make_mesh(2, 2, 2)), tiny.batch(4, rows=8)
    for name, placed in tiny.fleet(model, over=over).place(batch).items():
        shape = [size // 4 if number == axis else size for number, size in enumerate(batch[name].shape)]
        assert placed.sharding.shard_shape(placed.shape) == tuple(shape), name
        np.testing.assert_array_equal(placed, batch[name])


def test_members_are_split_where_they_divide() -> None:
    mesh = partition.make_mesh(2, 2, 2)
    for members, at_once, expected in [
        (8, 0, "members"),
        (8, 4, "members"),
        (8, 2, "rows"),
        (6, 0, "rows"),
        (1, 0, "rows"),
    ]:
        assert split_over("auto", members, at_once, mesh) == expected, (members, at_once)
    assert split_over("rows", 8, 0, mesh) == "rows"
    assert split_over("auto", 8, 0, tiny.one_device()) == "rows"
    with pytest.raises(UserError, match="= 4 devices, but there are 6 members, 6 at once: choose fleet"):
        split_over("members", 6, 0, mesh)


def test_constraints_split_only_what_divides() -> None:
    layout = partition.Layout(partition.make_mesh(2, 2, 2))

    def laid(*shape: int) -> tuple[int, ...]:
        placed = jax.jit(lambda: layout.constrain(jnp.zeros(shape), None, "model"))()
        return placed.sharding.shard_shape(shape)

    assert laid(8, 3, 6) == (2, 3, 3)
    assert laid(6, 3, 6) == (6, 3, 3)
    assert laid(8, 3, 5) == (2, 3, 5)
