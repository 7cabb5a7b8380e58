"""Checkpoints of the trainable part of a run: written in the background, restored on any mesh, never trusted blindly.

One Orbax item per concern: "trainable", "opt_state", "ema", "counters" (flat dicts of arrays) and "meta" (JSON: config, class
names, data fingerprint, hash of the frozen weights, shapes, dtypes and check sums of every array). Frozen weights are named by
hash only.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from data_pipelines.system_errors import ADVICE, advice, number_of, patiently, system_error, unreadable
from rein_jax import distributed
from rein_jax.errors import UserError
from rein_jax.training.checkpoint_items import ARRAYS, Damaged, altered, assemble, check_arrays, check_sums, parts_of
from rein_jax.training.state import TrainState, abstract_arrays
from rein_jax.training.workdir import GONE, is_there

FORMAT = 1
PAUSES = (0.5, 2.0, 6.0)  # seconds before each further attempt to read what the system did not give
# What Orbax and TensorStore raise for files that can be read but hold something else than was written.
CONTENT = (Damaged, ValueError, LookupError, TypeError, AttributeError, EOFError, OSError)
UNPROVEN = ("UNKNOWN:", "INTERNAL:", "ABORTED:", "CANCELLED:", "UNIMPLEMENTED:")  # TensorStore's words for neither


class Reading(NamedTuple):
    """One attempt to restore a checkpoint: what it holds, or what is wrong with its content, or why it cannot be read."""

    arrays: dict[str, dict[str, Any]] | None = None
    meta: dict[str, Any] | None = None
    damage: str | None = None
    obstacle: str | None = None


class Checkpoints:
    """The checkpoints of one run under `folder`; keeps the newest `keep`. Saving returns before the disk is written.

    A save that fails (disk full) is reported through `say`, and `failed` says why until a later one succeeds; `close` raises a
    UserError if the last save failed. `done(step)` is called when a checkpoint is known to be on the disk.
    """

    def __init__(self, folder: Path, keep: int = 3, say: Callable[[str], None] = print,
                 done: Callable[[int], None] = lambda step: None) -> None:
        self.folder, self.keep, self.say, self.done = Path(folder).absolute(), keep, say, done
        self.failed: str | None = None
        self.pending: int | None = None
        self.in_run = is_there(self.folder.parent)
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax logs every phase, and tracebacks of what is said below
        _drop_late_answers()
        self.manager = self._open()

    def _open(self) -> ocp.CheckpointManager:
        options = ocp.CheckpointManagerOptions(
            preservation_policy=ocp.checkpoint_managers.LatestN(self.keep), cleanup_tmp_directories=True,
            enable_async_checkpointing=True)
        handlers = {**{part: ocp.StandardCheckpointHandler() for part in ARRAYS}, "meta": ocp.JsonCheckpointHandler()}

        def listed() -> ocp.CheckpointManager:
            if self.folder.exists():
                os.listdir(self.folder)  # Orbax takes a folder that it cannot list for an empty one
            return ocp.CheckpointManager(self.folder, item_handlers=handlers, options=options)

        try:
            return patiently(listed, PAUSES, time.sleep)
        except (OSError, ValueError) as error:
            raise self._out_of_reach(f"The checkpoints in {self.folder} cannot be opened", error) from None

    def _out_of_reach(self, what: str, error: Exception) -> UserError:
        reason = system_error(error) or _first_line(error)
        return UserError(f"{what} ({reason}); nothing there was changed. {_sentence(advice(error))} and run the same command again.")

    def steps(self) -> list[int]:
        """Steps with a finished checkpoint, ascending."""
        return sorted(self.manager.all_steps())

    def save(self, step: int, state: TrainState, meta: Mapping[str, Any]) -> bool:
        """Start saving, once the save before is through; False if it failed or this step is saved already."""
        self.wait()
        if step in self.manager.all_steps():
            return False
        parts = parts_of(state)
        items: dict[str, Any] = {part: ocp.args.StandardSave(leaves) for part, leaves in parts.items()}
        own = {"format": FORMAT, "step": step, "arrays": abstract_arrays(state), "sums": check_sums(parts)}
        items["meta"] = ocp.args.JsonSave({**meta, **own})
        try:
            self.manager.save(step, args=ocp.args.Composite(**items), force=True)
        except Exception as error:  # Orbax raises OSError, ValueError or XlaRuntimeError for a disk that cannot be written
            self._note_failure(step, error)
            return False
        self.pending = step
        return True

    def save_or_end(self, step: int, state: TrainState, meta: Mapping[str, Any]) -> None:
        """Start saving. When the save before has failed, or this one cannot begin, it is tried again at once, and waited for; a UserError
        when that fails too: what the run would compute from now on could not be kept."""
        self.save(step, state, meta)
        if distributed.all_agree(self.failed is None):
            return
        self.save(step, state, meta)
        self.wait()
        if not distributed.all_agree(self.failed is None):
            self.close()
            raise UserError("Another process could not write its part of the checkpoint. Run the same command again when it can.")

    def noticed_failure(self) -> bool:
        """Has a save in the background ended, and badly? Never waits. Of several processes each learns of it at the next save."""
        if jax.process_count() == 1 and self.pending is not None and not self.manager.is_saving_in_progress():
            self.wait()
            return self.failed is not None
        return False

    def wait(self) -> None:
        """Until the save in progress is on disk (or has failed, which is reported)."""
        step, self.pending = self.pending, None
        try:
            self.manager.wait_until_finished()
        except Exception as error:  # as in save
            self._note_failure(step, error)
            return
        if step is not None:
            self.failed = None
            self.done(step)

    def close(self) -> None:
        """Wait and close; a UserError if the newest save failed."""
        self.wait()
        self.manager.close()
        if self.failed:
            raise UserError(f"The last checkpoint could not be written to {self.folder}: {self.failed}, "
                            "and run the same command again; it continues from the checkpoint before.")

    def _note_failure(self, step: int | None, error: Exception) -> None:
        """Report, forget the half-written checkpoint, and open a manager that knows nothing of it."""
        if self.in_run and not is_there(self.folder.parent):  # opening would make it again
            raise UserError(GONE.format(self.folder.parent))
        reason = system_error(error) or _first_line(error)
        number = number_of(error)
        self.failed = f"{reason}. {_sentence(ADVICE.get(number, 'free some space there'))}"
        which = f" of step {step}" if step is not None else ""
        self.say(f"WARNING: the checkpoint{which} could not be written to {self.folder}: {reason}. The checkpoints before it are kept.")
        try:
            self.manager.close()
        except Exception:  # closing waits for the save that has just failed, and says so again
            self.say("The failed save was abandoned.")
        self.manager = self._open()

    def restore(self, like: TrainState, check: Callable[[Mapping[str, Any]], None] = lambda meta: None):
        """The newest readable checkpoint as (state sharded like `like`, meta), or None if there is none.

        `like` has arrays or ShapeDtypeStructs with shardings, on any mesh. `check(meta)` may refuse a checkpoint with a
        UserError. A checkpoint whose content is proven wrong is set aside as `damaged-<step>` and the one before is taken, and that
        is said. One that the system does not give (a file server that fails, no rights) is tried again a few times; then a
        UserError ends the run with everything as it was.
        """
        steps = self.steps()
        for step in reversed(steps):
            found = self._read(step, like, check)
            if not distributed.all_agree(found.obstacle is None):
                why = found.obstacle or "another process cannot read it"
                raise UserError(f"The checkpoint of step {step} in {self.folder} cannot be read ({why}); nothing there was changed, "
                                "and no older one is taken in its place. Run the same command again when it can be read.")
            problem = found.damage
            if distributed.all_agree(problem is None):  # only then can all take part in adding up what is spread over them
                problem = altered(found.arrays, found.meta.get("sums"))
                if distributed.all_agree(problem is None):
                    return assemble(like, found.arrays), found.meta
            self._set_aside(step, problem or "unreadable for another process")
        if steps:
            raise UserError(f"None of the checkpoints in {self.folder} is whole; they were renamed to damaged-*. Put back a copy of "
                            "one, or add --restart to the command to start from step 0 (existing files are kept).")
        return None

    def _read(self, step: int, like: TrainState, check: Callable[[Mapping[str, Any]], None]) -> Reading:
        """The content of one checkpoint. Errors of the system are tried again; content counts as damaged when it is so twice."""
        wrong = 0  # attempts in a row that gave content, and not the right one
        for pause in (*PAUSES, None):
            try:
                meta = self._meta(step)
                check(meta)
                check_arrays(meta["arrays"], abstract_arrays(like))
                return Reading(self._arrays(step, like), meta)
            except UserError:
                raise
            except Exception as error:  # whatever a damaged file or a failing disk provokes in the layers below
                hidden = unreadable(self.folder / str(step))  # a library may have swallowed what the system said
                refused = system_error(error) or (system_error(hidden) if hidden else None)
                line = refused or _first_line(error)
                wrong = wrong + 1 if refused is None and _of_content(error) else 0
                if wrong == 2:
                    return Reading(damage=line)
            if pause is None:
                return Reading(obstacle=line)
            if refused:
                self.say(f"WARNING: the checkpoint of step {step} in {self.folder} cannot be read ({refused}); trying again.")
            time.sleep(pause)
        raise AssertionError("the last attempt returns")

    def _meta(self, step: int) -> dict:
        meta = self.manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]
        if not isinstance(meta, dict):
            raise Damaged("its meta data are incomplete")
        written = meta.get("format", FORMAT)
        if isinstance(written, int) and written > FORMAT:
            raise UserError(f"The checkpoint of step {step} in {self.folder} was written by a newer version of rein_jax (format {written}, "
                            f"version {meta.get('version', 'unknown')}; this one reads format {FORMAT}); update rein_jax to continue it.")
        if written != FORMAT or not isinstance(meta.get("arrays"), dict):
            raise Damaged("its meta data are incomplete")
        return meta

    def _arrays(self, step: int, like: TrainState) -> dict[str, dict[str, Any]]:
        """Every item, after its shapes and dtypes on disk were compared (Orbax would cast silently)."""
        wanted = parts_of(like)
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


def _of_content(error: Exception) -> bool:
    """Can an exception that is none of the system's come from wrong content alone?"""
    return isinstance(error, CONTENT) and not str(error).startswith(UNPROVEN)


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _drop_late_answers() -> None:
    """When one of Orbax's parallel reads or writes fails, the others answer an event loop that is closed; Python would print each."""
    before = sys.unraisablehook
    if getattr(before, "drops_late_answers", False):
        return

    def hook(unraisable: Any) -> None:
        if not (isinstance(unraisable.exc_value, RuntimeError) and "Event loop is closed" in str(unraisable.exc_value)):
            before(unraisable)

    hook.drops_late_answers = True
    sys.unraisablehook = hook
