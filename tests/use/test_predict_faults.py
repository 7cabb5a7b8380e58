"""`rein predict` where the disk is full, memory runs out, names are long or hostile, and videos are odd: the rest is done and said."""

import os
import resource
import shutil

import cv2
import jax
import numpy as np
import pytest

from rein_jax.cli.main import main
from rein_jax.errors import UserError
from rein_jax.evaluation.answers import answers, out_of_memory
from rein_jax.evaluation.windows import Query
from rein_jax.predict import inputs, predict_files, run
from rein_jax.predict import video as videos
from rein_jax.predict.inputs import LONGEST
from rein_jax.predict.maps import MapPredictor


def clip(path, scenes, size, frames=3):
    """A video of that size (height, width), odd ones too."""
    writer = videos.Writer(path.parent, ".", path.stem, 10, size)
    for i in range(frames):
        writer.add(cv2.resize(scenes[i % 4], size[::-1]))
    writer.close()
    return writer.path


def shape_of(path):
    """(height, width, frames) that can be read back."""
    capture, frames = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        frames.append(read[1].shape[:2])
    assert len(set(frames)) == 1
    return (*frames[0], len(frames))


@pytest.mark.parametrize("size", [(73, 97), (72, 97), (73, 96), (72, 96), (33, 35)])
def test_videos_of_odd_sizes_lose_nothing(size, model_file, scenes, tmp_path):
    source = clip(tmp_path / "drive.avi", scenes, size)
    assert shape_of(source) == (*size, 3)
    kinds = ("overlay", "confidence", "entropy")
    summary = predict_files(str(model_file), [str(source)], tmp_path / "out", saves=kinds, opacity=0.0, progress=False)
    assert (summary.frames, summary.failed) == (3, {})
    for kind in kinds:
        [made] = (tmp_path / "out" / kind).iterdir()
        assert shape_of(made) == (*size, 3) and made.suffix == (".mp4" if size == (72, 96) else ".avi")
    shown = cv2.VideoCapture(str(next((tmp_path / "out/overlay").iterdir()))).read()[1]
    original = cv2.VideoCapture(str(source)).read()[1]
    assert np.abs(shown[-1].astype(int) - original[-1]).mean() < 12  # with opacity 0 the last row is that of the frame


class Small:
    """No file grows beyond so many bytes: what is written beyond fails, as on a full disk."""

    def __init__(self, most):
        self.most = most

    def __enter__(self):
        self.before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.most, self.before[1]))

    def __exit__(self, *_):
        resource.setrlimit(resource.RLIMIT_FSIZE, self.before)


@pytest.mark.parametrize("size", [(64, 96), (65, 97)])
def test_a_video_on_a_full_disk_is_a_failure(size, model_file, scenes, tmp_path, capsys):
    source = clip(tmp_path / "drive.avi", scenes, size, frames=12)
    old = tmp_path / "out/overlay/drive.mp4"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"a good one of before")
    with Small(3000):
        assert main(["predict", str(model_file), str(source), "--out", str(tmp_path / "out"), "--save", "overlay"]) == 1
    printed = capsys.readouterr().out
    assert "0 images ->" in printed and "12 video frames" not in printed
    assert "can be read back" in printed and "check the space on the disk" in printed
    assert old.read_bytes() == b"a good one of before" and os.listdir(old.parent) == [old.name]  # no half file, none overwritten


def test_pictures_on_a_full_disk_are_listed(model_file, folder, tmp_path, capsys):
    with Small(700):
        assert main(["predict", str(model_file), str(folder / "0.png"), str(folder / "sub"), "--out", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr().out
    assert printed.count("cannot be written (File too large)") == 2 and "0 images" in printed
    assert not [path for path in (tmp_path / "out").rglob("*") if "partial" in path.name]


def test_a_frame_of_another_size_is_said(tmp_path):
    writer = videos.Writer(tmp_path, "overlay", "x", 10, (32, 48))
    writer.add(np.zeros((32, 48, 3), np.uint8))
    with pytest.raises(UserError, match="frame 1 is 50x32, those before 48x32"):
        writer.add(np.zeros((32, 50, 3), np.uint8))
    writer.close()


class Hungry:
    """A predictor's stream that finds no memory for large images: for its batch, and for each alone."""

    def __init__(self, most, error):
        self.most, self.error, self.calls = most, error, 0

    def stream(self, queries):
        self.calls += 1
        held = []
        for query in queries:
            if query.image.size > self.most:
                raise self.error
            held.append(query)
            if len(held) > 2:
                yield held.pop(0)
        yield from held


NO_MEMORY = [MemoryError(), np._core._exceptions._ArrayMemoryError((9, 9), np.dtype("f4")),
             jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 4864000000 bytes.")]


@pytest.mark.parametrize("error", NO_MEMORY, ids=lambda error: type(error).__name__)
def test_one_image_without_memory_costs_only_itself(error):
    sizes = [8, 8, 99, 8, 99, 99, 8, 8]
    queries = [Query(i, np.zeros((n, n, 3), np.uint8), (n, n)) for i, n in enumerate(sizes)]
    found = list(answers(Hungry(1000, error), iter(queries)))
    assert [query.tag for query, _ in found] == list(range(len(sizes)))
    assert [isinstance(answer, UserError) for _, answer in found] == [n == 99 for n in sizes]
    assert "99x99 pixels" in str(found[2][1])
    with pytest.raises(ValueError, match="another"):
        list(answers(Hungry(1000, ValueError("another")), iter(queries)))


def test_opencv_without_memory():
    error = cv2.error("Insufficient memory (Failed to allocate 128849018880 bytes)")
    error.code = cv2.Error.StsNoMem
    assert out_of_memory(error)
    error.code = cv2.Error.StsBadArg
    assert not out_of_memory(error) and not out_of_memory(ValueError("out of memory"))


@pytest.mark.parametrize("error", NO_MEMORY, ids=lambda error: type(error).__name__)
def test_out_of_memory_on_one_picture_leaves_the_others_and_the_summary(error, model_file, folder, scenes, tmp_path, monkeypatch, capsys):
    cv2.imwrite(str(folder / "sub/large.png"), cv2.resize(scenes[3], (400, 300)))
    opened = MapPredictor._open

    def hungry(self, query, lane):
        if query.image.shape[0] == 300:
            raise error
        return opened(self, query, lane)

    monkeypatch.setattr(MapPredictor, "_open", hungry)
    assert main(["predict", str(model_file), str(folder), "--out", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr().out
    assert "3 images" in printed and "large.png: needs more memory than there is (400x300 pixels" in printed
    assert len(list((tmp_path / "out/labels").rglob("*.png"))) == 3


def test_no_memory_to_decode_one_picture(model_file, folder, tmp_path, monkeypatch):
    read = run.pixels.read

    def hungry(path, most):
        if path.name == "0.jpg":
            raise MemoryError
        return read(path, most)

    monkeypatch.setattr(run.pixels, "read", hungry)
    summary = predict_files(str(model_file), [str(folder / "0.jpg"), str(folder / "0.png")], tmp_path / "out", progress=False)
    assert summary.images == 1 and ["too little memory" in why for why in summary.failed.values()] == [True]


@pytest.mark.parametrize("error, code", [(KeyboardInterrupt(), 130), (MemoryError(), 2), (OSError(28, "No space left on device"), 2)])
def test_the_summary_comes_whatever_ends_the_command(error, code, model_file, folder, tmp_path, monkeypatch, capsys):
    def broken(job, items, summary, bar):
        summary.images = 2
        raise error

    monkeypatch.setattr(run, "run", broken)
    assert main(["predict", str(model_file), str(folder), "--out", str(tmp_path / "out")]) == code
    found = capsys.readouterr()
    assert found.out.startswith("2 images ->") and "Traceback" not in found.err


def test_out_of_memory_on_a_frame_ends_that_video_alone(model_file, video, folder, tmp_path, monkeypatch, scenes):
    opened = MapPredictor._open

    def hungry(self, query, lane):
        if isinstance(query.tag[0], int) and query.tag[0] == 5:
            raise MemoryError
        return opened(self, query, lane)

    monkeypatch.setattr(MapPredictor, "_open", hungry)
    shutil.copy(video, tmp_path / "second.mp4")
    summary = predict_files(str(model_file), [str(video), str(folder / "0.png")], tmp_path / "out", progress=False)
    assert summary.images == 1 and "frame 5 needs more memory" in summary.failed[str(video.resolve())]
    assert shape_of(tmp_path / "out/overlay/drive.mp4") == (64, 96, 5)  # those before are kept


def test_names_as_long_as_file_systems_allow(model_file, folder, tmp_path):
    source = tmp_path / "long"
    source.mkdir()
    names = [*("n" * n + ".jpg" for n in (200, 238, 246, 250, 251)), "東" * 83 + ".jpg", "n" * 250 + ".png", "m" * 250 + ".jpeg",
             "cam.0.left.2024-01-01T10:00:00.jpg", "with space %20 #1 ünï.jpg", "new\nline.jpg", "\x1b" * 80 + ".jpg"]
    for name in names:
        shutil.copy(folder / "0.jpg", source / name)
    summary = predict_files(str(model_file), [str(source)], tmp_path / "out", saves=["labels", "probabilities"], progress=False)
    assert (summary.images, summary.failed) == (len(names), {})
    made = os.listdir(tmp_path / "out/labels")
    assert len(made) == len(names) == len(os.listdir(tmp_path / "out/probabilities")) and "n" * 251 + ".png" in made
    assert all(len(os.fsencode(name)) <= 255 and name.isprintable() for name in made)


def test_long_names_stay_apart_in_folders_and_numbers(tmp_path):
    found = {tmp_path / str(i): f"{'d' * 255}/{'n' * 250}{i}.jpg.png" for i in range(3)} | {tmp_path / "x": f"{'n' * 255}"}
    items = inputs._unique(found)
    assert len({item.name for item in items}) == 4
    assert all(len(part.encode()) <= LONGEST for item in items for part in item.name.split("/"))
    same = inputs._unique({tmp_path / "a": "n" * 260, tmp_path / "b": "n" * 260})
    assert same[0].name != same[1].name and len(same[1].name) <= LONGEST


@pytest.mark.parametrize("name", ["pipe.png", "pipe.mp4", "pipe"])
def test_a_named_pipe_is_never_waited_for(name, model_file, folder, tmp_path, capsys):
    os.mkfifo(tmp_path / name)
    assert main(["predict", str(model_file), str(tmp_path / name), str(folder / "0.png"), "--out", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr().out
    assert "1 image " in printed and "1 could not be predicted" in printed and ("pipe" in printed)


def test_a_named_pipe_as_palette(model_file, folder, tmp_path, capsys):
    os.mkfifo(tmp_path / "palette.txt")
    assert main(["predict", str(model_file), str(folder / "0.png"), "--out", str(tmp_path / "out"), "--palette",
                 str(tmp_path / "palette.txt")]) == 2
    assert "palette.txt is a named pipe" in capsys.readouterr().err


def test_names_cannot_steer_the_terminal(model_file, folder, tmp_path, capsys):
    evil = tmp_path / "\x1b]0;owned\x07\x1b[2Jx.png"
    evil.write_text("no picture")
    assert main(["predict", str(model_file), str(evil), str(folder / "0.png"), "--out", str(tmp_path / "out")]) == 1
    assert main(["predict", str(model_file), str(tmp_path / "\x1b[31mmissing.png")]) == 2
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err and r"\x1b]0;owned\x07\x1b[2Jx.png" in printed.out


def test_a_watched_folder_that_vanishes(model_file, tmp_path):
    (tmp_path / "in").mkdir()
    job, summary = run.prepare(str(model_file), tmp_path / "out"), run.Summary(tmp_path / "out")
    seen = []

    def below(folder, out):
        seen.append(1)
        if len(seen) == 2:
            (tmp_path / "in").rmdir()
        return []

    with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError, match="in is not a folder, or not any more"):
        patch.setattr(run.inputs, "below", below)
        run.watch(job, tmp_path / "in", summary, every=0.0)


@pytest.mark.parametrize("stated, taken", [(0.0, 25.0), (float("nan"), 25.0), (90_000.0, 25.0), (29.97, 29.97), (float("inf"), 25.0)])
def test_a_frame_rate_that_is_none(stated, taken, video, monkeypatch):
    """Headers of webcams and phones hold such rates; OpenCV would write no video at them."""
    get = cv2.VideoCapture.get

    class Capture:
        def __init__(self, path):
            self.real = cv2_capture(path)

        def get(self, key):
            return stated if key == cv2.CAP_PROP_FPS else get(self.real, key)

        def __getattr__(self, name):
            return getattr(self.real, name)

    cv2_capture = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    reader = videos.Reader(video, 64)
    assert reader.fps == taken
    reader.close()


def test_a_video_of_labels_alone_needs_frames(model_file, video, tmp_path):
    """Once it counted the frames and wrote nothing."""
    summary = predict_files(str(model_file), [str(video)], tmp_path / "out", saves=["labels", "probabilities"], progress=False)
    assert summary.frames == 0 and "labels, probabilities are written for each frame with --frames" in str(summary.failed)
    summary = predict_files(str(model_file), [str(video)], tmp_path / "out", saves=["labels"], frames=True, progress=False)
    assert (summary.frames, summary.failed) == (8, {}) and len(list((tmp_path / "out/labels/drive").iterdir())) == 8
