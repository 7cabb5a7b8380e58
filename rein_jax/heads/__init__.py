"""Decode heads. One more head is one file here and one line below."""

HEADS = {
    "mask2former": "rein_jax.heads.mask2former:Mask2Former",
    "eomt": "rein_jax.heads.eomt:EoMT",
    "semantic_fpn": "rein_jax.heads.semantic_fpn:SemanticFPN",
    "linear": "rein_jax.heads.linear:LinearHead",
}
