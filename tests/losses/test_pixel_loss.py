"""Pixel loss against torch's numbers and at its edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rein_jax.errors import UserError
from rein_jax.losses.pixel_loss import PixelLoss


def _case(seed=0, classes=5):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(2, 6, 5, classes)).astype(np.float32)
    label = rng.integers(0, classes, (2, 24, 20)).astype(np.uint8)
    label[:, :7] = 255
    return logits, label


@pytest.mark.parity
@pytest.mark.parametrize("average", ["all", "valid"])
def test_equals_torch(average):
    torch = pytest.importorskip("torch")
    logits, label = _case()
    t = torch.tensor(logits.transpose(0, 3, 1, 2), requires_grad=True)
    up = torch.nn.functional.interpolate(t, size=(24, 20), mode="bilinear", align_corners=False)
    target = torch.tensor(label.astype(np.int64))
    want = torch.nn.functional.cross_entropy(up, target, ignore_index=255, reduction="none")
    want = want.mean() if average == "all" else want.sum() / (target != 255).sum()
    want.backward()

    loss = PixelLoss(5, average=average)
    got, grad = jax.value_and_grad(lambda x: loss({"logits": x}, jnp.asarray(label), None)[0])(jnp.asarray(logits))
    assert got == pytest.approx(want.item(), rel=1e-6)
    expected = t.grad.numpy().transpose(0, 2, 3, 1)
    assert np.abs(grad - expected).max() <= 5e-6 * np.abs(expected).max()


@pytest.mark.parametrize("average", ["all", "valid"])
def test_nothing_labelled_is_zero_with_zero_gradient(average):
    logits, label = _case()
    loss = PixelLoss(5, average=average)
    value, grad = jax.value_and_grad(lambda x: loss({"logits": x}, jnp.full(label.shape, 255), None)[0])(jnp.asarray(logits))
    assert value == 0 and np.all(np.asarray(grad) == 0)


def test_huge_logits_are_finite():
    logits, label = _case()
    value, terms = PixelLoss(5)({"logits": jnp.sign(logits) * 1e4}, jnp.asarray(label), None)
    assert np.isfinite(value) and terms["loss_ce"] == value


def test_half_precision_logits_give_a_float32_loss():
    logits, label = _case()
    assert PixelLoss(5)({"logits": jnp.asarray(logits, jnp.bfloat16)}, jnp.asarray(label), None)[0].dtype == jnp.float32


def test_unknown_average_is_refused():
    with pytest.raises(UserError, match="loss.average"):
        PixelLoss(5, average="mean")
