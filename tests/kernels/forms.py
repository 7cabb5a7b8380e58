"""How the tests of an operation compare its forms, on this machine."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from rein_jax.kernels.platforms import compiling_for, target

PLATFORMS = ("cpu", "gpu", "tpu")


def hold(forms, call, *arguments, skip: tuple[str, ...] = (), values: float = 1e-5, gradients: float = 5e-5):
    """`call(form, *arguments)`: the values of every form, and the gradients by all arguments, are the reference's, relative to the largest
    number of each array.

    Arguments below float32 are given to the reference in float32, as they are rounded. skip: forms that do not take such arguments.
    """
    dtype = jax.eval_shape(lambda *a: call(forms["reference"], *a), *arguments).dtype
    exact = [a.astype(jnp.promote_types(a.dtype, jnp.float32)) for a in arguments]
    want = jax.jit(lambda *a: _with_gradients(call, forms["reference"], dtype, *a))(*exact)
    parts = ("values", *(f"gradient of argument {i}" for i in range(len(arguments))))
    exactly = all(a.dtype == e.dtype for a, e in zip(arguments, exact, strict=True))
    for name in [name for name in forms if name not in skip and not (exactly and name == "reference")]:
        found = jax.jit(lambda *a: _with_gradients(call, forms[name], dtype, *a))(*arguments)  # noqa: B023
        assert [a.dtype for a in found] == [dtype, *(a.dtype for a in arguments)], name
        for part, ours, theirs in zip(parts, found, want, strict=True):
            ours, theirs = (np.asarray(a, np.float32) for a in (ours, theirs))
            limit = (values if part == "values" else gradients) * np.abs(theirs).max()
            assert ours.shape == theirs.shape and np.abs(ours - theirs).max() <= limit, (name, part)


def _with_gradients(call, form, dtype, *arguments):
    """(result, gradient by each argument) for the same gradient of the result, one that `dtype` can hold."""
    result, back = jax.vjp(lambda *a: call(form, *a), *arguments)
    gradient = jnp.cos(jnp.arange(result.size, dtype=jnp.float32)).reshape(result.shape).astype(dtype)
    return result, *back(gradient.astype(result.dtype))


def everywhere(function, *arguments):
    """The function traced for a CPU, a TPU and a GPU."""
    found = []
    for platform in ("cpu", "tpu", "gpu"):
        with compiling_for(platform):
            assert target() == platform
            found.append(jax.jit(lambda *a: function(*a))(*arguments))
    return found


def close(found):
    """What `everywhere` found agrees, relative to the largest number of each array."""
    here, *others = map(jax.tree.leaves, found)
    for there in others:
        for a, b in zip(here, there, strict=True):
            scale = max(float(jnp.abs(b).max()), 1e-6)
            np.testing.assert_allclose(a / scale, b / scale, atol=3e-6)


def free_batch(function, *arguments):
    """The function's results in programs exported with a free batch size, the first axis of every argument; one with the forms of
    each platform, all run here."""
    batch, = jax.export.symbolic_shape("b")
    shapes = [jax.ShapeDtypeStruct((batch, *a.shape[1:]), a.dtype) for a in arguments]
    found = []
    for platform in PLATFORMS:
        with compiling_for(platform):
            found.append(jax.export.export(jax.jit(lambda *a: function(*a)))(*shapes).call(*arguments))
    return found


def picked(module, monkeypatch, platform: str, call) -> str:
    """The name of the form that the operation's public function picks on a platform."""
    with monkeypatch.context() as patch, compiling_for(platform):
        patch.setattr(module, "FORMS", {name: lambda *_, name=name, **__: name for name in module.FORMS})
        return call()
