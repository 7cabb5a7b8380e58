"""Write a sheet of samples of the embedded data set `streets` with their label maps, and what a model predicts for them.

    python scripts/streets_sheet.py sheet.png --styles clear night --rows 4 --first 0
    python scripts/streets_sheet.py sheet.jpg --run runs/quickstart --styles night fog snow city --split val
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
from data_pipelines.streets import STYLES, Streets  # noqa: E402


def colour(label: np.ndarray, palette) -> np.ndarray:
    """Label map [h, w] to RGB; void is black."""
    table = np.zeros((256, 3), np.uint8)
    table[:len(palette)] = palette
    return table[label]


def sheet(styles, rows: int, first: int, size: tuple[int, int], split: str, seed: int, labels: bool) -> np.ndarray:
    """RGB sheet: one column of samples (and one of label maps) per style."""
    columns = []
    for style in styles:
        source = Streets(style, split, length=first + rows, size=size, seed=seed)
        items = [source[first + k] for k in range(rows)]
        columns.append(np.concatenate([item["image"] for item in items]))
        if labels:
            columns.append(np.concatenate([colour(item["label"], source.classes.palette) for item in items]))
    return np.concatenate(columns, axis=1)


def predictions(run: Path, styles, first: int, size: tuple[int, int], split: str, seed: int) -> np.ndarray:
    """RGB sheet with a title and one column per style: the image, what the model predicts, and the truth."""
    from compare_sheet import bar

    from rein_jax import Segmenter

    model, columns, seen = Segmenter.from_pretrained(run), [], set()
    for style in styles:
        item = Streets(style, split, length=first + 1, size=size, seed=seed)[first]
        labels = [model.predict(item["image"]).labels, item["label"]]
        seen |= {int(label) for one in labels for label in np.unique(one)} - {255}
        maps = [colour(one, model.palette) for one in labels]
        columns.append(np.concatenate([bar(size[1], [(style, (0, 0, 0))]), item["image"], *maps]))
    picture = np.concatenate(columns, axis=1)
    names = [(model.classes.names[label], tuple(map(int, model.palette[label]))) for label in sorted(seen)]
    return np.concatenate([picture, bar(picture.shape[1], names, patches=True)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=path_argument)
    parser.add_argument("--styles", nargs="+", default=list(STYLES), choices=STYLES)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--size", type=int, nargs=2, default=(256, 512), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--split", default="train")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-labels", dest="labels", action="store_false")
    parser.add_argument("--run", type=path_argument, help="run folder or model file: image, prediction and truth of one sample per style")
    options = parser.parse_args()
    size = tuple(options.size)
    if options.run:
        picture = predictions(options.run, options.styles, options.first, size, options.split, options.seed)
    else:
        picture = sheet(options.styles, options.rows, options.first, size, options.split, options.seed, options.labels)
    write_atomically(options.output, cv2.imencode(options.output.suffix or ".png", picture[..., ::-1])[1].tobytes())


if __name__ == "__main__":
    main()
