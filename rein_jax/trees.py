"""Parameters as flat dicts of path names, and rules that pick among them by regular expression.

`{"backbone/blocks/attn/qkv/kernel": array, ...}` is the one form in which parameters are split into trainable and
frozen, masked, sharded, saved and loaded. A module is taken apart by `split` and put together again by `merge`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import PartitionSpec

from rein_jax.errors import UserError

FlatParams = dict[str, Any]


class Frozen(nnx.Variable):
    """An array of a module that is never trained, whatever the patterns say. It takes the metadata of `Wishes` too."""


@dataclass(frozen=True)
class Wishes:
    """What the author of a module says about one of its arrays; kept in the metadata of its nnx.Variable.

    decay: whether weight decay applies (`optim`). exact: stays float32 where the run computes in bfloat16 (`precision`). stacked:
    number of leading axes along which equal parameters lie, such as the layer axis, which `layers.stack.stacked` adds: `sharding`
    does not split them, and optimizers that look at whole matrices see one in each layer. sharding: how "fsdp" splits it, over the
    mesh's axes "data" and "fsdp"; PartitionSpec() is never, None leaves it to the array's size.
    """

    decay: bool = True
    exact: bool = False
    stacked: int = 0
    sharding: PartitionSpec | None = None


PLAIN = Wishes()


def wishes_of(variable: Any) -> Wishes:
    """The wishes in a variable's metadata; a value of another kind is a UserError."""
    if not isinstance(variable, nnx.Variable):
        return PLAIN
    said = {name: variable.get_metadata(name) for name in ("decay", "exact", "stacked") if variable.has_metadata(name)}
    for name, value in said.items():
        if not isinstance(value, int if name == "stacked" else bool) or value < 0:
            kind = "the number of leading axes" if name == "stacked" else "True or False"
            raise UserError(f"A parameter says {name}={value!r}; it must be {kind}.")
    sharding = variable.get_metadata("out_sharding", None)
    sharding = getattr(sharding, "spec", sharding)  # Flax takes a NamedSharding too
    if not isinstance(sharding, PartitionSpec | tuple | None):
        raise UserError(f"A parameter says sharding={sharding!r}; it must be a PartitionSpec.")
    return Wishes(**said, sharding=sharding if sharding is None else PartitionSpec(*sharding))


def param(value: Any, *, decay: bool = True, exact: bool = False, stacked: int = 0, sharding: PartitionSpec | None = None) -> nnx.Param:
    """An nnx.Param that says how it wants to be trained, stored and split, in place of rules about its name elsewhere.

    The same words are metadata of any variable: `nnx.Param(value, decay=False)`, `nnx.LayerNorm(..., scale_metadata={"decay": False})`.
    A config's rows in `optim.groups` and `sharding` overrule them.

    Args:
        value: the initial array.
        decay: whether weight decay applies to it.
        exact: keep it float32 where the run computes in bfloat16; the module casts it where it is used.
        stacked: number of leading axes along which equal parameters lie. Leave it out for what `stacked` makes.
        sharding: how "fsdp" splits it, such as PartitionSpec(None, "fsdp"), without the axes that `stacked` adds; PartitionSpec() for
            never, None for by its size.

    Returns:
        The parameter; Flax's own tools read its sharding as `out_sharding`.

    Raises:
        UserError: a wish of another kind.

    Example:
        self.tokens = rj.param(jnp.zeros((100, 768)), decay=False, sharding=PartitionSpec(None, "fsdp"))
    """
    said = {name: wish for name, wish, plain in (("decay", decay, True), ("exact", exact, False), ("stacked", stacked, 0)) if wish != plain}
    if sharding is not None:  # a wish for the trainer's mesh; there is none yet
        said |= {"out_sharding": sharding, "eager_sharding": False}
    made = nnx.Param(value, **said)
    wishes_of(made)
    return made


@dataclass(frozen=True)
class ModuleDef:
    """A module without its arrays: static under jit (hashable), completed by `merge`."""

    graphdef: Any
    variables: tuple[tuple[str, tuple, type, Wishes], ...]  # (name, path, variable type, wishes)

    @property
    def wishes(self) -> dict[str, Wishes]:
        """{name: what the module's author says about the array}."""
        return {name: wishes for name, _, _, wishes in self.variables}


def name_of(path: Sequence[Any]) -> str:
    """The name of an NNX path: its parts joined by '/'."""
    return "/".join(str(part) for part in path)


def flatten(module: nnx.Module) -> FlatParams:
    """Every array of the module by name (abstract ones as ShapeDtypeStruct)."""
    return split(module, ())[2]


def split(module: nnx.Module, trainable: Iterable[str]) -> tuple[ModuleDef, FlatParams, FlatParams]:
    """Module -> (module_def, trainable, frozen); a pattern that matches nothing is a UserError.

    Patterns are regular expressions searched from the start of the name (`re.match`): "adapters/", "head/", ".*bias$".
    """
    graphdef, state = nnx.split(module)
    variables, arrays = [], {}
    for path, variable in nnx.to_flat_state(state):
        name = name_of(path)
        variables.append((name, tuple(path), type(variable), wishes_of(variable)))
        arrays[name] = variable.get_raw_value() if isinstance(variable, nnx.Variable) else variable
    module_def = ModuleDef(graphdef, tuple(variables))
    chosen = matching(arrays, trainable) - never_trained(module_def)
    return module_def, {n: a for n, a in arrays.items() if n in chosen}, {n: a for n, a in arrays.items() if n not in chosen}


def never_trained(module_def: ModuleDef) -> set[str]:
    """Names of the arrays that no pattern can make trainable: `Frozen` ones, and the statistics of batch norms."""
    return {name for name, _, kind, _ in module_def.variables if issubclass(kind, (Frozen, nnx.BatchStat))}


def merge(module_def: ModuleDef, *parts: Mapping[str, Any]) -> nnx.Module:
    """The module with the arrays of the given flat dicts; every name must be there exactly once."""
    arrays: FlatParams = {}
    for part in parts:
        twice = arrays.keys() & part.keys()
        if twice:
            raise ValueError(f"parameters given twice: {sorted(twice)[:3]}")
        arrays.update(part)
    missing = [name for name, *_ in module_def.variables if name not in arrays]
    if missing or len(arrays) != len(module_def.variables):
        extra = sorted(arrays.keys() - {name for name, *_ in module_def.variables})
        raise ValueError(f"parameters do not fit the module: missing {missing[:3]}, unexpected {extra[:3]}")
    state = nnx.from_flat_state([(path, arrays[name]) for name, path, *_ in module_def.variables])
    return nnx.merge(module_def.graphdef, state)  # the graph knows the variables' types and metadata


def matching(names: Iterable[str], patterns: Iterable[str]) -> set[str]:
    """The names that any pattern matches from the start; a pattern that matches none is a UserError."""
    names = list(names)
    chosen: set[str] = set()
    for pattern in patterns:
        try:
            found = {name for name in names if re.match(pattern, name)}
        except re.error as error:
            raise UserError(f"The pattern {pattern!r} is not a valid regular expression: {error}.") from None
        if not found:
            tops = sorted({"/".join(name.split("/")[:2]) for name in names})
            raise UserError(f"The pattern {pattern!r} matches no parameter; names begin with {', '.join(tops)}.")
        chosen |= found
    return chosen


def first_match(rules: Sequence[tuple[str, Any]], names: Iterable[str]) -> dict[str, Any]:
    """{name: value of the first rule that matches it}; an uncovered name or an idle rule is a UserError.

    A rule is idle only if no name matches its pattern at all (being always shadowed by earlier rules counts too).
    """
    names, used, out = list(names), set(), {}
    for name in names:
        for pattern, value in rules:
            if re.match(pattern, name):
                out[name] = value
                used.add(pattern)
                break
        else:
            raise UserError(f"No rule covers the parameter {name!r}; end the rules with ('.*', ...).")
    idle = [pattern for pattern, _ in rules if pattern not in used and pattern != ".*"]
    if idle and names:
        raise UserError(f"The rule {idle[0]!r} matches no parameter; remove it or correct its pattern.")
    return out


def count(arrays: Mapping[str, Any]) -> int:
    """Number of parameters."""
    return sum(int(np.prod(array.shape)) for array in arrays.values())


def nbytes(arrays: Mapping[str, Any]) -> int:
    """Bytes of the arrays (abstract ones included)."""
    return sum(int(np.prod(array.shape)) * np.dtype(array.dtype).itemsize for array in arrays.values())


def table(trainable: Mapping[str, Any], frozen: Mapping[str, Any]) -> str:
    """Path, shape, dtype and `trained`/`frozen` of every parameter, one per line, sorted by path."""
    rows = [(n, a, "trained") for n, a in trainable.items()] + [(n, a, "frozen") for n, a in frozen.items()]
    return "\n".join(f"{n}  {tuple(a.shape)}  {np.dtype(a.dtype).name}  {kind}" for n, a, kind in sorted(rows, key=lambda r: r[0]))


def cast(arrays: Mapping[str, Any], dtype) -> FlatParams:
    """Floating-point leaves in the given dtype, others as they are."""
    def one(array):
        return array.astype(dtype) if jax.numpy.issubdtype(array.dtype, jax.numpy.floating) else array

    return {name: one(array) for name, array in arrays.items()}
