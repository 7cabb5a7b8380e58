"""Python objects in a config beside names: their form in config.json and in the metadata of checkpoints and model files.

A config may hold a data source, an optax transformation, a loss or a class of your own where it otherwise names a registered one. Files
state them as {"object": "package.module:Name"} and, where there is more to say, a fingerprint or a repr: this tells one from another when
a run is resumed. Reading a file never imports what it states.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any


def stated(config: Any) -> Any:
    """A config as JSON can hold it: tuples as lists, objects by their type's name, and a data source with its fingerprint."""
    if hasattr(config, "items"):
        return {str(key): stated(value) for key, value in config.items()}
    if type(config) in (list, tuple):
        return [stated(value) for value in config]
    if config is None or isinstance(config, bool | int | float | str):
        return config
    if hasattr(config, "tolist") and hasattr(config, "dtype"):
        return config.tolist()
    return {"object": path_of(config), **_told_apart(config)}


def _told_apart(thing: Any) -> dict[str, str]:
    """What tells an object from another one of its class, so that a run is not resumed with the other."""
    if hasattr(thing, "__qualname__"):  # a class or a function is its name
        return {}
    if callable(getattr(thing, "fingerprint", None)):
        return {"fingerprint": str(thing.fingerprint())}
    if hasattr(thing, "init") and hasattr(thing, "update"):
        return {"fingerprint": found} if (found := _updates(thing)) else {}
    text = re.sub(r" at 0x[0-9a-f]+", "", repr(thing))
    data = hasattr(thing, "__len__") and hasattr(thing, "__getitem__")  # the run's fingerprint says what it holds
    return {} if data or text.endswith(" object>") else {"repr": text[:200]}


def _updates(tx: Any) -> str | None:
    """Hash of what an optax transformation does to two small arrays early and late in a schedule, to four digits, so that other versions
    and devices agree on it; None for one that is made for a model's own parameters."""
    import jax
    import numpy as np

    params = {"adapters/0/probe": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3), "head/probe": np.ones(2, np.float32)}
    first, second = ({name: np.sin(shift + array) for name, array in params.items()} for shift in (0.5, 2.0))

    @jax.jit
    def two_updates(count):
        late = lambda leaf: count.astype(leaf.dtype) if leaf.shape == () and leaf.dtype.kind in "iu" else leaf  # its counts of steps
        one, state = tx.update(first, jax.tree.map(late, tx.init(params)), params)
        return one, tx.update(second, state, params)[0]

    try:
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            found = [two_updates(np.int32(count)) for count in (0, 10, 1000, 100_000)]
    except Exception:  # whatever an own transformation raises when it meets other parameters than the model's
        return None
    numbers = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(found)])
    return hashlib.sha256(" ".join(f"{number:.3e}" for number in numbers).encode()).hexdigest()[:16]


def path_of(thing: Any) -> str:
    """"package.module:Name" of a class or function, or of the class of any other object."""
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{named.__module__}:{named.__qualname__}"


def is_stated(value: Any) -> bool:
    """Whether a value read from a file stands for an object."""
    return hasattr(value, "items") and isinstance(value.get("object"), str) and "name" not in value
