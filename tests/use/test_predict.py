"""`rein predict`: results equal the evaluation's, what fails is listed, nothing leaves the folder."""

import cv2
import numpy as np
import pytest

from data_pipelines.labels import CITYSCAPES_IDS
from rein_jax import Segmenter, build, trees
from rein_jax.cli.main import main
from rein_jax.errors import UserError
from rein_jax.evaluation.windows import Predictor
from rein_jax.predict import inputs, outputs, pixels, predict_files
from rein_jax.predict.run import Summary, prepare, watch
from tests.use.tiny import tiny_model


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_folder_with_bad_files(model_file, folder, tmp_path, capsys):
    before, out = files(tmp_path), tmp_path / "out"
    kinds = ["labels", "overlay", "confidence", "entropy", "probabilities"]
    assert main(["predict", str(model_file), str(folder), "--out", str(out), "--save", *kinds]) == 1
    printed = capsys.readouterr().out
    assert "3 images" in printed and "3 could not be predicted" in printed
    for name in ("vector.png", "cut.jpg", "bomb.png"):
        assert sum(name in line for line in printed.splitlines()) == 1
    assert [name for name in files(tmp_path) if not name.startswith("out/")] == before
    assert files(out) == sorted(f"{kind}/{name}.{'npz' if kind == 'probabilities' else 'png'}" for kind in kinds
                                for name in ("0.jpg", "0.png", "sub/1"))

    image = cv2.imread(str(folder / "sub/1.png"))[..., ::-1]
    module_def, params, _ = build.load_parts(model_file)
    expected = Predictor(module_def, params, classes=19, window=64, stride=32, batch=2)(np.ascontiguousarray(image))
    labels = cv2.imread(str(out / "labels/sub/1.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(labels, expected)
    with np.load(out / "probabilities/sub/1.npz") as file:
        p, names = file["probabilities"].astype(np.float64), list(file["classes"])
    assert p.shape == (*labels.shape, 19) and names[0] == "road"
    np.testing.assert_allclose(p.sum(-1), 1, atol=5e-3)
    grey = {kind: cv2.imread(str(out / kind / "sub/1.png"), cv2.IMREAD_UNCHANGED) for kind in ("confidence", "entropy")}
    np.testing.assert_allclose(grey["confidence"], 255 * p.max(-1), atol=0.7)
    np.testing.assert_allclose(grey["entropy"], 255 * -(p * np.log(p + 1e-12)).sum(-1) / np.log(19), atol=1.0)


def test_video_is_streamed(model_file, video, tmp_path):
    summary = predict_files(str(model_file), [str(video)], tmp_path / "out", frames=True, progress=False)
    assert (summary.frames, summary.failed) == (8, {})
    capture = cv2.VideoCapture(str(tmp_path / "out/overlay/drive.mp4"))
    assert int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == 8 and capture.get(cv2.CAP_PROP_FPS) == 10
    assert len(files(tmp_path / "out/labels/drive")) == 8
    (tmp_path / "broken.mp4").write_bytes(video.read_bytes()[:200])
    summary = predict_files(str(model_file), [str(tmp_path / "broken.mp4"), str(video)], tmp_path / "out", progress=False)
    assert summary.frames == 8 and list(summary.failed) == [str((tmp_path / "broken.mp4").resolve())]


def test_watch_takes_files_when_they_are_whole(model_file, folder, tmp_path, scenes, monkeypatch):
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    job, summary, notes = prepare(str(model_file), incoming / "out"), Summary(incoming / "out"), []
    data = cv2.imencode(".png", scenes[0])[1].tobytes()

    class Time:
        """While `watch` sleeps, another part of the file arrives."""

        now, parts = 0.0, [data[:100], data[100:200], data[200:]]

        def monotonic(self):
            return self.now

        def sleep(self, seconds):
            self.now += seconds
            with (incoming / "late.png").open("ab") as file:
                file.write(self.parts.pop(0) if self.parts else b"")

    monkeypatch.setattr("rein_jax.predict.run.time", Time())
    watch(job, incoming, summary, every=1, idle=5, note=notes.append)  # `out` lies below and is not taken as input
    assert summary.images == 1 and summary.failed == {} and notes == [f"{(incoming / 'late.png').resolve()}: done"]


def test_names_are_unique_and_stay_below(tmp_path):
    for name in ("a/x.png", "a/x.jpg", "b/x.png", "a/y.png", "z.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = inputs.find([str(tmp_path), str(tmp_path / "a/x.png"), str(tmp_path / "**/*.png")], tmp_path / "b")
    assert {item.name for item in found} == {"a/x.png", "a/x.jpg", "a/y"}
    two = inputs.find([str(tmp_path / "a/x.png"), str(tmp_path / "b/../b/x.png")], tmp_path / "out")
    assert len({item.name for item in two}) == 2 and not any(".." in item.name for item in two)


def test_styles(model_file, tmp_path):
    classes = tiny_model("freeze").classes
    labels = np.arange(19, dtype=np.uint8)[None]
    ids = outputs.style(classes, ids="labels").ids[labels]
    np.testing.assert_array_equal(CITYSCAPES_IDS(ids, "x"), labels)
    palette = tmp_path / "palette.txt"
    palette.write_text("\n".join(f"c{i} {i} 0 {i}" for i in range(19)))
    shown = outputs.style(classes, palette=palette, opacity=1.0)
    np.testing.assert_array_equal(outputs.overlay(np.zeros((1, 19, 3), np.uint8), labels, shown)[0, 3], (3, 0, 3))
    palette.write_text("road 1 2 3")
    for bad in (dict(palette=palette), dict(ids="1,2"), dict(ids="all"), dict(opacity=2), dict(palette=tmp_path / "none")):
        with pytest.raises(ValueError, match="19|none|opacity|ids"):
            outputs.style(classes, **bad)


@pytest.mark.parametrize("arguments, word", [
    (["MODEL"], "at least one picture"),
    (["MODEL", "missing.png"], "does not exist"),
    (["MODEL", "*.gif"], "matches no file"),
    (["missing.safetensors", "IMAGE"], "does not exist"),
    (["MODEL", "IMAGE", "--save", "depth"], "depth"),
])  # fmt: skip
def test_mistakes_are_one_sentence(arguments, word, model_file, folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    places = {"MODEL": str(model_file), "IMAGE": str(folder / "0.png")}
    assert main(["predict", *(places.get(a, a) for a in arguments)]) == 2
    assert word in capsys.readouterr().err


def test_reading_looks_at_the_header_first(folder):
    with pytest.raises(ValueError, match="50000x50000|more pixels"):
        pixels.read(folder / "bomb.png")
    with pytest.raises(ValueError, match="at most 0.001 million"):
        pixels.read(folder / "0.png", 0.001)


def test_public_predict_of_images(model_file, scenes):
    model = Segmenter.from_pretrained(model_file)
    found = model.predict(np.stack(scenes[:2]))
    assert all(one.labels.shape == (64, 96) and one.labels.dtype == np.uint8 for one in found)
    assert trees.count(trees.flatten(model)) > 0
    with pytest.raises(UserError):
        model.predict(np.zeros((1, 8, 8, 3), np.float32))
