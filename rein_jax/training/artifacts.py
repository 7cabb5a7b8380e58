"""What a run leaves behind: evaluations, the best and the last model as self-contained files, results.json and the report."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from data_pipelines.atomic import write_atomically
from data_pipelines.sample import Sample
from rein_jax import distributed, trees
from rein_jax.components import TrainComponents
from rein_jax.errors import UserError, read_json
from rein_jax.precision import Policy
from rein_jax.reporting.results import plain
from rein_jax.sharding import gather
from rein_jax.training.run_metadata import scalars
from rein_jax.training.state import ShardedState


def write_json(path: Path, value: Any) -> None:
    """Write whole or not at all. NaN and infinity, which JSON does not have, become null."""
    known = plain(json.loads(json.dumps(value, default=float)))
    write_atomically(path, json.dumps(known, indent=1, allow_nan=False) + "\n")


def headline(results: Mapping[str, Any]) -> float | None:
    """The one number by which models are compared: the mean over domains of mIoU; None where it does not exist."""
    mean = results.get("mean", {})
    value = mean.get("mIoU") if isinstance(mean, Mapping) else None
    return None if value is None or math.isnan(value) else float(value)


def _score(found: Mapping[str, Any]) -> dict[str, Any]:
    """Step and mIoU of the best model, from best.json or the model's metadata; a UserError where they are not numbers."""
    for key in ("step", "mIoU"):
        if isinstance(found.get(key), bool) or not isinstance(found.get(key), int | float):
            raise UserError(f"best.json holds no number {key!r}; remove it")
    return {"step": found["step"], "mIoU": found["mIoU"]}


class ArtifactWriter:
    """Writes the results of one run into its folder; only process 0 writes, all processes take part in gathering."""

    def __init__(self, workdir: Path, components: TrainComponents, meta: Mapping[str, Any], config: Mapping[str, Any], mesh: Mesh,
                 policy: Policy, evaluate: Any = None, report: Any = None, say: Callable[[str], None] = print) -> None:
        self.workdir, self.components, self.meta, self.config = workdir, components, meta, config
        self.mesh, self.policy, self.function, self.report, self.say = mesh, policy, evaluate, report, say

    def evaluate(self, sharded: ShardedState, step: int, images: int = 0) -> dict[str, Any]:
        """Evaluate the model as it would be exported now (the moving average where there is one); keeps the best model.

        images: only so many of each domain, evenly spaced, under WORKDIR/sample; models are not compared by these.
        """
        if self.function is None:
            return {}
        weights = sharded.state.ema or sharded.state.trainable
        components, folder = self.components, self.workdir
        if images:
            components = replace(components, domains={name: Sample(source, images) for name, source in components.domains.items()})
            folder = folder / "sample"
        results = self.function(components, weights, sharded.frozen, self.mesh, self.policy, folder)
        if images or not results:
            return results
        value, best = headline(results), self.best()
        better = value is not None and (best is None or value > best["mIoU"])
        if distributed.all_agree(better):  # which also means that nobody writes before everybody has read
            self._write_model("best.safetensors", sharded, step, {"mIoU": value})
            if distributed.is_main():
                write_json(self.workdir / "best.json", {"step": step, "mIoU": value})
        distributed.barrier("evaluated")
        return results

    def table(self, results: Mapping[str, Any]) -> str:
        """The numbers for the terminal, without the columns of the single classes."""
        if "domains" not in results:
            return "  ".join(f"{name} {value:.4g}" for name, value in scalars(results).items())
        rows = [("domain", "mIoU", "mAcc", "aAcc"), *((name, *(f"{found[key]:.2f}" for key in ("mIoU", "mAcc", "aAcc")))
                for name, found in [*results["domains"].items(), ("mean", results["mean"])])]
        return "\n".join(f"  {row[0]:<20}" + "".join(f"{cell:>8}" for cell in row[1:]) for row in rows)

    def best(self) -> dict[str, Any] | None:
        """Step and mIoU of the best model so far. Where best.json is damaged, best.safetensors says them too."""
        path = self.workdir / "best.json"
        if not path.exists():
            return None
        try:
            return _score(read_json(path, "remove it"))
        except UserError as error:
            found = self._best_of_model()
            instead = f"best.safetensors says step {found['step']}" if found else "the best model is chosen anew"
            self.say(f"WARNING: {str(error).partition(';')[0]}; {instead}.")
            return found

    def _best_of_model(self) -> dict[str, Any] | None:
        from rein_jax.weights.modelfile import read_meta

        try:
            return _score(read_meta(self.workdir / "best.safetensors"))
        except (UserError, OSError):
            return None

    def _write_model(self, name: str, sharded: ShardedState, step: int, more: Mapping[str, Any]) -> None:
        """The trainable leaves, and frozen ones that were drawn and not loaded, with everything that is needed to use them, as one
        safetensors file."""
        from rein_jax.weights.modelfile import write_model

        known = trees.never_trained(self.components.module_def)  # these are computed from the backbone, or constants
        drawn = {n: a for n, a in sharded.frozen.items() if n not in known and not n.startswith("backbone/")}
        arrays = gather({**(sharded.state.ema or sharded.state.trainable), **drawn})
        if distributed.is_main():
            meta = {**self.meta, "preprocessing": dict(self.components.preprocessing), "step": step, **more,
                    "palette": [list(map(int, colour)) for colour in self.components.classes.palette]}
            write_model(self.workdir / name, arrays, meta)

    def write_final(self, sharded: ShardedState, summary: Mapping[str, Any]) -> None:
        """model.safetensors, results.json and report.html."""
        self._write_model("model.safetensors", sharded, summary["steps"], {})
        if distributed.is_main():
            write_json(self.workdir / "results.json", {**summary, "best": self.best(), "config": self.config})
            if self.report is not None and summary["evaluation"]:
                self.report(self.workdir)
