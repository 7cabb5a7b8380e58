"""The predictor of `rein evaluate`, answering with more than the decision: confidence, entropy and probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rein_jax import trees
from rein_jax.errors import UserError
from rein_jax.evaluation import device
from rein_jax.evaluation.windows import Predictor

KINDS = ("confidence", "entropy", "probabilities")  # those that are also written to files
SCORES = "scores"


class Maps(NamedTuple):
    """What is known about one image at its own size; maps that were not asked for are None.

    labels: uint8 [H, W]. confidence: probability of the decided class, in 1/255. entropy: of the distribution, as a share of
    the largest possible (uniform), in 1/255; both uint8 [H, W]. probabilities: float16 [H, W, K]. scores: float32 [H, W, K], the larger the
    likelier; of several views the mean of their probabilities.
    """

    tag: Any
    labels: np.ndarray
    confidence: np.ndarray | None = None
    entropy: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    scores: np.ndarray | None = None


class MapPredictor(Predictor):
    """`Predictor` whose `stream` yields `Maps` with the kinds asked for; options as there."""

    def __init__(self, module_def, params: Mapping[str, Any], *, kinds: Iterable[str] = (), **options: Any):
        super().__init__(module_def, params, **options)
        self.kinds = tuple(kinds)
        unknown = set(self.kinds) - {*KINDS, SCORES}
        if unknown:
            raise UserError(f"Unknown map {sorted(unknown)[0]!r}; there are {', '.join((*KINDS, SCORES))}.")

    def _finish(self, job: Any, same: bool, plans: Any) -> Any:
        if not self.kinds:
            return super()._finish(job, same, plans)
        params = device.on(self.params, self.devices[job.device])
        return finish(self.module_def, self.kinds, same, params, [view.canvas for view in job.views], plans)

    def _answer(self, job: Any) -> Maps:
        if not self.kinds:
            return Maps(job.query.tag, super()._answer(job).labels)
        height, width = job.query.size
        labels, maps = job.result
        return Maps(job.query.tag, np.asarray(labels)[:height, :width],
                    **{kind: np.asarray(array)[:height, :width] for kind, array in maps.items()})


@partial(jax.jit, static_argnums=(0, 1, 2))
def finish(module_def, kinds: tuple[str, ...], same: bool, params, canvases, plans):
    """As `device.finish`, with the maps of `kinds`: (labels uint8 [H, W], {kind: array})."""
    device.TRACES["finish"] += 1
    views = device.views(canvases, plans, same)
    model = trees.merge(module_def, params)
    probabilities = sum(model.probabilities(view) for view in views) / len(views)
    labels = jnp.argmax(probabilities if len(views) > 1 else views[0], axis=-1).astype(jnp.uint8)
    made = {"confidence": lambda: _byte(probabilities.max(-1)),
            "entropy": lambda: _byte(_entropy(probabilities)),
            "probabilities": lambda: probabilities.astype(jnp.float16),
            SCORES: lambda: views[0] if len(views) == 1 else probabilities}
    return labels, {kind: made[kind]() for kind in kinds}


def _entropy(p):
    """Shannon entropy over the last axis as a share of log K."""
    return -jnp.sum(jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1)), 0), axis=-1) / np.log(max(p.shape[-1], 2))


def _byte(share):
    return jnp.clip(jnp.round(share * 255), 0, 255).astype(jnp.uint8)
