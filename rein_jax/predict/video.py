"""Videos frame by frame: nothing but the frames under way is in memory, however long the video is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from data_pipelines.atomic import partial_name
from data_pipelines.errors import DataError
from data_pipelines.files import shown as printable
from data_pipelines.pictures import is_video
from rein_jax.errors import UserError
from rein_jax.evaluation.answers import answers
from rein_jax.evaluation.windows import Query
from rein_jax.predict import outputs
from rein_jax.predict.inputs import Item
from rein_jax.predict.maps import MapPredictor, Maps

MOVING = ("overlay", "confidence", "entropy")  # what becomes a video; labels would suffer from its compression
# OpenCV drops the last row and column of odd sizes in all but its own Motion JPEG.
EVEN = (".mp4", "mp4v", cv2.CAP_ANY)
ANY = (".avi", "MJPG", cv2.CAP_OPENCV_MJPEG)


def _beginning(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(190)
    except OSError as error:
        raise DataError(f"{printable(str(path))} cannot be read ({error.strerror}).") from None


class Reader:
    """Frames of a video file; `read` of `stated` frames so far (stated: 0 where the file does not say)."""

    def __init__(self, path: Path, megapixels: float):
        self.path, self.read = path, 0
        if not path.is_file():  # OpenCV would wait for a named pipe
            raise DataError(f"{printable(str(path))} is not a file; write the video to a file first.")
        if not is_video(_beginning(path)):
            raise DataError(f"{printable(str(path))} is not an MP4, MOV, AVI, MKV, WebM or MPEG file, whatever its name says; convert it.")
        self.capture = cv2.VideoCapture(str(path.resolve()))
        if not self.capture.isOpened():
            raise DataError(f"{path} cannot be opened as a video; it is damaged or its codec is not known to OpenCV.")
        rate = self.capture.get(cv2.CAP_PROP_FPS)
        self.fps = rate if 0 < rate <= 1000 else 25.0  # headers hold 0, NaN and ticks of a clock
        self.stated = max(int(self.capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        width, height = (int(self.capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if width * height > megapixels * 1e6:
            self.close()
            raise DataError(f"{path} has frames of {width}x{height}; at most {megapixels:g} million pixels are accepted.")

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
    """A video of RGB frames of one size, OUT/KIND/NAME.mp4 (MPEG-4), or .avi (Motion JPEG) where the size is odd or this OpenCV
    cannot write MPEG-4. The file appears under its name when it is whole: OpenCV does not say when a disk is full."""

    def __init__(self, out: Path, kind: str, name: str, fps: float, size: tuple[int, int]):
        self.size, self.frames = size, 0
        height, width = size
        for suffix, codec, backend in (ANY,) if height % 2 or width % 2 else (EVEN, ANY):
            self.path = out / kind / f"{name}{suffix}"
            self.partial = partial_name(self.path)
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise self._failed(str(error.strerror)) from None
            self.writer = cv2.VideoWriter(str(self.partial.absolute()), backend, cv2.VideoWriter.fourcc(*codec), fps, (width, height))
            if self.writer.isOpened():
                return
            self.partial.unlink(missing_ok=True)
        raise self._failed("it cannot be opened")

    def _failed(self, why: str) -> UserError:
        return UserError(f"{printable(str(self.path))} cannot be written as a video ({why}); check the space on the disk and the rights "
                         "of the folder.")

    def add(self, frame: np.ndarray) -> None:
        """uint8 RGB [H, W, 3] or grey [H, W]."""
        if frame.shape[:2] != self.size:  # OpenCV would leave it out without a word
            raise UserError(f"frame {self.frames} is {frame.shape[1]}x{frame.shape[0]}, those before {self.size[1]}x{self.size[0]}; cut "
                            "the video where its size changes.")
        self.writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR if frame.ndim == 3 else cv2.COLOR_GRAY2BGR))
        self.frames += 1

    def close(self) -> None:
        """Writes the end of the file, reads it back and gives it its name; a UserError (and no file) if frames or pixels are lost."""
        self.writer.release()
        try:
            found = _count(self.partial, self.size)
            if found != self.frames:
                raise self._failed(f"{found} of its {self.frames} frames can be read back")
            self.partial.replace(self.path)
        except OSError as error:
            raise self._failed(str(error.strerror)) from None
        finally:
            with contextlib.suppress(OSError):
                self.partial.unlink(missing_ok=True)


def _count(path: Path, size: tuple[int, int]) -> int:
    """How many frames of that size a video file gives back."""
    capture = cv2.VideoCapture(str(path.absolute()))
    found = 0
    try:
        if (int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)), int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))) == size:
            while capture.grab():
                found += 1
    finally:
        capture.release()
    return found


def predict_video(predictor: MapPredictor, item: Item, out: Path, saves: Sequence[str], shown: outputs.Style, *, fit, megapixels: float,
                  frames: bool, progress) -> int:
    """Predict all frames of a video and write a video for the overlay, the confidence and the entropy; returns their number.

    frames: also label PNGs and probabilities for each frame, OUT/labels/NAME/000000.png. fit: image -> image at test size.
    """
    writers: dict[str, Writer] = {}
    if not frames and not set(saves) & set(MOVING):
        raise UserError(f"of a video {', '.join(saves)} are written for each frame with --frames (frames=True); or save "
                        f"{', '.join(MOVING)}.")
    kinds = [kind for kind in saves if kind in MOVING]
    with contextlib.ExitStack() as stack:
        reader = Reader(item.path, megapixels)
        stack.callback(reader.close)

        def queries() -> Iterator[Query]:
            for number, frame in enumerate(reader):
                yield Query((number, frame), fit(frame), frame.shape[:2])

        for query, maps in answers(predictor, queries()):
            number, frame = query.tag
            if isinstance(maps, Exception):
                raise UserError(f"frame {number} {maps}")
            for kind in kinds:
                if kind not in writers:
                    writers[kind] = Writer(out, kind, item.name, reader.fps, frame.shape[:2])
                    stack.callback(writers[kind].close)
                writers[kind].add(_picture(kind, frame, maps, shown))
            if frames:
                each = [kind for kind in saves if kind not in MOVING]
                outputs.write(out, f"{item.name}/{number:06d}", frame, maps, each, shown)
            progress(1)
        reader.check_complete()
    return reader.read


def _picture(kind: str, frame: np.ndarray, maps: Maps, shown: outputs.Style) -> np.ndarray:
    return outputs.overlay(frame, maps.labels, shown) if kind == "overlay" else getattr(maps, kind)
