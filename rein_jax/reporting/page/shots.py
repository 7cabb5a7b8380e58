"""Image, truth, prediction and error of the kept images, as data for the page's script."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rein_jax.metrics.accumulator import Tally
from rein_jax.metrics.bootstrap import mean_ious
from rein_jax.reporting.gallery import PARTS, panels
from rein_jax.reporting.page.markup import data_uri, json_script, tag, text
from rein_jax.reporting.tables import number

STORE = 20  # images in one store: the page parses only the stores that come into view
WRONG, UNKNOWN = (235, 40, 50, 185), (0, 0, 0, 170)


def shots(folder: Path, tally: Tally, names: Sequence[str], anchor: str, limit: int = 0) -> str:
    """Markup and data of a domain's kept images, worst first; "" if there are none. limit: images of each end (0 = all)."""
    kept = [i for i in panels(folder) if i < tally.images and tally.done[i]]
    if not kept:
        return ""
    score = {i: 100 * float(mean_ious(tally.matrices[i].astype(np.int64))) for i in kept}
    order = sorted(kept, key=lambda i: score[i])
    half = len(order) // 2 if not limit else min(limit, len(order) // 2)
    groups = (("Worst", order[:half] if half else order), ("Best", order[::-1][:half]))
    parts, data = [], []
    for title, chosen in groups:
        parts.append(tag("h3", title) if chosen else "")
        for index in chosen:
            place = f"{anchor}-{len(data) // STORE}#{len(data) % STORE}"
            parts.append(_shot(place, str(tally.names[index]), score[index], _hint(tally.matrices[index], names)))
            data.append(_data(folder, index))
    stores = (json_script(data[k : k + STORE], f"{anchor}-{k // STORE}") for k in range(0, len(data), STORE))
    return "".join([*parts, *stores])


def _shot(address: str, name: str, score: float, hint: str) -> str:
    words = tag("p", tag("b", number(score)), " ", text(name), " ", tag("span", text(hint)))
    return tag("div", words, tag("div", class_="panels"), class_="shot", data_shot=address)


def _hint(matrix: np.ndarray, names: Sequence[str]) -> str:
    """The largest confusion of an image in words."""
    off = matrix.astype(np.int64) * (1 - np.eye(len(matrix), dtype=np.int64))
    if not off.any():
        return "no errors"
    label, seen = np.unravel_index(off.argmax(), off.shape)
    return f"most: {names[label]} seen as {names[seen]}, {100 * off[label, seen] / max(matrix.sum(), 1):.1f} % of pixels"


def _data(folder: Path, index: int) -> dict[str, Any]:
    photo, truth, prediction = (folder / f"{index:06d}.{part}" for part in PARTS)
    return {"image": data_uri(photo.read_bytes(), "jpeg"), "truth": data_uri(truth.read_bytes(), "png"),
            "prediction": data_uri(prediction.read_bytes(), "png"), "error": data_uri(_error(truth, prediction), "png")}


def _error(truth: Path, prediction: Path) -> bytes:
    """A palette PNG to lay over the photo: clear where right, red where wrong, dark where the label is void."""
    with Image.open(truth) as a, Image.open(prediction) as b:
        label, seen, colours = np.array(a), np.array(b), len(a.getpalette() or ()) // 3
    void = label >= min(colours, 255)
    image = Image.fromarray(np.where(void, 2, label != seen).astype(np.uint8))
    image.putpalette(bytes((0, 0, 0, *WRONG[:3], *UNKNOWN[:3])))
    out = io.BytesIO()
    image.save(out, "PNG", transparency=bytes((0, WRONG[3], UNKNOWN[3])))
    return out.getvalue()
