"""Decode heads. A new head is one file here and one line below."""

from typing import TYPE_CHECKING

from rein_jax.registry import lazily, typed_names

if TYPE_CHECKING:
    from rein_jax.heads.base import Head as Head
    from rein_jax.heads.eomt import EoMT as EoMT
    from rein_jax.heads.linear import LinearHead as LinearHead
    from rein_jax.heads.mask2former import Mask2Former as Mask2Former
    from rein_jax.heads.semantic_fpn import SemanticFPN as SemanticFPN

HEADS = {
    "mask2former": "rein_jax.heads.mask2former:Mask2Former",
    "eomt": "rein_jax.heads.eomt:EoMT",
    "semantic_fpn": "rein_jax.heads.semantic_fpn:SemanticFPN",
    "linear": "rein_jax.heads.linear:LinearHead",
}

_PUBLIC = typed_names(__name__, __file__)
__all__ = sorted(_PUBLIC)
__getattr__ = lazily(__name__, _PUBLIC)
