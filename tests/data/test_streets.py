"""The embedded data set `streets`: determinism, exact labels, every class and style, and clear errors."""

import hashlib
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from data_pipelines.errors import DataError
from data_pipelines.labels import CITYSCAPES
from data_pipelines.streets import STYLES, Streets

SMALL = (96, 192)
WEATHER = [style for style in STYLES if style != "city"]


def digest(item) -> str:
    return hashlib.sha256(item["image"].tobytes() + item["label"].tobytes()).hexdigest()


@pytest.fixture(scope="module")
def clear():
    source = Streets("clear", length=60, size=SMALL)
    return [source[i] for i in range(len(source))]


@pytest.mark.parametrize("style", STYLES)
def test_an_element_is_an_image_with_train_ids(style):
    source = Streets(style, length=2, size=SMALL)
    item = source[1]
    assert item["image"].shape == (*SMALL, 3) and item["image"].dtype == np.uint8
    assert item["label"].shape == SMALL and item["label"].dtype == np.uint8
    assert item["image"].flags.c_contiguous and item["label"].flags.c_contiguous
    assert set(np.unique(item["label"])) <= {*range(19), 255}
    assert item["name"] == f"train_{style}_0_000001"
    assert (source.name, source.domain, source.classes, len(source)) == ("streets", style, CITYSCAPES, 2)


def test_elements_are_the_same_in_any_order_copy_and_thread(clear):
    source = pickle.loads(pickle.dumps(Streets("clear", length=60, size=SMALL)))
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(source.__getitem__, reversed(range(12))))
    assert [digest(item) for item in again] == [digest(item) for item in reversed(clear[:12])]


def test_elements_are_the_same_in_another_process():
    source = Streets("snow", length=5, size=SMALL, seed=3)
    code = "import hashlib; from data_pipelines.streets import Streets; x = Streets('snow', length=5, size=(96, 192), seed=3)[4];"
    code += "print(hashlib.sha256(x['image'].tobytes() + x['label'].tobytes()).hexdigest())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == digest(source[4])


def test_length_and_global_random_state_do_not_matter(clear):
    np.random.seed(7)  # noqa: NPY002 - the point is that it has no effect
    assert digest(Streets("clear", length=4, size=SMALL)[3]) == digest(clear[3])


def test_weather_changes_the_picture_but_not_the_scene():
    for index in range(6):
        items = [Streets(style, length=9, size=SMALL)[index] for style in WEATHER]
        for item in items[1:]:
            np.testing.assert_array_equal(item["label"], items[0]["label"])
        pictures = [item["image"].astype(float) for item in items]
        assert min(np.abs(a - b).mean() for k, a in enumerate(pictures) for b in pictures[:k]) > 4


def test_the_other_city_has_other_scenes(clear):
    city = Streets("city", length=4, size=SMALL)
    assert all((city[i]["label"] != clear[i]["label"]).mean() > 0.05 for i in range(4))


@pytest.mark.parametrize("other", [{"seed": 1}, {"split": "val"}, {"split": "test"}])
def test_seeds_and_splits_share_no_scene(clear, other):
    others = Streets("clear", length=12, size=SMALL, **other)
    assert not {digest(others[i]) for i in range(12)} & {digest(item) for item in clear}
    assert all((others[i]["label"] != clear[i]["label"]).mean() > 0.05 for i in range(12))


def test_all_classes_occur(clear):
    pixels = sum(np.bincount(item["label"].ravel(), minlength=256) for item in clear)
    share = pixels / pixels.sum()
    missing = [CITYSCAPES.names[k] for k in range(19) if pixels[k] < 60]
    assert not missing
    assert 0.15 < share[CITYSCAPES.names.index("road")] < 0.5 and share[255] < 0.05
    present = np.mean([[(item["label"] == k).any() for k in range(19)] for item in clear], axis=0)
    assert present[CITYSCAPES.names.index("person")] > 0.4 and present[CITYSCAPES.names.index("train")] < 0.5


def test_a_random_crop_has_several_classes(clear):
    rng = np.random.default_rng(0)
    counts = []
    for item in clear:
        y, x = rng.integers(0, SMALL[0] // 2 + 1), rng.integers(0, SMALL[1] * 3 // 4 + 1)
        counts.append(len(np.unique(item["label"][y : y + SMALL[0] // 2, x : x + SMALL[1] // 4])))
    assert np.mean(counts) > 4 and np.mean(np.array(counts) >= 2) > 0.9


def test_pictures_vary(clear):
    means = np.array([item["image"].mean((0, 1)) for item in clear])
    assert means.std(axis=0).min() > 8 and 60 < means.mean() < 190


def test_styles_look_as_they_are_called():
    light, contrast = {}, {}
    for style in WEATHER:
        source = Streets(style, length=16, size=SMALL)
        pictures = np.stack([source[i]["image"] for i in range(16)]).astype(float)
        light[style], contrast[style] = pictures.mean(), pictures.std(axis=(1, 2)).mean()
    assert light["night"] < 0.7 * min(light[style] for style in WEATHER if style != "night")
    assert contrast["fog"] < 0.8 * contrast["clear"] and light["snow"] > light["rain"]


@pytest.mark.parametrize("size", [(64, 64), (97, 131), (300, 120), (480, 360)])
def test_any_size(size):
    item = Streets("rain", length=3, size=size)[2]
    assert item["image"].shape == (*size, 3) and item["label"].shape == size


def test_large_pictures_show_the_same_scene():
    small, large = (Streets("clear", length=3, size=size)[2]["label"] for size in ((128, 256), (512, 1024)))
    assert (large[2::4, 2::4] == small).mean() > 0.85


def test_fingerprint_tells_every_argument_apart():
    sources = [Streets(), Streets("fog"), Streets(split="val"), Streets(length=7), Streets(size=(128, 256)), Streets(seed=1)]
    assert len({source.fingerprint() for source in sources}) == len(sources)
    assert Streets().fingerprint() == Streets("clear", "train", 2000, (256, 512), 0).fingerprint()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"style": "nigth"}, ["nigth", "Did you mean 'night'?", *STYLES]),
        ({"split": "trian"}, ["trian", "train", "val"]),
        ({"length": 0}, ["length", "0"]),
        ({"size": (8, 512)}, ["size", "32"]),
        ({"size": 256}, ["size", "256"]),
        ({"seed": -1}, ["seed", "-1"]),
    ],
)
def test_wrong_options_are_named(options, words):
    with pytest.raises(DataError) as error:
        Streets(**options)
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize("index", [-1, 3])
def test_an_element_outside_is_an_index_error(index):
    with pytest.raises(IndexError):
        Streets(length=3, size=SMALL)[index]


def test_editions_differ_in_colours_and_in_what_leafless_trees_hold():
    first, second = (Streets("clear", length=30, size=SMALL, edition=edition) for edition in (1, 2))
    assert first.fingerprint() != second.fingerprint() == Streets("clear", length=30, size=SMALL).fingerprint()
    level = {}
    for source in (first, second):
        level[source.edition] = []
        for item in (source[i] for i in range(30)):
            grey = item["image"].mean(-1)
            road, walk = (grey[item["label"] == k] for k in (0, 1))
            level[source.edition] += [np.log2(walk.mean() / road.mean())] if min(len(road), len(walk)) > 100 else []
    near = {edition: np.mean(np.abs(values) < 0.3) for edition, values in level.items()}  # log2 of pavement over road
    assert near[1] + 0.1 < near[2]
    moved = [(a["label"] != b["label"], b["label"]) for a, b in ((first[i], second[i]) for i in range(30))]
    assert 0 < np.mean([change.mean() for change, _ in moved]) < 0.02
    assert all(set(np.unique(label[change])) <= {8} for change, label in moved)
    with pytest.raises(DataError, match="edition must be one of"):
        Streets(edition=3)
