"""Where the weights are inside what PyTorch saved: nested dictionaries, several sets side by side, whole pickled modules."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rein_jax.errors import UserError
from rein_jax.weights.entries import Checkpoint
from rein_jax.weights.torch_pickle import Inert, StorageRef, TensorRef

# Nested dictionaries that hold the weights, the preferred one first; others of a file are not looked at.
WRAPPERS = ("state_dict", "model_state_dict", "model_ema", "ema", "model", "teacher", "module", "net", "params", "student",
            "weights")
_ASIDE = ("optimizer", "optimizers", "optim", "optimizer_state_dict", "scaler", "lr_scheduler", "scheduler", "param_schedulers",
          "message_hub", "meta", "args", "config", "cfg", "amp", "loss_scaler")
_AVERAGED = re.compile(r"(^|[._])(ema|teacher|averaged?|avg|swa|shadow|polyak)([._]|$)", re.IGNORECASE)
_MOST = 16  # entries of a dictionary that are compared with each other
_ALIKE = 0.5  # share of names (with equal shapes) above which two sets are two states of one model

Tensors = dict[str, TensorRef]


def averaged(name: str) -> bool:
    """True for the name of weights that are averages over the training (EMA, mean teacher): the ones meant to be used."""
    return bool(_AVERAGED.search(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)))  # modelEma: model_Ema


def two_sets(path: Path, first: str, second: str) -> UserError:
    """The sentence for a file with two sets of weights of which neither is the one to take."""
    first, second = first.rstrip("."), second.rstrip(".")
    named = [f"under {name!r}" if name else "at the top" for name in (first, second)]
    return UserError(f"{path} holds two sets of weights, one {named[0]} and one {named[1]}; write the one you want to a file of its own: "
                     f"rein convert {path} OUT.safetensors --part {second or first}")


def find_tensors(top: Any, path: Path, unwrap: bool = True) -> tuple[Tensors, str, tuple[str, ...]]:
    """({name: tensor}, the wrappers opened, joined by '.', sets of weights beside them): a state dict wherever it hides in the object."""
    opened: list[str] = []
    beside: list[str] = []
    while unwrap and isinstance(top, Mapping) and not any(isinstance(value, TensorRef) for value in top.values()):
        inner, others = _inner(top, path, opened)
        if inner is None or len(opened) == 8:
            break
        beside += [".".join([*opened, other]) for other in others]
        opened.append(inner)
        top = top[inner]
    tensors: Tensors = {}
    for name, ref in _walk(top, path):
        if name in tensors:
            raise UserError(f"{path} holds the key {name!r} twice; it is refused.")
        tensors[name] = ref
    if not tensors:
        raise UserError(f"{path} holds no tensors.")
    return tensors, ".".join(opened), tuple(beside)


def _inner(top: Mapping, path: Path, opened: list[str]) -> tuple[str | None, list[str]]:
    """(the key of the dictionary to open, keys of other states of the same model), averages before what they are averages of."""
    found: dict[str, Tensors] = {}
    texts = [key for key in top if isinstance(key, str) and key not in _ASIDE]
    averages = [key for key in texts if averaged(key)][:_MOST]
    for key in dict.fromkeys([*WRAPPERS, *averages, *(texts[:_MOST] if averages else ())]):
        tensors = dict(_walk(top[key], path)) if isinstance(top.get(key), Mapping | Inert) else {}
        if tensors:
            found[key] = tensors
    if "ema_state_dict" in found and "state_dict" in found and "mmengine_version" in (_mapping(top.get("meta"))):
        del found["ema_state_dict"]  # mmengine puts the average into state_dict and the weights it is an average of here
    wrappers = [key for key in WRAPPERS if key in found]
    averages = [key for key in found if averaged(key) and key not in WRAPPERS
                and any(other != key and _alike(found[other], found[key]) for other in found)]
    if not wrappers and not averages:
        return None, []
    first = (wrappers or averages)[0]
    same = [key for key in ([*wrappers, *averages] if wrappers else found) if key == first or _alike(found[first], found[key])]
    best = [key for key in same if averaged(key)] or same
    other = next((key for key in best if _places(found[key]) != _places(found[best[0]])), None)
    if other is not None:
        raise two_sets(path, ".".join([*opened, best[0]]), ".".join([*opened, other]))
    return best[0], [key for key in same if key not in best]


def _mapping(value: Any) -> Mapping:
    return value if isinstance(value, Mapping) else {}


def _alike(a: Tensors, b: Tensors) -> bool:
    """True if most of a's tensors are in b too, with the same shapes."""
    ours, theirs = _places(a), _places(b)
    return sum(name in theirs and theirs[name][2] == place[2] for name, place in ours.items()) >= _ALIKE * len(ours)


def _places(tensors: Tensors) -> dict[str, tuple]:
    """{name, without what DistributedDataParallel puts before it: (storage, offset, shape, strides)}; nothing of it is checked yet, and
    what is no number could be nested without end, so it is not compared."""
    out = {}
    for name, ref in tensors.items():
        numbers = [tuple(part) if isinstance(part, tuple | list) and all(type(n) is int for n in part) else None
                   for part in (ref.size, ref.stride)]
        storage = (ref.storage.key, ref.storage.first) if isinstance(ref.storage, StorageRef) else id(ref.storage)
        out[name.removeprefix("module.")] = (storage, ref.offset if type(ref.offset) is int else None, *numbers)
    return out


def only(checkpoint: Checkpoint, part: str) -> Checkpoint:
    """What stands under a dotted name of the checkpoint, which is taken off the names."""
    prefix = part.rstrip(".") + "."
    entries = {name.removeprefix(prefix): entry for name, entry in checkpoint.entries.items() if name.startswith(prefix)}
    if not entries:
        tops = sorted({name.split(".")[0] for name in checkpoint})
        raise UserError(f"{checkpoint.path} has nothing under {part!r}; its names begin with {', '.join(map(repr, tops[:8]))}.")
    return replace(checkpoint, entries=entries, wrapper=prefix.rstrip("."), beside=())


def _walk(top: Any, path: Path) -> Iterator[tuple[str, TensorRef]]:
    """(dotted name, tensor) of nested dictionaries, pickled modules and TorchScript objects; cycles are not followed."""
    seen: set[int] = set()
    stack: list[tuple[str, Any]] = [("", top)]
    while stack:
        prefix, value = stack.pop()
        if isinstance(value, TensorRef):
            yield prefix.removesuffix("."), value
            continue
        if len(prefix) > 4096:
            raise UserError(f"{path} is refused: its pickle nests dictionaries without end.")
        children = _children(value, at_top=not prefix)
        if children is None or id(value) in seen:
            continue
        seen.add(id(value))
        stack.extend((f"{prefix}{name}." if name else prefix, child) for name, child in reversed(children))


def _children(value: Any, at_top: bool) -> list[tuple[str, Any]] | None:
    """The named parts of a container, or None for anything else."""
    if isinstance(value, Mapping):
        named = [(str(key), child) for key, child in value.items() if isinstance(key, (str, int))]
        return [(key, child) for key, child in named if isinstance(child, TensorRef) or not (at_top and key in _ASIDE)]
    if isinstance(value, Inert):
        state = value.__dict__["state"]
        if "_parameters" in state and "_modules" in state:  # a whole pickled nn.Module
            return [("", state[part]) for part in ("_parameters", "_buffers", "_modules") if isinstance(state.get(part), Mapping)]
        return [(key, child) for key, child in state.items() if isinstance(key, str)]
    return None
