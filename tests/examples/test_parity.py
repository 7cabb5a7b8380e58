"""The stock loop (nnx.Optimizer, nnx.jit) and the compiled fast path compute the same training, and hold no more than what trains."""

import itertools

import jax
import numpy as np
import optax
import pytest
from flax import nnx

import rein_jax as rj
from rein_jax import trees
from rein_jax.precision import policy
from rein_jax.sharding import make_mesh, place_batch
from rein_jax.training.state import place_run
from rein_jax.training.step import make_step

TRAINABLE = rj.trainable("adapter", "head")
SEED = 3


def make_model(head: str) -> rj.Segmenter:
    backbone = rj.DINOv2(rj.backbones.ViTConfig(embed_dim=24, depth=4, num_heads=2), image_size=64)
    adapter = rj.Rein(backbone, num_tokens=20, rank=2, query_dims=16)
    if head == "linear":
        return rj.Segmenter(backbone, rj.LinearHead(backbone, num_classes=19), adapter=adapter)
    decoder = rj.Mask2Former(backbone, num_classes=19, adapter=adapter, channels=16, groups=4, heads=2, encoder_layers=1, decoder_layers=1,
                             encoder_ffn=16, decoder_ffn=16)  # fmt: skip
    return rj.Segmenter(backbone, decoder, adapter=adapter, loss=rj.MaskLoss(19, points=64))


def streets(count: int) -> list[dict]:
    with rj.data.loader(rj.data.open("streets", length=16, size=(64, 128)), crop=64, batch_size=2, seed=SEED, resize="none",
                        threads=2) as batches:  # fmt: skip
        return list(itertools.islice(batches, count))


@nnx.jit
def stock_step(model, optimizer, batch, key):
    (loss, _), grads = nnx.value_and_grad(rj.loss, argnums=nnx.DiffState(0, TRAINABLE), has_aux=True)(model, batch, key)
    optimizer.update(model, grads)
    return loss, grads


def stock_losses(model: rj.Segmenter, optimizer: nnx.Optimizer, batches: list[dict]) -> list[float]:
    """With the keys of the trainer: of each step's two, the second is the loss's."""
    keys = [jax.random.split(jax.random.fold_in(jax.random.key(SEED), number))[1] for number in range(len(batches))]
    return [float(stock_step(model, optimizer, batch, key)[0]) for batch, key in zip(batches, keys, strict=True)]


def fast_losses(model: rj.Segmenter, tx: optax.GradientTransformation, batches: list[dict]) -> list[float]:
    module_def, *parts = trees.split(model, TRAINABLE.patterns)
    trainable, frozen = ({name: np.asarray(array) for name, array in part.items()} for part in parts)
    mesh, fp32 = make_mesh(), policy("fp32")
    sharded = place_run(trainable, frozen, tx, fp32, mesh, "dp", False, wishes=module_def.wishes)
    step, state = make_step(module_def, tx, fp32, mesh, sharded.shardings), sharded.state
    losses, key = [], jax.random.key_data(jax.random.key(SEED))
    for batch in batches:
        state, metrics = step(state, sharded.frozen, place_batch(batch, mesh), key)
        losses.append(float(metrics["loss"]))
    return losses


@pytest.mark.parametrize("head, steps", [("linear", 21), pytest.param("mask2former", 4, marks=pytest.mark.slow)])
def test_stock_loop_gives_the_losses_of_the_fast_path(head, steps):
    model, tx, batches = make_model(head), optax.adamw(3e-3, weight_decay=0.05), streets(steps)
    fast = fast_losses(model, tx, batches)
    stock = stock_losses(model, nnx.Optimizer(model, tx, wrt=TRAINABLE), batches)
    np.testing.assert_allclose(stock[:4], fast[:4], rtol=1e-6)
    np.testing.assert_allclose(stock[-1], fast[-1], rtol=1e-4)
    assert stock[-1] < 0.95 * stock[0]


def test_gradients_and_moments_exist_for_what_trains_alone():
    model = make_model("linear")
    optimizer = nnx.Optimizer(model, optax.adamw(1e-3), wrt=TRAINABLE)
    frozen = jax.tree.map(np.asarray, nnx.state(model.backbone))
    trained, everything = bytes_of(nnx.state(model, TRAINABLE)), bytes_of(nnx.state(model))
    _, grads = stock_step(model, optimizer, streets(1)[0], jax.random.key(0))
    assert 0 < trained < everything / 2
    assert bytes_of(nnx.state(grads) if isinstance(grads, nnx.Module) else grads) == trained
    counters = 2 * 4  # optax's and the optimizer's own number of steps
    assert bytes_of(nnx.state(optimizer)) == 2 * trained + counters
    jax.tree.map(np.testing.assert_array_equal, frozen, nnx.state(model.backbone))


def bytes_of(tree) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
