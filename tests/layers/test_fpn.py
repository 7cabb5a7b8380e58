"""Learned rescaling of Rein-CLIP and the batch norm it holds, against torch through the official names."""

import jax
import numpy as np
import pytest
from flax import nnx

from rein_jax import trees
from rein_jax.layers.fpn import FeaturePyramid, rules
from tests.filling import assert_layers, filled, randomise

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity


def test_four_maps_equal_torch():
    nn, d = torch.nn, 6

    class Official(nn.Module):
        def __init__(self):
            super().__init__()
            norm, double = lambda: nn.GroupNorm(1, d), lambda: nn.ConvTranspose2d(d, d, 2, 2)
            self.fpn1 = nn.Sequential(norm(), double(), nn.BatchNorm2d(d), nn.GELU(), double())
            self.fpn2 = nn.Sequential(norm(), double())
            self.fpn3 = norm()
            self.fpn4 = nn.Sequential(norm(), nn.MaxPool2d(2, 2))

    model = randomise(Official())
    arrays = {name: value.numpy() for name, value in model.state_dict().items()}
    module_def, params = filled(lambda: FeaturePyramid(d, rngs=nnx.Rngs(0)), arrays, rules("", ""), (r".*num_batches_tracked",))
    maps = [np.random.default_rng(i).normal(size=(2, 4, 6, d)).astype(np.float32) for i in range(4)]
    ours = jax.jit(lambda p, m: trees.merge(module_def, p)(m))(params, maps)
    with torch.no_grad():
        parts = (model.fpn1, model.fpn2, model.fpn3, model.fpn4)
        theirs = [part(torch.from_numpy(m.transpose(0, 3, 1, 2).copy())) for part, m in zip(parts, maps, strict=True)]
    assert_layers((f"map {i}", y, t.numpy().transpose(0, 2, 3, 1)) for i, (y, t) in enumerate(zip(ours, theirs, strict=True)))
