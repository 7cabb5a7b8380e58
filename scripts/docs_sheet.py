"""Draws docs/images/data_check.jpg: what `rein data check` shows of a data set, here the embedded street scenes.

    python scripts/docs_sheet.py
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import cv2

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from rein_jax.cli.main import main  # noqa: E402


def draw(target: Path, width: int = 1000) -> None:
    """Checks six scenes and keeps the sheet, as wide as a page."""
    with tempfile.TemporaryDirectory() as folder:
        assert main(["data", "check", "streets", "--option", "length=6", "--out", folder]) == 0
        sheet = cv2.imread(str(Path(folder) / "sheet.png"))
    small = cv2.resize(sheet, (width, round(sheet.shape[0] * width / sheet.shape[1])), interpolation=cv2.INTER_AREA)
    target.write_bytes(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes())


if __name__ == "__main__":
    draw(ROOT / "docs/images/data_check.jpg")
