"""Compiling the real training and evaluation steps for machines that are not there: memory, operations and communication per chip, and
on TPUs the compiler's estimate of their time.

TPU programs are compiled by the real TPU compiler (libtpu, extra `tpu`), which needs no TPU, GPU programs by XLA's CUDA compiler (extra
`gpu`), which needs no GPU but cannot try out kernels without one; "cpu:8" uses virtual CPU devices.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from rein_jax import trees
from rein_jax.components import TrainComponents
from rein_jax.configuration.training import settings
from rein_jax.errors import UserError
from rein_jax.kernels.platforms import compiling_for
from rein_jax.planning.collectives import collectives
from rein_jax.planning.estimate import estimate
from rein_jax.planning.flops import count_flops
from rein_jax.planning.gpus import GPUS, gpu_devices
from rein_jax.precision import Policy
from rein_jax.precision import policy as precision_policy
from rein_jax.sharding import batch_sharding, make_mesh, replicated
from rein_jax.training import memory, run_metadata
from rein_jax.training.state import place_run
from rein_jax.training.step import batch_structs, make_step

_TOPOLOGY = re.compile(r"(v4|v5e|v5p|v6e):(\d+(?:x\d+){1,2})$")
_GPU = re.compile(rf"({'|'.join(GPUS)}):(?:([1-9]\d*)x)?([1-9]\d*)$")
_FULL = re.compile(r"RESOURCE_EXHAUSTED|out of memory|exceed\w* .*(memory|hbm)", re.IGNORECASE)
_USED = re.compile(r"Used ([\d.]+)([KMG]) of ([\d.]+)([KMG]) hbm")


def devices_of(topology: str) -> tuple[list[Any], str, int | None]:
    """(devices, backend, bytes per device or None) of "v5e:16x16", "h100:8", "h100:4x8" (hosts x GPUs) or "cpu:8"; a UserError says
    what is wrong with the name."""
    if re.fullmatch(r"cpu:\d+", topology):
        count = int(topology[4:])
        found = jax.devices("cpu")
        if len(found) < count:
            raise UserError(f"There are {len(found)} virtual CPU devices; start with "
                            f"XLA_FLAGS=--xla_force_host_platform_device_count={count}.")
        return found[:count], "cpu", None
    if gpu := _GPU.match(topology):
        return gpu_devices(gpu[1], int(gpu[2] or 1), int(gpu[3])), "gpu", GPUS[gpu[1]].usable
    known = _TOPOLOGY.match(topology)
    if not known:
        raise UserError(f"Unknown topology {topology!r}; write v4, v5e, v5p or v6e and a shape, such as v5e:2x2, {', '.join(GPUS)} and a "
                        "number, such as h100:8, or cpu:8.")
    environment = {"TPU_SKIP_MDS_QUERY": "1", "TPU_ACCELERATOR_TYPE": "v5litepod-4", "TPU_WORKER_HOSTNAMES": "localhost",
                   "TPU_WORKER_ID": "0"}  # any slice will do; only the topology asked for counts
    for name, value in environment.items():
        os.environ.setdefault(name, value)
    from jax.experimental import topologies

    try:
        described = topologies.get_topology_desc(platform="tpu", topology_name=topology)
    except Exception as error:  # a missing library, an impossible shape: JAX has no type for either
        reason = str(error).splitlines()[0][:200]
        raise UserError(f"The TPU topology {topology} cannot be described ({reason}); the extra is needed: pip install 'rein-jax[tpu]', "
                        "and the shape must exist.") from None
    return list(described.devices), "tpu", memory.HBM[known[1]] * 2**30


def plan(config: Any, topology: str, *, build: Callable[..., TrainComponents] | None = None, batch: int | None = None,
         largest: bool = False,
         evaluate: bool = True, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Numbers per chip of the training step (and the evaluation step) of `config` on `topology`, as one JSON-able dict; on TPUs also the
    time that the compiler estimates.

    batch: images per chip in one of train.accumulate micro-batches (default: train.batch over chips and micro-batches, at least 1).
    largest: also look for the largest batch per chip that fits.
    """
    plain = run_metadata.as_dict(config)
    devices, backend, limit = devices_of(topology)
    components = (build or _build())(config, abstract=True)
    tpu = topology.split(":")[0] if backend == "tpu" else None
    planner = _Planner(plain, components, devices, precision_policy(plain.get("precision", "auto"), backend), limit, tpu)
    images = batch or max(1, planner.chosen.batch // (len(devices) * planner.chosen.accumulate))
    out: dict[str, Any] = {"topology": topology, "chips": len(devices), "mesh": dict(planner.mesh.shape), "sharding": plain.get("sharding"),
                           "compute": jnp.dtype(planner.policy.compute).name, "hbm_bytes": limit,
                           "trainable": trees.count(components.trainable), "frozen": trees.count(components.frozen)}
    say(f"{topology}: compiling the training step, {images} image(s) per chip")
    out["train"] = planner.train(images)
    if evaluate:
        say(f"{topology}: compiling the evaluation step")
        out["evaluate"] = planner.evaluate()
    if largest:
        out["largest_batch_per_chip"] = planner.largest(images, out["train"]["fits"], say)
    return out


def _build() -> Callable[..., TrainComponents]:
    from rein_jax.build import build_all

    return build_all


class _Planner:
    """Compiles the steps of one run for one set of devices."""

    def __init__(self, config: Mapping[str, Any], components: TrainComponents, devices: Sequence[Any], policy: Policy,
                 limit: int | None, tpu: str | None) -> None:
        """tpu: kind of TPU to estimate times for."""
        self.config, self.components, self.policy, self.limit = config, components, policy, limit
        self.platform, self.tpu = devices[0].platform, tpu
        self.mesh = make_mesh(config.get("mesh"), devices)
        self.chosen = settings(config["train"])
        self.sharded = place_run(components.trainable, components.frozen, components.tx, policy, self.mesh,
                                 run_metadata.rules(config), self.chosen.ema > 0, wishes=components.module_def.wishes)
        self.step = make_step(components.module_def, components.tx, policy, self.mesh, self.sharded.shardings,
                              schedule=components.schedule, augment=components.augment, **self.chosen.of_step())

    def train(self, images: int) -> dict[str, Any]:
        """The training step with `images` per chip."""
        structs = batch_structs(images * self.chosen.accumulate * self.mesh.devices.size, self.components.crop, self.mesh)
        return self._compile(images, self.step, self.sharded.state, self.sharded.frozen, structs)

    def evaluate(self) -> dict[str, Any]:
        """Class scores of windows of eval.crop pixels, eval.batch of them per chip, all weights on every chip."""
        section = self.config.get("eval") or {}
        crop = section.get("crop") or self.components.crop
        crop = (crop, crop) if isinstance(crop, int) else tuple(crop)
        images = int(section.get("batch") or 1)
        whole = replicated(self.mesh)
        flat = {name: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=whole)
                for name, a in {**self.sharded.state.trainable, **self.sharded.frozen}.items()}
        module_def = self.components.module_def
        pixels = jax.ShapeDtypeStruct((images * self.mesh.devices.size, *crop, 3), jnp.uint8, sharding=batch_sharding(self.mesh))

        def scores(params, pixels):
            return trees.merge(module_def, self.policy.inputs(params, module_def.wishes)).scores(pixels)

        return {"crop": list(crop), **self._compile(images, jax.jit(scores), flat, pixels)}

    def _compile(self, images: int, function: Any, *arguments: Any) -> dict[str, Any]:
        """What a program for `images` per chip needs."""
        start = time.perf_counter()
        try:
            with compiling_for(self.platform):
                lowered = function.lower(*arguments)
            compiled = lowered.compile()
        except Exception as error:  # XLA has one type for all failures; only "does not fit" is an answer
            if not _FULL.search(str(error)):
                raise
            seconds = round(time.perf_counter() - start, 1)
            return {"images_per_chip": images, "fits": False, "spare_bytes": None, "needs": _needs(str(error)), "compile_seconds": seconds}
        seconds = time.perf_counter() - start
        used, cost = compiled.memory_analysis(), compiled.cost_analysis()
        cost = cost[0] if isinstance(cost, list) else cost or {}
        peak = used.argument_size_in_bytes + used.output_size_in_bytes - used.alias_size_in_bytes + used.temp_size_in_bytes
        text, flops = compiled.as_text(), count_flops(function, *arguments) / self.mesh.devices.size
        timed = {} if self.tpu is None else {"estimate": estimate(text).report(self.tpu, images, flops)}
        return {"images_per_chip": images, "fits": self.limit is None or peak <= self.limit,
                "spare_bytes": None if self.limit is None else self.limit - peak, "argument_bytes": used.argument_size_in_bytes,
                "temporary_bytes": used.temp_size_in_bytes, "peak_bytes": peak, "flops": flops,
                "bytes_accessed_once": cost.get("bytes accessed"), "collectives": collectives(text),
                "compile_seconds": round(seconds, 1), **timed}

    def largest(self, images: int, fits: bool, say: Callable[[str], None]) -> int:
        """The largest number of images per chip that fits: doubling, then halving the interval. 0 if not even one does."""
        if self.limit is None:
            return images
        good, bad = (images, None) if fits else (0, images)
        while bad is None and good < 1024:
            say(f"trying {good * 2} images per chip")
            good, bad = (good * 2, None) if self.train(good * 2)["fits"] else (good, good * 2)
        while bad is not None and bad - good > max(1, good // 8):
            middle = (good + bad) // 2
            say(f"trying {middle} images per chip")
            good, bad = (middle, bad) if self.train(middle)["fits"] else (good, middle)
        return good


def _needs(message: str) -> str:
    """What the compiler says about a program that does not fit."""
    used = _USED.search(message)
    return f"{used[1]}{used[2]} of {used[3]}{used[4]} HBM" if used else message.splitlines()[0][:200]
