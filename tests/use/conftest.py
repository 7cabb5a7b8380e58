"""One tiny model file and a few scenes for all tests of what people do with a model."""

import cv2
import numpy as np
import pytest

from data_pipelines import open_source
from tests.use.tiny import write_tiny


@pytest.fixture(scope="session")
def model_file(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("model") / "tiny.safetensors", "lora")


@pytest.fixture(scope="session")
def scenes():
    """Four uint8 RGB scenes [64, 96, 3]."""
    source = open_source("streets", split="val", style="night", length=4, size=(64, 96))
    return [source[i]["image"] for i in range(4)]


@pytest.fixture
def folder(tmp_path, scenes):
    """in/0.png, in/0.jpg, in/sub/1.png; an SVG called .png, a truncated JPEG and a bomb of 50000 x 50000 pixels."""
    root = tmp_path / "in"
    (root / "sub").mkdir(parents=True)
    for name, image in (("0.png", scenes[0]), ("0.jpg", scenes[1]), ("sub/1.png", scenes[2])):
        cv2.imwrite(str(root / name), image[..., ::-1])
    (root / "vector.png").write_text("<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>")
    (root / "cut.jpg").write_bytes((root / "0.jpg").read_bytes()[:500])
    (root / "bomb.png").write_bytes(png_header(50_000, 50_000) + (root / "0.png").read_bytes()[33:])
    return root


def png_header(width: int, height: int) -> bytes:
    """Signature and IHDR of a PNG of that size, with the right checksum."""
    import struct
    import zlib

    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


@pytest.fixture
def video(tmp_path, scenes):
    """Eight frames at 10 a second."""
    path = tmp_path / "drive.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (96, 64))
    for i in range(8):
        writer.write(np.ascontiguousarray(scenes[i % 4][..., ::-1]))
    writer.release()
    return path
