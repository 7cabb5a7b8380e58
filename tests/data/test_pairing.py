"""Images and masks are paired by any habit of naming that leaves no doubt; what leaves doubt is refused by name."""

import random
import unicodedata

import numpy as np
import pytest
from PIL import Image

from data_pipelines import open_source
from data_pipelines.check import check
from data_pipelines.errors import DataError
from data_pipelines.files import Folder, NothingThere
from data_pipelines.pairing import Item, pair
from tests.data.miniatures import jpeg, png, scene


def lay(root, *names):
    """Writes images and masks of these names, all of two classes."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        values = np.repeat(np.uint8([0, 1]), 8)[None].repeat(16, 0)
        suffix = path.suffix.lower()
        if suffix == ".gif":
            picture = Image.fromarray(values).copy()
            picture.putpalette([0, 0, 0] * 256)
            picture.save(path, "GIF", optimize=False)
        elif suffix in (".jpg", ".jpeg", ".jfif"):
            path.write_bytes(jpeg(np.repeat(values[..., None], 3, 2)))
        elif suffix in (".jp2", ".webp"):
            Image.fromarray(np.repeat(values[..., None], 3, 2)).save(path, "JPEG2000" if suffix == ".jp2" else "WEBP", lossless=True)
        else:
            path.write_bytes(png(values))


def paired(root, split="all", **options):
    """{image: mask} as the data set pairs them."""
    source = open_source("folder", split=split, source=root, **options)
    return {pair.image: pair.label for pair in source.pairs}


HABITS = {
    "the same names": ("{}.jpg", "{}.png"),
    "_mask on both sides": ("{}_mask.png", "{}_mask.png"),
    "_label on both sides": ("{}_label.png", "{}_label.png"),
    "CamVid": ("{}.png", "{}_L.png"),
    "suffix kept": ("{}.jpg", "{}.jpg.png"),
    "suffix kept and a word": ("{}.jpg", "{}.jpg_mask.png"),
    "suffix twice": ("{}.JPG", "{}.png.png"),
    "word before": ("{}.png", "mask_{}.png"),
    "words before": ("image_{}.png", "label_{}.png"),
    "word without separator": ("img{}.png", "mask{}.png"),
    "labelIds": ("{}.png", "{}_labelIds.png"),
    "Cityscapes": ("{}_leftImg8bit.png", "{}_gtFine_labelIds.png"),
    "label train ids": ("{}.png", "{}_labelTrainIds.png"),
    "DeepGlobe": ("{}_sat.jpg", "{}_mask.png"),
    "rgb and gt": ("{}_rgb.png", "{}-gt.png"),
    "ground truth": ("{}.png", "{}_groundtruth.png"),
    "upper-case suffix": ("{}.JPG", "{}.PNG"),
    "gif": ("{}.jpg", "{}_mask.gif"),
    "jfif": ("{}.jfif", "{}.png"),
    "jp2": ("{}.jp2", "{}.png"),
    "lossless webp": ("{}.jpg", "{}.webp"),
    "dots and spaces": ("my {}.v2.jpg", "my {}.v2 mask.png"),
    "other separators": ("my {}-v 2.jpg", "my_{}_v_2_mask.png"),
    "own words": ("{}_frame.png", "{}_colours.png"),
    "own words on both ends": ("cam-{}-a.png", "sem-{}-b.png"),
}


@pytest.mark.parametrize("habit", HABITS)
def test_habits_of_naming(habit, tmp_path):
    image, mask = HABITS[habit]
    keys = ("frame_0001", "frame_0002", "frame_0010")
    lay(tmp_path, *(f"images/{image.format(key)}" for key in keys), *(f"masks/{mask.format(key)}" for key in keys))
    assert paired(tmp_path) == {f"images/{image.format(key)}": f"masks/{mask.format(key)}" for key in keys}


def test_other_case_and_other_unicode_form(tmp_path):
    words = ("Été", "Ünter", "ÅNGSTRÖM")
    for number, word in enumerate(words):
        lay(tmp_path, f"images/{unicodedata.normalize('NFC', word)}{number}.JPG")
        lay(tmp_path, f"masks/{unicodedata.normalize('NFD', word.lower())}{number}.png")
    found = paired(tmp_path)
    assert len(found) == 3 and all(image[-5] == mask[-5] for image, mask in found.items())


@pytest.mark.parametrize("mask", ["{}_mask", "mask-{}"])
def test_images_with_such_words_in_their_own_names(mask, tmp_path):
    keys = ("cat", "cat_label", "cat_gt", "gt_cat", "label_cat")
    lay(tmp_path, *(f"images/{key}.jpg" for key in keys), *(f"masks/{mask.format(key)}.png" for key in keys))
    assert paired(tmp_path) == {f"images/{key}.jpg": f"masks/{mask.format(key)}.png" for key in keys}


def test_names_that_differ_by_case_alone_stay_apart(tmp_path):
    lay(tmp_path, "images/A.jpg", "images/a.jpg", "masks/A.png", "masks/a.png")
    assert paired(tmp_path) == {"images/A.jpg": "masks/A.png", "images/a.jpg": "masks/a.png"}


@pytest.mark.parametrize("folders", [("Images", "Masks"), ("IMAGES", "Labels"), ("JPEGImages", "SegmentationClass"), ("rgb", "gt")])
def test_folder_names_of_any_case(folders, tmp_path):
    lay(tmp_path, *(f"{folder}/{key}.png" for folder in folders for key in "abc"))
    assert len(paired(tmp_path)) == 3


@pytest.mark.parametrize("words", [("Train", "Val"), ("TRAIN", "Validation"), ("training", "valid")])
@pytest.mark.parametrize("shape", ["{folder}/{split}/x{key}.png", "{split}/{folder}/x{key}.png"])
def test_split_folders_of_any_case(shape, words, tmp_path):
    for folder in ("images", "masks"):
        lay(tmp_path, *(shape.format(folder=folder, split=split, key=key) for split in words for key in range(2)))
    assert [len(paired(tmp_path, split)) for split in ("train", "val", "all")] == [2, 2, 4]


LAYOUTS = {
    "mmsegmentation": ("img_dir/{}/{}.jpg", "ann_dir/{}/{}.png", ("train", "val")),
    "ADE20K": ("images/{}/{}.jpg", "annotations/{}/{}.png", ("training", "validation")),
    "COCO": ("images/{}2017/{}.jpg", "annotations/{}2017/{}.png", ("train", "val")),
    "CamVid of Kaggle": ("{}/{}.png", "{}_labels/{}_L.png", ("train", "val")),
    "SegNet": ("{}/{}.png", "{}annot/{}.png", ("train", "val")),
    "split and kind in one word": ("{}_images/{}.jpg", "{}_masks/{}.png", ("train", "valid")),
    "kind and split in one word": ("images_{}/{}.jpg", "masks-{}/{}.png", ("train", "test")),
    "LoveDA": ("{}/Urban/images_png/{}.png", "{}/Urban/masks_png/{}.png", ("Train", "Val")),
    "KITTI": ("{}/image_2/{}.png", "{}/semantic/{}.png", ("training", "testing")),
    "below another folder": ("my data/images/{}/{}.jpg", "my data/labels/{}/{}.png", ("train", "val")),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_in_use(layout, tmp_path):
    image, mask, splits = LAYOUTS[layout]
    for split in splits:
        lay(tmp_path, *(shape.format(split, f"{split}{key}") for shape in (image, mask) for key in range(3)))
    for split in splits:
        wanted = {"tr": "train", "va": "val", "te": "test"}[split[:2].lower()]
        found = {image.format(split, f"{split}{key}"): mask.format(split, f"{split}{key}") for key in range(3)}
        assert paired(tmp_path, wanted) == found
    assert len(paired(tmp_path)) == 6


@pytest.mark.parametrize("where", ["", "data/"])
def test_images_around_the_folder_of_masks(where, tmp_path):
    lay(tmp_path, *(f"{where}{key}.jpg" for key in "abcd"), *(f"{where}masks/{key}.png" for key in "abcd"), "logo/x.png")
    assert paired(tmp_path) == {f"{where}{key}.jpg": f"{where}masks/{key}.png" for key in "abcd"}


def test_a_split_without_masks_is_not_there(tmp_path):
    for split in ("train", "val", "test"):
        lay(tmp_path, *(f"images/{split}/{split}{key}.jpg" for key in range(3)))
    for split in ("train", "val"):
        lay(tmp_path, *(f"masks/{split}/{split}{key}.png" for key in range(3)))
    with pytest.raises(NothingThere, match="holds no masks for these 3 images: images/test/test0.jpg"):
        paired(tmp_path, "test")
    report, _ = check("folder", tmp_path)
    assert report.fit and report.absent == ["test"] and len(paired(tmp_path, "val")) == 3


def test_masks_without_split_folders(tmp_path):
    lay(tmp_path, "images/train/a.jpg", "images/train/b.jpg", "images/val/c.jpg", "masks/a.png", "masks/b.png", "masks/c.png")
    assert paired(tmp_path, "val") == {"images/val/c.jpg": "masks/c.png"} and len(paired(tmp_path, "train")) == 2


def test_scenes_with_their_own_folders(tmp_path):
    lay(tmp_path, *(f"{scene}/{folder}/001.png" for scene in ("scene1", "scene2") for folder in ("images", "masks")))
    assert paired(tmp_path) == {f"{scene}/images/001.png": f"{scene}/masks/001.png" for scene in ("scene1", "scene2")}
    names = [element["name"] for element in open_source("folder", split="all", source=tmp_path)]
    assert names == ["scene1/images/001.png", "scene2/images/001.png"]


def test_images_in_folders_and_masks_in_none(tmp_path):
    lay(tmp_path, "images/seq1/a.png", "images/seq2/b.png", "masks/a.png", "masks/b.png")
    assert paired(tmp_path) == {"images/seq1/a.png": "masks/a.png", "images/seq2/b.png": "masks/b.png"}


def test_the_same_names_in_several_folders_are_not_guessed(tmp_path):
    lay(tmp_path, "images/seq1/a.png", "images/seq2/a.png", "masks/a.png", "masks/b.png")
    with pytest.raises(DataError, match="2 of 2 images have no label"):
        paired(tmp_path)


def test_folders_are_links_to_one_another(tmp_path):
    lay(tmp_path, *(f"{folder}/{key}.png" for folder in ("images", "masks") for key in "ab"))
    (tmp_path / "labels").symlink_to("masks")
    assert len(paired(tmp_path)) == 2


def test_roboflow_as_it_comes(tmp_path):
    keys = [f"frame_{k:03d}_jpg.rf.{k:032x}" for k in range(4)]
    for split in ("train", "valid", "test"):
        lay(tmp_path, *(f"{split}/{key}.jpg" for key in keys), *(f"{split}/{key}_mask.png" for key in keys))
        (tmp_path / split / "names.txt").write_text("\n".join(f"c{k}" for k in range(9)))
    lay(tmp_path, "preview.png")
    (tmp_path / "names.txt").write_text("\n".join(f"c{k}" for k in range(9)))
    for split, folder in (("train", "train"), ("val", "valid"), ("test", "test")):
        assert paired(tmp_path, split) == {f"{folder}/{key}.jpg": f"{folder}/{key}_mask.png" for key in keys}


@pytest.mark.parametrize("mask", ["{}_mask.png", "{}_L.png", "label_{}.png", "{}.png"])
@pytest.mark.parametrize("folder", ["", "data/"])
def test_masks_beside_images(folder, mask, tmp_path):
    lay(tmp_path, *(f"{folder}{key}.jpg" for key in "abcd"), *(folder + mask.format(key) for key in "abcd"))
    assert paired(tmp_path) == {f"{folder}{key}.jpg": folder + mask.format(key) for key in "abcd"}
    assert len(paired(tmp_path, "val")) == 1 and len(paired(tmp_path, "train")) == 3


@pytest.mark.parametrize(
    "names", [("a.jpg", "b.png", "b.jpg", "c.tif", "c.png"), ("a.jpg", "a_gt.jpg", "b.jpg", "c.jpg"), ("a.png", "b.png")]
)
def test_a_folder_of_pictures_is_no_data_set(names, tmp_path):
    lay(tmp_path, *names)
    with pytest.raises(NothingThere, match="holds no folders images/ and masks/"):
        paired(tmp_path)


@pytest.mark.parametrize("names", [("train.txt", "val.txt"), ("Train.txt", "Validation.txt")])
def test_cvat_and_voc_lists_give_the_splits(names, tmp_path):
    lay(tmp_path, *(f"JPEGImages/frame.{key}.jpg" for key in "abcde"), *(f"SegmentationClass/frame.{key}.png" for key in "abcd"))
    lay(tmp_path, *(f"SegmentationObject/frame.{key}.png" for key in "abcd"))
    (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
    for name, keys in zip(names, ("abc", "d"), strict=True):
        (tmp_path / "ImageSets/Segmentation" / name).write_text("".join(f"frame.{key}\r\n" for key in keys))
    (tmp_path / "ImageSets/Segmentation/default.txt").write_text("frame.a\n")
    assert [len(paired(tmp_path, split)) for split in ("train", "val", "all")] == [3, 1, 4]
    assert "split by lists" in open_source("folder", source=tmp_path).found
    with pytest.raises(NothingThere, match="no test images"):
        paired(tmp_path, "test")


def test_cvat_without_splits_is_split_by_a_hash(tmp_path):
    lay(tmp_path, *(f"{folder}/{key}.png" for folder in ("JPEGImages", "SegmentationClass", "SegmentationObject") for key in "abcd"))
    (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets/Segmentation/default.txt").write_text("a\nb\nc\nd\n")
    assert [len(paired(tmp_path, split)) for split in ("train", "val", "all")] == [3, 1, 4]


def test_a_list_that_names_missing_images_is_said(tmp_path):
    lay(tmp_path, *(f"{folder}/{key}.png" for folder in ("JPEGImages", "SegmentationClass") for key in "abcd"))
    (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets/Segmentation/train.txt").write_text("a\nb\nx\ny\n")
    with pytest.raises(DataError, match="list of train names 2 images that are not there: x, y"):
        paired(tmp_path, "train")
    assert len(paired(tmp_path, "train", policy="skip")) == 2


def test_unmatched_files_and_the_rule_are_named(tmp_path):
    lay(tmp_path, *(f"images/{key}.png" for key in ("left", "north", "up", "day")))
    lay(tmp_path, *(f"masks/{key}.png" for key in ("right", "south", "down")))
    with pytest.raises(DataError) as told:
        paired(tmp_path)
    said = str(told.value)
    assert "4 of 4 images have no label" in said and "images/day.png, images/left.png, images/north.png, ..." in said
    assert "masks/down.png, masks/right.png, masks/south.png" in said and "looked for: equal names but for case" in said
    with pytest.raises(DataError, match="No image in .* has a mask .*rename them alike"):
        paired(tmp_path, policy="skip")


def test_some_unmatched_files_are_named_and_left_out(tmp_path):
    lay(tmp_path, *(f"images/{key}.png" for key in "abcd"), *(f"masks/{key}_mask.png" for key in "abcx"))
    with pytest.raises(DataError, match="1 of 4 images have no label, the first is .*images/d.png .*without image: masks/x_mask.png"):
        paired(tmp_path)
    source = open_source("folder", split="all", source=tmp_path, policy="skip")
    assert len(source) == 3 and list(source.problems) == ["images/d.png"] and source.unused == ["masks/x_mask.png"]


@pytest.mark.parametrize("rivals", [("a.png", "a_mask.png"), ("a_labelIds.png", "a_gt.png"), ("mask_a.png", "A.png"), ("a.png", "a.gif")])
def test_two_masks_that_could_both_be_it_are_refused(rivals, tmp_path):
    lay(tmp_path, "images/a.jpg", "images/b.jpg", "masks/b.png", *(f"masks/{name}" for name in rivals))
    with pytest.raises(DataError, match=r"1 pairs are not clear, .* could each be the mask of images/a.jpg; remove one"):
        paired(tmp_path)
    assert paired(tmp_path, policy="skip") == {"images/b.jpg": "masks/b.png"}


def test_other_pictures_of_the_same_image_do_not_make_doubt(tmp_path):
    lay(tmp_path, "images/a.jpg", "masks/a_labelIds.png", "masks/a_color.png", "masks/a_instanceIds.png")
    lay(tmp_path, "images/b.jpg", "masks/b_labelIds.png")
    assert paired(tmp_path) == {"images/a.jpg": "masks/a_labelIds.png", "images/b.jpg": "masks/b_labelIds.png"}


def test_numbers_that_differ_are_never_paired(tmp_path):
    lay(tmp_path, *(f"images/2019_{k}.png" for k in range(1, 4)), *(f"masks/2020_{k}.png" for k in range(1, 4)))
    with pytest.raises(DataError, match="have no label"):
        paired(tmp_path)


def test_numbers_with_other_zeros_are_paired(tmp_path):
    lay(tmp_path, *(f"images/img{k}.png" for k in (1, 2, 10)), *(f"masks/m_{k:04d}.png" for k in (1, 2, 10)))
    assert paired(tmp_path) == {f"images/img{k}.png": f"masks/m_{k:04d}.png" for k in (1, 2, 10)}
    assert "paired by what changes in their names" in open_source("folder", split="all", source=tmp_path).found


def test_folders_of_other_names_are_listed(tmp_path):
    lay(tmp_path, *(f"{folder}/{key}.png" for folder in ("ds0/img", "ds0/masks_machine") for key in "abc"))
    with pytest.raises(NothingThere, match="holds no folders images/ and masks/ .*pictures are in ds0/img, ds0/masks_machine"):
        paired(tmp_path)
    assert len(paired(tmp_path, masks="masks_machine")) == 3 and len(paired(tmp_path, images="ds0/img/", masks="ds0/masks_machine")) == 3


@pytest.mark.parametrize("name, words", [("annotations/instances.json", "JSON"), ("annotations/a.xml", "XML"), ("labels/a.txt", "YOLO")])
def test_annotations_that_are_no_pictures_are_named(name, words, tmp_path):
    lay(tmp_path, "images/a.png", "images/b.png")
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_text("{}")
    with pytest.raises(NothingThere, match=f"{name} looks like annotations in .*{words}.*: export them as mask pictures"):
        paired(tmp_path)


def test_what_is_paired_is_never_wrong(tmp_path):
    """Random habits, some files missing: every pair is the true one."""
    random.seed(7)
    folder = Folder(tmp_path)
    for _ in range(300):
        image, mask = random.choice(list(HABITS.values()))
        keys = [random.choice(("a", "scene", "x1")) + f"_{random.randrange(30)}" for _ in range(random.randrange(2, 12))]
        keys = list(dict.fromkeys(keys))
        some = [key for key in keys if random.random() < 0.9]
        others = [key for key in keys if random.random() < 0.9]
        truth = {image.format(key): mask.format(key) for key in keys}
        found = pair([Item(image.format(k), "", "", image.format(k)) for k in some],
                     [Item(mask.format(k), "", "", mask.format(k)) for k in others], folder)  # fmt: skip
        assert all(truth[name] == chosen for name, chosen in found.masks.items())


def test_pairs_keep_their_pixels(tmp_path):
    for number in range(3):
        image, label = scene(number, classes=3)
        for name, data in ((f"images/IMG_{number}.JPG", jpeg(image)), (f"masks/mask_img_{number}.png", png(label))):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(data)
    for number, element in enumerate(open_source("folder", split="all", source=tmp_path)):
        np.testing.assert_array_equal(element["label"], scene(number, classes=3)[1])
