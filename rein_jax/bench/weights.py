"""`rein bench weights`: load time and peak memory for a ViT-L checkpoint of random values (1.2 GB), per file format.

Every measurement runs in its own process, so that the peak is that task's alone; the file is removed afterwards.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.paths import local_path
from rein_jax.bench.machine import peak_rss

TASKS = ("open", "load", "convert")


class RandomArrays(Mapping):
    """Random float32 arrays that exist only while they are asked for."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]):
        self.shapes = shapes

    def __getitem__(self, name: str) -> np.ndarray:
        generator = np.random.default_rng(abs(hash(self.shapes[name])) % 1000)
        return generator.standard_normal(self.shapes[name], np.float32) * np.float32(0.02)

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


def official_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the published file of a DINOv2 variant."""
    from rein_jax.backbones import dinov2

    sizes = dinov2.DINOv2.VARIANTS[name.removeprefix("dinov2_")]
    d, patch, hidden = sizes.embed_dim, sizes.patch, sizes.hidden_dim
    out = {"cls_token": (1, 1, d), "pos_embed": (1, 1370, d), "mask_token": (1, d), "patch_embed.proj.weight": (d, 3, patch, patch),
           "patch_embed.proj.bias": (d,), "norm.weight": (d,), "norm.bias": (d,)}
    linears = {"attn.qkv": (3 * d, d), "attn.proj": (d, d), "mlp.fc1": (hidden, d), "mlp.fc2": (d, hidden)}
    for i in range(sizes.depth):
        for linear, shape in linears.items():
            out[f"blocks.{i}.{linear}.weight"], out[f"blocks.{i}.{linear}.bias"] = shape, shape[:1]
        out.update({f"blocks.{i}.{norm}.{leaf}": (d,) for norm in ("norm1", "norm2") for leaf in ("weight", "bias")})
        out.update({f"blocks.{i}.{scale}.gamma": (d,) for scale in ("ls1", "ls2")})
    return out


def write(path: Path, name: str) -> None:
    """A file of random values."""
    from rein_jax.weights.safetensors_file import write_safetensors
    from rein_jax.weights.torch_write import write_torch

    arrays = RandomArrays(official_shapes(name))
    write_torch(path, arrays) if path.suffix == ".pth" else write_safetensors(path, arrays)


def measure(task: str, path: Path, name: str) -> dict[str, float]:
    """Runs one task in this process: seconds of the clock and of the processor, peak resident memory before and after (bytes)."""
    from flax import nnx

    from rein_jax import registry, trees
    from rein_jax.backbones import BACKBONES
    from rein_jax.backbones.pretrained import load_backbone
    from rein_jax.weights.checkpoint import read_checkpoint
    from rein_jax.weights.convert import convert

    cls = registry.load(BACKBONES, name, "backbone")
    shapes = {f"backbone/{k}": v for k, v in trees.flatten(nnx.eval_shape(lambda: cls(name, rngs=nnx.Rngs(0)))).items()}
    before, start, busy = peak_rss(), time.perf_counter(), time.process_time()
    if task == "open":
        read_checkpoint(path)
    elif task == "load":
        load_backbone(path, name, shapes)
    else:
        convert(path, path.with_name("converted" + (".safetensors" if path.suffix == ".pth" else ".pth")), force=True)
    return {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - busy, "peak_before": before, "peak": peak_rss()}


def main(argv: list[str]) -> dict[str, Any]:
    """Measurements of every format and task; `peak_over_file` is the peak above the idle process, divided by the file's size."""
    parse = argparse.ArgumentParser("rein bench weights", description=__doc__, allow_abbrev=False)
    parse.add_argument("--backbone", default="dinov2_vitl14", help="a DINOv2 variant without SwiGLU")
    parse.add_argument("--folder", help="where the temporary files go (2.4 GB for ViT-L)")
    parse.add_argument("--task", choices=TASKS, help=argparse.SUPPRESS)
    parse.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parse.parse_args(argv)
    if options.task:
        return measure(options.task, options.file, options.backbone)
    load = [round(value, 1) for value in os.getloadavg()]
    out: dict[str, Any] = {"bench": "weights", "backbone": options.backbone, "cpus": os.cpu_count(), "load_average": load, "formats": {}}
    for suffix in (".pth", ".safetensors"):
        with tempfile.TemporaryDirectory(dir=options.folder and local_path(options.folder)) as folder:
            path = Path(folder) / f"random{suffix}"
            write(path, options.backbone)
            size = path.stat().st_size
            found: dict[str, Any] = {"file_bytes": size}
            for task in TASKS:
                numbers = _child(["--task", task, "--file", str(path), "--backbone", options.backbone])
                found[task] = {
                    "seconds": round(numbers["seconds"], 3), "cpu_seconds": round(numbers["cpu_seconds"], 3),
                    "peak_bytes": int(numbers["peak"]), "peak_over_file": round((numbers["peak"] - numbers["peak_before"]) / size, 3),
                }  # fmt: skip
            out["formats"][suffix] = found
    return out


def _child(arguments: list[str]) -> dict[str, float]:
    """One measurement in a process of its own."""
    code = "import json, sys; from rein_jax.bench.weights import main; print(json.dumps(main(sys.argv[1:])))"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the measurement failed: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])
