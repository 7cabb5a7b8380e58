"""Write a sheet of samples of the embedded data set `streets` with their label maps.

    python scripts/streets_sheet.py sheet.png --styles clear night --rows 4 --first 0
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
    options = parser.parse_args()
    picture = sheet(options.styles, options.rows, options.first, tuple(options.size), options.split, options.seed, options.labels)
    write_atomically(options.output, cv2.imencode(".png", picture[..., ::-1])[1].tobytes())


if __name__ == "__main__":
    main()
