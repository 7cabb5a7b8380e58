"""Label tables against the official scripts' output, and the class definitions."""

import json

import numpy as np
import pytest

from data_pipelines import labels
from data_pipelines.errors import DataError
from tests.recorded import FIXTURES


@pytest.fixture(scope="module")
def official():
    with np.load(FIXTURES / "label_maps" / "outputs.npz") as arrays:
        return dict(arrays), json.loads((FIXTURES / "label_maps" / "meta.json").read_text())


def test_tables_equal_the_official_ones_entry_by_entry(official):
    arrays, _ = official
    np.testing.assert_array_equal(labels.GTAV_IDS.table, arrays["gta_id_to_trainid_256"])
    np.testing.assert_array_equal(labels.CITYSCAPES_IDS.table, arrays["cityscapes_id_to_trainid_256"])
    np.testing.assert_array_equal(labels.MAPILLARY_V12_IDS.table[:66], arrays["mapillary66_to_cityscapes_trainid"])
    through_label_ids = labels.CITYSCAPES_IDS.table[arrays["mapillary66_to_cityscapes_labelid"]]
    np.testing.assert_array_equal(labels.MAPILLARY_V12_IDS.table[:66], through_label_ids)


def test_names_and_colours(official):
    _, meta = official
    assert list(labels.CITYSCAPES.names) == meta["cityscapes_classes"]
    assert [list(colour) for colour in labels.CITYSCAPES.palette] == meta["palette"]
    assert list(labels.V12_NAMES) == meta["mapillary_names"]
    assert len(labels.CITYSCAPES) == 19 and len(labels.V20_NAMES) == 124 and len(set(labels.V20_NAMES)) == 124


def test_synthia_and_urbansyn_tables():
    expected = {3: 0, 4: 1, 2: 2, 21: 3, 5: 4, 7: 5, 15: 6, 9: 7, 6: 8, 1: 10, 10: 11, 17: 12, 8: 13, 19: 15, 12: 17, 11: 18}
    assert {v: t for v, t in labels.SYNTHIA_IDS.ids.items() if t not in (9, 14, 16, 255)} == expected
    assert all(labels.SYNTHIA_IDS.table[void] == 255 for void in (0, 13, 14, 22))
    assert labels.URBANSYN_IDS.table[:20].tolist() == [*range(19), 255]


def test_every_part_of_a_v12_class_keeps_its_train_id_in_v20():
    for name in set(labels.V12_NAMES) & set(labels.V20_NAMES):
        v12 = labels.MAPILLARY_V12_IDS.table[labels.V12_NAMES.index(name)]
        assert labels.MAPILLARY_V20_IDS.table[labels.V20_NAMES.index(name)] == v12, name


def test_camvid_classes_map_to_the_named_cityscapes_classes():
    expected = ["sky", "building", "pole", "road", "sidewalk", "vegetation", "traffic sign", "fence", "car", "person", "rider"]
    assert [labels.CITYSCAPES.names[labels.CAMVID_IDS.table[k]] for k in range(11)] == expected
    assert labels.CAMVID_IDS.table[11] == 255


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_unknown_values_are_refused_by_name(dtype):
    raw = np.array([[0, 18], [77, 19]], dtype)
    with pytest.raises(DataError, match=r"a/b\.png holds label values 19, 77 outside train ids \(0-18, 255\)"):
        labels.TRAIN_IDS(raw, "a/b.png")
    np.testing.assert_array_equal(labels.TRAIN_IDS(np.array([[0, 255]], dtype), "x"), [[0, 255]])


def test_values_beyond_a_byte_do_not_wrap_around():
    with pytest.raises(DataError, match="256"):
        labels.TRAIN_IDS(np.array([[256]], np.uint16), "x.png")
