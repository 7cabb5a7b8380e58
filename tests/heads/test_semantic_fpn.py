"""Semantic FPN and the linear head against torch twins written from mmseg's definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rein_jax import trees
from rein_jax.errors import UserError
from rein_jax.heads.linear import LinearHead
from rein_jax.heads.semantic_fpn import SemanticFPN

SIZES = {"vit": ((4, 8, 16, 32), (16, 8, 4, 2)), "resnet": ((4, 8, 8, 8), (16, 8, 8, 8))}
WIDTHS = (10, 12, 14, 16)


def _maps(sizes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(2, s, s + s // 2, c)).astype(np.float32) for s, c in zip(sizes, WIDTHS, strict=True)]


def _randomise(module, seed=1):
    """The module with random, non-trivial arrays, and those arrays by name."""
    rng = np.random.default_rng(seed)
    module_def, _, arrays = trees.split(module, ())
    arrays = {n: jnp.asarray(rng.normal(size=a.shape) * 0.3 + (1.0 if n.endswith(("scale", "var")) else 0.0), jnp.float32)
              for n, a in arrays.items()}
    arrays = {n: jnp.abs(a) + 0.1 if n.endswith("var") else a for n, a in arrays.items()}
    return trees.merge(module_def, arrays), {n: np.asarray(a) for n, a in arrays.items()}


def _twin(arrays, maps, strides, norm):
    """mmseg: FPN (lateral 1x1, nearest top-down, 3x3), then FPNHead (conv-norm-ReLU with x2 upsampling, summed at stride 4)."""
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    t = {n: torch.tensor(a) for n, a in arrays.items()}

    def conv(name, x, padding):
        bias = t.get(f"{name}/bias")
        return F.conv2d(x, t[f"{name}/kernel"].permute(3, 2, 0, 1), bias, padding=padding)

    levels = [conv(f"laterals/{i}", torch.tensor(m).permute(0, 3, 1, 2), 0) for i, m in enumerate(maps)]
    for i in (3, 2, 1):
        levels[i - 1] = levels[i - 1] + F.interpolate(levels[i], size=levels[i - 1].shape[2:], mode="nearest")
    levels = [conv(f"smooth/{i}", x, 1) for i, x in enumerate(levels)]
    total = 0
    for i, x in enumerate(levels):
        for j in range(max(1, int(np.log2(strides[i]) - np.log2(strides[0])))):
            name = f"scale_heads/{i}/{j}"
            x = conv(f"{name}/conv", x, 1)
            scale, bias = t[f"{name}/norm/scale"], t[f"{name}/norm/bias"]
            if norm == "batch":
                x = F.batch_norm(x, t[f"{name}/norm/mean"], t[f"{name}/norm/var"], scale, bias, training=False, eps=1e-5)
            else:
                x = F.group_norm(x, 4, scale, bias, eps=1e-5)
            x = F.relu(x)
            if strides[i] != strides[0]:
                x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        total = total + F.interpolate(x, size=levels[0].shape[2:], mode="bilinear", align_corners=False)
    return conv("classify", total, 0).permute(0, 2, 3, 1).numpy()


@pytest.mark.parity
@pytest.mark.parametrize("norm", ["group", "batch"])
@pytest.mark.parametrize("kind", list(SIZES))
def test_equals_mmseg_definition(kind, norm):
    strides, sizes = SIZES[kind]
    head = SemanticFPN(WIDTHS, 7, rngs=nnx.Rngs(0), strides=strides, channels=8, head_channels=12, norm=norm, groups=4)
    head, arrays = _randomise(head)
    maps = _maps(sizes)
    want = _twin(arrays, maps, strides, norm)
    got = np.asarray(jax.jit(lambda *maps: head(maps)["logits"])(*maps))
    assert got.shape == want.shape and np.abs(got - want).max() <= 1e-5 * np.abs(want).max()


def test_stored_statistics_are_never_trained():
    head = nnx.eval_shape(lambda: SemanticFPN(WIDTHS, 3, rngs=nnx.Rngs(0), channels=8, head_channels=8, norm="batch"))
    _, trainable, frozen = trees.split(head, ("",))
    assert frozen and all(name.endswith(("/mean", "/var")) for name in frozen) and not set(trainable) & set(frozen)


def test_dropout_needs_a_key_and_drops_whole_channels():
    head = SemanticFPN(WIDTHS, 3, rngs=nnx.Rngs(0), channels=8, head_channels=8, groups=4, dropout=0.5)
    maps = [jnp.asarray(m) for m in _maps(SIZES["vit"][1])]
    run = jax.jit(lambda key: head(maps, key=key)["logits"])
    plain = run(None)
    assert not np.array_equal(plain, run(jax.random.key(0)))
    dropped = head._drop(jnp.ones((2, 3, 3, 64)), jax.random.key(1))
    assert set(np.unique(dropped)) == {0.0, 2.0} and np.all(np.ptp(np.asarray(dropped), axis=(1, 2)) == 0)


def test_scores_and_probabilities():
    head = SemanticFPN(WIDTHS, 3, rngs=nnx.Rngs(0), channels=8, head_channels=8, groups=4)
    maps = [jnp.asarray(m, jnp.bfloat16) for m in _maps(SIZES["vit"][1])]
    scores = head.scores(head(maps), (33, 40))
    assert scores.shape == (2, 33, 40, 3) and scores.dtype == jnp.float32
    np.testing.assert_allclose(head.probabilities(scores).sum(-1), 1, atol=1e-6)


def test_mistakes_are_named():
    for config in ({"norm": "sync"}, {"strides": (4, 8)}, {"head_channels": 20}):
        with pytest.raises(UserError, match=f"head.{next(iter(config))}"):
            SemanticFPN(WIDTHS, 3, rngs=nnx.Rngs(0), **config)
    with pytest.raises(UserError, match="head.levels"):
        LinearHead(WIDTHS, 3, rngs=nnx.Rngs(0), levels=(4,))


def test_linear_head_is_a_matrix_product():
    head, arrays = _randomise(LinearHead(WIDTHS, 7, rngs=nnx.Rngs(0)))
    maps = _maps(SIZES["vit"][1])
    got = head([jnp.asarray(m) for m in maps])["logits"]
    np.testing.assert_allclose(got, maps[2] @ arrays["classify/kernel"] + arrays["classify/bias"], atol=1e-5)
    several = LinearHead(WIDTHS, 7, rngs=nnx.Rngs(0), levels=(1, 2, -1))
    assert several([jnp.asarray(m) for m in maps])["logits"].shape == (2, 8, 12, 7)
    assert several.scores(several([jnp.asarray(m) for m in maps]), (32, 48)).shape == (2, 32, 48, 7)
