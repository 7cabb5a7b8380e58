"""Checkpoints of the official Rein code (`backbone.reins.*`, `decode_head.*`), read and written by one table.

The official file holds what was trained: the Rein adapter (per stage for CNNs: `backbone.reins.{stage}.*`) and the head; files
made by its `generate_full_weights` hold the frozen backbone too. Both directions use the tables of the modules themselves
(`adapters.rein.rules`, `heads.mask2former.rules`, the backbone's official names below `backbone.`).
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rein_jax.errors import UserError
from rein_jax.weight_rules import LAYOUTS, Placement, Rule, place, prefixed, unplace
from rein_jax.weights.checkpoint import as_checkpoint
from rein_jax.weights.load import Format, Summary, load_into
from rein_jax.weights.torch_write import write_torch

# Keys of official files that hold no parameters of ours.
SKIP = (r"data_preprocessor\..*", r"buffer:.*", r".*\.num_batches_tracked")
# The frozen backbone inside a file that also holds it, where it is not asked for.
FROZEN = (r"backbone\.(?!reins\.|fpn[0-9]).*",)
UNLINKED = (r"backbone\.reins\.([0-9]+\.)?(transform|merge)\..*",)
_STAGES = 4


def official_rules(names: Iterable[str] = (), *, backbone: str = "", linked: bool = True) -> tuple[Rule, ...]:
    """The table between official keys and our flat names: Rein, the Mask2Former and Semantic FPN heads, CLIP's neck and rescaling.

    names: official or our own names; they tell whether Rein is kept per stage (CNNs). backbone: a registered name, to include the
    backbone's own parameters. linked: with the maps that make queries of Rein's tokens.
    """
    from rein_jax.adapters.rein import rules as rein_rules
    from rein_jax.heads.mask2former import rules as mask2former_rules
    from rein_jax.layers.fpn import neck_rules
    from rein_jax.layers.fpn import rules as rescaling_rules

    names = list(names)
    table = [*mask2former_rules("decode_head.", "head/"), *semantic_fpn_rules(names), *rescaling_rules("backbone.", "backbone/fpn/")]
    if any(name.startswith(("neck.convs.", "head/neck/")) for name in names):  # the frozen CLIP's neck shares names with the FPN's
        table = [*neck_rules(), *table]
    if any(re.match(r"backbone\.reins\.[0-9]+\.|adapters/[1-9]", name) for name in names):
        for stage in range(_STAGES):
            table += rein_rules(f"backbone.reins.{stage}.", f"adapters/{stage}/")
    else:
        table += rein_rules("backbone.reins.", "adapters/0/")
    if not linked:
        table = [rule for rule in table if not re.match(r"adapters/[0-9]+/(maps/transform|merge)/", rule.target)]
    if backbone:
        table += prefixed(backbone_format(backbone)[0], source="backbone.")
    return tuple(table)


def semantic_fpn_rules(names: Sequence[str] = ()) -> tuple[Rule, ...]:
    """mmseg's FPN neck and FPNHead; its scale heads alternate convolution and upsampling, so convolution k has the number 2k.

    Their norm is called "gn" or "bn" by its kind: the names, theirs or ours, hold a batch norm's statistics or they do not. (Files that
    we wrote before 2026-11-26 have "bn" for both.)
    """
    batch = not names or any(re.match(r"decode_head\.scale_heads\..*\.running_|head/scale_heads/.*/norm/(mean|var)$", n) for n in names)
    out = []
    for theirs, ours in (("weight", "kernel"), ("bias", "bias")):
        layout = "conv" if theirs == "weight" else "same"
        out += [Rule(f"neck.lateral_convs.{{i}}.conv.{theirs}", f"head/laterals/{{i}}/{ours}", layout),
                Rule(f"neck.fpn_convs.{{i}}.conv.{theirs}", f"head/smooth/{{i}}/{ours}", layout),
                Rule(f"decode_head.conv_seg.{theirs}", f"head/classify/{ours}", layout)]
    norm = (("weight", "scale"), ("bias", "bias"), ("running_mean", "mean"), ("running_var", "var"))
    for k in range(3):
        block = (f"decode_head.scale_heads.{{i}}.{2 * k}.", f"head/scale_heads/{{i}}/{k}/")
        out.append(Rule(f"{block[0]}conv.weight", f"{block[1]}conv/kernel", "conv"))
        for kind in ("bn", "gn") if batch else ("gn", "bn"):
            rows = norm if kind == "bn" else norm[:2]
            out += [Rule(f"{block[0]}{kind}.{theirs}", f"{block[1]}norm/{ours}") for theirs, ours in rows]
    return tuple(out)


def backbone_format(name: str) -> Format:
    """(table, names to skip) of a registered backbone in files of the official Rein code."""
    from rein_jax import registry
    from rein_jax.backbones import BACKBONES

    module = importlib.import_module(registry.load(BACKBONES, name, "backbone").__module__)
    formats = module.formats(name) if hasattr(module, "formats") else module.FORMATS
    return formats.get("mmpretrain", formats["official"])  # the code that Rein took its ConvNeXt from


def import_official(
    source: str | Path | Mapping[str, Any], *, shapes: Mapping[str, Any] | None = None, backbone: str = ""
) -> tuple[dict[str, np.ndarray], Summary]:
    """An official checkpoint as our flat dict, strictly.

    source: path or mapping. shapes: our parameters to be filled ({name: .shape, .dtype}); None takes what the file holds. backbone: also
    take the backbone's parameters, of that registered name; otherwise they are skipped. Raises UserError naming file and key.
    """
    checkpoint = as_checkpoint(source)
    # The original makes the maps to queries without using them where tokens are not linked.
    unlinked = shapes is not None and not any(re.match(r"adapters/[0-9]+/merge/", name) for name in shapes)
    table = official_rules(checkpoint, backbone=backbone, linked=not unlinked)
    if not any(name.startswith(("backbone.reins.", "decode_head.")) for name in checkpoint):
        raise UserError(f"{checkpoint.path} is not a checkpoint of the official Rein code: it has no key backbone.reins.* "
                        "or decode_head.*.")
    if shapes is None:
        shapes = shapes_of(place(table, checkpoint)[0], checkpoint.entries)
    frozen = tuple(rf"backbone\.{pattern}" for pattern in backbone_format(backbone)[1]) if backbone else FROZEN
    return load_into(shapes, checkpoint, table, SKIP + frozen + (UNLINKED if unlinked else ()))


def export_official(
    arrays: Mapping[str, np.ndarray], path: str | Path | None = None, *, backbone: str = "", wrapper: str = ""
) -> dict[str, np.ndarray]:
    """Our flat dict under official keys and shapes; written to `path` as a .pth file where one is given.

    Raises UserError when a parameter has no official name. wrapper: "state_dict" nests as mmengine's own checkpoints do.
    """
    if not backbone:
        arrays = {name: array for name, array in arrays.items() if not re.match(r"backbone/(?!fpn/)", name)}
    try:
        out, uncovered = unplace(official_rules(arrays, backbone=backbone), arrays)
    except ValueError as error:  # a parameter that bears the name of an official one and is something else, as in head=linear
        raise UserError(f"the parameters are not those of the official Rein code ({error}); only Rein with shared maps and its heads, "
                        "mask2former and semantic_fpn, can be exported.") from None
    if uncovered:
        raise UserError(f"{len(uncovered)} parameters have no name in the official Rein code, {sorted(uncovered)[0]!r} first; "
                        "only Rein with shared maps and its heads can be exported.")
    out = {name: np.ascontiguousarray(array) if array.ndim else array for name, array in sorted(out.items())}
    if path is not None:
        write_torch(path, out, wrapper)
    return out


class Spec:
    """Shape and dtype of a parameter that a file defines."""

    def __init__(self, shape: tuple[int, ...], dtype: Any):
        self.shape, self.dtype = shape, dtype


def shapes_of(placements: Sequence[Placement], entries: Mapping[str, Any]) -> dict[str, Spec]:
    """Our parameters as a file defines them: layouts applied, layers stacked, parts joined."""
    depth: dict[str, int] = {}
    out: dict[str, Spec] = {}
    for p in placements:
        entry = entries[p.source]
        shape = LAYOUTS[p.rule.layout][0](np.broadcast_to(np.zeros((), np.bool_), entry.shape)).shape
        if p.rule.part is not None:
            shape = (*shape[:-1], shape[-1] * p.rule.part[1])
        if p.index is not None:
            depth[p.target] = max(depth.get(p.target, 0), p.index + 1)
            shape = (depth[p.target], *shape)
        out[p.target] = Spec(shape, entry.dtype)
    return {name: Spec((depth[name], *spec.shape[1:]) if name in depth else spec.shape, spec.dtype) for name, spec in out.items()}
