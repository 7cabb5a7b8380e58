"""weights/rules.py: layouts against torch's layers, and tables read in both directions."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rein_jax.errors import UserError
from rein_jax.weight_rules import LAYOUTS, Rule, place, prefixed, unplace

RNG = np.random.default_rng(0)
TABLE = (
    Rule("cls_token", "backbone/cls_token"),
    Rule("blocks.{layer}.attn.q.weight", "backbone/blocks/attn/qkv/kernel", "linear", part=(0, 3)),
    Rule("blocks.{layer}.attn.k.weight", "backbone/blocks/attn/qkv/kernel", "linear", part=(1, 3)),
    Rule("blocks.{layer}.attn.v.weight", "backbone/blocks/attn/qkv/kernel", "linear", part=(2, 3)),
    Rule("", "backbone/blocks/attn/qkv/bias", "zeros", part=(1, 3)),
    Rule("convs.{i}.weight", "backbone/convs/{i}/kernel", "conv"),
    Rule("rel.7", "backbone/rel", index=1),
    Rule("rel.3", "backbone/rel", index=0),
)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_invert(layout):
    rank = {"conv": 4, "conv_transpose": 4, "linear": 2}.get(layout, 3)
    shape = {"conv1x1": (5, 4, 1, 1), "squeeze": (1, 3, 4), "squeeze2": (1, 1, 3)}.get(layout, (2, 3, 4, 5)[:rank])
    w = RNG.standard_normal(shape)
    forward, backward = LAYOUTS[layout]
    np.testing.assert_array_equal(backward(forward(w)), w)


def test_both_directions():
    arrays = {
        "backbone/cls_token": RNG.standard_normal((1, 1, 4)),
        "backbone/blocks/attn/qkv/kernel": RNG.standard_normal((3, 4, 12)),
        "backbone/convs/0/kernel": RNG.standard_normal((2, 2, 3, 5)),
        "backbone/rel": RNG.standard_normal((2, 4)),
    }
    out, uncovered = unplace(TABLE, arrays)
    assert not uncovered and len(out) == 1 + 9 + 1 + 2
    np.testing.assert_array_equal(out["blocks.2.attn.k.weight"], arrays["backbone/blocks/attn/qkv/kernel"][2, :, 4:8].T)
    np.testing.assert_array_equal(out["rel.7"], arrays["backbone/rel"][1])
    assert out["convs.0.weight"].shape == (5, 3, 2, 2)
    placements, others = place(TABLE, [*out, "blocks.x.attn.q.weight", "head.weight"])
    assert others == ["blocks.x.attn.q.weight", "head.weight"]
    placed = {p.source: (p.target, p.index) for p in placements}
    assert placed["blocks.2.attn.v.weight"] == ("backbone/blocks/attn/qkv/kernel", 2)
    assert placed["rel.3"] == ("backbone/rel", 0) and placed["convs.0.weight"] == ("backbone/convs/0/kernel", None)


def test_what_a_format_does_not_store_must_be_zero():
    bias = np.zeros((3, 12))
    assert not unplace(TABLE, {"backbone/blocks/attn/qkv/bias": bias})[0]
    bias[1, 5] = 1e-3
    with pytest.raises(UserError, match="backbone/blocks/attn/qkv/bias is not zero"):
        unplace(TABLE, {"backbone/blocks/attn/qkv/bias": bias})


def test_the_first_of_several_spellings_is_written():
    table = (Rule("q_bias", "b", part=(0, 2)), Rule("q.bias", "b", part=(0, 2)), Rule("k.bias", "b", part=(1, 2)))
    assert set(unplace(table, {"b": np.arange(4)})[0]) == {"q_bias", "k.bias"}


def test_uncovered_and_prefixed():
    table = prefixed(TABLE, source="model.")
    assert place(table, ["model.cls_token"])[0][0].target == "backbone/cls_token"
    assert unplace(table, {"head/kernel": np.zeros(2)})[1] == ["head/kernel"]


def test_bad_rules():
    with pytest.raises(ValueError, match="unknown layout"):
        Rule("a", "b", "transpose")
    with pytest.raises(ValueError, match="holes"):
        Rule("a.{i}", "b")


@pytest.mark.parity
def test_convolution_layouts_equal_torch():
    torch = pytest.importorskip("torch")
    x = RNG.standard_normal((1, 6, 5, 4)).astype(np.float32)
    inputs = torch.from_numpy(x).permute(0, 3, 1, 2)
    for name, theirs, ours in [
        ("conv", torch.nn.Conv2d(4, 8, 3, groups=2, bias=False),
         nnx.Conv(4, 8, (3, 3), padding="VALID", feature_group_count=2, use_bias=False, rngs=nnx.Rngs(0))),
        ("conv_transpose", torch.nn.ConvTranspose2d(4, 3, 2, stride=2, bias=False),
         nnx.ConvTranspose(4, 3, (2, 2), strides=(2, 2), padding="VALID", use_bias=False, rngs=nnx.Rngs(0))),
        ("conv_transpose", torch.nn.ConvTranspose2d(4, 3, 3, stride=2, bias=False),
         nnx.ConvTranspose(4, 3, (3, 3), strides=(2, 2), padding="VALID", use_bias=False, rngs=nnx.Rngs(0))),
    ]:
        kernel = LAYOUTS[name][0](theirs.weight.detach().numpy())
        assert kernel.shape == ours.kernel.shape
        ours.kernel[...] = jnp.asarray(kernel)
        want = theirs(inputs).permute(0, 2, 3, 1).detach().numpy()
        np.testing.assert_allclose(ours(jnp.asarray(x)), want, atol=1e-5)
