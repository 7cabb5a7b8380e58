"""The small official head of the fixtures: our module with its weights, its inputs, and its random draws in our order."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from flax import nnx

from rein_jax import trees
from rein_jax.heads.mask2former import RULES, Mask2Former
from rein_jax.losses.mask_loss import Draws
from rein_jax.weights.load import load_into

CLASSES = 19
SMALL = dict(channels=64, encoder_layers=2, encoder_ffn=128, decoder_ffn=128)


class Holder(nnx.Module):
    """Puts a head under the names of the whole model."""

    def __init__(self, head: nnx.Module):
        self.head = head


def small_head(query_source: str = "linked", **changes) -> Mask2Former:
    return Mask2Former((96,) * 4, CLASSES, rngs=nnx.Rngs(0), num_queries=20, query_source=query_source, **{**SMALL, **changes})


def filled(make, arrays: dict, rules) -> tuple[trees.ModuleDef, dict]:
    """(module_def, parameters) of the module that `make` builds, strictly filled with official arrays; nothing is initialised."""
    module_def, _, shapes = trees.split(nnx.eval_shape(make), ())
    return module_def, {name: jnp.asarray(value) for name, value in load_into(shapes, arrays, rules)[0].items()}


def loaded(weights: dict, query_source: str = "linked", **changes):
    """(module_def, parameters) of a Holder of the small head with the official arrays."""
    arrays = {f"decode_head.{name}": array for name, array in weights.items()}
    return filled(lambda: Holder(small_head(query_source, **changes)), arrays, RULES)


def maps_of(inputs: dict) -> list:
    return [jnp.asarray(inputs[f"feat{i}"].transpose(0, 2, 3, 1)) for i in range(4)]


def truths(label: np.ndarray) -> list[int]:
    """Number of classes in each label map."""
    return [len(np.setdiff1d(np.unique(one), [255])) for one in label]


def official_draws(random: np.random.RandomState, counts: list[int], points: int, predictions: int = 10) -> Draws:
    """The official head's calls of `torch.rand`, replayed and put where our loss looks for them."""
    batch, total, fresh = len(counts), sum(counts), points - int(0.75 * points)
    draws = Draws(*(np.zeros((predictions, batch, *shape, 2), np.float32)
                    for shape in ((points,), (CLASSES, 3 * points), (CLASSES, fresh))))
    ends = np.cumsum(counts)[:-1]
    for p in range(predictions):
        for b in range(batch):
            draws.match[p, b] = random.random_sample((1, points, 2))[0]
        if not total:
            continue
        for target, n in ((draws.candidates, 3 * points), (draws.fresh, fresh)):
            for b, part in enumerate(np.split(random.random_sample((total, n, 2)), ends)):
                target[p, b, : counts[b]] = part
    return Draws(*map(jnp.asarray, draws))


def error(got, want) -> float:
    """Largest difference, as a share of the largest expected value."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, f"{got.shape} is not {want.shape}"
    return float(np.abs(got - want).max() / np.abs(want).max())


def sampled(array) -> np.ndarray:
    """The elements of an array that the fixtures hold (gradients and updated weights): some, in order."""
    step = 2
    if array.size > 1024:
        step = 64
    return np.asarray(array).reshape(-1)[::step]
