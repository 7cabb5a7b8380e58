"""`rein params`: count and list the parameters of a config or of backbones, from shapes alone (no weights, no memory)."""

from __future__ import annotations

import argparse

from flax import nnx

from rein_jax import configuration, registry, trees
from rein_jax.backbones import BACKBONES
from rein_jax.errors import UserError
from rein_jax.experiments.counts import MAE_NOTE, paper_table, published

DESCRIPTION = """Count the parameters of a config (what trains and what is frozen, tree by tree), or of backbones by name (what Full
trains and what Rein adds), or of every row of the paper's tables (`rein params paper`). Shapes only: no weights are read and nothing
is allocated."""
EPILOG = """examples:  rein params configs/quickstart.py        rein params quickstart:method=full --list '.*bias'
           rein params clip_vitl14 mae_l sam_h eva02_l dinov2_vitl14        rein params all        rein params paper"""
# `Trainable` of Full in table 2 of the paper, for 512 x 512 inputs.
PUBLISHED = {"clip_vitl14": "304.15M", "mae_l": "330.94M", "sam_h": "632.18M", "eva02_l": "304.24M", "dinov2_vitl14": "304.20M"}
NOTES = {"mae_l": MAE_NOTE}
COUNTED = """Full counts every parameter of the module at the given image size (position embedding included); unused ones of published files
(mask token, final norm, head, SAM's neck) are not part of the module, running statistics of batch norms are not parameters."""


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    parse = argparse.ArgumentParser(
        "rein params", description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parse.add_argument("what", nargs="+", metavar="CONFIG|BACKBONE", help="a config file, or names of backbones, or all, or paper")
    parse.add_argument("--list", nargs="?", const=".*", metavar="REGEX", help="also print the parameters whose names match")
    parse.add_argument("--image-size", type=int, default=512, help="input side for backbones given by name (default 512)")
    return parse


def main(argv: list[str]) -> int:
    """Exit code of the command."""
    overrides, rest = configuration.split_overrides(argv)
    options = parser().parse_args(rest)
    if options.what == ["paper"]:
        print(paper_table())
        return 0
    names = list(BACKBONES) if options.what == ["all"] else options.what
    if all(name in BACKBONES for name in names):
        print(backbones_table(names, options.image_size))
        for name in names if options.list else ():
            trained, statistics = backbone_shapes(name, options.image_size)
            print(f"\n{name}\n{listed(trained, statistics, options.list)}")
        return 0
    for name in names:
        if name in BACKBONES:
            raise UserError(f"{name!r} is a backbone and others are configs; ask for one kind at a time.")
        if "/" not in name and name.split("_")[0] in {backbone.split("_")[0] for backbone in BACKBONES}:
            raise registry.unknown(name, BACKBONES, "backbone")
        print(config_report(configuration.load(name, overrides), options.list))
    return 0


def backbone_shapes(name: str, image_size: int) -> tuple[trees.FlatParams, trees.FlatParams]:
    """(parameters, running statistics) of a backbone as shapes."""
    cls = registry.load(BACKBONES, name, "backbone")
    patch = getattr(cls, "patch", 16)
    model = nnx.eval_shape(lambda: cls(name, rngs=nnx.Rngs(0), image_size=-(-image_size // patch) * patch))
    _, trained, statistics = trees.split(model, (".*",))
    return trained, statistics


def rein_count(name: str) -> int:
    """Parameters of the published Rein (100 tokens, rank 16, linked), one per stage."""
    from rein_jax.adapters.rein import Rein

    cls = registry.load(BACKBONES, name, "backbone")

    def make():
        backbone = cls(name, rngs=nnx.Rngs(0))
        return nnx.List([Rein(spec, rngs=nnx.Rngs(0)) for spec in backbone.block_specs])

    return trees.count(trees.flatten(nnx.eval_shape(make)))


def backbones_table(names: list[str], image_size: int) -> str:
    """One line a backbone: parameters (Full), the published count where there is one, Rein's parameters."""
    lines = [f"{'backbone':<16} {'Full':>14} {'in M':>9} {'published':>10} {'Rein':>12} {'in M':>7}"]
    for name in names:
        full, rein = trees.count(backbone_shapes(name, image_size)[0]), rein_count(name)
        published = PUBLISHED.get(name, "") if image_size == 512 else ""
        lines.append(f"{name:<16} {full:>14,} {millions(full):>9} {published:>10} {rein:>12,} {millions(rein):>7}")
    lines += [NOTES[name] for name in names if name in NOTES]
    return "\n".join([*lines, COUNTED])


def config_report(config, pattern: str | None) -> str:
    """Trained and frozen parameters of a config by tree, then the list."""
    from data_pipelines.labels import CITYSCAPES
    from rein_jax import build

    _, trainable, frozen = build.abstract_params(config, CITYSCAPES)
    tops = sorted({name.split("/")[0] for name in (*trainable, *frozen)})
    lines = [f"{config.name}: {config.backbone.name}, adapter {config.adapter.name}, head {config.head.name}", ""]
    lines.append(f"{'tree':<10} {'trained':>14} {'frozen':>14} {'trained bytes':>14}")
    for top in [*tops, ""]:
        mine, rest = ({n: a for n, a in part.items() if n.startswith(top)} for part in (trainable, frozen))
        lines.append(f"{top or 'all':<10} {trees.count(mine):>14,} {trees.count(rest):>14,} {trees.nbytes(mine):>14,}")
    inside = trees.count({n: a for n, a in trainable.items() if not n.startswith("head/")})
    printed = published(config)
    lines += ["", f"trained inside the backbone, as the paper counts (adapters included, head not): {inside:,} = {millions(inside)}"
              + (f"; published: {printed}" if printed else "")]  # fmt: skip
    lines += [MAE_NOTE] if printed == "330.94M" else []
    if pattern:
        lines += ["", listed(trainable, frozen, pattern)]
    return "\n".join(lines)


def listed(trainable: trees.FlatParams, frozen: trees.FlatParams, pattern: str) -> str:
    """Path, shape, dtype and fate of the parameters whose names match."""
    chosen = trees.matching((*trainable, *frozen), (pattern,))
    return trees.table(*({n: a for n, a in part.items() if n in chosen} for part in (trainable, frozen)))


def millions(count: int) -> str:
    """2990081 -> "2.99M"."""
    return f"{count / 1e6:.2f}M"
