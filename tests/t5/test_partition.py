"""Eight simulated devices give what one gives, and weights that no rule fits are refused."""

from __future__ import annotations

import jax
import numpy as np
import pytest
import tiny
from jax.sharding import PartitionSpec as P

from infoprompt_jax.errors import UserError
from infoprompt_jax.t5 import partition


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    return outcome(tiny.one_device())


def outcome(mesh: jax.sharding.Mesh) -> dict[str, np.ndarray]:
    """Losses of three steps, and scores before them."""
    model = tiny.backbone(mesh)
    program = tiny.fleet(model, critic="bilinear")
    batches = [tiny.batch(2, rows=8, seed=k) for k in range(3)]
    _, metrics = tiny.run(program, model, [0, 1], tiny.hyper({}, {"learning_rate": 0.1}), batches)
    rows = tiny.batch(rows=8)
    value = np.asarray(model.embed(np.arange(5, 10)[None])[0])
    scores = model.score(rows["inputs"][0], rows["choices"][0], prompts=value)
    return {"loss": metrics["loss"], "head_mi": metrics["head_mi"], "scores": np.asarray(scores)}


@pytest.mark.parametrize("shape", [(8, 1), (2, 4)])
def test_losses_and_scores_do_not_depend_on_the_devices(
    shape: tuple[int, int], expected: dict[str, np.ndarray]
) -> None:
    if jax.device_count() < 8:
        pytest.skip("needs 8 devices")
    for name, values in outcome(partition.make_mesh(*shape)).items():
        np.testing.assert_allclose(values, expected[name], rtol=2e-4, atol=2e-4, err_msg=name)


def test_weights_lie_where_the_rules_say() -> None:
    model = tiny.backbone(partition.make_mesh(2, 4))
    query = model.frozen["encoder"]["layers"]["attention"]["query"][...]
    assert query.sharding.spec == P(None, None, "model")
    assert {shard.data.shape for shard in query.addressable_shards} == {(2, 64, 16)}
    assert model.frozen["encoder"]["norm"]["scale"][...].sharding.is_fully_replicated


@pytest.mark.parametrize(
    ("path", "shape", "split"),
    [
        ("embedding", (6, 8), 1),
        ("head", (8, 6), 0),
        ("decoder/layers/attention/query", (3, 6, 8), 2),
        ("decoder/layers/cross/key", (3, 6, 8), 2),
        ("encoder/layers/attention/value", (3, 6, 8), 2),
        ("decoder/layers/cross/out", (3, 8, 6), 1),
        ("encoder/layers/mlp/wi_0", (3, 6, 8), 2),
        ("encoder/layers/mlp/wi_1", (3, 6, 8), 2),
        ("encoder/layers/mlp/wo", (3, 8, 6), 1),
        ("encoder/relative_bias/embedding", (6, 6), None),
        ("decoder/layers/cross_norm/scale", (3, 6), None),
        ("decoder/norm/scale", (6,), None),
    ],
)
def test_each_weight_is_split_along_one_axis(path: str, shape: tuple[int, ...], split: int | None) -> None:
    """Columns of what reads the residual stream, rows of what writes to it; the other sides do not even divide."""
    found = partition.shardings({path: shape}, partition.make_mesh(2, 4))[path]
    expected = tuple(size // 4 if axis == split else size for axis, size in enumerate(shape))
    assert found.shard_shape(shape) == expected


def test_first_match_wins_and_an_unmatched_weight_is_named() -> None:
    mesh = partition.make_mesh(2, 4)
    rules = ((r"^a", P("model")), (r"^ab", P()))
    assert partition.shardings({"ab": (8,)}, mesh, rules)["ab"].spec == P("model")
    with pytest.raises(UserError, match="No partition rule matches the weight 'decoder/new'"):
        partition.shardings({"decoder/new": (8,)}, mesh, rules)


def test_an_uneven_split_is_refused() -> None:
    with pytest.raises(UserError, match=r"'head' of shape \(6, 4\) cannot be split over mesh.model=4"):
        partition.shardings({"head": (6, 4)}, partition.make_mesh(2, 4))


@pytest.mark.parametrize("shape", [(-1, 3), (3, 1), (4, 4), (-1, 0)])
def test_a_mesh_that_does_not_fit_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(UserError, match=r"does not fit 8 devices"):
        partition.make_mesh(*shape)


def test_one_device_is_the_same_code() -> None:
    assert dict(tiny.one_device().shape) == {"data": 1, "model": 1}


def test_a_batch_is_split_over_data_alone() -> None:
    mesh, batch = partition.make_mesh(4, 2), tiny.batch(3, rows=8)
    for name, placed in partition.place_batch(batch, mesh).items():
        members, rows, *rest = batch[name].shape
        assert placed.sharding.shard_shape(placed.shape) == (members, rows // 4, *rest), name
        np.testing.assert_array_equal(placed, batch[name])
