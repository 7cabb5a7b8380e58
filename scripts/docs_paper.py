"""Writes docs/paper.md: every row of the paper's tables 1 to 7 with the config that trains it.

    python scripts/docs_paper.py
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from rein_jax.experiments.paper import TABLES, Row, Table  # noqa: E402

PAGE = ROOT / "docs/paper.md"
INTRO = """\
# Reproducing the paper

<!-- written by scripts/docs_paper.py -->

Every row of Tables 1 to 7 of Rein (CVPR 2024) is one config. The numbers below are the **published** mIoU in %, as on the authors' poster.
No row has been trained with rein_jax yet: what has been verified is [parity](parity.md) of every part with the official code, and the
[experiments on data that can be had anywhere](../benchmarks/generalisation/RESULTS.md).

## How to train a row

Put the data sets into one folder, each under its name (`rein data list NAME` says where to get it and which layout is expected):
`/data/gtav`, `/data/cityscapes`, `/data/bdd100k`, `/data/mapillary`, `/data/acdc`, `/data/synthia`, `/data/urbansyn`. Then

```bash
rein data check cityscapes --source /data/cityscapes --split val
rein train --config configs/gta_to_cbm.py:backbone=dinov2_l,method=rein --config.data.root=/data --workdir runs/dinov2_l_rein
rein tables runs/dinov2_l_rein           # your numbers beside the published ones; "not run" where there is none
```

Several rows and seeds at once, with mean and standard deviation in the table:

```bash
rein sweep configs/gta_to_cbm.py --config.data.root=/data --grid method=full,freeze,rein --grid seed=0,1,2 --workdir runs/table2
```

The configs hold the published recipe: AdamW with a learning rate of 1e-4, 40,000 iterations, batch 4, crops of 512 (Table 3: 6e-5 with a
warm-up, batch 8, crops of 1024), sliding windows, the official sizes of the test images. How long that takes: [Speed](speed.md).
`--config.train.accumulate=4` takes the batch in four parts where memory is short; `rein plan CONFIG --topology h100:1` says beforehand
whether it fits.

Known differences to the paper:

- The paper's text gives full fine-tuning a backbone learning rate of 1e-5, its released config 1e-4. The config's is the default here, the
  text's is `--config.optim.groups=full_paper`.
- 330.94M trained parameters of MAE-L count buffers and relative positions that MAE does not have; ours are 304.15M.
- The images of the 1/16 subset of Cityscapes were not published: here it is every 16th image by name.
- GTR-LTR needs a style transfer that was computed offline; here it takes its textures from a documented source.
- Table 3 is measured on ACDC's test set by its server; runs measure on the validation set. How to get the former:
  [Evaluate and submit](howto/evaluate.md).
"""


def page() -> str:
    """The whole page."""
    return "\n".join([INTRO, *(section(table) for table in TABLES.values())])


def section(table: Table) -> str:
    """One table of the paper; the column of trained parameters where anything is printed in it."""
    counted = any(row.trainable for row in table.rows)
    heads = [*table.heads, *(column.title for column in table.columns), *(["trained"] if counted else []), "config"]
    lines = [f"## Table {table.number}", "", table.title.replace("->", "to") + ".", "", cells(heads), cells(["---"] * len(heads))]
    return "\n".join([*lines, *(cells(row_cells(row, counted)) for row in table.rows), ""])


def row_cells(row: Row, counted: bool) -> list[str]:
    """A row: labels, published numbers, trained parameters of the backbone, config."""
    numbers = ["" if number is None else f"{number:.1f}" for number in row.numbers]
    config = f"`{row.config}`" if row.config else f"*{row.source or 'cited'}*"
    return [*row.labels, *numbers, *([row.trainable] if counted else []), config]


def cells(values: list[str]) -> str:
    """One line of a Markdown table."""
    return f"| {' | '.join(values)} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
