"""What parity tests share: modules filled with the arrays of a torch model, comparison layer by layer, gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from rein_jax import trees
from rein_jax.weights.load import load_into


class Guests(nnx.Module):
    """A backbone with adapters under the names of the whole model."""

    def __init__(self, backbone, adapters=()):
        self.backbone = backbone
        self.adapters = nnx.List(adapters)

    def __call__(self, images):
        return self.backbone(images, tuple(self.adapters))


def filled(make, arrays: dict, rules, skip=()):
    """(module_def, flat parameters) of the module that make() builds, all taken from the arrays by a backbone's own table of names;
    anything left over fails. No initial values are computed."""
    module_def, _, shapes = trees.split(nnx.eval_shape(make), ())
    values, _ = load_into(shapes, arrays, rules, skip)
    return module_def, {name: jnp.asarray(value) for name, value in values.items()}


def torch_arrays(model, prefix: str = "") -> dict[str, np.ndarray]:
    """What `save_pretrained` writes of a transformers model (the published names), without a prefix."""
    import tempfile

    from safetensors.numpy import load_file

    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        arrays = load_file(f"{folder}/model.safetensors")
    return {name.removeprefix(prefix): value for name, value in arrays.items()}


def randomise(model, seed: int = 0, scale: float = 0.5):
    """Random, non-trivial values for every parameter and buffer of a torch model, in evaluation mode."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if not value.is_floating_point():
                continue
            noise = torch.randn(value.shape, generator=generator)
            if name.endswith("running_var"):
                value.copy_(1 + 0.3 * noise.abs())
            elif value.ndim == 1:
                one = name.endswith("weight") or "lambda" in name or "layer_scale" in name
                value.copy_((1.0 if one else 0.0) + 0.2 * noise)
            else:
                fan_in = value[0].numel() if value.ndim in (2, 4) else 4
                value.copy_(scale * noise * fan_in**-0.5 * 2)
    return model.eval()


def relative_error(ours, theirs) -> float:
    """Largest difference over the largest value."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape, f"shapes {ours.shape} and {theirs.shape}"
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def assert_layers(pairs, tolerance: float = 1e-5) -> float:
    """Compares (name, ours, theirs) in order and names the first that differs; returns the largest error."""
    worst = 0.0
    for name, ours, theirs in pairs:
        error = relative_error(ours, theirs)
        assert error < tolerance, f"the first wrong layer is {name}: relative error {error:.2e} (allowed {tolerance:.0e})"
        worst = max(worst, error)
    print(f"largest relative error {worst:.1e}")
    return worst


def gradients(module_def, params, images, cotangents, queries=None):
    """d(sum of cotangent x output) / d(adapters/...) of a Guests module."""
    mine = {n: a for n, a in params.items() if n.startswith("adapters/")}
    rest = {n: a for n, a in params.items() if n not in mine}

    def loss(mine):
        model = trees.merge(module_def, mine, rest)
        total = sum((m * c).sum() for m, c in zip(model(images), cotangents, strict=True))
        if queries is not None:
            total = total + (model.adapters[0].queries() * queries).sum()
        return total

    return jax.jit(jax.grad(loss))(mine)
