"""Semantic segmentation on frozen vision foundation models, trained to work in places and weather never seen: Rein in JAX.

    import rein_jax as rj

    model = rj.Segmenter.from_pretrained("runs/mine")
    model.predict("street.jpg").overlay()

The names below are the stable public API, imported when they are first used; what is neither here nor in the public subpackages `adapters`,
`backbones`, `data`, `export`, `heads` and `losses` may move.
"""

from typing import TYPE_CHECKING

from rein_jax.registry import lazily, typed_names

if TYPE_CHECKING:
    from data_pipelines.labels import CAMVID as CAMVID
    from data_pipelines.labels import CITYSCAPES as CITYSCAPES
    from data_pipelines.labels import ClassInfo as ClassInfo
    from rein_jax import adapters as adapters
    from rein_jax import backbones as backbones
    from rein_jax import data as data
    from rein_jax import export as export
    from rein_jax import heads as heads
    from rein_jax import losses as losses
    from rein_jax.adapters.adaptformer import AdaptFormer as AdaptFormer
    from rein_jax.adapters.base import Adapter as Adapter
    from rein_jax.adapters.base import BlockSpec as BlockSpec
    from rein_jax.adapters.lora import LoRA as LoRA
    from rein_jax.adapters.recyclelora import RecycleLoRA as RecycleLoRA
    from rein_jax.adapters.rein import Rein as Rein
    from rein_jax.adapters.soma import SoMA as SoMA
    from rein_jax.adapters.vpt import VPT as VPT
    from rein_jax.backbones.base import Backbone as Backbone
    from rein_jax.backbones.clip import CLIP as CLIP
    from rein_jax.backbones.convnext import ConvNeXt as ConvNeXt
    from rein_jax.backbones.dinov2 import DINOv2 as DINOv2
    from rein_jax.backbones.dinov3 import DINOv3 as DINOv3
    from rein_jax.backbones.eva02 import EVA02 as EVA02
    from rein_jax.backbones.mae import MAE as MAE
    from rein_jax.backbones.resnet import ResNet as ResNet
    from rein_jax.backbones.sam import SAM as SAM
    from rein_jax.configuration.keywords import config as config
    from rein_jax.errors import UserError as UserError
    from rein_jax.evaluation.evaluator import evaluate as evaluate
    from rein_jax.heads.base import Head as Head
    from rein_jax.heads.eomt import EoMT as EoMT
    from rein_jax.heads.linear import LinearHead as LinearHead
    from rein_jax.heads.mask2former import Mask2Former as Mask2Former
    from rein_jax.heads.semantic_fpn import SemanticFPN as SemanticFPN
    from rein_jax.losses.mask_loss import MaskLoss as MaskLoss
    from rein_jax.losses.pixel_loss import PixelLoss as PixelLoss
    from rein_jax.optim.make import optimizer as optimizer
    from rein_jax.predict.run import predict_files as predict_files
    from rein_jax.public.register import register as register
    from rein_jax.public.result import Segmentation as Segmentation
    from rein_jax.public.segmenter import Segmenter as Segmenter
    from rein_jax.public.segmenter import load as load
    from rein_jax.public.trainable import loss as loss
    from rein_jax.public.trainable import trainable as trainable
    from rein_jax.run import Run as Run
    from rein_jax.run import train as train
    from rein_jax.segmenter import Preprocessing as Preprocessing
    from rein_jax.trees import param as param

__version__ = "0.1.0"
_PUBLIC = typed_names(__name__, __file__)
__all__ = sorted(_PUBLIC)
__getattr__ = lazily(__name__, _PUBLIC)
