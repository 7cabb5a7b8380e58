"""Trained parameters of the paper's rows, ours beside published, from shapes alone."""

from __future__ import annotations

import json

from rein_jax import build, configuration, trees
from rein_jax.experiments import runs
from rein_jax.experiments.paper import TABLES
from rein_jax.reporting.tables import columns

MAE_NOTE = """MAE-L: the published 330.94M are entries of mmseg's MAE at 512 x 512, index buffers and relative positions included; the
encoder itself, which the other rows count, has 304.15M (see rein_jax/experiments/paper.py)."""


def inside(config) -> int:
    """Trained parameters inside the backbone, as the paper counts: adapters included, head not."""
    from data_pipelines.labels import CITYSCAPES

    trainable = build.abstract_params(config, CITYSCAPES)[1]
    return trees.count({name: array for name, array in trainable.items() if not name.startswith("head/")})


def published(config) -> str:
    """What the paper prints for the row that this config is, "2.99M"; "" where it is none or nothing is printed."""
    key = runs.model_key(config.to_dict())
    for table in TABLES.values():
        for row in table.rows:
            if row.config and row.trainable and runs.model_key(configuration.load(row.config).to_dict()) == key:
                return row.trainable
    return ""


def paper_table() -> str:
    """One line a row of tables 1 to 7 that has a config: trained parameters inside the backbone, published, and the config."""
    known: dict[str, int] = {}
    body = []
    for table in TABLES.values():
        for row in (row for row in table.rows if row.config):
            config = configuration.load(row.config)
            model = json.dumps([config.to_dict()[part] for part in ("backbone", "adapter", "trainable")], default=list)
            if model not in known:
                known[model] = inside(config)
            body.append([f"table {table.number}", " ".join(row.labels), f"{known[model]:,}", f"{known[model] / 1e6:.2f}M", row.trainable,
                         row.config])  # fmt: skip
    width = max(len(row[1]) for row in body)
    body = [[row[0], row[1].ljust(width), *row[2:]] for row in body]
    return columns([["table", "row".ljust(width), "trained", "in M", "published", "config"], *body]) + f"\n\n{MAE_NOTE}"
