"""Checkpoints of the trainable part of a run: written in the background, restored on any mesh, never trusted blindly.

One Orbax item per concern: "trainable", "opt_state", "ema", "counters" (flat dicts of arrays) and "meta" (JSON: config, class
names, data fingerprint, hash of the frozen weights, shapes, dtypes and check sums of every array). Frozen weights are named by
hash only.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from rein_jax import distributed
from rein_jax.errors import UserError
from rein_jax.training.state import TrainState, skeleton_of

ARRAYS = ("trainable", "opt_state", "ema", "counters")
FORMAT = 1


def _parts(state: TrainState) -> dict[str, dict[str, Any]]:
    """{item: {path: leaf}}; empty items are left out."""
    trees = {"trainable": state.trainable, "opt_state": state.opt_state, "ema": state.ema,
             "counters": {"step": state.step, "skipped": state.skipped, "row": state.row}}
    flat = {part: {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
            for part, tree in trees.items()}
    return {part: leaves for part, leaves in flat.items() if leaves}


@jax.jit
def _sum_across(leaf: jax.Array) -> jax.Array:
    """`check_sum` of an array of which each process holds a part."""
    words = jax.lax.bitcast_convert_type(leaf, np.dtype(f"uint{8 * leaf.dtype.itemsize}"))
    return jnp.sum(words, dtype=jnp.uint32)


def check_sum(leaf: jax.Array) -> int:
    """The sum of an array's words modulo 2**32: the same on every mesh, another one for any flipped bit."""
    if leaf.is_fully_addressable or leaf.is_fully_replicated:  # nothing to compile
        return int(np.asarray(leaf).view(f"u{leaf.dtype.itemsize}").sum(dtype=np.uint32))
    return int(_sum_across(leaf))


def _sums(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    return {part: {path: check_sum(leaf) for path, leaf in leaves.items()} for part, leaves in parts.items()}


def _altered(parts: Mapping[str, Mapping[str, Any]], saved: Mapping[str, Mapping[str, int]] | None) -> str | None:
    """What is wrong where the arrays are not those that were saved; checkpoints of older versions have no check sums."""
    for part, leaves in (_sums(parts) if saved is not None else {}).items():
        for path, value in leaves.items():
            if saved.get(part, {}).get(path) != value:
                return f"{part}{path} is not what was saved"
    return None


def _assemble(state: TrainState, parts: Mapping[str, Mapping[str, Any]]) -> TrainState:
    """The state with its leaves replaced by those of `parts`."""
    def fill(part: str, tree: Any) -> Any:
        return jax.tree_util.tree_map_with_path(lambda path, _: parts[part][jax.tree_util.keystr(path)], tree)

    counters = fill("counters", {"step": 0, "skipped": 0, "row": 0})
    return TrainState(**counters, trainable=fill("trainable", state.trainable), opt_state=fill("opt_state", state.opt_state),
                      ema=fill("ema", state.ema) if state.ema else {})


class Damaged(Exception):
    """A checkpoint that cannot be read back; the message says what is wrong with it."""


class Checkpoints:
    """The checkpoints of one run under `folder`; keeps the newest `keep`. Saving returns before the disk is written.

    A save that fails (disk full) is reported through `say` and the run goes on with the checkpoints it has; `close` raises a
    UserError if the last save failed.
    """

    def __init__(self, folder: Path, keep: int = 3, say: Callable[[str], None] = print) -> None:
        self.folder, self.keep, self.say = Path(folder).absolute(), keep, say
        self.failed: str | None = None
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax logs every phase, and tracebacks of what is said below
        self.manager = self._open()

    def _open(self) -> ocp.CheckpointManager:
        options = ocp.CheckpointManagerOptions(
            preservation_policy=ocp.checkpoint_managers.LatestN(self.keep), cleanup_tmp_directories=True,
            enable_async_checkpointing=True)
        handlers = {**{part: ocp.StandardCheckpointHandler() for part in ARRAYS}, "meta": ocp.JsonCheckpointHandler()}
        return ocp.CheckpointManager(self.folder, item_handlers=handlers, options=options)

    def steps(self) -> list[int]:
        """Steps with a finished checkpoint, ascending."""
        return sorted(self.manager.all_steps())

    def save(self, step: int, state: TrainState, meta: Mapping[str, Any]) -> bool:
        """Start saving; False if it failed or this step is saved already."""
        if step in self.manager.all_steps():
            return False
        parts = _parts(state)
        items: dict[str, Any] = {part: ocp.args.StandardSave(leaves) for part, leaves in parts.items()}
        items["meta"] = ocp.args.JsonSave({**meta, "format": FORMAT, "step": step, "arrays": skeleton_of(state), "sums": _sums(parts)})
        try:
            self.manager.save(step, args=ocp.args.Composite(**items), force=True)
        except Exception as error:  # Orbax raises OSError, ValueError or XlaRuntimeError for a disk that cannot be written
            self._note_failure(step, error)
            return False
        self.failed = None
        return True

    def wait(self) -> None:
        """Until the save in progress is on disk (or has failed, which is reported)."""
        try:
            self.manager.wait_until_finished()
        except Exception as error:  # as in save
            self._note_failure(None, error)

    def close(self) -> None:
        """Wait and close; a UserError if the newest save failed."""
        self.wait()
        self.manager.close()
        if self.failed:
            raise UserError(f"The last checkpoint could not be written to {self.folder}: {self.failed}. Free some space there "
                            "and run the same command again; it goes on from the checkpoint before.")

    def _note_failure(self, step: int | None, error: Exception) -> None:
        """Report, forget the half-written checkpoint, and open a manager that knows nothing of it."""
        self.failed = _first_line(error)
        which = f" of step {step}" if step is not None else ""
        self.say(f"WARNING: the checkpoint{which} could not be written to {self.folder}: {self.failed}. "
                 f"The checkpoints before it are kept and the run goes on.")
        try:
            self.manager.close()
        except Exception:  # closing waits for the save that has just failed, and says so again
            self.say("The failed save was abandoned.")
        self.manager = self._open()

    def restore(self, like: TrainState, check: Callable[[Mapping[str, Any]], None] = lambda meta: None):
        """The newest readable checkpoint as (state placed like `like`, meta), or None if there is none.

        `like` has arrays or ShapeDtypeStructs with shardings, on any mesh. `check(meta)` may refuse a checkpoint with a
        UserError. A damaged checkpoint is set aside as `damaged-<step>` and the one before is taken, and that is said.
        """
        steps = self.steps()
        for step in reversed(steps):
            problem = None
            try:
                meta = self._meta(step)
                check(meta)
                _check_arrays(meta["arrays"], skeleton_of(like))
                arrays = self._arrays(step, like)
            except UserError:
                raise
            except Exception as error:  # whatever a damaged file provokes in the layers below
                problem = _first_line(error)
            if distributed.all_agree(problem is None):  # only then can all take part in adding up what is spread over them
                problem = _altered(arrays, meta.get("sums"))
                if distributed.all_agree(problem is None):
                    return _assemble(like, arrays), meta
            self._set_aside(step, problem or "unreadable for another process")
        if steps:
            raise UserError(f"None of the checkpoints in {self.folder} can be read; they were renamed to damaged-*. "
                            "Run the same command again to start from step 0.")
        return None

    def _meta(self, step: int) -> dict:
        meta = self.manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]
        if not isinstance(meta, dict) or "arrays" not in meta:
            raise Damaged("its meta data are incomplete")
        return meta

    def _arrays(self, step: int, like: TrainState) -> dict[str, dict[str, Any]]:
        """Every item, after its shapes and dtypes on disk were compared (Orbax would cast silently)."""
        wanted = _parts(like)
        present = self.manager.item_metadata(step)
        for part, leaves in wanted.items():
            on_disk = getattr(present[part], "tree", None) or present[part]
            if on_disk is None or set(on_disk) != set(leaves):
                raise Damaged(f"item {part!r} is incomplete")
            for path, leaf in leaves.items():
                found = on_disk[path]
                if tuple(found.shape) != tuple(leaf.shape) or np.dtype(found.dtype) != np.dtype(leaf.dtype):
                    raise Damaged(f"{part}{path} is {tuple(found.shape)} {found.dtype} on disk, "
                                  f"not {tuple(leaf.shape)} {leaf.dtype}")
        targets = {part: {path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
                          for path, leaf in leaves.items()} for part, leaves in wanted.items()}
        items = {part: ocp.args.StandardRestore(leaves) for part, leaves in targets.items()}
        return dict(self.manager.restore(step, args=ocp.args.Composite(**items)))

    def _set_aside(self, step: int, problem: str) -> None:
        """Rename a damaged checkpoint so that its step can be written again; reopen without it."""
        self.say(f"WARNING: the checkpoint of step {step} in {self.folder} is damaged ({problem}); "
                 f"it was renamed to damaged-{step} and the one before is taken.")
        self.manager.close()
        if jax.process_index() == 0:
            aside = self.folder / f"damaged-{step}"
            shutil.rmtree(aside, ignore_errors=True)
            (self.folder / str(step)).rename(aside)
        distributed.barrier("checkpoint-set-aside")
        self.manager = self._open()


def _check_arrays(saved: Mapping[str, Mapping[str, Any]], wanted: Mapping[str, Mapping[str, Any]]) -> None:
    """The tree, shapes and dtypes of a checkpoint against those of the run; a difference is a UserError that names it."""
    for part, leaves in wanted.items():
        there = saved.get(part, {})
        if part == "ema" and bool(there) != bool(leaves):
            raise UserError("The checkpoint was written with" + ("out" if not there else "") + " a moving average (train.ema); "
                            "set train.ema as it was or choose another workdir.")
        missing, extra = sorted(leaves.keys() - there.keys()), sorted(there.keys() - leaves.keys())
        if missing or extra:
            raise UserError(f"The checkpoint's {part} does not fit this model: it lacks {missing[:3] or 'nothing'} and has the "
                            f"unknown {extra[:3] or 'nothing'}; choose another workdir or the config it was trained with.")
        for path, (shape, dtype) in leaves.items():
            old_shape, old_dtype = there[path]
            if tuple(old_shape) != tuple(shape) or old_dtype != dtype:
                raise UserError(f"The checkpoint's {part}{path} is {tuple(old_shape)} {old_dtype}, this model needs "
                                f"{tuple(shape)} {dtype}; choose another workdir or the config it was trained with.")


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]
