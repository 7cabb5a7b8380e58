"""The Mask2Former head can learn four real frames by heart: through `rein train`, real DINOv2-S, CamVid.

At 960 x 720, the size CamVid was filmed at (SegNet's copy is half of it): a pole is two pixels wide in the copy, and a patch sixteen.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

CAMVID = Path(os.environ.get("REIN_DATA", "/opt/cache/data")) / "camvid"
FRAMES = ("0006R0_f00930", "0006R0_f02910", "0016E5_00390", "0016E5_08340")
SHORT = {"data.crop": "(384,384)", "data.resize": "none", "data.photometric": "False", "data.flip": "0.0", "data.cat_max_ratio": 1.0,
         "train.batch": 1, "train.steps": 800, "train.checkpoint_every": 200,
         "eval.mode": "slide", "eval.crop": 384, "eval.stride": 192,
         "eval.domains": "[{'name': 'camvid', 'split': 'day_train'}]"}


@pytest.mark.slow
def test_four_camvid_frames_are_learnt_by_heart(tmp_path):
    if not CAMVID.is_dir():
        pytest.skip("needs CamVid: set REIN_DATA to the folder that holds camvid/")
    for kind in ("train", "trainannot"):
        (tmp_path / "data" / "camvid" / kind).mkdir(parents=True)
        for frame in FRAMES:
            small = cv2.imread(str(CAMVID / kind / f"{frame}.png"), cv2.IMREAD_UNCHANGED)
            how = cv2.INTER_CUBIC if kind == "train" else cv2.INTER_NEAREST
            cv2.imwrite(str(tmp_path / "data" / "camvid" / kind / f"{frame}.png"), cv2.resize(small, None, fx=2, fy=2, interpolation=how))
    run = Path(os.environ.get("REIN_OVERFIT_OUT", tmp_path / "run"))
    command = [sys.executable, "-c", "import sys; from rein_jax.cli.main import main; sys.exit(main())", "train",
               "--config", "configs/camvid_dinov2s.py", f"--config.data.root={tmp_path / 'data'}", "--workdir", str(run)]
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}  # the tests' own make slow programs
    subprocess.run(command + [f"--config.{k}={v}" for k, v in SHORT.items()], check=True, env=environment)
    result = json.loads((run / "results.json").read_text())
    (domain,) = result["evaluation"]["domains"].values()
    assert domain["mIoU"] > 90, domain
    picture = run / "queries.png"
    subprocess.run([sys.executable, "scripts/query_sheet.py", str(run), str(tmp_path / "data" / "camvid" / "train" / f"{FRAMES[0]}.png"), str(picture)],
                   check=True, env=environment)
    assert picture.stat().st_size > 10_000
