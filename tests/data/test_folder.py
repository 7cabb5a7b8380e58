"""A user's own folder: class lists, ways in which masks are stored, splits, and refusals."""

import numpy as np
import pytest

from data_pipelines import classlist, open_source
from data_pipelines.errors import DataError
from tests.data.miniatures import FOLDER_COLOURS, build, jpeg, palette_png, png, scene


def whole(root, **options):
    return open_source("folder", split="all", source=root, **options)


def test_hash_split_is_disjoint_complete_and_fixed(tmp_path):
    build("folder", tmp_path)
    names = {
        split: [e["name"] for e in open_source("folder", split=split, source=tmp_path, val_share=0.3)]
        for split in ("train", "val")
    }
    assert len(names["val"]) == 3 and len(names["train"]) == 7 and not set(names["val"]) & set(names["train"])
    assert names["val"] == [e["name"] for e in open_source("folder", split="val", source=tmp_path, val_share=0.3)]
    with pytest.raises(DataError, match="only train, val and all"):
        open_source("folder", split="test", source=tmp_path)
    with pytest.raises(DataError, match="between 0 and 1"):
        open_source("folder", split="val", source=tmp_path, val_share=2)


@pytest.mark.parametrize(
    "shape", ["images/{split}/{name}.jpg masks/{split}/{name}.png", "{split}/imgs/{name}.jpg {split}/labels/{name}_mask.png"]
)
def test_split_folders(shape, tmp_path):
    pattern_image, pattern_mask = shape.split()
    for split, count in (("train", 3), ("valid", 2)):
        for number in range(count):
            image, label = scene(number, classes=2)
            label[label == 255] = 0
            for pattern, data in ((pattern_image, jpeg(image)), (pattern_mask, png(label))):
                path = tmp_path / pattern.format(split=split, name=f"same{number}")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
    assert [len(open_source("folder", split=split, source=tmp_path)) for split in ("train", "val", "all")] == [3, 2, 5]


def test_classes_reach_the_source(tmp_path):
    build("folder:colours", tmp_path)
    classes = whole(tmp_path).classes
    assert classes.names == ("thing0", "thing1", "thing2") and classes.palette == FOLDER_COLOURS
    given = whole(tmp_path, classes=["a #0a141e", "b #c82828", "c #28c828"])
    assert given.classes.names == ("a", "b", "c") and given.classes.palette == FOLDER_COLOURS


def test_binary_masks_of_0_and_255(tmp_path):
    build("folder:binary", tmp_path)
    source = whole(tmp_path)
    assert "binary" in source.found and source.classes.names == ("background", "crack")
    assert set(np.unique(source[0]["label"])) <= {0, 1}
    (tmp_path / "names.txt").unlink()
    assert whole(tmp_path).classes.names == ("background", "foreground")


def test_two_classes_with_void_255_are_not_taken_for_binary(tmp_path):
    build("folder:binary", tmp_path)
    mask = np.zeros((48, 96), np.uint8)
    mask[0, 0], mask[1, 1] = 1, 255
    (tmp_path / "masks" / "photo_9.png").write_bytes(png(mask))
    source = whole(tmp_path)
    assert "binary" not in source.found
    labels = [element["label"] for element in source]
    assert {int(v) for label in labels for v in np.unique(label)} == {0, 1, 255} and labels[9][0, 0] == 1


def test_unlisted_masks_are_looked_at(tmp_path):
    build("folder:unlisted", tmp_path)
    assert whole(tmp_path).classes.names == ("class_0", "class_1", "class_2")
    colours = build("folder:colours", tmp_path / "colours")
    (colours.root / "names.txt").unlink()
    assert set(whole(colours.root).classes.palette) == set(FOLDER_COLOURS)


def test_void_line_values_and_ignore(tmp_path):
    build("folder", tmp_path)
    (tmp_path / "names.txt").write_text("ground\nvoid\nhouse\n")
    source = whole(tmp_path)
    assert source.classes.names == ("ground", "house")
    assert {int(v) for e in source for v in np.unique(e["label"])} == {0, 1, 255}
    (tmp_path / "names.txt").write_text("ground\ntree\nhouse\n")
    for path in (tmp_path / "masks").iterdir():
        import cv2

        path.write_bytes(png(cv2.imread(str(path), cv2.IMREAD_UNCHANGED) * 50))
    with pytest.raises(DataError, match="outside the class list of names.txt"):
        whole(tmp_path)[0]
    assert {int(v) for e in whole(tmp_path, values=[0, 50, 100]) for v in np.unique(e["label"])} == {0, 1, 2}
    with pytest.raises(DataError, match="ignore=50 is also the value of class 'tree'"):
        whole(tmp_path, values=[0, 50, 100], ignore=50)
    assert whole(tmp_path, values=[0, 50, 7], ignore=100).classes.names == ("ground", "tree", "house")


def test_palette_masks(tmp_path):
    build("folder:colours", tmp_path)
    _, label = scene(1, classes=3)
    label[label == 255] = 0
    for path in (tmp_path / "masks").iterdir():
        path.write_bytes(palette_png(label, FOLDER_COLOURS))
    np.testing.assert_array_equal(whole(tmp_path)[0]["label"], label)
    swapped = (FOLDER_COLOURS[1], FOLDER_COLOURS[0], FOLDER_COLOURS[2])
    for path in (tmp_path / "masks").iterdir():
        path.write_bytes(palette_png(label, swapped))
    with pytest.raises(DataError, match="pass encoding='index' or encoding='colour'"):
        whole(tmp_path)
    np.testing.assert_array_equal(whole(tmp_path, encoding="index")[0]["label"], label)
    np.testing.assert_array_equal(whole(tmp_path, encoding="colour")[0]["label"], np.array([1, 0, 2], np.uint8)[label])


def test_refusals_name_file_and_mend(tmp_path):
    build("folder:colours", tmp_path)
    (tmp_path / "masks/photo_3.png").write_bytes(png(np.full((48, 96, 3), (1, 2, 3), np.uint8)))
    with pytest.raises(DataError, match=r"photo_3.png holds colour \(1, 2, 3\), which the class list does not give"):
        [e["name"] for e in whole(tmp_path)]
    (tmp_path / "names.txt").write_text("a\nb\nc\n")
    with pytest.raises(DataError, match="colour-coded but names.txt gives no colours; .*colours seen"):
        whole(tmp_path)
    (tmp_path / "masks/photo_3.png").write_bytes(png(np.zeros((48, 96), np.uint8)))
    with pytest.raises(DataError, match="save all masks alike"):
        whole(tmp_path)
    (tmp_path / "gt").mkdir()
    (tmp_path / "gt/photo_3.png").write_bytes(b"x")
    with pytest.raises(DataError, match="several folders that could be the masks: masks, gt; choose one with masks="):
        whole(tmp_path)
    with pytest.raises(DataError, match="name the folders with images= and masks="):
        whole(tmp_path / "images")


def test_two_images_of_one_name(tmp_path):
    build("folder", tmp_path)
    (tmp_path / "images/photo_4.png").write_bytes(png(scene(1)[0]))
    with pytest.raises(DataError, match="images/photo_4.jpg and images/photo_4.png; remove one"):
        whole(tmp_path)
    assert len(whole(tmp_path, policy="skip")) == 9


@pytest.mark.parametrize(
    "text, words",
    [
        ("road\nroad\n", "line 2: class 'road' appears twice"),
        ("a 1 2 3\nb 1 2 3\n", "line 2: colour .* twice"),
        ("a 1 2 300\n", "outside 0-255"),
        ("a 1 2 3\nb\n", "class 'b' has no colour"),
        ("# nothing\n\n", "lists no class"),
        ("\n".join(f"c{k}" for k in range(300)), "300 classes"),
    ],
)
def test_class_lists_that_do_not_fit(text, words):
    with pytest.raises(DataError, match=f"names.txt.*{words}"):
        classlist.parse(text, "names.txt")


def test_class_list_forms():
    made = classlist.parse("\ufefftraffic light, 1, 2, 3\nroad (4, 5, 6)\nsky #0a0b0c\n  # remark\n\nwall: 7 8 9\n", "x")
    assert made.names == ("traffic light", "road", "sky", "wall")
    assert made.colours == ((1, 2, 3), (4, 5, 6), (10, 11, 12), (7, 8, 9))
    assert len(set(classlist.distinct_colours(40))) == 40
