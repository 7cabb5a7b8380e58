"""Ways to adapt a frozen backbone. One more method is one file here and one line below."""

ADAPTERS = {
    "rein": "rein_jax.adapters.rein:Rein",
    "lora": "rein_jax.adapters.lora:LoRA",
    "adaptformer": "rein_jax.adapters.adaptformer:AdaptFormer",
    "vpt": "rein_jax.adapters.vpt:VPT",
    "soma": "rein_jax.adapters.soma:SoMA",
    "recyclelora": "rein_jax.adapters.recyclelora:RecycleLoRA",
}
