"""What every backbone has in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from flax import nnx

from rein_jax.adapters.base import BlockSpec
from rein_jax.layers.component import Component

if TYPE_CHECKING:
    from typing import Self

    from rein_jax.backbones.pretrained import Origin


class Backbone(Component):
    """A foundation model that gives four feature maps: `backbone(images, adapters=(), key=None)`, finest first, [B, h, w, C] each.

    Attributes: patch: image sides must be multiples of it; out_channels and strides of the four maps; block_specs: the runs of blocks that
    adapters may serve; origin: where its values are from, None for random ones.

    Example:
        backbone = rj.DINOv2.from_pretrained("dinov2_vitl14", image_size=512)
        maps = backbone(images)                                    # float [B, H, W, 3], normalised
    """

    family: ClassVar[str] = ""
    VARIANTS: ClassVar[Mapping[str, Any]] = {}
    origin: Origin | None = None
    patch: int
    out_channels: tuple[int, ...]
    strides: tuple[int, ...] = (4, 8, 16, 32)
    block_specs: tuple[BlockSpec, ...] = ()

    @classmethod
    def from_pretrained(cls, variant: str | Path, *, weights: str | Path | None = "auto", rngs: nnx.Rngs | None = None,
                        **options: Any) -> Self:
        """A backbone with pretrained weights.

        Args:
            variant: "dinov2_vitl14" or "vitl14"; or a file of weights, whose variant is told from its arrays.
            weights: "auto" for the published file of this name (from the cache, or downloaded); a file in any naming scheme known here
                (official, timm, Hugging Face, mmseg); None for random values.
            rngs: for what no file holds, and for random values (default: nnx.Rngs(0)).
            **options: of the class, such as image_size, the side in pixels (or height, width) that positions are stored for.

        Raises:
            UserError: an unknown variant, a file that does not fit, or weights that cannot be had.

        Example:
            backbone = rj.DINOv2.from_pretrained("dinov2_vits14", image_size=512)
        """
        from rein_jax.backbones.pretrained import from_pretrained

        return from_pretrained(cls, variant, weights, rngs, options)

    def num_params(self) -> int:
        """Number of parameters."""
        from rein_jax import trees

        return trees.count(trees.flatten(self))
