"""Picture what each query of a trained Mask2Former answers for: the image, its labels, and the masks of the surest queries.

    python scripts/query_sheet.py runs/camvid frame.png sheet.png --queries 12
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_pipelines.atomic import write_atomically  # noqa: E402
from data_pipelines.paths import path_argument  # noqa: E402
from rein_jax import Segmenter  # noqa: E402
from rein_jax.predict import outputs, pixels  # noqa: E402


def masks_of(model, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [H, W, 3] -> (class probabilities [Q, K] without "no object", masks in [0, 1] [Q, H, W]) of the last prediction."""
    height, width = image.shape[:2]
    found = model.outputs(np.pad(image, ((0, -height % 16), (0, -width % 16), (0, 0)))[None], np.array([[height, width]]))
    logits = np.asarray(found["cls"][-1, 0])
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    padded = (width + -width % 16, height + -height % 16)
    masks = [cv2.resize(np.asarray(mask), padded, interpolation=cv2.INTER_LINEAR)[:height, :width] for mask in found["mask"][-1, 0]]
    return shares[:, :-1], 1 / (1 + np.exp(-np.clip(masks, -50, 50)))


def sheet(model, image: np.ndarray, queries: int, columns: int = 4) -> np.ndarray:
    """RGB sheet: image, labels over it, then the masks of the queries that are surest of a class, each with number and class."""
    shown = outputs.style(model.classes)
    labels = model.predict(image, whole=True).labels
    cells = [_named(image, "image"), _named(outputs.overlay(image, labels, shown), "labels")]
    shares, masks = masks_of(model, image)
    for query in np.argsort(-shares.max(-1))[:queries]:
        label = shares[query].argmax()
        colour = np.asarray(model.classes.palette[label], np.float32)
        mixed = image * 0.35 * (1 - masks[query][..., None]) + (0.5 * image + 0.5 * colour) * masks[query][..., None]
        cells.append(_named(mixed.astype(np.uint8), f"query {query}: {model.classes.names[label]} {100 * shares[query, label]:.0f}%"))
    cells += [np.full_like(image, 255)] * (-len(cells) % columns)
    return np.concatenate([np.concatenate(cells[k:k + columns], axis=1) for k in range(0, len(cells), columns)])


def _named(image: np.ndarray, text: str) -> np.ndarray:
    image = np.ascontiguousarray(image)
    scale = image.shape[1] / 640
    cv2.rectangle(image, (0, 0), (image.shape[1], int(32 * scale)), (0, 0, 0), -1)
    cv2.putText(image, text, (6, int(23 * scale)), cv2.FONT_HERSHEY_SIMPLEX, 0.8 * scale, (255, 255, 255), 1, cv2.LINE_AA)
    return image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=path_argument, help="run folder or model.safetensors")
    parser.add_argument("image", type=path_argument)
    parser.add_argument("out", type=path_argument)
    parser.add_argument("--queries", type=int, default=14, help="how many (default 14)")
    given = parser.parse_args()
    picture = sheet(Segmenter.from_pretrained(given.model), pixels.read(given.image), given.queries)
    write_atomically(given.out, outputs.png(picture))


if __name__ == "__main__":
    main()
