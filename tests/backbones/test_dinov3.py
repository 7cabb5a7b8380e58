"""DINOv3 against outputs of the official code, its rotary positions, and the files that leave biases out.

tests/fixtures/dinov3_tiny: random weights and what facebookresearch/dinov3 at 6876159 gives for them (width 16, 4 blocks, 2 heads,
periods in bfloat16 as in the published files): every block, and gradients of sum(y sin y) over the blocks.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rein_jax import trees
from rein_jax.backbones import dinov3
from rein_jax.backbones.pretrained import load_backbone
from rein_jax.backbones.vit import ViTConfig
from rein_jax.errors import UserError
from rein_jax.layers import rope
from rein_jax.weight_rules import unplace
from tests.filling import Guests, assert_layers, filled

TINY = ViTConfig(16, 4, 2, registers=4, hidden=32)
IMAGES = np.random.default_rng(0).normal(size=(1, 48, 80, 3)).astype(np.float32)


def make(**options):
    return Guests(dinov3.DINOv3(TINY, image_size=64, out_indices=(0, 1, 2, 3), rngs=nnx.Rngs(0), **options))


def tokens(module_def, params, images):
    return trees.merge(module_def, params).backbone.tokens(images)[0]


def test_every_block_and_gradients_equal_the_official_ones(fixture_case):
    arrays, outputs = fixture_case("dinov3_tiny", "weights"), fixture_case("dinov3_tiny", "outputs")
    rules, skip = dinov3.formats(TINY)["official"]
    module_def, params = filled(lambda: make(rope_periods="bfloat16"), arrays, rules, skip)

    def loss(params):
        blocks = tokens(module_def, params, IMAGES)
        return sum((y * jnp.sin(y)).sum() for y in blocks), blocks

    grads, blocks = jax.jit(jax.grad(loss, has_aux=True))(params)
    named, _ = unplace(rules, {name: np.asarray(value) for name, value in grads.items()})
    pairs = [(f"block {i}", block, outputs[f"block{i}"]) for i, block in enumerate(blocks)]
    pairs += [(name, named[name.removeprefix("grad:")], value) for name, value in outputs.items() if name.startswith("grad:")]
    assert len(pairs) == 4 + 16
    assert_layers(pairs)


def test_files_in_timm_names_may_leave_the_biases_out():
    module_def, _, shapes = trees.split(nnx.eval_shape(make), ())
    values = {name: np.full(s.shape, 0.5, np.float32) for name, s in shapes.items()}
    bias = "backbone/blocks/attn/qkv/bias"
    values[bias][:] = 0
    without, _ = unplace(dinov3.formats(TINY)["timm"][0], values)
    values[bias][:, :16] = values[bias][:, 32:] = 0.5
    for file, scheme in ((without, "timm"), (unplace(dinov3.formats(TINY)["timm (qkvb)"][0], values)[0], "timm (qkvb)")):
        loaded, summary = load_backbone(file, "dinov3_vits16", shapes, sizes=TINY)
        assert summary.scheme == scheme
        assert loaded[bias][:, 16:32].sum() == 0 and loaded[bias].sum() == (0 if scheme == "timm" else 4 * 16)
    with pytest.raises(UserError, match="A part of backbone/blocks/attn/qkv/bias is not zero"):
        unplace(dinov3.formats(TINY)["timm"][0], values)


def test_rotation_depends_on_differences_of_positions_alone():
    rng = np.random.default_rng(0)
    cos, sin = rope.axial_tables((6, 6), 16)
    q, k = (np.broadcast_to(rng.normal(size=(1, 1, 1, 16)).astype(np.float32), (1, 38, 1, 16)) for _ in range(2))  # two tokens in front
    q, k = rope.rotate_halves(jnp.asarray(q), cos, sin), rope.rotate_halves(jnp.asarray(k), cos, sin)
    np.testing.assert_allclose(np.linalg.norm(q, axis=-1), np.linalg.norm(q[:, 0]), rtol=1e-5)
    np.testing.assert_array_equal(q[:, 0], q[:, 1])
    products = np.einsum("bnhd,bmhd->nm", q, k)[2:, 2:].reshape(6, 6, 6, 6)
    np.testing.assert_allclose(products[1, 2, 3, 5], products[2, 1, 4, 4], rtol=1e-4)
    assert abs(products[1, 2, 3, 5] - products[1, 2, 2, 5]) > 1e-3
    np.testing.assert_array_equal(rope.axial_tables((3, 5), 16)[0].reshape(3, 5, 4, 4)[:, :, 1::2, :],
                                  rope.axial_tables((5, 3), 16)[0].reshape(5, 3, 4, 4)[:, :, 0::2, :].swapaxes(0, 1))


def test_other_periods_are_refused():
    with pytest.raises(UserError, match="rope_periods is 'float16'; choose one of float32, bfloat16"):
        make(rope_periods="float16")
