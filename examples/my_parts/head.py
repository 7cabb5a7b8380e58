"""A decode head of one's own: feature maps in, logits out; scores, probabilities and the loss of pixels are inherited."""

from __future__ import annotations

from collections.abc import Sequence

import jax
from flax import nnx

import rein_jax as rj


@rj.register("head", "two_layers")
class TwoLayers(rj.Head):
    """A multi-layer perceptron at every position of the finest map; `hidden` is an option that configs may set."""

    def __init__(self, backbone: rj.Backbone, num_classes: int, *, adapter: rj.Adapter | None = None, hidden: int = 32, rngs: nnx.Rngs):
        self.num_classes = num_classes
        self.mix = nnx.Linear(backbone.out_channels[0], hidden, rngs=rngs)
        self.classify = nnx.Linear(hidden, num_classes, rngs=rngs)

    def __call__(self, maps: Sequence[jax.Array], queries: jax.Array | None = None, key: jax.Array | None = None) -> dict[str, jax.Array]:
        """maps: [B, h, w, C] each, finest first -> {"logits": [B, h, w, K]}."""
        return {"logits": self.classify(nnx.relu(self.mix(maps[0])))}
