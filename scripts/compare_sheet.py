"""Picture of what several runs predict for the same images: one row an image, one column a run.

    python scripts/compare_sheet.py sheet.png --runs runs/freeze runs/full runs/rein --images camvid/train/0001TP_00699*.png
    python scripts/compare_sheet.py sheet.png --runs runs/rein --images dusk.png --masks    # colours alone: no photograph in it

Colours are the classes'; with --masks the photographs, whose licence may forbid copies, are left out.
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
from rein_jax.errors import UserError  # noqa: E402
from rein_jax.predict import outputs, pixels  # noqa: E402

BAR = 26  # pixels of a title or of a line of the legend


def sheet(runs: list[str], images: list[Path], masks: bool) -> np.ndarray:
    """RGB sheet with titles above and the classes that occur below."""
    photos = [pixels.read(image) for image in images]
    for image, photo in zip(images, photos, strict=True):
        if photo.shape != photos[0].shape:
            raise UserError(f"{image} has another size than {images[0]}; give images of one size.")
    columns, titles, seen = ([], [], set()) if masks else ([photos], ["image"], set())
    classes = None
    for run in runs:
        model = Segmenter.from_pretrained(run)
        classes = classes or model.classes
        if tuple(model.classes.names) != tuple(classes.names):
            raise UserError(f"{run} has other classes than {runs[0]}; compare runs of the same classes.")
        shown = outputs.style(model.classes)
        labels = [model.predict(photo, whole=True).labels for photo in photos]
        seen |= {int(label) for one in labels for label in np.unique(one)}
        columns.append([shown.colours()[one] if masks else outputs.overlay(photo, one, shown)
                        for photo, one in zip(photos, labels, strict=True)])
        titles.append(Path(run).name)
    heads = [bar(column[0].shape[1], [(title, (0, 0, 0))]) for title, column in zip(titles, columns, strict=True)]
    picture = np.concatenate([np.concatenate([head, *column]) for head, column in zip(heads, columns, strict=True)], axis=1)
    named = [(classes.names[label], tuple(map(int, classes.palette[label]))) for label in sorted(seen)]
    return np.concatenate([picture, bar(picture.shape[1], named, patches=True)])


def bar(width: int, texts: list[tuple[str, tuple[int, int, int]]], patches: bool = False) -> np.ndarray:
    """Text on white, each with a patch of its colour if asked for; as many lines as it takes."""
    font, scale, x, y = cv2.FONT_HERSHEY_SIMPLEX, 0.5, 6, 0
    placed = []
    for text, colour in texts:
        wide = cv2.getTextSize(text, font, scale, 1)[0][0] + (20 if patches else 0) + 14
        if x + wide > width and x > 6:
            x, y = 6, y + BAR
        placed.append((text, colour, x, y))
        x += wide
    picture = np.full((y + BAR, width, 3), 255, np.uint8)
    for text, colour, x, y in placed:
        if patches:
            cv2.rectangle(picture, (x, y + 6), (x + 14, y + 20), colour, -1)
        cv2.putText(picture, text, (x + (20 if patches else 0), y + 18), font, scale, (0, 0, 0), 1, cv2.LINE_AA)
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=path_argument)
    parser.add_argument("--runs", nargs="+", type=path_argument, required=True,
                        help="run folders or model files; their classes must be the same")
    parser.add_argument("--images", nargs="+", type=path_argument, required=True, help="images of one size")
    parser.add_argument("--masks", action="store_true", help="class colours alone")
    given = parser.parse_args()
    try:
        picture = sheet(given.runs, given.images, given.masks)
    except UserError as error:
        sys.exit(str(error))
    write_atomically(given.out, outputs.png(picture))


if __name__ == "__main__":
    main()
