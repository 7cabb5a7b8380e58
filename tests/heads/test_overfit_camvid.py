"""The Mask2Former head can memorise four real frames: through `rein train`, real DINOv2-S, CamVid.

Masks have a quarter of the image's resolution. The frames are such that this is no obstacle: their own labels, averaged over 4 x 4 pixels
and enlarged again, score 94 mIoU or more in each (poles two pixels wide are lost in most others).
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CAMVID = Path(os.environ.get("REIN_DATA", "/opt/cache/data")) / "camvid"
FRAMES = ("0016E5_02070", "0016E5_08280", "0016E5_08550", "0006R0_f03930")
SHORT = {"data.crop": "(360,480)", "data.resize": "none", "data.photometric": "False", "data.flip": "0.0", "train.batch": 1,
         "train.steps": 1000, "train.checkpoint_every": 100, "loss.points": 4096,
         "eval.domains": "[{'name': 'camvid', 'split': 'day_train'}]"}


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_four_camvid_frames_are_learnt_by_heart(tmp_path):
    if not CAMVID.is_dir():
        pytest.skip("needs CamVid: set REIN_DATA to the folder that holds camvid/")
    for kind in ("train", "trainannot"):
        (tmp_path / "data" / "camvid" / kind).mkdir(parents=True)
        for frame in FRAMES:
            shutil.copy(CAMVID / kind / f"{frame}.png", tmp_path / "data" / "camvid" / kind)
    run = Path(os.environ.get("REIN_OVERFIT_OUT", tmp_path / "run"))
    command = [sys.executable, "-c", "import sys; from rein_jax.cli.main import main; sys.exit(main())", "train",
               "--config", "configs/camvid_dinov2s.py", f"--config.data.root={tmp_path / 'data'}", "--workdir", str(run)]
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}  # the tests' own make slow programs
    subprocess.run(command + [f"--config.{k}={v}" for k, v in SHORT.items()], check=True, env=environment)
    result = json.loads((run / "results.json").read_text())
    (domain,) = result["evaluation"]["domains"].values()
    assert domain["mIoU"] > 90, domain
    picture = run / "queries.png"
    subprocess.run([sys.executable, "scripts/query_sheet.py", str(run), str(CAMVID / "train" / f"{FRAMES[0]}.png"), str(picture)],
                   check=True, env=environment)
    assert picture.stat().st_size > 10_000
