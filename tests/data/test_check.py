"""rein data check: what it finds, its exit codes, its sheet and JSON."""

import json
import re

import cv2
import numpy as np
import pytest

from data_pipelines import open_source
from data_pipelines.check import check
from data_pipelines.checkreport import describe, write
from data_pipelines.errors import DataError
from rein_jax.cli import data as command
from rein_jax.errors import UserError
from tests.data.miniatures import STYLES, build, png, scene


@pytest.mark.parametrize("style", STYLES)
def test_every_miniature_goes_through_and_lacks_only_pairs(style, tmp_path):
    made = build(style, tmp_path)
    name = style.partition(":")[0]
    report, picture = check(name, made.root, partial=True, jobs=2, **({"size": "half"} if style.endswith(":half") else {}))
    assert report.fit and not report.reasons
    assert picture.dtype == np.uint8 and picture.ndim == 3
    for split, part in report.splits.items():
        assert part.count == part.checked == len(made.truth[split]) if name != "folder" else part.count
        assert not part.problems
        if name != "folder" and split != "test":
            truth = np.concatenate([label.ravel() for label in made.truth[split].values()])
            assert part.void_pixels == (truth == 255).sum()
            assert list(part.pixels.values()) == np.bincount(truth, minlength=256)[:19].tolist()
    if name != "folder":
        full, _ = check(name, made.root, jobs=2, sample=1, **({"size": "half"} if style.endswith(":half") else {}))
        assert not full.fit and "instead of the published" in full.reasons[0]


def test_what_is_wrong_is_listed(tmp_path):
    build("bdd100k", tmp_path)
    images, masks = tmp_path / "bdd100k/images/10k/train", tmp_path / "bdd100k/labels/sem_seg/masks/train"
    pictures, labels = sorted(images.iterdir()), sorted(masks.iterdir())
    labels[0].unlink()
    pictures[1].write_bytes(pictures[1].read_bytes()[:300])
    labels[2].write_bytes(png(np.full((48, 96), 200, np.uint8)))
    (masks / "stray.png").write_bytes(labels[3].read_bytes())
    labels[3].write_bytes(png(np.full((48, 96), 255, np.uint8)))
    report, _ = check("bdd100k", tmp_path, splits=("train",), partial=True)
    part = report.splits["train"]
    assert not report.fit and len(part.problems) == 3
    text = " ".join(part.problems.values())
    assert "has no label" in text and "is truncated" in text and "label value 200" in text
    warnings = " ".join(part.warnings.values())
    assert "stray.png is a label without an image" in warnings and "void everywhere" in warnings and "other sizes" in warnings
    assert part.label_values[200] == 48 * 96


def test_command_writes_sheet_and_json_and_says_fit(tmp_path, capsys):
    made = build("camvid", tmp_path / "raw")
    out = tmp_path / "out"
    arguments = ["check", "camvid", "--source", str(made.root), "--out", str(out), "--jobs", "2"]
    assert command.main(arguments) == 1  # fewer pairs than published
    assert command.main([*arguments, "--partial", "--json"]) == 0
    printed = capsys.readouterr().out
    written = json.loads((out / "check.json").read_text())
    assert json.loads(printed[printed.rindex("\n{") + 1 :]) == written
    assert written["fit"] and written["splits"]["train"]["sizes"] == {"96x48": 6}
    assert cv2.imread(str(out / "sheet.png")).shape[1] > 1500


def test_wrong_usage(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        command.main(["check", "gtav", "--source", str(tmp_path / "no")])
    with pytest.raises(UserError, match="write KEY=VALUE"):
        command.main(["check", "gtav", "--option", "x"])
    with pytest.raises(SystemExit) as stop:
        command.main(["check"])
    assert stop.value.code == 2


def test_list(capsys):
    assert command.main(["list"]) == 0
    assert "cityscapes" in capsys.readouterr().out
    assert command.main(["list", "acdc"]) == 0
    assert "Licence" in capsys.readouterr().out


def test_sheet_shows_the_label_where_it_is():
    from data_pipelines.labels import CITYSCAPES
    from data_pipelines.sheet import overlay

    image, label = scene(5)
    laid = overlay(image, label, CITYSCAPES, strength=1.0)
    real = label != 255
    np.testing.assert_array_equal(laid[real], np.asarray(CITYSCAPES.palette, np.uint8)[label[real]])


def test_the_advice_policy_skip_can_be_followed(tmp_path, capsys):
    build("bdd100k", tmp_path)
    sorted((tmp_path / "bdd100k/labels/sem_seg/masks/train").iterdir())[1].unlink()
    (tmp_path / "bdd100k/labels/sem_seg/masks/train/stray.png").write_bytes(png(scene(1)[1]))
    with pytest.raises(DataError, match="1 of 4 images have no label.*pass policy='skip'"):
        open_source("bdd100k", source=tmp_path)
    arguments = ["check", "bdd100k", "--source", str(tmp_path), "--partial", "--out", str(tmp_path / "out")]
    assert command.main(arguments) == 1  # without it the pair is a problem
    assert command.main([*arguments, "--option", "policy=skip"]) == 0
    text = capsys.readouterr().out
    assert "has no label; left out" in text and ": fit, 12 images" in text
    assert len(open_source("bdd100k", source=tmp_path, policy="skip")) == 3
    with pytest.raises(DataError, match="policy='skp' is unknown"):
        command.main([*arguments, "--option", "policy=skp"])
    with pytest.raises(DataError, match="have no label"):
        command.main([*arguments, "--option", "policy=raise"])


@pytest.mark.parametrize("key", ["split=val", "source=/x", "jobs=2", "sample=3"])
def test_options_that_have_an_argument_of_their_own(key, tmp_path):
    build("folder", tmp_path)
    name, _, value = key.partition("=")
    with pytest.raises(UserError, match=f"write --{name} {value}"):
        command.main(["check", "folder", "--source", str(tmp_path), "--option", key])
    with pytest.raises(UserError, match="--option ignore is given twice"):
        command.main(["check", "folder", "--source", str(tmp_path), "--option", "ignore=1", "--option", "ignore=2"])


def test_the_first_classes_are_shown_with_what_means_them(tmp_path):
    build("folder", tmp_path / "values")
    text = describe(check("folder", tmp_path / "values")[0])
    assert re.search(r"first classes: value 0 = ground \(\d+\.\d %\), value 1 = tree \(.*\), value 2 = house \(.*\)", text)
    build("folder:colours", tmp_path / "colours")
    assert "first classes: colour 10 20 30 = thing0 (" in describe(check("folder", tmp_path / "colours")[0])
    report, _ = check("folder", tmp_path / "values", values={"all": [0, 1], "house": 2}, classes=["all", "house"])
    assert "first classes: value 0-1 = all (" in describe(report) and report.splits["train"].stored["house"] == "value 2"
    build("camvid", tmp_path / "camvid")
    assert "and 16 more" in describe(check("camvid", tmp_path / "camvid", partial=True)[0])


def test_long_class_names_stay_apart(tmp_path):
    build("folder", tmp_path)
    (tmp_path / "names.txt").write_text("".join(f"{'a very long name of a class ' * 6}{k}\n" for k in range(3)))
    report, picture = check("folder", tmp_path)
    lines = [line for line in describe(report).splitlines() if line.startswith("  a very")]
    assert len(lines) == 6 and len(set(lines[:3])) == 3 and max(map(len, lines)) < 100 and picture is not None


def test_labels_that_are_void_everywhere_are_not_fit(tmp_path):
    build("folder", tmp_path)
    for path in (tmp_path / "masks").iterdir():
        path.write_bytes(png(np.full((48, 96), 255, np.uint8)))
    report, _ = check("folder", tmp_path)
    assert not report.fit and "train: every label is void everywhere" in report.reasons[0]


@pytest.mark.parametrize("file", ["check.json", "sheet.png"])
def test_a_full_disk_is_said_instead_of_written(file, tmp_path, monkeypatch):
    """What an earlier check wrote stays whole."""
    import errno
    import os
    from pathlib import Path

    from data_pipelines import atomic

    build("folder", tmp_path)
    report, picture = check("folder", tmp_path)
    write(report, picture, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    writing = []

    def named(path):
        writing.append(Path(path).name)
        return real(path)

    def full(number):
        if writing[-1] == file:
            raise OSError(errno.ENOSPC, "No space left on device")

    real = atomic.partial_name
    monkeypatch.setattr(atomic, "partial_name", named)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=rf"{file} cannot be written \(No space left on device\); free space"):
        write(report, picture, tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_bits_in_sixteen_are_listed_and_a_mixture_of_them_is_named(tmp_path):
    build("folder", tmp_path)
    for number, bits in ((1, 12), (2, 12), (3, 10)):
        image = cv2.imread(str(tmp_path / f"images/photo_{number}.jpg")).astype(np.uint16)
        (tmp_path / f"images/photo_{number}.jpg").unlink()
        image[0, 0] = 255
        cv2.imwrite(str(tmp_path / f"images/photo_{number}.png"), image << (bits - 8))
    warnings = check("folder", tmp_path, splits=("all",))[0].splits["all"].warnings
    assert "images/photo_1.png holds 12 bits in 16; it is scaled to 8 bits by its own range." in warnings["images/photo_1.png"]
    assert "scaled each by its own: 10 (1 images), 12 (2 images)" in warnings["depths"]


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_marks_that_turn_a_picture_are_listed_in_every_format(kind, tmp_path):
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 3
    build("folder", tmp_path)
    (tmp_path / "images/photo_3.jpg").unlink()
    Image.fromarray(scene(3)[0]).save(tmp_path / f"images/photo_3.{kind.lower()}", exif=exif)
    found, _ = check("folder", tmp_path, splits=("all",))
    assert list(found.splits["all"].warnings) == [f"images/photo_3.{kind.lower()}"]


def test_no_name_steers_the_terminal(tmp_path, capsys):
    place = tmp_path / "\x1b[2Jplace\n\x9b"
    build("folder", place)
    for part, suffix in (("images", "jpg"), ("masks", "png")):
        (place / part / f"photo_1.{suffix}").rename(place / part / f"\x1b]0;x\x07.{suffix}")
    (place / "masks/photo_2.png").unlink()
    (place / "images/photo_3.jpg").write_bytes(b"")
    command.main(["check", "folder", "--source", str(place), "--out", str(place / "out")])
    said = "".join(capsys.readouterr())
    assert r"\x1b[2Jplace\n\x9b" in said and not any(code in said for code in "\x1b\x9b\x07")
