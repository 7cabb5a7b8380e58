"""On-device augmentations for domain generalisation, run inside the jitted step."""

AUGMENTS = {
    "advstyle": "rein_jax.augment.advstyle:AdvStyle",
    "pasta": "rein_jax.augment.pasta:PASTA",
    "gtr_ltr": "rein_jax.augment.gtr_ltr:GTRLTR",
}
