"""MultiLevelNeck against its original order: convolution, resize, convolution."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from flax import nnx

from rein_jax import trees
from rein_jax.backbones.pyramid import SCALES, pyramid
from rein_jax.interop.rein import official_rules
from rein_jax.layers.fpn import MultiLevelNeck
from rein_jax.weight_rules import unplace

WIDTH = 6


@pytest.fixture(scope="module")
def neck():
    module_def, _, leaves = trees.split(MultiLevelNeck((WIDTH,) * 4, rngs=nnx.Rngs(0)), ())
    rng = np.random.default_rng(0)
    return module_def, {name: np.asarray(a) + 0.1 * rng.standard_normal(a.shape).astype("f4") for name, a in leaves.items()}


@pytest.mark.parity
def test_resizing_before_the_first_convolution_is_the_same_function(neck):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    module_def, leaves = neck
    maps = np.random.default_rng(1).standard_normal((4, 2, 6, 8, WIDTH)).astype("f4")
    ours = jax.jit(lambda p, x: trees.merge(module_def, p)(pyramid(list(x))))(leaves, maps)
    take = lambda name: torch.tensor(leaves[name])
    for i, scale in enumerate(SCALES):
        x = torch.tensor(maps[i]).permute(0, 3, 1, 2)
        x = functional.conv2d(x, take(f"laterals/{i}/kernel").permute(3, 2, 0, 1), take(f"laterals/{i}/bias"))
        x = functional.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)
        x = functional.conv2d(x, take(f"convs/{i}/kernel").permute(3, 2, 0, 1), take(f"convs/{i}/bias"), padding=1)
        np.testing.assert_allclose(ours[i], x.permute(0, 2, 3, 1).numpy(), atol=2e-5)


def test_official_names(neck):
    arrays = {f"head/neck/{name}": array for name, array in neck[1].items()}
    out, uncovered = unplace(official_rules(arrays), arrays)
    assert not uncovered and out["neck.lateral_convs.2.conv.weight"].shape == (WIDTH, WIDTH, 1, 1)
    assert sorted(out) == sorted(f"neck.{part}.{i}.conv.{leaf}" for part in ("convs", "lateral_convs") for i in range(4)
                                 for leaf in ("weight", "bias"))  # fmt: skip
