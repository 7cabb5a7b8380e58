"""Where a model's names are in a file: which naming scheme, what stands before them, and which of several sets of weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from rein_jax.weight_rules import Rule, place
from rein_jax.weights.entries import Checkpoint
from rein_jax.weights.torch_state import averaged, two_sets

Format = tuple[Sequence[Rule], Sequence[str]]
_SHELLS = re.compile(r"(^|\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)(?=\.)")  # torch.compile, FSDP, checkpointing
_CHUNKED = re.compile(r"(.*\.)?blocks\.(\d{1,9})\.(\d{1,9})\..+")
_NUMBERED = re.compile(r"(.*\.)?blocks\.\d+\.\D.*")
_MOST = 100  # prefixes that are looked at
_SHARE = 0.5  # of the names of the fullest set, above which another one counts as a set of its own


class Choice(NamedTuple):
    """Naming scheme and prefix under which a file's names have a place; beside: prefixes of other sets of the same weights."""

    scheme: str
    prefix: str
    beside: tuple[str, ...] = ()


def choose(checkpoint: Checkpoint, formats: Mapping[str, Format], fits: Callable[[str, str], bool] = lambda scheme, prefix: True) -> Choice:
    """The scheme and prefix under which the most names of the file have a place; ("first scheme", "") if none has.

    Where a file holds several sets of weights (a student and its teacher, a model and its average), those count that fit(scheme, prefix);
    among them the teacher or average is taken. Two that differ and are equally good are a UserError that says how to choose.
    """
    best: dict[str, tuple[int, str]] = {}
    for scheme, (rules, _) in formats.items():
        for prefix in prefixes(checkpoint, rules):
            names = [name.removeprefix(prefix) for name in checkpoint if name.startswith(prefix)]
            found = len(place(rules, names)[0])
            if found > best.get(prefix, (0, ""))[0]:
                best[prefix] = found, scheme
    if not best:
        return Choice(next(iter(formats)), "")
    chosen = max(best, key=lambda prefix: best[prefix][0])
    sets = [prefix for prefix, (found, _) in best.items() if found >= _SHARE * best[chosen][0]]
    fitting = [prefix for prefix in sets if fits(best[prefix][1], prefix)] if len(sets) > 1 else []
    if fitting:
        meant = [prefix for prefix in fitting if averaged(prefix)] or fitting
        other = next((prefix for prefix in meant if not _equal(checkpoint, meant[0], prefix)), None)
        if other is not None:
            raise two_sets(checkpoint.path, *(".".join(filter(None, [checkpoint.wrapper, prefix])) for prefix in (meant[0], other)))
        chosen = meant[0]
    return Choice(best[chosen][1], chosen, tuple(prefix for prefix in sets if prefix != chosen))


def prefixes(names: Iterable[str], rules: Sequence[Rule]) -> list[str]:
    """What may stand before the table's names in the file ("module.", "backbone."), "" first."""
    anchors = [rule.source for rule in rules if rule.source and "{" not in rule.source]
    anchors = anchors or [rule.source.split("{")[0].rstrip(".") for rule in rules if rule.source]
    found = {name[:-len(anchor)] for anchor in anchors for name in names if name.endswith("." + anchor)}
    return ["", *sorted(found, key=lambda prefix: (len(prefix), prefix))[:_MOST]]


def _equal(checkpoint: Checkpoint, a: str, b: str) -> bool:
    """True if what stands under one prefix stands with the same values under the other."""
    pairs = [(name, b + name.removeprefix(a)) for name in checkpoint if name.startswith(a)]
    return a == b or all(other in checkpoint and np.array_equal(checkpoint[name], checkpoint[other]) for name, other in pairs)


def plain_names(names: Iterable[str]) -> dict[str, str]:
    """{name in the file: the model's own name}: without the shells that training tools put around modules, and with the blocks of DINOv2's
    FSDP chunks ("blocks.1.7.": the eighth block, in the second chunk) counted through. Names that would fall together stay as they are."""
    names = list(names)
    out = {name: _SHELLS.sub("", name).lstrip(".") for name in names}
    numbers = _block_numbers(list(out.values()))
    for name, plain in out.items():
        found = _CHUNKED.fullmatch(plain)
        number = numbers.get((found[1] or "", int(found[2]), int(found[3]))) if found else None
        if number is not None:
            out[name] = f"{plain[:found.start(2)]}{number}{plain[found.end(3):]}"
    return out if len(set(out.values())) == len(names) else {name: name for name in names}


def _block_numbers(names: Sequence[str]) -> dict[tuple[str, int, int], int]:
    """{(what stands before "blocks", chunk, number in the chunk): block}, where all the blocks are in chunks. The numbers within the chunks
    go on from chunk to chunk (DINOv2), or begin anew in each."""
    places: dict[str, set[tuple[int, int]]] = {}
    for found in filter(None, map(_CHUNKED.fullmatch, names)):
        places.setdefault(found[1] or "", set()).add((int(found[2]), int(found[3])))
    for found in filter(None, map(_NUMBERED.fullmatch, names)) if places else ():
        places.pop(found[1] or "", None)
    out: dict[tuple[str, int, int], int] = {}
    for front, own in places.items():
        numbered_on = len({number for _, number in own}) == len(own)
        first, last = {}, -1  # of each chunk, where the numbers begin anew
        for chunk, number in sorted(own):
            first.setdefault(chunk, last + 1)
            last = first[chunk] + number
            out[front, chunk, number] = number if numbered_on else last
    return out


def plain(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint under the model's own names; see `plain_names`."""
    names = plain_names(checkpoint)
    return replace(checkpoint, entries={names[name]: entry for name, entry in checkpoint.entries.items()})
