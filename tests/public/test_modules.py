"""Every part by itself: eagerly, under jax.jit and nnx.jit, without hooks, and Rein in another network's loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import rein_jax as rj
from rein_jax.layers.stack import layer
from tests.backbones.test_families import TINY

BLOCKS = {
    "dinov2": lambda b: b.block(1), "dinov2 gated": lambda b: b.block(0), "dinov3": lambda b: b.block(3), "eva02": lambda b: b.block(2),
    "clip": lambda b: b.block(0), "mae": lambda b: b.block(0), "sam": lambda b: layer(b.runs[0], 0),
    "resnet": lambda b: layer(b.layers[1].rest, 0), "convnext": lambda b: layer(b.blocks[2], 1),
}  # fmt: skip


def same(function, module, *inputs, plain=False):
    """The module's result, which is the same eagerly and under nnx.jit (plain: and jax.jit)."""
    eager = function(module, *inputs)
    graph, state = nnx.split(module)
    ways = [lambda: nnx.jit(function)(module, *inputs), lambda: jax.jit(lambda s, *x: function(nnx.merge(graph, s), *x))(state, *inputs)]
    for compiled in ways[: 1 + plain]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5), eager, compiled())
    return eager


@pytest.mark.parametrize("family", BLOCKS)
def test_a_block_is_called_without_hooks(family):
    block = BLOCKS[family](TINY[family](nnx.Rngs(0)))
    width = 16
    x = jax.random.normal(jax.random.key(0), (2, 16, width))
    y = same(lambda m, x: m(x), block, x, plain=family == "dinov2")
    assert y.shape == x.shape and np.isfinite(y).all() and np.abs(y - x).max() > 0
    np.testing.assert_array_equal(block(x, None), y)


@pytest.mark.parametrize("make", [
    lambda: rj.LinearHead(in_channels=(8,) * 4, num_classes=3),
    lambda: rj.SemanticFPN(in_channels=(8,) * 4, num_classes=3, channels=8, head_channels=8, groups=4),
    lambda: rj.Mask2Former(in_channels=(8,) * 4, num_classes=3, num_queries=5, channels=8, groups=4, heads=2, encoder_ffn=8, decoder_ffn=8,
                           encoder_layers=1, decoder_layers=1),
])  # fmt: skip
def test_a_head_and_its_loss_alone(make):
    head = make()
    maps = [jax.random.normal(jax.random.key(i), (1, side, side, 8)) for i, side in enumerate((16, 8, 4, 2))]
    labels = jnp.asarray(np.random.default_rng(0).integers(0, 3, (1, 64, 64)))
    loss = rj.MaskLoss(3, points=32) if head.loss_name == "mask" else rj.PixelLoss(3)

    def total(head, maps):
        return loss(head(maps), labels, key=jax.random.key(1))[0]

    compiled = nnx.jit(total)(head, maps)
    assert np.isfinite(compiled)
    if head.loss_name == "pixel":  # op by op Mask2Former takes half a minute; examples/head_and_loss.py trains it alone
        np.testing.assert_allclose(same(total, head, maps), compiled, rtol=1e-6)


@pytest.mark.parametrize("blocks", [None, (1, 3)])
def test_rein_in_a_loop_of_ones_own_is_rein_in_the_backbone(blocks):
    backbone = TINY["dinov2"](nnx.Rngs(0), out_indices=(0, 1, 2, 3))
    rein = rj.Rein(embed_dim=16, depth=4, num_prefix_tokens=1, num_tokens=5, rank=2, scale_init=0.5, blocks=blocks, rngs=nnx.Rngs(1))
    images = jax.random.normal(jax.random.key(2), (1, 64, 64, 3))

    def by_hand(rein, images):
        x, _ = backbone.embed(images)
        for i in range(4):
            x = rein(backbone.block(i)(x), layer=i)
        return x

    outputs, _ = backbone.tokens(images, (rein,))
    np.testing.assert_allclose(nnx.jit(by_hand)(rein, images), outputs[-1], rtol=1e-5, atol=1e-5)
    assert np.abs(np.asarray(backbone.tokens(images)[0][-1]) - outputs[-1]).max() > 1e-3
    grads = nnx.jit(nnx.grad(lambda rein: (by_hand(rein, images) ** 2).sum()))(rein)
    assert np.abs(grads["layers"]["tokens_a"][...]).max() > 0


def test_rein_takes_a_traced_layer():
    rein = rj.Rein(embed_dim=8, depth=3, num_tokens=4, rank=2, scale_init=0.5)
    x = jax.random.normal(jax.random.key(0), (1, 5, 8))
    scanned, _ = jax.lax.scan(lambda x, i: (rein(x, layer=i), None), x, jnp.arange(3))
    for i in range(3):
        x = rein(x, layer=i)
    np.testing.assert_allclose(scanned, x, rtol=1e-5, atol=1e-6)


def test_adapters_that_act_inside_blocks_say_so():
    backbone = TINY["dinov2"](nnx.Rngs(0))
    x = jnp.zeros((1, 5, 16))
    with pytest.raises(rj.UserError, match=r"LoRA does not act between blocks alone but by on_linear; .*adapter\.at\(layer\)"):
        rj.LoRA(backbone)(x, layer=0)
    lora = rj.LoRA(backbone, rank=2)
    lora.layers.qkv_b[...] += 1.0
    linear = backbone.block(1).attn.qkv
    y = linear(x + 1)
    assert np.abs(lora.on_linear(lora.at(1), "qkv", x + 1, y) - y).max() > 0


def test_one_of_ones_own_needs_one_method():
    class Scale(rj.Adapter):
        """One learned factor a block."""

        def __init__(self, backbone, *, rngs=None):
            super().__init__(backbone)
            self.factor = nnx.Param(jnp.ones(()))

        def post_block(self, context, x):
            return x * self.factor[...]

    backbone = TINY["dinov2"](nnx.Rngs(0))
    adapter = Scale(backbone)
    adapter.factor[...] = jnp.asarray(2.0)
    images = jnp.ones((1, 64, 64, 3))
    assert adapter.spec.depth == 4 and np.abs(np.asarray(backbone(images, adapter)[0]) - backbone(images)[0]).max() > 0
    np.testing.assert_array_equal(adapter(jnp.ones((1, 2, 16)), layer=3), np.full((1, 2, 16), 2.0))
    assert len(Scale(TINY["convnext"](nnx.Rngs(0))).stages) == 4
