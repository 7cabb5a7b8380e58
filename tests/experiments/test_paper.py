"""Every row of the paper's tables resolves to a model, and trains as many parameters inside the backbone as printed."""

from __future__ import annotations

import json

import pytest

from rein_jax import build, configuration, trees
from rein_jax.experiments import paper

ROWS = [(table.number, row) for table in paper.TABLES.values() for row in table.rows]
_built: dict[str, object] = {}


def parts_of(name: str):
    """Abstract parts of a config; rows that share model and optimizer share them."""
    config = configuration.load(name)
    key = json.dumps([config.to_dict()[part] for part in ("backbone", "adapter", "head", "loss", "trainable", "optim")], default=list)
    if key not in _built:
        _built[key] = build.build_all(config, abstract=True)
    return config, _built[key]


def inside(trainable) -> int:
    return trees.count({name: a for name, a in trainable.items() if not name.startswith("head/")})


@pytest.mark.parametrize("name", paper.configs())
def test_every_row_trains_the_published_number_of_parameters(name):
    config, parts = parts_of(name)
    printed = {row.trainable for _, row in ROWS if row.config == name} - {""}
    assert len(printed) <= 1
    count = inside(parts.trainable)
    for text in printed:
        if text == "330.94M":  # a state of mmseg's MAE, index buffers included (see experiments/paper.py)
            assert f"{count / 1e6:.2f}" == "304.15"
            count += 24 * ((63**2 + 3) * 16 + 2 * 1024 + 1025**2)
        assert text == "0" and count == 0 or f"{count / 1e6:.2f}M" == text
    build.make_augment(config.copy_and_resolve_references() if config.augment.name != "gtr_ltr" else _small(config))


def _small(config):
    """GTR-LTR draws its textures when built: few and small ones here."""
    config = config.copy_and_resolve_references().unlock()
    config.augment.update({"count": 2, "side": 16})
    return config


def test_numbers_are_complete_and_averages_are_averages():
    """Rows have a number a column. Printed averages may be off by rounding (table 7, frozen DINOv2-L: 66.7 for 63.4 and 69.7)."""
    assert [len(table.rows) for table in paper.TABLES.values()] == [11, 15, 2, 4, 24, 6, 10]
    for number, row in ROWS:
        columns = paper.TABLES[number].columns
        assert len(row.numbers) == len(columns) and len(row.labels) == len(paper.TABLES[number].heads)
        if columns[-1].title == "Avg" and len(columns) > 1:
            mean = sum(row.numbers[:-1]) / (len(columns) - 1)
            assert abs(mean - row.numbers[-1]) < 0.16, row


def test_a_row_printed_twice_has_the_same_numbers():
    seen = {}
    for number, row in ROWS:
        if row.config and number in (1, 2, 5):
            assert seen.setdefault(row.config, row.numbers) == row.numbers


def test_two_stages_share_their_trainable_leaves():
    """1/16 of Cityscapes starts from the first stage: the same names and shapes must train."""
    first, second = (parts_of(row.config)[1].trainable for row in paper.TABLES[4].rows[2:])
    assert {n: a.shape for n, a in first.items()} == {n: a.shape for n, a in second.items()}
    config = configuration.load(paper.TABLES[4].rows[3].config)
    assert config.init_from and config.train.steps == 4000 and config.data.train[0]["subset"] == "1/16"
