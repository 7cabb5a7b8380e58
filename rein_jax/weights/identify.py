"""Says what a checkpoint is from its names and shapes, so that a wrong file is named and not loaded by accident."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from rein_jax.weights.prefix import plain_names

Shapes = Mapping[str, tuple[int, ...]]

# (width, depth) -> letter of the plain transformers.
_VIT = {(192, 12): "Ti", (384, 12): "S", (768, 12): "B", (1024, 24): "L", (1280, 32): "H", (1408, 40): "g", (1536, 40): "g"}
_CONVNEXT = {(96, 9): "T", (96, 27): "S", (128, 27): "B", (192, 27): "L", (256, 27): "XL"}
_RESNET = {(3, False): "18", (6, False): "34", (6, True): "50", (23, True): "101", (36, True): "152"}

# First family of which every mark (a regular expression searched in the names) is found.
_FAMILIES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Rein", (r"(^|\.)reins\.",)),
    ("DINOv3", (r"(^|\.)(storage_tokens|rope_embed\.periods)$",)),
    ("DINOv3", (r"layer\.\d+\.attention\.o_proj\.weight$", r"register_tokens$")),
    ("DINOv3", (r"blocks\.\d+\.gamma_1$", r"(^|\.)reg_token$")),
    ("SAM", (r"attn\.rel_pos_h$", r"(^|\.)(blocks|layers)\.")),
    ("EVA-02", (r"attn\.q_proj\.weight$", r"attn\.q_bias$")),
    ("EVA-02", (r"mlp\.fc1_g\.weight$",)),
    ("CLIP", (r"transformer\.resblocks\.\d+\.",)),
    ("CLIP", (r"vision_model\.encoder\.layers\.",)),
    ("BEiT", (r"relative_position_bias_table",)),
    ("ConvNeXt", (r"stages\.\d+\.(layers\.|blocks\.)?\d+\.(dwconv|depthwise_conv|conv_dw)\.weight$",)),
    ("ResNet", (r"layer4\.\d+\.conv1\.weight$",)),
    ("ResNet", (r"stages\.3\.layers\.\d+\.layer\.0\.convolution\.weight$",)),
    ("DINOv2", (r"(blocks\.\d+\.ls1\.gamma|layer_scale1\.lambda1)$",)),
    ("MAE (or another plain)", (r"blocks\.\d+\.attn\.qkv\.weight$", r"(^|\.)cls_token$")),
    ("MAE (or another plain)", (r"encoder\.layer\.\d+\.attention\.attention\.query\.weight$",)),
)
_FILES = {"Rein": "an official Rein checkpoint (adapter and head, no backbone)"}


@dataclass(frozen=True)
class Identity:
    """What a file looks like: family ("DINOv2") and the whole text ("DINOv2 ViT-B/14 with registers")."""

    family: str
    text: str


def identify(shapes: Shapes) -> Identity | None:
    """The model that these names and shapes belong to, or None."""
    names = plain_names(shapes)
    shapes = {names[name]: shape for name, shape in shapes.items()}
    for family, marks in _FAMILIES:
        if all(any(re.search(mark, name) for name in shapes) for mark in marks):
            return Identity(family, _text(family, shapes))
    return None


def _text(family: str, shapes: Shapes) -> str:
    """Family with variant, patch size and registers as far as they can be told."""
    if family in _FILES:
        return _FILES[family]
    if family == "ResNet":
        blocks = _count(shapes, r"(?:layer3|stages\.2\.layers)\.(\d+)\.")
        deep = any(re.search(r"layer1\.0\.conv3\.|stages\.0\.layers\.0\.layer\.2\.", name) for name in shapes)
        stem = " (V1c)" if any(re.search(r"(^|\.)stem\.0\.weight$", name) for name in shapes) else ""
        return f"ResNet-{_RESNET.get((blocks, deep), f'with {blocks} blocks in stage 3')}{stem}"
    if family == "ConvNeXt":
        width = _shape(shapes, r"(dwconv|depthwise_conv|conv_dw)\.weight$")[0]
        blocks = _count(shapes, r"stages\.2\.(?:layers\.|blocks\.)?(\d+)\.")
        return f"ConvNeXt-{_CONVNEXT.get((width, blocks), f'of width {width}')}"
    kernel = _shape(shapes, r"(patch_embed\.proj|patch_embeddings?(\.projection)?|conv1|patch_embed\.projection)\.weight$")
    depth = _count(shapes, r"(?:blocks|resblocks|layers?)\.(\d+)\.")
    width, patch = (kernel[0], kernel[-1]) if len(kernel) == 4 else (0, 0)
    letter = _VIT.get((width, depth))
    dinov3 = family == "DINOv3"
    plus = "+" if dinov3 and any(re.search(r"mlp\.(w1|gate_proj|fc1_g)\.weight$", name) for name in shapes) else ""
    size = f"ViT-{letter}{plus}/{patch}" if letter else f"ViT of width {width}, depth {depth}, patch {patch}"
    registers = not dinov3 and any(re.search(r"(^|\.)(register_tokens|reg_token)$", name) for name in shapes)
    return f"{family} {size}{' with registers' if registers else ''}"


def _shape(shapes: Shapes, pattern: str) -> tuple[int, ...]:
    """Shape of the first name that the pattern finds, () if none."""
    return next((tuple(shape) for name, shape in shapes.items() if re.search(pattern, name)), (0,))


def _count(shapes: Shapes, pattern: str) -> int:
    """One more than the largest number that the pattern finds."""
    found = [int(match.group(1)[:9]) for name in shapes if (match := re.search(pattern, name))]
    return max(found, default=-1) + 1


_PRETTY = {"dinov2": "DINOv2", "dinov3": "DINOv3", "eva02": "EVA-02", "clip": "CLIP", "mae": "MAE", "sam": "SAM", "resnet": "ResNet",
           "convnext": "ConvNeXt"}


def pretty(name: str) -> str:
    """A backbone's config name as people write it: "dinov2_vitl14_reg" -> "DINOv2 ViT-L/14 with registers"."""
    family, _, variant = name.partition("_")
    if family not in _PRETTY:
        return name
    registers = variant.endswith("_reg")
    plus = "+" if variant.endswith("plus") else ""
    variant = variant.removesuffix("_reg").removesuffix("plus")
    if family in ("resnet", "convnext"):
        return f"{_PRETTY[family]}-{variant.upper()}"
    letter, _, patch = variant.removeprefix("vit").partition("1")
    size = f"ViT-{letter if letter == 'g' else letter.upper()}{plus}" + (f"/1{patch}" if patch else "")
    return f"{_PRETTY[family]} {size}{' with registers' if registers else ''}"
