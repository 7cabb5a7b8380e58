"""Ways to adapt a frozen backbone. A new method is one file here and one line below."""

from typing import TYPE_CHECKING

from rein_jax.registry import lazily, typed_names

if TYPE_CHECKING:
    from rein_jax.adapters.adaptformer import AdaptFormer as AdaptFormer
    from rein_jax.adapters.base import Adapter as Adapter
    from rein_jax.adapters.base import BlockSpec as BlockSpec
    from rein_jax.adapters.base import LayerContext as LayerContext
    from rein_jax.adapters.lora import LoRA as LoRA
    from rein_jax.adapters.recyclelora import RecycleLoRA as RecycleLoRA
    from rein_jax.adapters.rein import Rein as Rein
    from rein_jax.adapters.soma import SoMA as SoMA
    from rein_jax.adapters.vpt import VPT as VPT

ADAPTERS = {
    "rein": "rein_jax.adapters.rein:Rein",
    "lora": "rein_jax.adapters.lora:LoRA",
    "adaptformer": "rein_jax.adapters.adaptformer:AdaptFormer",
    "vpt": "rein_jax.adapters.vpt:VPT",
    "soma": "rein_jax.adapters.soma:SoMA",
    "recyclelora": "rein_jax.adapters.recyclelora:RecycleLoRA",
}

_PUBLIC = typed_names(__name__, __file__)
__all__ = sorted(_PUBLIC)
__getattr__ = lazily(__name__, _PUBLIC)
