"""Zips for the ACDC and Cityscapes servers, from miniature data sets, looked at file by file."""

import errno
import io
import shlex
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from data_pipelines import open_source
from data_pipelines.labels import CITYSCAPES_IDS
from rein_jax.cli.main import main as rein
from rein_jax.cli.submit import EPILOG, main
from rein_jax.errors import UserError
from rein_jax.evaluation.predictions import write_prediction
from rein_jax.predict.inputs import find
from rein_jax.predict.submission import label_ids, submission, verify

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from miniatures import build  # noqa: E402


def predicted(server, tmp_path, split):
    """(root of a miniature data set, folder of predictions, {image name: labels})."""
    root = build(server, tmp_path / "data").root
    source = open_source(server, split=split, source=root)
    random, truth = np.random.default_rng(0), {}
    for i in range(len(source)):
        item = source[i]
        truth[item["name"]] = random.integers(0, 19, item["image"].shape[:2], dtype=np.uint8)
        write_prediction(tmp_path / "predictions", item["name"], truth[item["name"]])
    return root, tmp_path / "predictions", truth


def test_acdc_zip_holds_train_ids_under_the_images_names(tmp_path, capsys):
    root, folder, truth = predicted("acdc", tmp_path, "val")
    assert main(["acdc", str(folder), "--source", str(root), "--split", "val", "--out", str(tmp_path / "acdc.zip")]) == 0
    assert f"{len(truth)} files of train ids" in capsys.readouterr().out
    with zipfile.ZipFile(tmp_path / "acdc.zip") as archive:
        assert sorted(archive.namelist()) == sorted(Path(name).name for name in truth)
        for name, labels in truth.items():
            assert Path(name).name.endswith("_rgb_anon.png")
            with Image.open(io.BytesIO(archive.read(Path(name).name))) as image:
                assert image.mode == "L" and (np.array(image) == labels).all()


def test_of_a_folder_of_rein_predict_only_the_labels_are_taken(tmp_path):
    _, folder, truth = predicted("acdc", tmp_path, "val")
    (tmp_path / "out").mkdir()
    folder.rename(tmp_path / "out" / "labels")
    for name, labels in truth.items():
        write_prediction(tmp_path / "out" / "overlay", name, np.zeros((*labels.shape, 3), np.uint8))
    made = submission("acdc", tmp_path / "out", tmp_path / "x.zip", list(truth), next(iter(truth.values())).shape[::-1])
    assert made["files"] == len(truth)


def test_the_example_of_the_help_finds_the_test_images_of_acdc(tmp_path):
    root = build("acdc", tmp_path / "data").root
    pattern = shlex.split(EPILOG.splitlines()[1])[3]
    found = find([pattern.replace("/data/acdc", str(root))], tmp_path / "out")
    source = open_source("acdc", split="test", source=root)
    assert sorted(item.name for item in found) == sorted(Path(source.entry_name(i)).stem for i in range(len(source)))


def test_cityscapes_zip_holds_label_ids(tmp_path):
    root, folder, truth = predicted("cityscapes", tmp_path, "val")
    source = open_source("cityscapes", split="val", source=root)
    names = [source.entry_name(i) for i in range(len(source))]
    height, width = source[0]["image"].shape[:2]
    made = submission("cityscapes", folder, tmp_path / "c.zip", names, (width, height))
    assert made["files"] == len(truth) and verify("cityscapes", tmp_path / "c.zip", (width, height)) == len(truth)
    with zipfile.ZipFile(tmp_path / "c.zip") as archive:
        for name, labels in truth.items():
            stem = Path(name).name.removesuffix("_leftImg8bit.png")
            with Image.open(io.BytesIO(archive.read(f"{stem}_pred_labelIds.png"))) as image:
                assert (CITYSCAPES_IDS.table[np.array(image)] == labels).all()
    assert label_ids().tolist() == [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]


def test_wrong_submissions_are_refused_and_leave_nothing_behind(tmp_path):
    _, folder, truth = predicted("acdc", tmp_path, "val")
    names, size, out = list(truth), next(iter(truth.values())).shape[::-1], tmp_path / "x.zip"
    first = folder / Path(names[0]).with_suffix(".png")
    with pytest.raises(UserError, match="but the test set of ACDC has 2000"):
        submission("acdc", folder, out)
    with pytest.raises(UserError, match="but ACDC asks for 1920x1080"):
        submission("acdc", folder, out, names)
    with pytest.raises(UserError, match="have no prediction in"):
        submission("acdc", folder, out, [*names, "rgb_anon/fog/test/GOPR9999/GOPR9999_frame_000001_rgb_anon.png"], size)
    with pytest.raises(UserError, match="belongs to no image of the test set"):
        submission("acdc", folder, out, names[1:], size)
    labels = truth[names[0]].copy()
    labels[0, 0] = 255
    cv2.imwrite(str(first), labels)
    with pytest.raises(UserError, match="holds the value 255"):
        submission("acdc", folder, out, names, size)
    cv2.imwrite(str(first), np.zeros((*labels.shape, 3), np.uint8))
    with pytest.raises(UserError, match="is a RGB image"):
        submission("acdc", folder, out, names, size)
    (folder / "notes.png").write_bytes(first.read_bytes())
    with pytest.raises(UserError, match="notes.png is not named like an image of ACDC"):
        submission("acdc", folder, out, names, size)
    assert not list(tmp_path.glob("x.zip*"))
    out.write_text("mine")
    (folder / "notes.png").unlink()
    cv2.imwrite(str(first), truth[names[0]])
    with pytest.raises(UserError, match="exists already"):
        submission("acdc", folder, out, names, size)
    with pytest.raises(UserError, match="Unknown server"):
        submission("kitti", folder, out)
    assert out.read_text() == "mine"


def test_a_full_disk_leaves_no_half_zip(tmp_path, monkeypatch, capsys):
    root, folder, _ = predicted("acdc", tmp_path, "val")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    out = tmp_path / "zips" / "acdc.zip"
    assert rein(["submit", "acdc", str(folder), "--source", str(root), "--split", "val", "--out", str(out)]) == 2
    assert f"rein submit: {out}: No space left on device; free" in capsys.readouterr().err and not list(out.parent.iterdir())
