"""`rein_jax.Segmenter`: a model that is loaded, put together, used and saved in one line each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, overload

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from data_pipelines.classlist import class_info
from data_pipelines.labels import CITYSCAPES, ClassInfo
from rein_jax import build, trees
from rein_jax.adapters.base import AnyAdapter
from rein_jax.backbones.base import Backbone
from rein_jax.backbones.pretrained import Origin
from rein_jax.configuration.files import from_json, to_json
from rein_jax.errors import UserError
from rein_jax.evaluation.eval_model import EvalModel
from rein_jax.evaluation.windows import Query
from rein_jax.heads.base import Head
from rein_jax.precision import policy
from rein_jax.predict.run import map_predictor
from rein_jax.public import images as pictures
from rein_jax.public.describe import config_of, windows_of
from rein_jax.public.result import Segmentation
from rein_jax.public.saving import save_model
from rein_jax.public.trainable import Trainable, trainable
from rein_jax.segmenter import IMAGENET, Preprocessing, SegmentationModel

if TYPE_CHECKING:
    from typing import Self


class Segmenter(SegmentationModel):
    """A backbone with an adapter and a decode head, from images to classes.

    Args:
        backbone: gives four feature maps, such as `rj.DINOv2.from_pretrained("dinov2_vitl14")`.
        head: decode head, such as `rj.Mask2Former(backbone, num_classes=19, adapter=adapter)`.
        adapter: such as `rj.Rein(backbone)`; None for none.
        classes: names and colours, or names alone; as many as the head has.
        loss: (outputs, label, key) -> (total, terms); None: the one that fits the head, with its published settings.
        preprocessing: of pixel values.

    Raises:
        UserError: the parts do not fit together.

    Example:
        model = rj.Segmenter.from_pretrained("runs/mine")
        model.predict("street.jpg").overlay()
    """

    written: str = ""  # the config that the model's file states, as JSON; "" for a model put together in Python

    def __init__(self, backbone: Backbone, head: Head, *, adapter: AnyAdapter = None,
                 classes: ClassInfo | Sequence[str] = CITYSCAPES, loss: Any = None, preprocessing: Preprocessing = IMAGENET):
        classes = class_info(classes)
        count = getattr(head, "num_classes", len(classes))
        if count != len(classes):
            raise UserError(f"The head scores {count} classes, but classes= names {len(classes)}; give both the same number.")
        super().__init__(backbone, head, adapter=adapter, classes=classes, loss=loss, preprocessing=preprocessing)
        if hasattr(head, "check"):
            head.check(backbone, tuple(self.adapters))
        self._begin_from_backbone()

    def _begin_from_backbone(self) -> None:
        """Lets an adapter take its initial values from the backbone's (SoMA decomposes its weights), where there are values."""
        method = type(self.adapters[0]) if self.adapters else None
        if not hasattr(method, "from_backbone"):
            return
        module_def, _, values = trees.split(self, ())
        if any(isinstance(array, jax.core.Tracer | jax.ShapeDtypeStruct) for array in values.values()):
            return
        nnx.update(self, nnx.state(trees.merge(module_def, jax.device_put(method.from_backbone(module_def, values)))))

    @classmethod
    def from_pretrained(cls, source: str | Path) -> Self:
        """A trained model.

        Args:
            source: a run folder, or a model.safetensors.

        Returns:
            The model with its weights on the default device. The frozen backbone comes from the file itself (full form), or from the
            weights that the file names, checked by their hash.

        Raises:
            UserError: there is no model, it is damaged, or the backbone's weights are not those it was trained on.

        Example:
            model = rj.Segmenter.from_pretrained("runs/mine")
        """
        module_def, values, meta = build.load_parts(source, kind=cls)
        model = cast("Self", trees.merge(module_def, jax.device_put(values)))  # once, not with every call
        model.written = to_json(meta.get("config", {}))
        weights = meta.get("weights") or {}
        if weights.get("sha256"):
            given = (meta["config"].get("backbone") or {}).get("weights", "auto")
            model.backbone.origin = Origin(weights["name"], weights["source"], weights["sha256"], given)
        return model

    @classmethod
    def from_config(cls, config: ConfigDict, classes: ClassInfo | Sequence[str] = CITYSCAPES) -> Self:
        """The untrained model of a config: pretrained backbone (as `config.backbone.weights` says), initial adapter and head.

        Args:
            config: such as `rj.config("gta_to_cbm", backbone="dinov2_l")`.
            classes: names and colours, or names alone.
        """
        module_def, trained, frozen, _ = build.build_params(config, class_info(classes), kind=cls)
        model = cast("Self", trees.merge(module_def, jax.device_put(trained), jax.device_put(frozen)))
        model.written = to_json(config)
        return model

    @property
    def config(self) -> ConfigDict:
        """The config that builds this model: its run's, or one made from its parts."""
        return from_json(json.loads(self.written)) if self.written else config_of(self)

    @property
    def palette(self) -> tuple[tuple[int, int, int], ...]:
        """RGB colours of the classes."""
        return self.classes.palette

    def num_params(self, which: Any = None) -> int:
        """Number of parameters; which: an NNX filter, such as `rj.trainable()`, for those alone."""
        return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(nnx.state(self, ... if which is None else which)))

    def trainable(self, *patterns: str) -> Trainable:
        """`rj.trainable(*patterns)`, checked: a pattern that matches nothing of this model is a UserError."""
        chosen = trainable(*patterns)
        trees.split(self, chosen.patterns)
        return chosen

    @overload
    def predict(self, images: str | Path, **options: Any) -> Segmentation: ...

    @overload
    def predict(self, images: list[Any] | tuple[Any, ...], **options: Any) -> list[Segmentation]: ...

    @overload
    def predict(self, images: Any, **options: Any) -> Any: ...

    def predict(self, images: Any, *, whole: bool = False, protocol: str | None = None, mode: str | None = None,
                crop: int | tuple[int, int] | None = None, stride: int | tuple[int, int] | None = None, batch: int | None = None,
                scales: Iterable[float] = (1.0,), flip: bool = False,
                precision: str | None = "auto") -> Segmentation | list[Segmentation]:
        """The classes of every pixel of one image or several.

        Args:
            images: a path, a uint8 RGB array [H, W, 3] or a picture of Pillow's; several: a list of these of any sizes, or [B, H, W, 3].
            whole: look at each image whole and at its own size, instead of by the run's protocol and windows.
            protocol, mode, crop, stride, batch: resolution ("full", "official-512", "fit-WxH"), "slide" or "whole", window and step in
                pixels, windows at once; None: as the run states, or windows of the size that the backbone was made for.
            scales, flip: views whose probabilities are averaged.
            precision: what is computed in: "fp32", "bf16", "auto" (fp32 on a CPU), or None for the parameters' own.

        Returns:
            A Segmentation; a list of them for several images. Labels have the size of the image.

        Raises:
            UserError: an array that is no uint8 RGB image. DataError: a file that is no picture.

        Example:
            result = model.predict("street.jpg")
            result.labels, result.scores, result.overlay(), result.save("out")
        """
        listed = list(images) if pictures.several(images) else [images]
        named = [pictures.read(image, i) for i, image in enumerate(listed)]
        if whole:
            protocol, mode = "full", "whole"
        own = self.config.eval.to_dict() if self.written else windows_of(self)
        given = (own, protocol, mode, crop, stride, batch, tuple(scales), flip, precision)
        predictor, fit = self._predictor((), *given)
        answers = predictor.stream(Query(i, fit(image), image.shape[:2]) for i, (_, image) in enumerate(named))

        def maps(image: np.ndarray, kind: str) -> np.ndarray:
            exact, fit = self._predictor((kind,), *given)
            return getattr(next(iter(exact.stream([Query(0, fit(image), image.shape[:2])]))), kind)

        found = [Segmentation(image, answer.labels, self.classes, partial(maps, image), name)
                 for (name, image), answer in zip(named, answers, strict=True)]
        return found if pictures.several(images) else found[0]

    def _predictor(self, kinds: Sequence[str], own: Mapping[str, Any], protocol, mode, crop, stride, batch, scales, flip, precision):
        module_def, _, params = trees.split(self, ())
        if precision is not None:
            params = policy(precision).inputs(params, module_def.wishes)
        parts = EvalModel(module_def, params, self.classes, self.backbone.patch)
        return map_predictor(parts, own, kinds, protocol, mode, crop, stride, batch, scales, flip)

    def features(self, images: Any) -> tuple[jax.Array, ...]:
        """The maps that the head sees.

        Args:
            images: uint8 RGB [B, H, W, 3].

        Returns:
            Maps at strides 4, 8, 16, 32 (a ResNet's: 4, 8, 8, 8), float [B, h, w, C] each.
        """
        module_def, _, params = trees.split(self, ())
        return _features(module_def, params, jnp.asarray(pictures.check(images, axes=4)))

    def save(self, path: str | Path, *, backbone: bool | None = None) -> Path:
        """Writes the model with everything that is needed to use it: `from_pretrained`, `rein predict`, `rein serve` take the file.

        Args:
            path: file ending in .safetensors, or a folder, which then holds model.safetensors.
            backbone: keep the backbone's weights in the file too; None: only where they are not those of a published or named file.

        Returns:
            The file.

        Raises:
            UserError: a part is not registered, or the file cannot be written.
        """
        return save_model(self, path, backbone)


def load(source: str | Path) -> Segmenter:
    """A trained model: `Segmenter.from_pretrained`.

    Args:
        source: a run folder, or a model.safetensors.

    Returns:
        The model, with its weights on the default device.
    """
    return Segmenter.from_pretrained(source)


@partial(jax.jit, static_argnums=0)
def _features(module_def, params, images):
    model = trees.merge(module_def, params)
    return model.encode(model.normalise(images))[0]
