"""Class lists in the forms that people have: each read right, or refused; none shifted by a line."""

import json
import time

import pytest

from data_pipelines import classlist
from data_pipelines.errors import DataError

ROAD_CAR = ("road", "car")
COLOURS = ((128, 64, 128), (0, 0, 142))
JSON = {
    "names": ["road", "car"],
    "by value": {"names": {"0": "road", "1": "car"}},
    "values by name": {"road": 0, "car": 1},
    "coco": {"images": [], "categories": [{"id": 0, "name": "road"}, {"id": 1, "name": "car"}]},
}


def parsed(text: str):
    made = classlist.parse(text, "names.txt")
    return made.names, made.colours, made.values


@pytest.mark.parametrize(
    "text",
    [
        "id,name\n0,road\n1,car\n",
        "id;name\r\n0;road\r\n1;car\r\n",
        "name\tid\nroad\t0\ncar\t1\n",
        "Pixel Value, Class\n0, road\n1, car\n",
        "class_id class_name\n0 road\n1 car\n",
        "0 road\n1 car\n",
        "0: road\n1: car\n",
        "0,road\n1,car\n",
        "road 0\ncar 1\n",
        "road, 0\ncar, 1\n",
        "road=0\ncar=1\n",
        "0 - road\n1 - car\n",
        "road -> 0\ncar -> 1\n",
        "labels:\n  - name: road\n    id: 0\n  - name: car\n    id: 1\n",
        "nc: 2\nnames:\n  0: road\n  1: car\n",
        "# of YOLO\npath: ../data\nnames: {0: road, 1: car}\n",
        json.dumps(JSON["by value"]),
        json.dumps(JSON["values by name"], indent=1),
        json.dumps(JSON["coco"]),
        "{0: road, 1: car}",
    ],
)
def test_values_beside_the_names(text):
    assert parsed(text) == (ROAD_CAR, None, (0, 1))


@pytest.mark.parametrize(
    "text",
    [
        "road\ncar\n",
        "name\nroad\ncar\n",
        "Class Name\nroad\ncar\n",
        "names: [road, car]\n",
        "names:\n- road\n- car\n",
        "- road\n- car\n",
        json.dumps(JSON["names"]),
        json.dumps({"names": JSON["names"]}),
        "__ignore__\nroad\ncar\n",
        "road,\ncar,\n",
        '"road"\n"car"\n',
        "  - road\n  - car\n",
        "\n\n names:\n   - road\n   - car\n",
    ],
)
def test_names_alone(text):
    assert parsed(text) == (ROAD_CAR, None, None)


@pytest.mark.parametrize(
    "text",
    [
        "128 64 128\troad\n0 0 142\tcar\n",
        "128 64 128\t\troad\n0 0 142\t\tcar\n",
        "128,64,128,road\n0,0,142,car\n",
        "#804080 road\n#00008e car\n",
        "name,r,g,b\nroad,128,64,128\ncar,0,0,142\n",
        "r g b name\n128 64 128 road\n0 0 142 car\n",
        "name,hex\nroad,#804080\ncar,#00008e\n",
        "# label:color_rgb:parts:actions\nroad:128,64,128::\ncar:0,0,142:wheel,door:\n",
        "road: [128, 64, 128]\ncar: [0, 0, 142]\n",
        json.dumps({"classes": [{"title": "road", "color": "#804080"}, {"title": "car", "color": "#00008E"}]}),
        json.dumps({"labels": [{"name": "road", "color": [128, 64, 128]}, {"name": "car", "color": [0, 0, 142]}]}),
    ],
)
def test_colours_before_after_and_in_tables(text):
    assert parsed(text) == (ROAD_CAR, COLOURS, None)


def test_values_and_colours_together():
    for text in ("7 road 128 64 128\n26 car 0 0 142\n", "7 128 64 128 road\n26 0 0 142 car\n",
                 "id,name,color\n7,road,#804080\n26,car,#00008e\n"):  # fmt: skip
        assert parsed(text) == (ROAD_CAR, COLOURS, (7, 26))


def test_numbers_that_belong_to_names_stay():
    assert parsed("class 1\nclass 2\n")[0] == ("class 1", "class 2")
    assert parsed("lane 1 1 2 3\nlane 2 4 5 6\n")[:2] == (("lane 1", "lane 2"), ((1, 2, 3), (4, 5, 6)))
    assert parsed("2.5d\n3d\ncovid-19\n")[0] == ("2.5d", "3d", "covid-19")
    assert parsed('car\n"2 wheeler"\n')[0] == ("car", "2 wheeler")
    assert parsed("0\n1\n2\n")[0] == ("0", "1", "2")
    assert parsed("Idx\tRatio\tName\n1\t0.15\twall\n2\t0.1\tbuilding, edifice\n") == (("wall", "building, edifice"), None, (1, 2))


@pytest.mark.parametrize(
    "text, words",
    [
        ("id,nom\n0,route\n1,auto\n", r"line 1 \('id,nom'\) is a header that is not known"),
        ("nom,r,g,b\nroute,1,2,3\n", "class 'nom,r,g,b' has no colour but others have"),
        ("name,id,trainId\nroad,7,0\n", "two columns that could be the mask values"),
        ("label,category\nroad,flat\n", "two columns that could be the names"),
        ("class\n0 road\n1 car\n", "names one column, line 2 has more"),
        ("id,name\n0,road\n1\n", "line 3 has 1 columns, the header has 2"),
        ("background\n__ignore__\ncar\n", "line 2: __ignore__ stands first in labelme's lists"),
        ("car\nbus\n2 wheeler\n", "line 3 has a number before the name"),
        ("road 1 2 3 255\ncar 4 5 6 255\n", "4 numbers after the name"),
        ("road 1 2\ncar 4 5\n", "two numbers after the name"),
        ("road, car, sky\n", "on a single line"),
        ("1\n2\n3\n", "numbers and no names"),
        ("128 64 128\n0 0 142\n", "numbers and no name"),
        ("0 road\n0 car\n", "mask value 0 appears twice"),
        ("names: [yes, road]\n", "entry 1 has True for a name"),
        ("names:\n  0: road\n  0: car\n", "0 appears twice"),
        ('{"road": 0, "road": 1}', "'road' appears twice"),
        ('{"names": [', "line 1 is not valid YAML or JSON"),
        ("names: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
        ('{"names": ["a"], "classes": ["b"]}', "has 'names' and 'classes'"),
        ("ro\x1b[31mad\ncar\n", "not a name that can be printed"),
        ("void\n", "nothing but 'void'"),
        ("a.jpg\nb.jpg\n", "'a.jpg' looks like the name of a file"),
        ("filename, road, car\na.jpg, 1, 0\n", "line 2: 'a.jpg, 1, 0' looks like the name of a file"),
        ("<ul>\n<li>road</li>\n</ul>\n", "looks like .* markup"),
        ("item {\n  id: 1\n  name: 'a'\n}\nitem {\n", "'item {' appears twice"),
        ("id,name\n", "lists no class"),
    ],
)
def test_what_could_be_read_two_ways_is_refused(text, words):
    with pytest.raises(DataError, match=f"names.txt.*{words}"):
        classlist.parse(text, "names.txt")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_encodings(encoding):
    assert classlist.read("straße\nauto\n".encode(encoding), "names.txt").names == ("straße", "auto")


def test_bytes_that_are_no_text():
    for data, words in ((b"\xff\xffroad", "not UTF-8"), (b"a\0\0\0b\0", "not"), (b"a" * (2 << 20), "more than 1 MiB")):
        with pytest.raises(DataError, match=f"names.txt .*{words}"):
            classlist.read(data, "names.txt")


BOMB = "".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9) if k else 'x'}]\n" for k in range(12))


@pytest.mark.parametrize(
    "text",
    [
        BOMB + "names: *a11\n",
        BOMB + "names: [*a11]\n",
        BOMB + "names: [{name: x, color: *a11, colour: *a10, id: *a11}]\n",
        BOMB + "names: {0: *a11}\n",
        "a" + " " * 3000 + "b\n" + " " * 3000 + "c 1 2 3",
        "x\n" * 10**6,
        "\n".join(map(str, range(10**6))),
        "a " * 10**5,
        "1 " * 10**5,
        "[" * 10**4,
        "[ " * 10**4,
        ",,;" * 10**5,
        "#" * 10**6,
        "names:\n" + "- a\n" * 10**5,
        "a" * 10**6,
    ],
)
def test_huge_and_hostile_lists_cost_no_time(text):
    begin = time.process_time()
    try:
        classlist.parse(text, "names.txt")
    except DataError:
        pass
    assert time.process_time() - begin < 20  # they took minutes to hours
