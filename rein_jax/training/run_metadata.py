"""What a run is: its config as plain data, what its checkpoints say about it, and what must agree to go on with one."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from rein_jax import __version__
from rein_jax.components import TrainComponents
from rein_jax.configuration.objects import stated
from rein_jax.configuration.training import Settings
from rein_jax.errors import UserError
from rein_jax.precision import Policy
from rein_jax.sharding import Rules
from rein_jax.training.workdir import LENGTH, difference, refuse_changes


def as_dict(config: Any) -> dict[str, Any]:
    """A ConfigDict or mapping as JSON would hold it (tuples become lists, objects are named)."""
    return json.loads(json.dumps(stated(config)))


def rules(config: Mapping[str, Any]) -> Rules:
    """`config.sharding`: a preset, or rows (pattern, [axis or null, ...])."""
    given = config.get("sharding", "dp")
    if isinstance(given, str):
        return given
    try:
        return [(pattern, P(*(tuple(axis) if isinstance(axis, list) else axis for axis in axes))) for pattern, axes in given]
    except (TypeError, ValueError):
        raise UserError(f"sharding must be 'dp', 'fsdp' or rows (pattern, [axis or None, ...]), not {given!r}.") from None


def check_batch(chosen: Settings, mesh: Mesh) -> None:
    """The batch must spread evenly over the devices, in every micro-batch."""
    devices = mesh.devices.size
    if chosen.batch % (devices * chosen.accumulate):
        raise UserError(f"train.batch={chosen.batch} does not divide evenly over {devices} device(s) and train.accumulate="
                        f"{chosen.accumulate}; choose a multiple of {devices * chosen.accumulate}.")


def check_deterministic() -> None:
    """Deterministic GPU kernels are chosen by an XLA flag that is read when JAX starts."""
    flag = "--xla_gpu_deterministic_ops=true"
    if jax.default_backend() == "gpu" and flag not in os.environ.get("XLA_FLAGS", ""):
        raise UserError(f"train.deterministic on GPU needs the environment variable XLA_FLAGS={flag}.")


def digest(frozen: Mapping[str, np.ndarray], weights: Mapping[str, Any]) -> str:
    """A name for the frozen weights: the file's SHA-256 where there is one, otherwise a hash of names, shapes and values.

    Random weights follow from the config's seed; their last bits differ between compilers, so that their values are left out.
    """
    if weights.get("sha256"):
        return f"sha256:{weights['sha256']}"
    drawn = weights.get("source") == "random"
    summary = hashlib.blake2b(digest_size=16)
    for name in sorted(frozen):
        summary.update(f"{name}{tuple(frozen[name].shape)}".encode())
        if not drawn:
            summary.update(np.ascontiguousarray(frozen[name]).reshape(-1).view(np.uint8))
    return f"{'random' if drawn else 'blake2b'}:{summary.hexdigest()}"


def meta(config: Mapping[str, Any], components: TrainComponents, policy: Policy) -> dict[str, Any]:
    """What every checkpoint and the model file say about the run."""
    return {"config": dict(config), "classes": list(components.classes.names), "fingerprint": components.fingerprint,
            "weights": as_dict(components.weights), "frozen": digest(components.frozen, components.weights), "version": __version__,
            "compute": np.dtype(policy.compute).name}


def check_resume(saved: Mapping[str, Any], now: Mapping[str, Any], longer: bool = False) -> None:
    """Refuse a checkpoint of another config, other data, other frozen weights or another precision.

    longer: the number of steps is vouched for by config.json or --extend, a checkpoint of a shorter run is taken.
    """
    changes = difference(saved["config"], now["config"])
    if longer:
        changes = [change for change in changes if not change.startswith(f"{LENGTH}:")]
    if changes:
        raise UserError(refuse_changes("The checkpoint belongs to another config", changes))
    was, here = saved.get("compute"), now.get("compute")
    if was and here and was != here:
        name = {"float32": "fp32", "bfloat16": "bf16"}.get(was, was)
        raise UserError(f"The run computed in {was} until now and would continue in {here} (precision=auto depends on the machine); "
                        f"add --config.precision={name} to continue as before, or --restart to start from step 0 (files are kept).")
    if saved["fingerprint"] != now["fingerprint"]:
        raise UserError(f"The training data changed since the checkpoint was written (fingerprint {saved['fingerprint']!r}, now "
                        f"{now['fingerprint']!r}); restore the data or choose another --workdir.")
    if list(saved["classes"]) != list(now["classes"]):
        raise UserError("The checkpoint was trained on other classes; choose another --workdir.")
    if saved["frozen"] != now["frozen"]:
        raise UserError(f"The frozen weights are not those of the checkpoint ({saved['frozen']}, now {now['frozen']}); "
                        "use the same backbone weights or choose another --workdir.")


def scalars(results: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of a nested result, {"night/mIoU": 0.4, ...}; lists and texts are left out."""
    flat: dict[str, float] = {}
    for name, value in results.items():
        if isinstance(value, Mapping):
            flat.update(scalars(value, f"{prefix}{name}/"))
        elif isinstance(value, (int, float, np.number)) and not isinstance(value, bool):
            flat[f"{prefix}{name}"] = float(value)
    return flat
