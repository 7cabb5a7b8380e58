"""Image, truth, prediction and error of the kept images, as data for the page's script."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_pipelines.errors import DataError
from data_pipelines.files import read_file
from data_pipelines.labels import VOID
from data_pipelines.pictures import open_picture, pixels
from rein_jax.metrics.accumulator import MetricAccumulator
from rein_jax.metrics.bootstrap import mean_ious
from rein_jax.reporting.gallery import PARTS, WIDTH, panels

STORE = 20  # images in one store: the page parses only the stores that come into view
MOST_PIXELS = 64 * WIDTH**2  # of a kept picture, whose width is at most WIDTH
WRONG, UNKNOWN = (235, 40, 50, 185), (0, 0, 0, 170)


def shots(folder: Path, accumulator: MetricAccumulator, names: Sequence[str], anchor: str, limit: int = 0) -> dict[str, Any]:
    """A domain's kept images, worst first, and the stores of their pictures; {} if there are none.

    anchor: begins the stores' ids. limit: images of each end (0 = all).
    """
    kept = [i for i in panels(folder) if i < accumulator.images and accumulator.done[i]]
    if not kept:
        return {}
    score = {i: 100 * float(mean_ious(accumulator.matrices[i].astype(np.int64))) for i in kept}
    order = sorted(kept, key=lambda i: score[i])
    half = len(order) // 2 if not limit else min(limit, len(order) // 2)
    shown = [*(order[:half] if half else order), *order[::-1][:half]]
    rows = [{"place": f"{anchor}-{at // STORE}#{at % STORE}", "score": score[i], "name": str(accumulator.names[i]),
             "hint": _hint(accumulator.matrices[i], names)} for at, i in enumerate(shown)]
    groups = {"Worst": rows[: len(rows) - half], "Best": rows[len(rows) - half :]}
    pictures = [_pictures(folder, index) for index in shown]
    return {"groups": groups, "stores": {f"{anchor}-{k // STORE}": pictures[k : k + STORE] for k in range(0, len(pictures), STORE)}}


def _hint(matrix: np.ndarray, names: Sequence[str]) -> str:
    """The largest confusion of an image in words."""
    off = matrix.astype(np.int64) * (1 - np.eye(len(matrix), dtype=np.int64))
    if not off.any():
        return "no errors"
    label, seen = np.unravel_index(off.argmax(), off.shape)
    return f"most: {names[label]} seen as {names[seen]}, {100 * off[label, seen] / max(matrix.sum(), 1):.1f} % of pixels"


def _pictures(folder: Path, index: int) -> dict[str, str]:
    """An image's pictures as data: addresses; a DataError names a file that is not one of the gallery's."""
    files = [folder / f"{index:06d}.{part}" for part in PARTS]
    photo, truth, prediction = map(read_file, files)
    open_picture(photo, str(files[0]), ("JPEG",), max_pixels=MOST_PIXELS).close()
    label, seen = (_labels(data, str(file)) for data, file in zip((truth, prediction), files[1:], strict=True))
    if label.shape != seen.shape:
        raise DataError(f"{files[2]} is of another size than {files[1].name}; remove {folder} to do without pictures.")
    return {"image": _data_uri(photo, "jpeg"), "truth": _data_uri(truth, "png"), "prediction": _data_uri(prediction, "png"),
            "error": _data_uri(_error(label, seen), "png")}


def _labels(data: bytes, file: str) -> np.ndarray:
    """uint8 [h, w] of a palette PNG."""
    with open_picture(data, file, ("PNG",), max_pixels=MOST_PIXELS) as picture:
        if picture.mode != "P":
            raise DataError(f"{file} is not a PNG with a palette; run `rein evaluate` again.")
        return pixels(picture, file)


def _error(label: np.ndarray, seen: np.ndarray) -> bytes:
    """A palette PNG to lay over the photo: clear where right, red where wrong, dark where the label is void."""
    image = Image.fromarray(np.where(label == VOID, 2, label != seen).astype(np.uint8))
    image.putpalette(bytes((0, 0, 0, *WRONG[:3], *UNKNOWN[:3])))
    out = io.BytesIO()
    image.save(out, "PNG", transparency=bytes((0, WRONG[3], UNKNOWN[3])))
    return out.getvalue()


def _data_uri(data: bytes, kind: str) -> str:
    """A file as a data: address."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
