"""layers/resize.py against torch's F.interpolate and against the official DINOv2 conversion."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rein_jax.layers import resize

SIZES = [((5, 7), (5, 7)), ((8, 8), (32, 32)), ((8, 6), (4, 3)), ((9, 7), (4, 3)), ((12, 10), (3, 5)), ((5, 7), (13, 4)),
         ((6, 4), (9, 10)), ((1, 3), (4, 1)), ((37, 37), (32, 32)), ((300, 4), (411, 8)), ((16, 8), (1, 1)), ((7, 5), (112, 80))]


@pytest.mark.parity
@pytest.mark.parametrize("kind", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize(("old", "new"), SIZES)
def test_equals_torch(kind, old, new):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).standard_normal((2, *old, 3)).astype(np.float32)
    mode = {} if kind == "nearest" else {"align_corners": False}
    source = torch.from_numpy(x).permute(0, 3, 1, 2).requires_grad_(kind != "nearest")
    want = torch.nn.functional.interpolate(source, size=new, mode=kind, **mode)
    expected = want.permute(0, 2, 3, 1).detach().numpy()
    cotangent = np.random.default_rng(1).standard_normal(expected.shape).astype(np.float32)

    @jax.jit
    def value_and_gradient(x):
        value, pull = jax.vjp(lambda x: resize.resize(x, new, kind), x)
        return value, pull(jnp.asarray(cotangent))[0]

    got, gradient = value_and_gradient(x)
    np.testing.assert_allclose(got, expected, atol=1e-5, rtol=0)
    np.testing.assert_allclose(resize.resize_numpy(x, new, kind), expected, atol=1e-5, rtol=0)
    if kind == "nearest":
        return
    want.backward(torch.from_numpy(cotangent).permute(0, 3, 1, 2))
    expected = source.grad.permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(gradient, expected, atol=1e-5 * np.abs(expected).max(), rtol=0)


@pytest.mark.parity
@pytest.mark.parametrize("factor", [0.25, 0.5, 1.0, 2.0, 4.0, 1.7])
@pytest.mark.parametrize("size", [(8, 10), (9, 7), (33, 5)])
def test_scale_factor_equals_torch(factor, size):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).standard_normal((1, *size, 2)).astype(np.float32)
    want = torch.nn.functional.interpolate(
        torch.from_numpy(x).permute(0, 3, 1, 2), scale_factor=factor, mode="bilinear", align_corners=False)
    got = resize.bilinear_by(jnp.asarray(x), factor)
    np.testing.assert_allclose(got, want.permute(0, 2, 3, 1).numpy(), atol=1e-5, rtol=0)


@pytest.mark.parity
@pytest.mark.parametrize("size", [(32, 32), (20, 45)])
def test_position_embedding_with_offset_equals_torch(size):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).standard_normal((1, 37, 37, 4)).astype(np.float32)
    factors = resize.offset_factors((37, 37), size, 0.1)
    want = torch.nn.functional.interpolate(torch.from_numpy(x).permute(0, 3, 1, 2), scale_factor=factors, mode="bicubic")
    np.testing.assert_allclose(
        resize.resize_numpy(x, size, "bicubic", factors=factors), want.permute(0, 2, 3, 1).numpy(), atol=1e-5, rtol=0)
    np.testing.assert_allclose(
        resize.bicubic(jnp.asarray(x), size, factors=factors), want.permute(0, 2, 3, 1).numpy(), atol=1e-5, rtol=0)


def test_keeps_bfloat16_and_other_axes():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 3, 8, 8)), jnp.bfloat16)
    y = resize.bilinear(x, (16, 12), axes=(2, 3))
    assert y.dtype == jnp.bfloat16 and y.shape == (2, 3, 16, 12)
    exact = resize.bilinear(x.astype(jnp.float32), (16, 12), axes=(-2, -1)).astype(jnp.bfloat16)
    np.testing.assert_array_equal(np.asarray(y, np.float32), np.asarray(exact, np.float32))


def test_unknown_kind():
    with pytest.raises(ValueError, match="unknown interpolation"):
        resize.resize(jnp.zeros((1, 2, 2, 1)), (3, 3), "cubic")
