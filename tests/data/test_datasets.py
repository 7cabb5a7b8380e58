"""Every data set's miniature through open_source, from folders and zips, and the policies for pairs that do not fit."""

import os
import pickle
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

import data_pipelines
from data_pipelines import open_source
from data_pipelines.errors import DataError
from data_pipelines.labels import CITYSCAPES
from tests.data.miniatures import STYLES, build, jpeg, png, scene


def options_for(style: str) -> dict:
    return {"size": "half"} if style == "mapillary:half" else {}


def same_labels(source, made, split: str) -> None:
    assert len(source) == len(made.truth[split])
    for index in range(len(source)):
        element = source[index]
        assert element["image"].dtype == np.uint8 and element["image"].shape == (*element["label"].shape, 3)
        np.testing.assert_array_equal(element["label"], made.label_of(split, element["name"]), element["name"])


@pytest.mark.parametrize("style", STYLES)
def test_miniatures_open_with_the_true_labels(style, tmp_path):
    made = build(style, tmp_path)
    name = style.partition(":")[0]
    for split in made.truth:
        source = open_source(name, split=split, source=made.root, **options_for(style))
        same_labels(source, made, split)
        assert source.has_labels == (split != "test" or name in ("camvid", "folder"))
        if source.has_labels and name not in ("urbansyn", "acdc"):
            assert ("prepared" in source.found) == style.endswith((":prepared", ":half"))
        assert source.fingerprint() == open_source(name, split=split, source=str(made.root), **options_for(style)).fingerprint()
        if name != "folder":
            assert source.classes == CITYSCAPES


@pytest.mark.parametrize("style", STYLES)
def test_zip_equals_folder(style, tmp_path):
    made = build(style, tmp_path)
    name, split = style.partition(":")[0], next(iter(made.truth))
    folder = open_source(name, split=split, source=made.root, **options_for(style))
    elements, fingerprint = [folder[i] for i in range(len(folder))], folder.fingerprint()
    archive = made.pack("")[0]
    packed = open_source(name, split=split, source=archive, **options_for(style))
    assert packed.fingerprint() == fingerprint and packed.found == folder.found
    for element, again in zip(elements, pickle.loads(pickle.dumps(packed)), strict=True):
        assert element["name"] == again["name"]
        np.testing.assert_array_equal(element["image"], again["image"])
        np.testing.assert_array_equal(element["label"], again["label"])


def test_parts_that_stay_packed_in_one_folder(tmp_path):
    made = build("cityscapes", tmp_path)
    made.pack("gtFine")
    same_labels(open_source("cityscapes", split="val", source=tmp_path), made, "val")
    made.pack("leftImg8bit")
    same_labels(open_source("cityscapes", split="val", source=tmp_path), made, "val")


def test_zip_is_read_by_many_threads(tmp_path):
    made = build("camvid", tmp_path)
    source = open_source("camvid", split="all", source=made.pack("")[0])
    expected, failures = [source[i]["image"].sum() for i in range(len(source))], []

    def work():
        for _ in range(5):
            if [source[i]["image"].sum() for i in range(len(source))] != expected:
                failures.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not failures


def test_damage_inside_a_zip_is_noticed(tmp_path):
    made = build("gtav", tmp_path)
    archive = made.pack("")[0]
    source = open_source("gtav", source=archive)
    with zipfile.ZipFile(archive) as opened:
        place = opened.getinfo("images/00002.png").header_offset + 300
    data = bytearray(archive.read_bytes())
    data[place] ^= 0xFF
    archive.write_bytes(bytes(data))
    with pytest.raises(DataError, match="part0.zip/images/00002.png (is damaged inside|cannot be read from) the .zip"):
        source[1]
    assert source[2]["name"]
    archive.unlink()
    fresh = pickle.loads(pickle.dumps(source))  # as in a worker process that opens it anew
    with pytest.raises(DataError, match="part0.zip has vanished"):
        fresh[2]


def test_data_root_from_the_environment(tmp_path, monkeypatch):
    build("gtav", tmp_path / "gtav")
    monkeypatch.setenv("REIN_DATA", str(tmp_path))
    assert len(open_source("gtav")) == 5
    monkeypatch.delenv("REIN_DATA")
    with pytest.raises(DataError, match="set REIN_DATA to the folder that holds gtav/"):
        open_source("gtav")


def test_label_kinds_published_and_prepared_agree_and_can_be_chosen(tmp_path):
    build("gtav:prepared", tmp_path)
    prepared, published = open_source("gtav", source=tmp_path), open_source("gtav", source=tmp_path, labels="palette")
    assert "_labelTrainIds" in prepared.found and "palette" in published.found
    for a, b in zip(prepared, published, strict=True):
        np.testing.assert_array_equal(a["label"], b["label"])
    (tmp_path / "labels" / "00003_labelTrainIds.png").unlink()  # an interrupted script: take the kind that is whole
    assert "palette" in open_source("gtav", source=tmp_path).found


def test_mapillary_versions(tmp_path):
    made = build("mapillary", tmp_path)
    assert "v1.2" in open_source("mapillary", source=tmp_path).found
    newer = open_source("mapillary", source=tmp_path, labels="v2.0")
    assert "v2.0" in newer.found
    same_labels(newer, made, "train")


def test_acdc_conditions_and_references(tmp_path):
    build("acdc", tmp_path)
    night = open_source("acdc", split="val", source=tmp_path, condition="night")
    assert len(night) == 2 and night.domain == "acdc_night" and all("/night/" in e["name"] for e in night)
    reference = open_source("acdc", split="val", source=tmp_path, condition="fog", reference=True)
    assert len(reference) == 2 and not reference.has_labels and (reference[0]["label"] == 255).all()


def test_gtav_official_split(tmp_path):
    from scipy.io import savemat

    build("gtav", tmp_path)
    with pytest.raises(DataError, match="split.mat"):
        open_source("gtav", split="official_val", source=tmp_path)
    savemat(tmp_path / "split.mat", {"trainIds": [[1], [2]], "valIds": [[4]], "testIds": [[3], [5]]})
    assert [Path(e["name"]).stem for e in open_source("gtav", split="official_val", source=tmp_path)] == ["00004"]


@pytest.mark.parametrize("damage", [b"", b"MATLAB 5.0 MAT-file, half of it", "cut", "words"])
def test_a_damaged_list_of_splits_is_said(damage, tmp_path):
    from scipy.io import savemat

    build("gtav", tmp_path)
    savemat(tmp_path / "split.mat", {"trainIds": np.array(["a", "b"], object) if damage == "words" else np.arange(500)})
    if damage != "words":
        whole = (tmp_path / "split.mat").read_bytes()
        (tmp_path / "split.mat").write_bytes(whole[:400] if damage == "cut" else damage)
    with pytest.raises(DataError, match="split.mat cannot be read .*; get the file from the GTAV page again"):
        open_source("gtav", split="official_train", source=tmp_path)


def test_gtav_label_of_another_size_is_resized_and_listed(tmp_path):
    made = build("gtav", tmp_path)
    image, label = scene(3, (50, 30))
    (tmp_path / "images" / "00003.png").write_bytes(png(np.repeat(np.repeat(image, 2, 0), 2, 1)))
    source = open_source("gtav", source=tmp_path)
    assert source[2]["label"].shape == (60, 100) and "00003" in next(iter(source.problems))
    other = build("synthia", tmp_path / "other")
    (other.root / "RAND_CITYSCAPES/RGB/0000001.png").write_bytes(png(image))
    with pytest.raises(DataError, match="0000001.png is 96x48 but its image is 50x30"):
        open_source("synthia", source=other.root)[1]
    assert made.truth


def test_camvid_daylight_splits(tmp_path):
    build("camvid", tmp_path)
    day = open_source("camvid", split="day_train", source=tmp_path)
    dusk = open_source("camvid", split="dusk", source=tmp_path)
    test = open_source("camvid", split="day_test", source=tmp_path)
    assert {Path(e["name"]).stem[:6] for e in day} == {"0006R0", "0016E5"}
    assert {Path(e["name"]).stem[:6] for e in dusk} == {"0001TP"} and {Path(e["name"]).stem[:6] for e in test} == {"Seq05V"}
    assert len(open_source("camvid", split="all", source=tmp_path)) == len(day) + len(dusk) + len(test)
    own = open_source("camvid", source=tmp_path, ids="camvid")
    assert len(own.classes) == 11 and own[0]["label"][own[0]["label"] < 255].max() <= 10


def test_subset_is_every_nth_in_order(tmp_path):
    build("cityscapes", tmp_path)
    whole, part = open_source("cityscapes", source=tmp_path), open_source("cityscapes", source=tmp_path, subset="1/3")
    assert [e["name"] for e in part] == [e["name"] for e in whole][::3] and part.fingerprint() != whole.fingerprint()
    with pytest.raises(DataError, match="write '1/N'"):
        open_source("cityscapes", source=tmp_path, subset="16")
    assert len(range(0, 2975, 16)) == 186


@pytest.mark.parametrize(
    "name, options, words",
    [
        ("gta", {}, "Did you mean 'gtav'"),
        ("gtav", {"split": "vall"}, "no split 'vall'"),
        ("gtav", {"condition": "fog"}, "no option 'condition'"),
        ("acdc", {"condition": "dust"}, "choose one of all, fog"),
        ("gtav", {"policy": "hope"}, "policy='hope'"),
        ("gtav", {"labels": "v9"}, "fits none of the known kinds"),
        ("cityscapes", {}, "expected leftImg8bit/SPLIT"),
    ],
)
def test_wrong_requests_are_one_sentence(name, options, words, tmp_path):
    build("gtav", tmp_path)
    with pytest.raises(DataError, match=words):
        open_source(name, source=tmp_path, **options)


def test_missing_places(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        open_source("gtav", source=tmp_path / "nowhere")
    (tmp_path / "half.zip").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(DataError, match="half.zip is not a whole .zip"):
        open_source("gtav", source=tmp_path / "half.zip")
    (tmp_path / "a.rar").write_bytes(b"Rar!")
    with pytest.raises(DataError, match="neither a folder nor a .zip"):
        open_source("synthia", source=tmp_path / "a.rar")


def test_unpaired_images_raise_or_are_left_out(tmp_path):
    made = build("bdd100k", tmp_path)
    gone = next((tmp_path / "bdd100k/labels/sem_seg/masks/train").glob("*.png"))
    gone.unlink()
    with pytest.raises(DataError, match=f"1 of 4 images have no label, the first is .*{gone.stem}.jpg"):
        open_source("bdd100k", source=tmp_path)
    source = open_source("bdd100k", source=tmp_path, policy="skip")
    assert len(source) == 3 and gone.stem in next(iter(source.problems))
    assert made.truth


def test_doubles_raise_or_are_left_out(tmp_path):
    build("gtav", tmp_path / "a")
    build("gtav", tmp_path / "b")
    with pytest.raises(DataError, match="5 images appear twice, for example a/images/00001.png and b/images/00001.png"):
        open_source("gtav", source=tmp_path)


def spoil(path: Path, how: str) -> None:
    if how == "vanished":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.write_bytes(path.read_bytes()[:-40])


@pytest.mark.parametrize("how, words", [("vanished", "has vanished"), ("empty", "is empty"), ("truncated", "is truncated")])
@pytest.mark.parametrize("kind", ["images/10k/train", "labels/sem_seg/masks/train"])
def test_spoilt_files_raise_with_their_name_or_are_replaced_and_listed(how, words, kind, tmp_path):
    build("bdd100k", tmp_path)
    strict, lenient = (open_source("bdd100k", source=tmp_path, policy=policy) for policy in ("raise", "skip"))
    neighbour = strict[2]
    victim = sorted((tmp_path / "bdd100k" / kind).iterdir())[1]
    spoil(victim, how)
    with pytest.raises(DataError, match=f"{victim.name} {words}"):
        strict[1]
    for _ in range(2):  # the replacement is the same every time
        assert lenient[1]["name"] == neighbour["name"]
        np.testing.assert_array_equal(lenient[1]["label"], neighbour["label"])
    assert list(lenient.problems.values())[0].startswith(str(victim)) and len(lenient.problems) == 1
    with pytest.raises(DataError):
        lenient.read(1)


def test_values_outside_the_map_raise(tmp_path):
    made = build("cityscapes:prepared", tmp_path)
    victim = next((tmp_path / "gtFine/train/aachen").glob("*_labelTrainIds.png"))
    victim.write_bytes(png(np.full((48, 96), 33, np.uint8)))
    with pytest.raises(DataError, match=f"{victim.name} holds label value 33 outside train ids"):
        [element["name"] for element in open_source("cityscapes", source=made.root)]


def test_label_of_an_unturned_photo_is_refused(tmp_path):
    from PIL import Image

    build("bdd100k", tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    victim = sorted((tmp_path / "bdd100k/images/10k/train").iterdir())[0]
    victim.write_bytes(jpeg(scene(1)[0], exif=exif))
    with pytest.raises(DataError, match="after its EXIF mark turned it; pass exif='ignore'"):
        open_source("bdd100k", source=tmp_path)[0]
    assert open_source("bdd100k", source=tmp_path, exif="ignore")[0]["image"].shape == (48, 96, 3)


def test_all_void_labels_pass(tmp_path):
    build("gtav:prepared", tmp_path)
    (tmp_path / "labels/00001_labelTrainIds.png").write_bytes(png(np.full((48, 96), 255, np.uint8)))
    assert (open_source("gtav", source=tmp_path)[0]["label"] == 255).all()


def test_names_that_are_not_utf8_are_read_and_printable(tmp_path):
    build("folder", tmp_path)
    for folder, suffix in (("images", "jpg"), ("masks", "png")):
        old = os.fsencode(tmp_path / folder / f"photo_1.{suffix}")
        os.rename(old, old.replace(b"photo_1", b"photo_\xff"))
    source = open_source("folder", split="all", source=tmp_path)
    names = [element["name"] for element in source]
    assert len(names) == 10 and r"images/photo_\xff.jpg" in names
    "".join(names).encode("utf-8")
    source.fingerprint()


def test_hidden_files_and_mac_scraps_are_left_out(tmp_path):
    build("gtav", tmp_path)
    for name in ("images/._00001.png", "__MACOSX/images/00001.png", ".trash/images/00009.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert len(open_source("gtav", source=tmp_path)) == 5


def test_linked_folders_are_followed_and_circles_end(tmp_path):
    build("gtav", tmp_path / "real")
    (tmp_path / "linked").mkdir()
    for part in ("images", "labels"):
        (tmp_path / "linked" / part).symlink_to(tmp_path / "real" / part)
    (tmp_path / "real" / "images" / "round").symlink_to(tmp_path / "real")
    assert len(open_source("gtav", source=tmp_path / "linked")) == 5


def test_index_errors_and_numpy_indices(tmp_path):
    build("gtav", tmp_path)
    source = open_source("gtav", source=tmp_path)
    assert source[np.int64(-1)]["name"] == source[4]["name"]
    with pytest.raises(IndexError):
        source[5]


def test_registry_resolves():
    for name in data_pipelines.DATASETS:
        assert callable(data_pipelines.dataset(name))
    assert len(open_source("streets", split="val", length=2, size=(64, 128))) == 2
    with pytest.raises(DataError, match="leave out the source"):
        open_source("streets", source="x")
