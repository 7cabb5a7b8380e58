"""`scripts/compare_sheet.py`: one row per image, one column per model; `scripts/streets_sheet.py --run`: one column per style."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

from .tiny import write_tiny

ROOT = Path(__file__).parents[2]
RUN = ("import sys; sys.argv[0] = 'scripts/compare_sheet.py'; import tests.use.tiny, runpy; "  # the tiny backbone must be known
       "runpy.run_path('scripts/compare_sheet.py', run_name='__main__')")


def test_sheet_of_two_models_and_two_images(tmp_path):
    models = [write_tiny(tmp_path / f"{seed}.safetensors", method="freeze", seed=seed) for seed in (0, 1)]
    images = []
    for k in range(2):
        images.append(str(tmp_path / f"{k}.png"))
        cv2.imwrite(images[-1], np.random.default_rng(k).integers(0, 256, (64, 96, 3), np.uint8))
    for extra, columns in (([], 3), (["--masks"], 2)):
        out = tmp_path / "sheet.png"
        arguments = [str(out), "--runs", *map(str, models), "--images", *images, *extra]
        subprocess.run([sys.executable, "-c", RUN, *arguments], check=True, cwd=ROOT)
        sheet = cv2.imread(str(out))
        assert sheet.shape[1] == 96 * columns and sheet.shape[0] > 2 * 64
        assert np.any(sheet[26 : 26 + 64, -96:] != sheet[26 : 26 + 64, -192:-96])  # the two models differ
    cv2.imwrite(images[1], np.zeros((64, 64, 3), np.uint8))
    bad = subprocess.run([sys.executable, "-c", RUN, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert bad.returncode == 1 and "Traceback" not in bad.stderr
    assert bad.stderr.strip().endswith("give images of one size.")


def test_sheet_of_what_a_model_predicts_in_several_styles(tmp_path, model_file, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import streets_sheet

    out = tmp_path / "sheet.jpg"
    arguments = [str(out), "--run", str(model_file), "--styles", "night", "fog", "--split", "val", "--size", "64", "96"]
    monkeypatch.setattr(sys, "argv", ["streets_sheet.py", *arguments])
    streets_sheet.main()
    sheet = cv2.imread(str(out))
    assert out.read_bytes()[:3] == b"\xff\xd8\xff" and sheet.shape[1] == 2 * 96 and sheet.shape[0] > 3 * 64 + 2 * 26
