"""Every row of tables 1 to 7 of Rein (CVPR 2024): its config, the published numbers, the published count of trained parameters.

Numbers are mIoU in % as on the authors' poster. `trainable` counts parameters inside the backbone, in millions as printed.
One count is not ours: 330.94M of MAE-L. mmseg's MAE, which adds relative positions and layer scales that MAE itself has not, holds
304.15M (the encoder, as in our row) + 24 x (63^2 + 3) x 16 (tables) + 24 x 2 x 1024 (scales) + 24 x 1025^2 (buffers of indices, which
nobody trains) = 330.94M entries at 512 x 512; so the published number counts a state, not trained parameters.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A printed column. domains: names in a run's results whose mIoU is averaged ("acdc/fog" is a condition of a domain)."""

    title: str
    domains: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """One row. numbers: published mIoU by column, None where nothing is printed. config: what `rein train --config` takes; "" for rows
    that the paper cites from others (`source` says from where). trainable: as printed, "2.99M"."""

    labels: tuple[str, ...]
    numbers: tuple[float | None, ...]
    config: str = ""
    trainable: str = ""
    source: str = ""


@dataclass(frozen=True)
class Table:
    """heads: titles of the label columns."""

    number: int
    title: str
    heads: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


_CBM = (
    Column("Citys", ("cityscapes",)), Column("BDD", ("bdd100k",)), Column("Map", ("mapillary",)),
    Column("Avg", ("cityscapes", "bdd100k", "mapillary")),
)  # fmt: skip
_NAMES = {
    "clip_l": "CLIP ViT-L", "mae_l": "MAE-L", "sam_h": "SAM-H", "eva02_l": "EVA02-L", "dinov2_l": "DINOv2-L", "resnet50": "ResNet-50",
    "resnet101": "ResNet-101", "convnext_l": "ConvNeXt-L",
}  # fmt: skip
_FULL = {"clip_l": "304.15M", "mae_l": "330.94M", "sam_h": "632.18M", "eva02_l": "304.24M", "dinov2_l": "304.20M"}
_TITLES = {"full": "Full", "freeze": "Freeze", "rein": "Rein", "lora": "LoRA", "adaptformer": "AdaptFormer", "vpt": "VPT"}
_AUGMENTS = {"advstyle": "AdvStyle", "pasta": "PASTA", "gtr_ltr": "GTR-LTR"}


def _trained(backbone: str, method: str) -> str:
    counts = {"full": _FULL.get(backbone, ""), "freeze": "0", "lora": "1.18M" if backbone == "eva02_l" else "0.79M",
              "adaptformer": "3.17M", "vpt": "3.69M", "rein": "4.51M" if backbone == "sam_h" else "2.99M"}  # fmt: skip
    return counts[method]


def _row(backbone: str, method: str, *numbers: float, family: str = "gta_to_cbm", augment: str = "", swapped: bool = False) -> Row:
    arguments = f"backbone={backbone},method={method}" + (f",augment={augment}" if augment else "")
    labels = (_NAMES[backbone], _TITLES[method] + (f" + {_AUGMENTS[augment]}" if augment else ""))
    return Row(labels[::-1] if swapped else labels, numbers, f"configs/{family}.py:{arguments}", _trained(backbone, method))


_FROZEN = {
    "clip_l": (53.7, 48.7, 55.0, 52.4), "mae_l": (43.3, 37.8, 48.0, 43.0), "sam_h": (57.0, 47.1, 58.4, 54.2),
    "eva02_l": (56.5, 53.6, 58.6, 56.2), "dinov2_l": (63.3, 56.1, 63.9, 61.1),
}  # fmt: skip
_TUNED = {
    "clip_l": (51.3, 47.6, 54.3, 51.1), "mae_l": (53.7, 50.8, 58.1, 54.2), "sam_h": (57.6, 51.7, 61.5, 56.9),
    "eva02_l": (62.1, 56.2, 64.6, 60.9), "dinov2_l": (63.7, 57.4, 64.2, 61.7),
}  # fmt: skip
_REIN = {
    "clip_l": (57.1, 54.7, 60.5, 57.4), "mae_l": (55.0, 49.3, 58.6, 54.3), "sam_h": (59.6, 52.0, 62.1, 57.9),
    "eva02_l": (65.3, 60.5, 64.9, 63.6), "dinov2_l": (66.4, 60.4, 66.1, 64.3),
}  # fmt: skip
_TABLE5 = {
    "eva02_l": {
        ("full", "advstyle"): (63.1, 56.4, 64.0, 61.2), ("full", "pasta"): (61.8, 57.1, 63.6, 60.8),
        ("full", "gtr_ltr"): (59.8, 57.4, 63.2, 60.1), ("freeze", "advstyle"): (51.4, 51.6, 56.5, 53.2),
        ("freeze", "pasta"): (57.8, 52.3, 58.5, 56.2), ("freeze", "gtr_ltr"): (52.5, 52.8, 57.1, 54.1),
        ("lora", ""): (55.5, 52.7, 58.3, 55.5), ("adaptformer", ""): (63.7, 59.9, 64.2, 62.6), ("vpt", ""): (62.2, 57.7, 62.5, 60.8),
    },
    "dinov2_l": {
        ("full", "advstyle"): (60.8, 58.0, 62.5, 60.4), ("full", "pasta"): (62.5, 57.2, 64.7, 61.5),
        ("full", "gtr_ltr"): (62.7, 57.4, 64.5, 61.6), ("freeze", "advstyle"): (61.5, 55.1, 63.9, 60.1),
        ("freeze", "pasta"): (62.1, 57.2, 64.5, 61.3), ("freeze", "gtr_ltr"): (60.2, 57.7, 62.2, 60.0),
        ("lora", ""): (65.2, 58.3, 64.6, 62.7), ("adaptformer", ""): (64.9, 59.0, 64.2, 62.7), ("vpt", ""): (65.2, 59.4, 65.5, 63.3),
    },
}  # fmt: skip
_CITED = (
    ("GTR", "TIP 21", (43.7, 39.6, 39.1, 40.8)), ("AdvStyle", "NeurIPS 22", (43.4, 40.3, 42.0, 41.9)),
    ("WildNet", "CVPR 22", (45.8, 41.7, 47.1, 44.9)), ("SPC", "CVPR 23", (46.7, 43.7, 45.5, 45.3)),
    ("PASTA", "ICCV 23", (45.3, 42.3, 48.6, 45.4)), ("TLDR", "ICCV 23", (47.6, 44.9, 48.8, 47.1)),
)  # fmt: skip


def _table5(backbone: str) -> list[Row]:
    rows = []
    for method, plain in (("full", _TUNED[backbone]), ("freeze", _FROZEN[backbone])):
        rows.append(_row(backbone, method, *plain))
        rows += [_row(backbone, m, *n, augment=a) for (m, a), n in _TABLE5[backbone].items() if m == method]
    rows += [_row(backbone, m, *n) for (m, a), n in _TABLE5[backbone].items() if not a]
    return [*rows, _row(backbone, "rein", *_REIN[backbone])]


_SYNTHETIC = "configs/synthetic_to_citys.py:"
_TABLE7_CITED = (
    ("IBN", "ResNet-50", "23.58M", (48.6, 57.0, 52.8)), ("DRPC", "ResNet-50", "23.58M", (49.9, 56.3, 53.1)),
    ("GTR", "ResNet-50", "23.58M", (50.8, 57.2, 54.0)), ("SAN-SAW", "ResNet-50", "23.58M", (53.0, 59.8, 56.4)),
    ("WildNet", "ResNet-101", "42.62M", (50.9, 58.8, 54.9)), ("HGFormer", "Swin-L", "196.03M", (61.5, 72.1, 66.8)),
)  # fmt: skip

TABLES = {
    1: Table(1, "Frozen foundation models against earlier methods, GTAV -> Citys / BDD / Map", ("method", "setting"), _CBM, (
        *(Row((name, "earlier method"), numbers, source=source) for name, source, numbers in _CITED),
        *(_row(backbone, "freeze", *numbers) for backbone, numbers in _FROZEN.items()),
    )),
    2: Table(2, "Full, Freeze and Rein on five foundation models, GTAV -> Citys / BDD / Map", ("backbone", "method"), _CBM, tuple(
        _row(backbone, method, *numbers[backbone])
        for backbone in _FROZEN for method, numbers in (("full", _TUNED), ("freeze", _FROZEN), ("rein", _REIN))
    )),
    3: Table(3, "Cityscapes -> ACDC (published: test set; ours: as each run measured)", ("backbone", "method"), (
        *(Column(title, (f"acdc/{title.lower()}",)) for title in ("Night", "Snow", "Fog", "Rain")), Column("All", ("acdc",)),
    ), (
        Row(("", "HGFormer"), (52.7, 68.6, 69.9, 72.0, 67.2), source="cited"),
        _row("dinov2_l", "rein", 70.6, 79.5, 76.4, 78.2, 77.0, family="citys_to_acdc"),
    )),
    4: Table(4, "Synthetic sources, then 1/16 of Cityscapes -> Cityscapes", ("source", "method"), (Column("mIoU", ("cityscapes",)),), (
        Row(("GTAV", "Rein"), (66.4,), f"{_SYNTHETIC}sources=gtav", "2.99M"),
        Row(("+ Synthia", "Rein"), (68.1,), f"{_SYNTHETIC}sources=gtav+synthia", "2.99M"),
        Row(("+ UrbanSyn", "Rein"), (78.4,), f"{_SYNTHETIC}sources=gtav+synthia+urbansyn", "2.99M"),
        Row(("+ 1/16 of Cityscapes train", "Rein"), (82.5,), f"{_SYNTHETIC}stage=2,init_from=runs/gtav_synthia_urbansyn", "2.99M"),
    )),
    5: Table(5, "Rein against augmentations and other ways to tune, GTAV -> Citys / BDD / Map", ("backbone", "method"), _CBM, (
        *_table5("eva02_l"), *_table5("dinov2_l"),
    )),
    6: Table(6, "Convolutional backbones, GTAV -> average of Citys / BDD / Map", ("method", "backbone"), (_CBM[3],), tuple(
        Row((_TITLES[method], _NAMES[backbone]), (number,), f"configs/gta_to_cbm.py:backbone={backbone},method={method}")
        for method, numbers in (("full", (38.9, 46.1, 52.2)), ("rein", (46.6, 46.3, 55.5)))
        for backbone, number in zip(("resnet50", "resnet101", "convnext_l"), numbers, strict=True)
    )),
    7: Table(7, "Cityscapes -> BDD / Map", ("method", "backbone"), (
        _CBM[1], _CBM[2], Column("Avg", ("bdd100k", "mapillary")),
    ), (
        *(Row((name, backbone), numbers, trainable=count, source="cited") for name, backbone, count, numbers in _TABLE7_CITED),
        _row("eva02_l", "freeze", 57.8, 63.8, 60.8, family="citys_to_bdd_map", swapped=True),
        _row("eva02_l", "rein", 64.1, 69.5, 66.8, family="citys_to_bdd_map", swapped=True),
        _row("dinov2_l", "freeze", 63.4, 69.7, 66.7, family="citys_to_bdd_map", swapped=True),
        _row("dinov2_l", "rein", 65.0, 72.3, 68.7, family="citys_to_bdd_map", swapped=True),
    )),
}  # fmt: skip


def configs() -> list[str]:
    """The config of every row that has one, each once."""
    return list(dict.fromkeys(row.config for table in TABLES.values() for row in table.rows if row.config))
