"""How masks are understood: greys that a class list gives as colours, values with gaps, smoothed and JPEG masks, own value maps."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from data_pipelines import open_source
from data_pipelines.check import check
from data_pipelines.errors import DataError
from tests.data.miniatures import jpeg, palette_png, png, scene, wide_png

HEIGHT, WIDTH = 72, 96


def drawn(k: int) -> np.ndarray:
    """Labels 0, 1 and 2: sky above road, and a block of 24x24 that moves."""
    label = np.zeros((HEIGHT, WIDTH), np.uint8)
    label[HEIGHT // 2 :] = 1
    x, y = 5 + 7 * k % 60, 5 + 3 * k % 30
    label[y : y + 24, x : x + 24] = 2
    return label


def made(root, encode, names: str | None = None, count: int = 6, suffix: str = ".png"):
    """A folder of images and of masks encode(label)."""
    for k in range(count):
        for folder, ending, data in (("images", ".jpg", jpeg(scene(k, (WIDTH, HEIGHT))[0])), ("masks", suffix, encode(drawn(k)))):
            (root / folder).mkdir(parents=True, exist_ok=True)
            (root / folder / f"{k:03d}{ending}").write_bytes(data)
    if names is not None:
        (root / "names.txt").write_text(names)
    return root


def whole(root, **options):
    return open_source("folder", split="all", source=root, **options)


def coded(*values, dtype=np.uint8, encode=png):
    """An encoder that stores label k as values[k]."""
    return lambda label: encode(np.array(values, dtype)[label])


def assert_read(source, expected=(0, 1, 2)) -> None:
    for k, element in enumerate(source):
        np.testing.assert_array_equal(element["label"], np.array(expected, np.uint8)[drawn(k)])


RGB = coded(*[(v, v, v) for v in (0, 128, 200)])


@pytest.mark.parametrize(
    "encode, names, expected",
    [
        (coded(0, 0, 255), "car 255 255 255\nbackground 0 0 0\n", (1, 1, 0)),
        (coded(0, 0, 255), "background 0 0 0\ncar 255 255 255\n", (0, 0, 1)),
        (coded(*[(v, v, v) for v in (0, 0, 255)]), "car 255 255 255\nbackground 0 0 0\n", (1, 1, 0)),
        (coded(0, 0, 255), "car #ffffff\nbackground #000000\n", (1, 1, 0)),
        (coded(0, 0, 255), "255 255 255 car\n0 0 0 background\n", (1, 1, 0)),
        (coded(0, 128, 200), "sky 0 0 0\nroad 128 128 128\ncar 200 200 200\n", (0, 1, 2)),
        (coded(0, 128, 200), "car 200 200 200\nroad 128 128 128\nsky 0 0 0\n", (2, 1, 0)),
        (RGB, "car 200 200 200\nroad 128 128 128\nsky 0 0 0\n", (2, 1, 0)),
        (coded(0, 128, 200), "car 200 200 200\nvoid 128 128 128\nsky 0 0 0\n", (1, 255, 0)),
        (coded(1, 2, 255), "one 2 2 2\ntwo 1 1 1\nsnow 255 255 255\n", (1, 0, 2)),
        (lambda label: palette_png(label, [(9, 9, 9), (1, 1, 1), (0, 0, 0)]), "a 0 0 0\nb 1 1 1\nc 9 9 9\nd 7 7 7\n", None),
        (coded(0, 1, 2), "sky 70 130 180\nroad 128 64 128\ncar 0 0 142\n", (0, 1, 2)),
        (coded(0, 1, 2), "sky 0 0 0\nroad 1 1 1\ncar 2 2 2\n", (0, 1, 2)),
        (coded(*[(v, v, v) for v in (0, 1, 2)]), "sky 70 130 180\nroad 128 64 128\ncar 0 0 142\n", (0, 1, 2)),
        (coded(2, 1, 0), "sky 2 2 2\nroad 1 1 1\ncar 0 0 0\n", None),
        (coded(0, 0, 1), "car 1 1 1\nbackground 0 0 0\n", None),
    ],
)
def test_listed_greys_are_honoured_or_the_two_readings_are_named(encode, names, expected, tmp_path):
    made(tmp_path, encode, names)
    if expected is not None:
        assert_read(whole(tmp_path), expected)
        return
    with pytest.raises(DataError, match="name other classes than its .*pixels.*; pass encoding='index' or encoding='colour'"):
        whole(tmp_path)
    for encoding in ("index", "colour"):
        assert len({int(v) for e in whole(tmp_path, encoding=encoding) for v in np.unique(e["label"])}) >= 2


def test_a_few_masks_that_both_readings_fit_do_not_swap_classes(tmp_path):
    """White is first seen in a mask beyond those that are looked at: all are looked at before black is a class number."""
    made(tmp_path, coded(0, 0, 0), "car 255 255 255\nbackground 0 0 0\n", count=70)
    (tmp_path / "masks/069.png").write_bytes(coded(0, 0, 255)(drawn(69)))
    assert (whole(tmp_path)[0]["label"] == 1).all()


def test_a_stray_value_in_one_mask_does_not_hide_what_white_means(tmp_path):
    made(tmp_path, coded(0, 0, 255), "car 255 255 255\nbackground 0 0 0\n")
    for value in (254, 1):  # 1 would be a class number
        (tmp_path / "masks/000.png").write_bytes(coded(value, 0, 255)(drawn(0)))
        if value == 1:
            with pytest.raises(DataError, match="pass encoding="):
                whole(tmp_path)
            continue
        assert (whole(tmp_path, policy="skip")[3]["label"] == np.array([1, 1, 0], np.uint8)[drawn(3)]).all()
        with pytest.raises(DataError, match=r"000.png holds colour \(254, 254, 254\)"):
            whole(tmp_path)[0]


@pytest.mark.parametrize("names", ["void\ncar\n", "background\nvoid\n"])
def test_binary_masks_with_a_void_line(names, tmp_path):
    made(tmp_path, coded(0, 0, 255), names)
    assert_read(whole(tmp_path), (255, 255, 0) if names.startswith("void") else (0, 0, 255))


def smooth(label: np.ndarray, values) -> np.ndarray:
    """Drawn in half the size and enlarged with interpolation."""
    small = cv2.resize(np.array(values, np.uint8)[label], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_NEAREST)
    return cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


def recompressed(label: np.ndarray, values) -> np.ndarray:
    data = np.frombuffer(jpeg(np.repeat(np.array(values, np.uint8)[label][..., None], 3, 2)), np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)


@pytest.mark.parametrize("change", [smooth, recompressed])
@pytest.mark.parametrize(
    "values, names",
    [((0, 128, 200), None), ((0, 128, 200), "sky 0 0 0\nroad 128 128 128\ncar 200 200 200\n"), ((0, 100, 255), "a\nb\nc\n"),
     ((0, 0, 255), "background\ncar\n"), ((0, 0, 255), None), ((0, 20, 40), None)],
)  # fmt: skip
def test_smoothed_and_recompressed_masks_are_refused_with_counts_and_cause(change, values, names, tmp_path):
    made(tmp_path, lambda label: png(change(label, values)), names)
    reasons = []
    for look in (lambda: whole(tmp_path), lambda: check("folder", tmp_path)):
        with pytest.raises(DataError, match=r"\(\d[\d,]* pixels\).* more \(\d.*smooth.*PNG") as error:
            look()
        reasons.append(str(error.value))
    assert reasons[0] == reasons[1]  # training and `data check` say the same


def test_smoothed_colour_masks_are_refused(tmp_path):
    colours = np.array([(70, 130, 180), (128, 64, 128), (0, 0, 142)], np.uint8)

    def encode(label):
        return png(np.dstack([smooth(label, colours[:, k]) for k in range(3)]))

    made(tmp_path, encode)
    with pytest.raises(DataError, match="colours and no class list says what they mean: .* pixels.*smoothed"):
        whole(tmp_path)
    (tmp_path / "names.txt").write_text("sky 70 130 180\nroad 128 64 128\ncar 0 0 142\n")
    with pytest.raises(DataError, match="6 of the 6 checked masks .*names.txt does not give: .* pixels.*smoothed"):
        whole(tmp_path)


def test_jpeg_masks_have_one_reason_in_training_and_check(tmp_path):
    made(tmp_path, lambda label: jpeg(np.repeat(label[..., None] * 100, 3, 2)), "sky\nroad\ncar\n", suffix=".jpg")
    for look in (lambda: whole(tmp_path), lambda: whole(tmp_path, policy="skip"), lambda: check("folder", tmp_path)):
        with pytest.raises(DataError, match="masks/000.jpg is a JPEG, which changes label colours; save labels as PNG"):
            look()


def test_one_jpeg_among_good_masks_is_a_problem_of_its_file(tmp_path):
    made(tmp_path, coded(0, 1, 2), "sky\nroad\ncar\n")
    (tmp_path / "masks/003.png").write_bytes(jpeg(np.repeat(drawn(3)[..., None], 3, 2)))
    report, _ = check("folder", tmp_path)
    assert not report.fit and sum("is a JPEG" in text for part in report.splits.values() for text in part.problems.values()) == 1


@pytest.mark.parametrize("values", [(0, 128, 200), (7, 26, 33), (10, 20, 30), (0, 1, 200), (0, 100, 255)])
def test_gaps_without_a_list_are_refused_with_the_values(values, tmp_path):
    made(tmp_path, coded(*values))
    with pytest.raises(DataError, match=rf"{values[1]} \([\d,]+ pixels\).*names.txt.*values='{values[0]}:name0/{values[1]}:name1") as error:
        whole(tmp_path)
    fix = str(error.value).split("values='")[1].split("'")[0]
    if 255 not in values:
        assert_read(whole(tmp_path, values=fix))
    assert_read(whole(tmp_path, values="/".join(f"{v}:c{v}" for v in values)))
    (tmp_path / "names.txt").write_text("".join(f"{v}: c{v}\n" for v in values))
    assert_read(whole(tmp_path))


def test_small_gaps_are_classes_that_do_not_occur(tmp_path):
    made(tmp_path, coded(0, 1, 4))
    source = whole(tmp_path)
    assert source.classes.names == ("class_0", "class_1", "class_2", "class_3", "class_4")
    assert_read(source, (0, 1, 4))


def test_ade20k_ignores_0_and_counts_from_1(tmp_path):
    made(tmp_path, coded(0, 1, 2))
    source = whole(tmp_path, ignore=0)
    assert source.classes.names == ("class_1", "class_2")
    assert_read(source, (255, 0, 1))
    (tmp_path / "names.txt").write_text("wall\nbuilding\n")
    with pytest.raises(DataError, match=r"ignore=0 is also the value of class 'wall'; .*values=\[1, 2\] if they count from 1"):
        whole(tmp_path, ignore=0)
    assert_read(whole(tmp_path, ignore=0, values=[1, 2]), (255, 0, 1))
    with pytest.raises(DataError, match="They count the classes from 1: add a first line `void`, or pass values='1/2' and ignore=0"):
        whole(tmp_path)
    assert_read(whole(tmp_path, values="1/2", ignore=0), (255, 0, 1))
    (tmp_path / "names.txt").write_text("void\nwall\nbuilding\n")
    assert_read(whole(tmp_path), (255, 0, 1))


@pytest.mark.parametrize("void, dtype", [(65535, np.uint16), (1000, np.uint16), (254, np.uint8)])
def test_any_number_may_be_void(void, dtype, tmp_path):
    made(tmp_path, coded(0, 1, void, dtype=dtype, encode=wide_png if dtype == np.uint16 else png))
    with pytest.raises(DataError, match=f"pass {'ignore=65535' if void == 65535 else 'values='}"):
        whole(tmp_path)
    assert_read(whole(tmp_path, ignore=void), (0, 1, 255))
    (tmp_path / "names.txt").write_text("sky\nroad\n")
    assert_read(whole(tmp_path, ignore=void), (0, 1, 255))
    report, _ = check("folder", tmp_path, ignore=void)
    assert report.fit and report.splits["train"].label_values.keys() == {0, 1, void}


def test_what_looks_like_void_is_named_when_the_list_lacks_it(tmp_path):
    made(tmp_path, coded(0, 1, 65535, dtype=np.uint16, encode=wide_png), "sky\nroad\n")
    with pytest.raises(DataError, match="65535 looks like what is to be ignored: pass ignore=65535"):
        whole(tmp_path)


VALUE_MAPS = [
    {"sky": [13, 14], "car": 26, "ignore": [0, 255]},
    {"sky": (13, 14), "car": [26], "void": [0]},
    "13+14:sky/26:car/0+255:ignore",
    "13-14:sky,26:car,0:ignore",
    "13+14:sky; 26:car; 0:void",
    "13:sky/14:sky/26:car/rest:ignore",
    {"sky": [13, 14], "car": 26, "ignore": "rest"},
]


@pytest.mark.parametrize("values", VALUE_MAPS)
@pytest.mark.parametrize("names", [None, "sky\ncar\n", "sky 1 2 3\ncar 13 13 13\n"])
def test_own_value_maps(values, names, tmp_path):
    made(tmp_path, coded(0, 13, 26), names)
    (tmp_path / "masks/000.png").write_bytes(coded(0, 14, 26)(drawn(0)))
    source = whole(tmp_path, values=values)
    assert source.classes.names == ("sky", "car")
    assert_read(source, (255, 0, 1))


def test_value_maps_with_the_rest_as_a_class_and_wide_values(tmp_path):
    made(tmp_path, coded(0, 21000, 33000, dtype=np.uint16, encode=wide_png))
    source = whole(tmp_path, values="21000:car/rest:other")
    assert source.classes.names == ("car", "other")
    assert_read(source, (1, 0, 1))
    assert source.fingerprint() != whole(tmp_path, values="21000:car/rest:ignore/1:other").fingerprint()


def test_white_may_be_a_class_of_a_value_map(tmp_path):
    made(tmp_path, coded(0, 0, 255))
    assert_read(whole(tmp_path, values={"car": 255, "background": 0}), (1, 1, 0))


@pytest.mark.parametrize(
    "values, words",
    [
        ({"sky": [0], "car": [0, 1]}, "0 is there for 'sky' and 'car'"),
        ({"sky": 0, "bus": 1}, "names 'bus', which names.txt does not list"),
        ({"sky": 0, "cars": 1}, "Did you mean 'car'"),
        ({"sky": 0}, "no value for class 'car'"),
        ({"sky": "zero", "car": 1}, "'zero' is neither a whole number nor several"),
        ({"sky": True, "car": 1}, "neither a whole number"),
        ({"sky": "rest", "car": "rest"}, "the rest to two classes"),
        ([0], "1 numbers for 2 classes"),
        ([0, 0], "must be different numbers"),
        ([0, 1.5], "neither a whole number"),
        ("sky:0/car:1", "is not understood; write values="),
        ("0:sky/1:", "no name after 1:"),
        ("9-7:sky/1:car", "not a range"),
        ("", "is not understood"),
        ({}, "names no value"),
        (7, "is not understood"),
    ],
)
def test_value_maps_that_do_not_fit(values, words, tmp_path):
    made(tmp_path, coded(0, 0, 1), "sky\ncar\n", count=2)
    with pytest.raises(DataError, match=words):
        whole(tmp_path, values=values)


def test_several_ignored_values(tmp_path):
    made(tmp_path, coded(0, 1, 2), "sky\n")
    for ignore in ([1, 2], (1, 2), "1+2"):
        assert_read(whole(tmp_path, ignore=ignore), (0, 255, 255))
    with pytest.raises(DataError, match="ignore: 'x' is neither"):
        whole(tmp_path, ignore="x")


def test_class_lists_of_other_tools_are_found(tmp_path):
    made(tmp_path / "rf", coded(0, 1, 2))
    (tmp_path / "rf/_classes.csv").write_text("Pixel Value, Class\n0, sky\n1, road\n2, car\n")
    assert whole(tmp_path / "rf").classes.names == ("sky", "road", "car")
    colours = np.array([(0, 0, 0), (128, 64, 128), (0, 0, 142)], np.uint8)
    made(tmp_path / "cvat", lambda label: png(colours[label]))
    (tmp_path / "cvat/labelmap.txt").write_text("# label:color_rgb:parts:actions\nbackground:0,0,0::\ncar:0,0,142::\nroad:128,64,128::\n")
    assert whole(tmp_path / "cvat").classes.names == ("background", "car", "road")
    assert_read(whole(tmp_path / "cvat"), (0, 2, 1))
    (tmp_path / "cvat/names.txt").write_text("sky 0 0 0\nroad 128 64 128\ncar 0 0 142\n")
    assert_read(whole(tmp_path / "cvat"))  # one's own list comes first


def test_a_list_in_every_split_must_say_the_same(tmp_path):
    for split in ("train", "valid"):
        made(tmp_path / split, coded(0, 1, 2))
        (tmp_path / split / "_classes.csv").write_text("Pixel Value, Class\n0, sky\n1, road\n2, car\n")
    assert whole(tmp_path).classes.names == ("sky", "road", "car")
    (tmp_path / "valid/_classes.csv").write_text("Pixel Value, Class\n0, sky\n1, car\n2, road\n")
    with pytest.raises(DataError, match="_classes.csv, which differ; keep one"):
        whole(tmp_path)


def test_colour_masks_with_a_mask_of_one_grey_class(tmp_path):
    colours = np.array([(0, 0, 0), (128, 64, 128), (0, 0, 142)], np.uint8)
    made(tmp_path, lambda label: png(colours[label]))
    (tmp_path / "masks/002.png").write_bytes(png(np.zeros((HEIGHT, WIDTH, 3), np.uint8)))
    assert len(whole(tmp_path).classes) == 3 and (whole(tmp_path)[2]["label"] == 0).all()


def test_interpolated_masks_whose_values_are_all_classes_are_told_by_their_edges(tmp_path):
    def drawn_with(interpolation):
        return lambda label: png(cv2.resize(np.array((0, 6, 3), np.uint8)[label][::2, ::2], (WIDTH, HEIGHT), interpolation=interpolation))

    names = "".join(f"class {k}\n" for k in range(7))
    for interpolation, told in ((cv2.INTER_NEAREST, False), (cv2.INTER_LINEAR, True)):
        made(tmp_path / str(interpolation), drawn_with(interpolation), names)
        report, _ = check("folder", tmp_path / str(interpolation))
        warnings = report.splits["train"].warnings
        assert ("look resized with interpolation" in warnings.get("edges", "")) == told and report.fit


def test_a_prepared_folder_keeps_what_its_masks_mean(tmp_path):
    from data_pipelines.prepare import prepare

    made(tmp_path / "raw", coded(0, 13, 26))
    meaning = {"values": "13:sky/26:car/0:ignore"}
    prepare("folder", tmp_path / "raw", tmp_path / "out", splits=("all",), say=lambda _: None, **meaning)
    same = {"sky": 13, "car": [26], "ignore": (0,)}
    for options in ({}, meaning, {"values": same}, {"classes": ["sky", "car"]}):
        source = whole(tmp_path / "out", **options)
        assert source.classes.names == ("sky", "car")
        assert_read(source, (255, 0, 1))
    for options in ({"values": {"sky": 26, "car": 13, "ignore": 0}}, {"ignore": 13}):
        with pytest.raises(DataError, match="was prepared with"):
            whole(tmp_path / "out", **options)
    with pytest.raises(DataError, match="prepared with the classes sky, car, not those of classes="):
        whole(tmp_path / "out", classes=["car", "sky"])


def test_options_of_other_kinds_are_named(tmp_path):
    made(tmp_path, coded(0, 1, 2))
    with pytest.raises(DataError, match="classes=3 is not understood"):
        whole(tmp_path, classes=3)
    with pytest.raises(DataError, match="classes: 1 is not text"):
        whole(tmp_path, classes=[1, 2])
    with pytest.raises(DataError, match="val_share=x must lie between 0 and 1"):
        open_source("folder", source=tmp_path, val_share="x")
    with pytest.raises(DataError, match="ignore: '' is neither a whole number nor several; say ignore=0 or ignore=0\\+255"):
        whole(tmp_path, ignore="")
    (tmp_path / "masks").rename(tmp_path / "7")
    assert len(whole(tmp_path, masks=7)) == 6
    with pytest.raises(DataError, match="8"):
        whole(tmp_path, images=8, masks=7)
    with pytest.raises(DataError, match="encoding='grey' is unknown; choose one of auto, index, colour"):
        whole(tmp_path, masks="7", encoding="grey")


@pytest.mark.parametrize(
    "encode, names, words",
    [
        (coded(0, 128, 255), "sky 0 0 0\nroad 128 128 128\n", r"does not give: \(255, 255, 255\) \([\d,]+ pixels\).*`void red green blue`"),
        (coded(0, 1, 9), "sky 0 0 0\nroad 128 128 128\ncar 1 2 3\n", r"values outside the class list of names.txt \(0-2, 255\): 9 \("),
    ],
)
def test_neither_values_nor_listed_greys_fit(encode, names, words, tmp_path):
    made(tmp_path, encode, names)
    with pytest.raises(DataError, match=f"6 of the 6 checked masks .*{words}"):
        whole(tmp_path)


def one_bit(label: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(label == 2).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("names, expected", [("background\ncar\n", (0, 0, 1)), ("background 0 0 0\ncar 255 255 255\n", (0, 0, 1)),
                                             ("car 255 255 255\nbackground 0 0 0\n", None)])  # fmt: skip
def test_masks_of_one_bit(names, expected, tmp_path):
    made(tmp_path, one_bit, names)
    if expected:
        return assert_read(whole(tmp_path), expected)
    with pytest.raises(DataError, match="pass encoding='index' or encoding='colour'"):
        whole(tmp_path)
    assert_read(whole(tmp_path, encoding="colour"), (1, 1, 0))


def test_a_few_strange_masks_are_told_with_how_many_pixels(tmp_path):
    made(tmp_path, coded(0, 1, 2), "sky\nroad\ncar\n")
    (tmp_path / "masks/001.png").write_bytes(coded(0, 1, 77)(drawn(1)))
    (tmp_path / "masks/002.png").write_bytes(png(smooth(drawn(2), (0, 128, 200))))
    problems = [text for part in check("folder", tmp_path)[0].splits.values() for text in part.problems.values()]
    text = "".join(problems)
    assert len(problems) == 2 and "pixels; so many values mean smoothing or JPEG" in text
    assert "holds label value 77 outside the class list of names.txt (0-2, 255) in 576 of 6,912 pixels; check which kind" in text


def test_ignore_has_no_meaning_for_colours(tmp_path):
    colours = np.array([(0, 0, 0), (128, 64, 128), (0, 0, 142)], np.uint8)
    made(tmp_path, lambda label: png(colours[label]))
    with pytest.raises(DataError, match="ignore= belongs to masks of class indices.*`void red green blue`"):
        whole(tmp_path, ignore=0)
    assert len(whole(tmp_path, ignore=255).classes) == 3


def test_one_class_alone_is_warned_of(tmp_path):
    made(tmp_path / "three", coded(0, 0, 255), "sky\nroad\ncar\n")
    assert "'sky' is the only class that occurs" in check("folder", tmp_path / "three")[0].splits["train"].warnings["classes"]


@pytest.mark.parametrize("names", [None, "sky\nroad\ncar\n"])
def test_class_numbers_that_were_jpeg_once(names, tmp_path):
    def encode(label):
        return png(np.where(np.roll(label, 1, 1) != label, 3, label).astype(np.uint8))  # a fourth value along some edges

    made(tmp_path, encode, names)
    if names is None:
        warnings = check("folder", tmp_path)[0].splits["train"].warnings
        assert "values occur only along edges and are taken for classes: 3 (" in warnings["masks"]
    else:
        with pytest.raises(DataError, match="outside the class list .*: 3 .* These values occur only along edges, as smoothing or JPEG"):
            whole(tmp_path)


def test_colours_stored_in_two_ways(tmp_path):
    colours = [(0, 0, 0), (255, 0, 0), (0, 255, 0)]
    made(tmp_path, lambda label: png(np.array(colours, np.uint8)[label]), "red 255 0 0\ngreen 0 255 0\nblack 0 0 0\n")
    for k in (1, 3, 5):
        (tmp_path / f"masks/00{k}.png").write_bytes(palette_png(drawn(k), colours))
    assert_read(whole(tmp_path), (2, 0, 1))
