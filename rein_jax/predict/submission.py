"""Zips for benchmark servers, made of predicted train ids and checked file by file before anything is written.

ACDC (https://acdc.vision.ee.ethz.ch): one 8-bit PNG of train ids (0 to 18) for each test image, 1920x1080, named as the
image (`GOPR0351_frame_000001_rgb_anon.png`), all conditions flat in the zip; 500 images a condition.
Cityscapes (https://www.cityscapes-dataset.com, pixel-level task): one 8-bit PNG of label ids (7 to 33, not train ids) for each
test image, 2048x1024, named after the image (`berlin_000000_000019_pred_labelIds.png`); the server reads city, sequence and
frame from the name; 1,525 images.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_pipelines.atomic import atomic
from data_pipelines.labels import CITYSCAPES, CITYSCAPES_IDS, VOID
from data_pipelines.paths import local_path
from data_pipelines.pictures import open_picture, pixels
from rein_jax import registry
from rein_jax.errors import UserError

K = len(CITYSCAPES)


def label_ids() -> np.ndarray:
    """uint8 [19]: the Cityscapes label id of each train id."""
    table = np.zeros(K, np.uint8)
    for label, train in CITYSCAPES_IDS.ids.items():
        if train != VOID:
            table[train] = label
    return table


@dataclass(frozen=True)
class Server:
    """What a server asks for. key: picks out of any file name what names the image; name: key -> name in the zip."""

    title: str
    key: re.Pattern
    name: Callable[[str], str]
    size: tuple[int, int]  # width, height
    count: int
    convert: Callable[[np.ndarray], np.ndarray]
    values: str


SERVERS: dict[str, Server] = {
    "acdc": Server("ACDC", re.compile(r"(GOPR\w+?_frame_\d+|GP\w+?_frame_\d+)"), lambda key: f"{key}_rgb_anon.png", (1920, 1080),
                   2000, lambda labels: labels, "train ids"),
    "cityscapes": Server("Cityscapes", re.compile(r"([a-z-]+_\d{6}_\d{6})"), lambda key: f"{key}_pred_labelIds.png", (2048, 1024),
                         1525, lambda labels: label_ids()[labels], "label ids"),
}


def submission(server: str, predictions: str | Path, out: str | Path, images: Iterable[str] | None = None,
               size: tuple[int, int] | None = None) -> dict[str, Any]:
    """Check the PNGs of train ids below `predictions` and write the zip `out`; a UserError names the first file that is wrong.

    predictions: also a folder that `rein predict` wrote, of whose kinds of pictures only `labels` is taken.
    images: names of the images that must be there (default: as many as the server's test set has, whatever they are called).
    size: (width, height) if other than the server's. Returns {"files", "zip", "bytes", "values"}.
    """
    rules = SERVERS[server] if server in SERVERS else None
    if rules is None:
        raise registry.unknown(server, SERVERS, "server")
    folder = local_path(predictions)
    folder = folder / "labels" if (folder / "labels").is_dir() else folder
    found = _collect(rules, folder)
    _complete(rules, found, images, folder)
    out = local_path(out)
    if out.exists():
        raise UserError(f"{out} exists already; remove it or choose another --out.")
    with atomic(out) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:  # PNGs do not shrink further
        for key in sorted(found):
            archive.writestr(rules.name(key), _encoded(rules, found[key], size or rules.size))
    return {"files": len(found), "zip": str(out), "bytes": out.stat().st_size, "values": rules.values}


def _collect(rules: Server, folder: Path) -> dict[str, Path]:
    """{image: file} of every PNG below the folder."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; name the folder that holds the predicted PNG files.")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.png")):
        key = rules.key.search(path.name)
        if key is None:
            raise UserError(f"{path} is not named like an image of {rules.title}, such as {rules.name(_example(rules))}; "
                            "remove or rename it.")
        if key[1] in found:
            raise UserError(f"{found[key[1]]} and {path} are predictions for the same image; keep one of them.")
        found[key[1]] = path
    if not found:
        raise UserError(f"{folder} holds no PNG files; predict the test images first (`rein predict`).")
    return found


def _example(rules: Server) -> str:
    return "GOPR0351_frame_000001" if rules.title == "ACDC" else "berlin_000000_000019"


def _complete(rules: Server, found: dict[str, Path], images: Iterable[str] | None, folder: Path) -> None:
    """Exactly the images asked for."""
    if images is None:
        if len(found) != rules.count:
            raise UserError(f"{folder} holds predictions for {len(found)} images, but the test set of {rules.title} has {rules.count}; "
                            "predict all of them, or name the data set with --source.")
        return
    wanted = {}
    for name in images:
        key = rules.key.search(Path(name).name)
        if key is None:
            raise UserError(f"{name} is not named like an image of {rules.title}.")
        wanted[key[1]] = name
    missing, extra = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    if missing:
        raise UserError(f"{len(missing)} of {len(wanted)} images have no prediction in {folder}; the first is {wanted[missing[0]]}.")
    if extra:
        raise UserError(f"{found[extra[0]]} belongs to no image of the test set ({len(extra)} such files); remove it.")


def _encoded(rules: Server, path: Path, size: tuple[int, int]) -> bytes:
    """The PNG that goes into the zip, of a prediction that was found to be right."""
    from rein_jax.evaluation.predictions import read_prediction

    labels = read_prediction(path)
    if labels.shape[::-1] != tuple(size):
        raise UserError(f"{path} is {labels.shape[1]}x{labels.shape[0]}, but {rules.title} asks for {size[0]}x{size[1]}; "
                        "predict at the size of the image file.")
    highest = int(labels.max())
    if highest >= K:
        raise UserError(f"{path} holds the value {highest}; a prediction holds train ids 0 to {K - 1} in every pixel.")
    buffer = io.BytesIO()
    Image.fromarray(rules.convert(labels)).save(buffer, "PNG")
    return buffer.getvalue()


def verify(server: str, archive: str | Path, size: tuple[int, int] | None = None) -> int:
    """Read a zip back as the server would; the number of files, or a UserError about the first that is wrong."""
    rules = SERVERS[server]
    allowed = set(range(K)) if rules.values == "train ids" else set(label_ids().tolist())
    with zipfile.ZipFile(archive) as file:
        for name in file.namelist():
            key = rules.key.search(name)
            if key is None or name != rules.name(key[1]):
                raise UserError(f"{archive}: {name} is not a name that {rules.title} knows.")
            with open_picture(file.read(name), f"{archive}: {name}") as image:
                labels = pixels(image, f"{archive}: {name}")
                if image.mode != "L" or image.size != tuple(size or rules.size):
                    raise UserError(f"{archive}: {name} is {image.mode} {image.size}, not 8-bit grey of {size or rules.size}.")
            strange = set(np.unique(labels).tolist()) - allowed
            if strange:
                raise UserError(f"{archive}: {name} holds {sorted(strange)}, which are not {rules.values}.")
        return len(file.namelist())
