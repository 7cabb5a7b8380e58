"""docs/library.md runs from top to bottom with stand-ins for paths and sizes; docs/extending.md shows the files that the examples use."""

import re

import cv2
import jax.numpy as jnp
import numpy as np
import pytest

import rein_jax as rj
from tests.examples.conftest import EXAMPLES
from tests.use.tiny import tiny_config, write_tiny

DOCS = EXAMPLES.parent / "docs"
BLOCK = re.compile(r"```python\n(.*?)```", re.S)
NARROW = "channels=16, groups=4, heads=2, encoder_layers=1, decoder_layers=1, encoder_ffn=16, decoder_ffn=16"
STREETS = '"streets", length=2, size=(64, 96)'
STAND_INS = {
    'rj.DINOv2.from_pretrained("dinov2_vitl14", image_size=512)':
        "rj.DINOv2(rj.backbones.ViTConfig(embed_dim=24, depth=4, num_heads=2), image_size=64)",
    "num_tokens=100, rank=16": "num_tokens=20, rank=2, query_dims=16",
    "rj.Mask2Former(backbone,": "rj.LinearHead(backbone,",  # compiled in seconds; own_loop.py trains a linked Mask2Former
    "rj.train(config,": "rj.train(tiny,",
    "in_channels=(384,) * 4, num_classes=19,": f"in_channels=(8,) * 4, num_classes=19, num_queries=20, {NARROW},",
    "rj.MaskLoss(19)": "rj.MaskLoss(19, points=64)",
    '"cityscapes", "/data/cityscapes"': STREETS, '"acdc", "/data/acdc"': STREETS,
    "crop=512, batch_size=16": "crop=64, batch_size=2", "range(40_000)": "range(2)",
}  # fmt: skip


class Mine:
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return {"image": np.full((64, 96, 3), 40 * index, np.uint8), "label": np.full((64, 96), index)}


def test_the_blocks_of_the_library_page_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_tiny(tmp_path / "runs/mine/model.safetensors", "lora")
    cv2.imwrite("street.jpg", np.zeros((64, 96, 3), np.uint8))
    tiny = tiny_config("rein")
    tiny.data.train, tiny.eval.domains = [rj.data.open(Mine(), classes=rj.CITYSCAPES)], []
    tiny.data.crop, tiny.data.resize, tiny.train.steps, tiny.train.batch = (64, 64), "none", 1, 2
    names = {"tiny": tiny, "my_blocks": [lambda x: x] * 12, "x": jnp.ones((1, 5, 768)), "my_source": Mine(),
             "maps": [jnp.ones((1, side, side, 8)) for side in (16, 8, 4, 2)], "labels": jnp.zeros((1, 64, 64), int)}  # fmt: skip
    page = (DOCS / "library.md").read_text(encoding="utf-8")
    blocks = BLOCK.findall(page)
    assert len(blocks) == 8 and all(stand_in in "".join(blocks) for stand_in in STAND_INS)
    for number, code in enumerate(blocks):
        for shown, small in STAND_INS.items():
            code = code.replace(shown, small)
        exec(compile(code, f"docs/library.md, block {number}", "exec"), names)
    assert names["run"].results["steps"] == 1 and names["config"].data.root == "/data"
    assert names["scores"].shape == (1, 64, 64, 19) and jnp.isfinite(names["loss"])


@pytest.mark.parametrize("part", ["backbone", "adapter", "head", "dataset", "augmentation"])
def test_the_page_of_own_parts_shows_files_that_run(part):
    """`test_scripts.py::test_own_parts` trains with these very files."""
    code = (EXAMPLES / f"my_parts/{part}.py").read_text(encoding="utf-8")
    assert code in BLOCK.findall((DOCS / "extending.md").read_text(encoding="utf-8"))
    assert len(code.splitlines()) <= 32
