"""Floating-point operations of a traced function: matrix products and convolutions, loops counted by their length.

XLA's own count takes the body of a loop once, whatever its number of turns; this one walks the jaxpr instead, where `lax.scan`
says its length. One multiply-add is two operations, as in every published table; element-wise work is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

PEAK = {  # dense bf16 FLOP/s of one chip, by the beginning of JAX's device_kind (vendors' data sheets)
    "NVIDIA H100": 989e12, "NVIDIA H200": 989e12, "NVIDIA A100": 312e12, "NVIDIA L4": 121e12, "NVIDIA B200": 2250e12,
    "TPU v4": 275e12, "TPU v5 lite": 197e12, "TPU v5e": 197e12, "TPU v5p": 459e12, "TPU v5": 459e12, "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
}  # fmt: skip


def peak(device_kind: str) -> float | None:
    """bf16 FLOP/s of a chip, or None where it is not known."""
    known = sorted((name for name in PEAK if device_kind.startswith(name)), key=len)
    return PEAK[known[-1]] if known else None


def count_flops(function: Callable, *arguments: Any) -> float:
    """Operations of one call (abstract arguments suffice); over all devices, as written: recomputation by remat included."""
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def _count(jaxpr: Any) -> float:
    return sum(_cost(equation) for equation in jaxpr.eqns)


def _cost(equation: Any) -> float:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contract, _), _ = params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return 2.0 * _size(equation.outvars[0]) * float(np.prod([left[axis] for axis in contract]))
    if name == "conv_general_dilated":
        kernel, spec = equation.invars[1].aval.shape, params["dimension_numbers"].rhs_spec
        return 2.0 * _size(equation.outvars[0]) * float(np.prod(kernel)) / kernel[spec[0]]
    inner = [_count(jaxpr) for jaxpr in _jaxprs(params)]
    if name == "cond":
        return max(inner, default=0.0)
    return sum(inner) * (params["length"] if name == "scan" else 1)


def _size(variable: Any) -> float:
    return float(np.prod(variable.aval.shape))


def _jaxprs(params: dict[str, Any]) -> Iterator[Any]:
    """The jaxprs among an equation's parameters."""
    for value in params.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            item = getattr(item, "jaxpr", item)
            if hasattr(item, "eqns"):
                yield item
