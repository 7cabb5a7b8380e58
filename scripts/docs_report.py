"""Write a picture of a run's report page, the top of it as a browser shows it: docs/images/report.png.

    rein evaluate runs/weather --domain streets:style=night,split=val,length=8      # writes the report
    python scripts/docs_report.py runs/weather/eval/full-slide256-192/report.html docs/images/report.png

Needs Chromium (or Chrome) on the PATH.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_pipelines.atomic import write_atomically  # noqa: E402
from data_pipelines.paths import path_argument  # noqa: E402

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=path_argument, help="a report.html")
    parser.add_argument("out", type=path_argument, help="the PNG file")
    parser.add_argument("--size", nargs=2, type=int, default=(1280, 1500), metavar=("WIDTH", "HEIGHT"), help="of the window, in pixels")
    given = parser.parse_args(argv)
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None or not given.page.is_file():
        parser.error(f"{given.page} does not exist" if browser else f"none of {', '.join(BROWSERS)} is installed")
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        subprocess.run([browser, "--headless=new", "--no-sandbox", "--hide-scrollbars", f"--user-data-dir={folder}/profile",
                        f"--window-size={given.size[0]},{given.size[1]}", f"--screenshot={shot}", given.page.resolve().as_uri()],
                       check=True, capture_output=True, timeout=120)  # fmt: skip
        picture = cv2.imread(str(shot))
    width = 900
    picture = cv2.resize(picture, (width, round(width * picture.shape[0] / picture.shape[1])), interpolation=cv2.INTER_AREA)
    write_atomically(given.out, cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes())
    return 0


if __name__ == "__main__":
    sys.exit(main())
