"""Videos frame by frame: nothing but the frames under way is in memory, however long the video is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from data_pipelines.errors import DataError
from rein_jax.errors import UserError
from rein_jax.evaluation.windows import Query
from rein_jax.predict import outputs
from rein_jax.predict.inputs import Item
from rein_jax.predict.maps import MapPredictor, Maps

CODECS = ((".mp4", "mp4v"), (".avi", "MJPG"))


class Reader:
    """Frames of a video file; `read` of `stated` frames so far (stated: 0 where the file does not say)."""

    def __init__(self, path: Path, megapixels: float):
        self.path, self.read = path, 0
        self.capture = cv2.VideoCapture(str(path.resolve()))
        if not self.capture.isOpened():
            raise DataError(f"{path} cannot be opened as a video; it is damaged or its codec is not known to OpenCV.")
        self.fps = self.capture.get(cv2.CAP_PROP_FPS) or 25.0
        self.stated = max(int(self.capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        width, height = (int(self.capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if width * height > megapixels * 1e6:
            self.close()
            raise DataError(f"{path} has frames of {width}x{height}; at most {megapixels:g} million pixels are taken.")

    def __iter__(self) -> Iterator[np.ndarray]:
        """uint8 [H, W, 3] RGB."""
        while True:
            there, frame = self.capture.read()
            if not there:
                return
            self.read += 1
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)

    def check_complete(self) -> None:
        """DataError if frames are missing at the end. Containers count a frame or two differently, so that is let pass."""
        if not self.read:
            raise DataError(f"{self.path} holds no frame that can be decoded.")
        if self.read < self.stated - 2:
            raise DataError(f"{self.path} ends after {self.read} of {self.stated} frames; the result holds those. Fetch the file again.")

    def close(self) -> None:
        """Lets the file go."""
        self.capture.release()


class Writer:
    """A video of RGB frames, OUT/KIND/NAME.mp4 (MPEG-4), or .avi (Motion JPEG) where this OpenCV cannot write MPEG-4."""

    def __init__(self, out: Path, kind: str, name: str, fps: float, size: tuple[int, int]):
        height, width = size
        (out / kind / name).parent.mkdir(parents=True, exist_ok=True)
        for suffix, codec in CODECS:
            self.path = out / kind / f"{name}{suffix}"
            self.writer = cv2.VideoWriter(str(self.path.resolve()), cv2.VideoWriter.fourcc(*codec), fps, (width, height))
            if self.writer.isOpened():
                return
            self.path.unlink(missing_ok=True)
        raise UserError(f"{self.path} cannot be written as a video; check the disk and the rights of its folder.")

    def add(self, frame: np.ndarray) -> None:
        """uint8 RGB [H, W, 3] or grey [H, W]."""
        self.writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR if frame.ndim == 3 else cv2.COLOR_GRAY2BGR))

    def close(self) -> None:
        """Writes the end of the file."""
        self.writer.release()


def predict_video(predictor: MapPredictor, item: Item, out: Path, saves: Sequence[str], shown: outputs.Style, *, fit, megapixels: float,
                  frames: bool, progress) -> int:
    """Predict all frames of a video and write a video for the overlay, the confidence and the entropy; returns their number.

    frames: also label PNGs and probabilities for each frame, OUT/labels/NAME/000000.png. fit: image -> image at test size.
    """
    reader, writers = Reader(item.path, megapixels), {}
    kinds = [kind for kind in saves if kind in ("overlay", "confidence", "entropy")]

    def queries() -> Iterator[Query]:
        for number, frame in enumerate(reader):
            yield Query((number, frame), fit(frame), frame.shape[:2])

    try:
        for maps in predictor.stream(queries()):
            number, frame = maps.tag
            for kind in kinds:
                if kind not in writers:
                    writers[kind] = Writer(out, kind, item.name, reader.fps, frame.shape[:2])
                writers[kind].add(_picture(kind, frame, maps, shown))
            if frames:
                each = [kind for kind in saves if kind in ("labels", "probabilities")]
                outputs.write(out, f"{item.name}/{number:06d}", frame, maps, each, shown)
            progress(1)
        reader.check_complete()
    finally:
        reader.close()
        for writer in writers.values():
            writer.close()
    return reader.read


def _picture(kind: str, frame: np.ndarray, maps: Maps, shown: outputs.Style) -> np.ndarray:
    return outputs.overlay(frame, maps.labels, shown) if kind == "overlay" else getattr(maps, kind)
