"""The training loop: from a config and a folder to a trained model, its numbers and its report; it resumes by itself."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from data_pipelines.paths import local_path
from rein_jax import distributed, trees
from rein_jax.components import TrainComponents
from rein_jax.configuration.training import Settings, settings
from rein_jax.errors import UserError
from rein_jax.precision import policy as precision_policy
from rein_jax.sharding import make_mesh, place, place_batch, replicated
from rein_jax.training import memory, run_metadata
from rein_jax.training.artifacts import ArtifactWriter
from rein_jax.training.checkpoint import Checkpoints
from rein_jax.training.guards import CompileBudget, Preempted, StepGuard, StopRequest
from rein_jax.training.metrics import Clock, MetricLog, Progress, read_metrics, unheard
from rein_jax.training.profiling import Profiler
from rein_jax.training.state import ShardedState, place_run
from rein_jax.training.step import STOP, make_loss, make_step
from rein_jax.training.workdir import CONFIG, alone, check_there, check_untrained, in_one_sentence, note_saved, open_workdir, renew_config

Evaluate = Callable[[TrainComponents, Mapping[str, Any], Mapping[str, Any], Any, Any, Path], dict]


def train(config: Mapping[str, Any], workdir: str | Path, *, build: Callable[[Any], TrainComponents], evaluate: Evaluate | None = None,
          report: Callable[[Path], Any] | None = None, restart: bool = False, extend: bool = False) -> dict[str, Any]:
    """Run `config` in `workdir` to the end and return what results.json holds.

    A folder with checkpoints of the same config is resumed: the result is bit-equal to that of an uninterrupted run on the
    same number of CPU devices. SIGTERM and SIGINT save and raise `Preempted`. Other mistakes are UserErrors.
    `evaluate(components, trainable, frozen, mesh, policy, folder)` gives the numbers of a model, {} for none; `report(workdir)` writes
    the page of a run that has some. `rein_jax.run.train` passes the real ones. restart: begin at step 0, what the folder holds is moved
    into its restarted-<n>. extend: go on with a run, also a finished one, to a higher train.steps.
    """
    plain, workdir = run_metadata.as_dict(config), local_path(workdir)
    chosen = settings(plain.get("train", {}))
    with StopRequest() as stop, in_one_sentence(workdir):
        if restart and extend:
            raise UserError("--restart starts from step 0, --extend continues the run that is there; choose one of them.")
        vouched = extend or (workdir / CONFIG).exists()  # for the number of steps
        open_workdir(workdir, plain, restart=restart, extend=extend)
        with alone(workdir):
            if chosen.deterministic:
                run_metadata.check_deterministic()
            return _Run(plain, chosen, build(config), workdir, stop, evaluate, report, vouched).run()


@dataclass
class _Run:
    """One run between its start and its end."""

    config: dict[str, Any]
    chosen: Settings
    components: TrainComponents
    workdir: Path
    stop: StopRequest
    evaluate: Evaluate | None
    report: Callable[[Path], Any] | None
    vouched: bool = True
    started: float = field(default_factory=time.monotonic)

    def run(self) -> dict[str, Any]:
        self._prepare()
        try:
            step = self._restore()
            renew_config(self.workdir, self.config)
            self._announce(step)
            owed = self._evaluation_owed(step)
            self.progress = Progress(self.chosen.steps, step, self.main)
            self.log = MetricLog(self.workdir, step, self.main, self.chosen.tensorboard, last=step >= self.chosen.steps, say=self._say)
            if owed:
                self._evaluate(step, self.chosen.eval_images)
            step = self._train_from(step)
            return self._finish(step)
        finally:
            self._close()

    def _close(self) -> None:
        """Whatever ended the run: a checkpoint on its way is finished, and what is open is closed."""
        self.profiler.close()
        if hasattr(self, "log"):
            self.log.close()
        if hasattr(self, "progress"):
            self.progress.close()
        if hasattr(self, "checkpoints"):
            self.checkpoints.wait()

    def _prepare(self) -> None:
        """Mesh, sharded arrays, the step (not compiled yet), guards."""
        chosen, components = self.chosen, self.components
        self.main = distributed.is_main()
        self.policy = precision_policy(self.config.get("precision", "auto"))
        self.mesh = make_mesh(self.config.get("mesh"))
        run_metadata.check_batch(chosen, self.mesh)
        self.meta = run_metadata.meta(self.config, components, self.policy)
        self.sharded: ShardedState = place_run(components.trainable, components.frozen, components.tx, self.policy, self.mesh,
                                        run_metadata.rules(self.config), ema=chosen.ema > 0,
                                        wishes=components.module_def.wishes)
        components.trainable = components.frozen = {}  # the sharded copies are the only ones from now on
        self.step = make_step(components.module_def, components.tx, self.policy, self.mesh, self.sharded.shardings,
                              schedule=components.schedule, augment=components.augment, **chosen.of_step())
        self.key = place(jax.random.key_data(jax.random.key(self.config.get("seed", 0))), replicated(self.mesh))
        self.compiled = CompileBudget(self._compile, chosen.compile_budget)
        self.guard = StepGuard(chosen.skip_limit, chosen.spike)
        self.profiler = Profiler(chosen.profile, self.workdir / "profile", self.main, self._say)
        self.artifacts = ArtifactWriter(self.workdir, components, self.meta, self.config, self.mesh, self.policy, self.evaluate,
                               self.report, self._say)
        self.clock, self.compile_seconds = Clock(), 0.0

    def _compile(self, batch: Mapping[str, Any]) -> Any:
        """The step for batches of this shape, after the memory plan was printed."""
        data = {name: array for name, array in batch.items() if name != STOP}
        loss, key = make_loss(self.components.module_def, self.policy), jax.random.key(0)
        plan = memory.plan(self.sharded.state, self.sharded.frozen, data, lambda t, f, d: loss(t, f, d, key)[0],
                           self.mesh.devices.size, self.chosen.accumulate)
        limit = memory.limit_of(self.mesh.local_devices[0])
        self._say(plan.text(limit))
        for tip in memory.advice(plan, limit, self.config):
            self._say(f"WARNING: {tip}")
        start = time.perf_counter()
        program = self.step.lower(self.sharded.state, self.sharded.frozen, batch, self.key).compile()
        self.compile_seconds += time.perf_counter() - start
        used = program.memory_analysis()
        self._say(f"step compiled in {self.compile_seconds:.1f} s; per device {memory.size(used.argument_size_in_bytes)} of arguments "
                  f"and {memory.size(used.temp_size_in_bytes)} of temporaries")
        return program

    def _restore(self) -> int:
        """The step to go on from; the state is replaced by the checkpoint's if there is one."""
        self.checkpoints = Checkpoints(self.workdir / "checkpoints", self.chosen.keep, self._say,
                                       lambda step: note_saved(self.workdir, step))
        found = self.checkpoints.restore(self.sharded.state, lambda meta: run_metadata.check_resume(meta, self.meta, longer=self.vouched))
        if found is None:
            check_untrained(self.workdir)
            return 0
        self.sharded.state = found[0]
        step = int(jax.device_get(found[0].step))
        if step > self.chosen.steps:
            raise UserError(f"The newest checkpoint in {self.workdir} is of step {step}, train.steps is {self.chosen.steps}; "
                            f"set train.steps to {step} or more.")
        self.before = found[1]["config"].get("train", {}).get("steps", self.chosen.steps)
        return step

    def _announce(self, step: int) -> None:
        state, devices = self.sharded.state, self.mesh.devices
        self._say(f"{trees.count(state.trainable):,} trainable and {trees.count(self.sharded.frozen):,} frozen parameters; "
                  f"{devices.size} {devices.flat[0].device_kind} device(s), mesh {dict(self.mesh.shape)}, "
                  f"compute {np.dtype(self.policy.compute).name}; "
                  f"backbone weights: {self.components.weights.get('source', 'unknown')}")
        if not step and self.components.weights.get("init_from"):
            self._say(f"starting from what was learned in {self.components.weights['init_from']}")
        if step:
            self._say(f"resuming at step {step} of {self.chosen.steps}")
            if self.before != self.chosen.steps and self.components.schedule is not None:
                self._say(f"The run was planned for {self.before} steps; the learning rate continues where the schedule of "
                          f"{self.chosen.steps} steps is at step {step}: {float(self.components.schedule(step)):.3g}.")

    def _say(self, text: str) -> None:
        if hasattr(self, "progress"):
            self.progress.say(text)
        elif self.main:
            with unheard():
                print(text, flush=True)

    # -- the loop -------------------------------------------------------------------------------------------------------

    def _train_from(self, step: int) -> int:
        """Train to the last step; the metrics of a step are looked at while the next one runs."""
        if step >= self.chosen.steps:
            return step
        batches = self.components.batches(step, jax.process_index(), jax.process_count())
        pending, running = None, None
        self.clock.reset()
        while step < self.chosen.steps:
            device_batch, names, waited = self._next_batch(batches, step, running)
            self.profiler.before(step)
            first, running = running is None, self._launch(device_batch)
            step += 1
            self.clock.step(0.0 if first else waited)  # the loader starts while nothing can run anyway
            stopped = self._finished(*pending) if pending else False
            pending = (step, running, names)
            if stopped:
                self._finished(*pending)
                self._leave(step)
            if self._due(step) or self.checkpoints.noticed_failure():
                self._finished(*pending)
                pending = None
                self._milestone(step)
            self.profiler.after(step, running)
        if pending:
            self._finished(*pending)
        return step

    def _next_batch(self, batches, step: int, running) -> tuple[dict, list[str], float]:
        """(batch on the devices, names of its files, seconds waited with nothing running on the devices)."""
        start = time.perf_counter()
        batch = dict(next(batches))
        idle = running is None or running["loss"].is_ready()
        waited = time.perf_counter() - start if idle else 0.0
        names = [str(name) for name in batch.pop("name", [])]
        for warning in self.guard.check_batch(step + 1, batch, names):
            self._say(f"WARNING: {warning}")
        size = len(next(iter(batch.values())))
        batch[STOP] = np.full(size, int(self.stop.signal is not None), np.int32)
        return place_batch(batch, self.mesh), names, waited

    def _launch(self, batch: dict) -> dict:
        """Start one step on the devices; returns its metrics, which are not ready yet."""
        known = self.compiled.count
        program = self.compiled.program(batch)
        if self.compiled.count > known:
            self.clock.reset()  # compiling is reported by itself
        with jax.transfer_guard("disallow" if self.chosen.transfer_guard else "allow"):
            self.sharded.state, metrics = program(self.sharded.state, self.sharded.frozen, batch, self.key)
        return metrics

    def _finished(self, step: int, metrics: dict, names: list[str]) -> bool:
        """Log one finished step; True if a process was told to stop."""
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        for warning in self.guard.check(step, values, names):
            self._say(f"WARNING: {warning}")
        self.progress.advance()
        if step % self.chosen.log_every == 0 or step == self.chosen.steps:
            row = {**values, **self.clock.summary(self.chosen.batch)}
            self.clock.reset()
            kept = {name: value for name, value in row.items() if name not in ("finite", "row", "stop")}
            self.log.write(step, "train", kept)
            self.progress.show(step, row)
        return bool(values["stop"])

    def _due(self, step: int) -> bool:
        """Does this step end with a checkpoint or an evaluation?"""
        return any(every and step % every == 0 for every in (self.chosen.checkpoint_every, self.chosen.eval_every))

    def _milestone(self, step: int) -> None:
        chosen = self.chosen
        check_there(self.workdir)
        if self.checkpoints.failed or chosen.checkpoint_every and step % chosen.checkpoint_every == 0:
            self.checkpoints.save_or_end(step, self.sharded.state, self.meta)
        if chosen.eval_every and step % chosen.eval_every == 0 and step < chosen.steps:
            self._evaluate(step, chosen.eval_images)
        self.clock.reset()

    def _evaluate(self, step: int, images: int = 0) -> dict:
        """Numbers of all domains (or of so many `images` of each), logged; the best model so far is written as a file of its own."""
        results = self.artifacts.evaluate(self.sharded, step, images)
        if results:
            self.log.write(step, "sample" if images else "eval", run_metadata.scalars(results))
            of = f", {images} images per domain" if images else ""
            self._say(f"evaluation at step {step}{of}:\n{self.artifacts.table(results)}")
        return results

    def _evaluation_owed(self, step: int) -> bool:
        """Was the run killed between the checkpoint of this step and its evaluation?"""
        every = self.chosen.eval_every
        done = any(row["step"] == step and row["kind"] in ("eval", "sample") for row in read_metrics(self.workdir))
        return distributed.all_agree(bool(every and step and step % every == 0 and step < self.chosen.steps and not done))

    def _leave(self, step: int) -> None:
        """Save and go, because this or another process was told to stop."""
        check_there(self.workdir)
        self.checkpoints.save_or_end(step, self.sharded.state, self.meta)
        self.checkpoints.close()
        self._say(f"stopped by a signal; saved at step {step}. Run the same command again to continue.")
        raise Preempted(f"saved at step {step}")

    def _finish(self, step: int) -> dict[str, Any]:
        """The last checkpoint, the last evaluation, the model file, results.json and the report."""
        check_there(self.workdir)
        self.checkpoints.save_or_end(step, self.sharded.state, self.meta)
        self.checkpoints.wait()
        if self.chosen.eval_every and self.chosen.eval_images:
            self._evaluate(step, self.chosen.eval_images)  # the curve's last point, on the same images as the others
        results = self._evaluate(step) if self.chosen.eval_at_end else {}
        skipped = int(jax.device_get(self.sharded.state.skipped))
        summary = {"steps": step, "skipped_steps": skipped, "compilations": self.compiled.count,
                   "compile_seconds": round(self.compile_seconds, 2),
                   "seconds_of_this_process": round(time.monotonic() - self.started, 1),
                   "trainable_parameters": trees.count(self.sharded.state.trainable), "fingerprint": self.meta["fingerprint"],
                   "weights": dict(self.meta["weights"]), "evaluation": results}
        self.artifacts.write_final(self.sharded, summary)
        self.checkpoints.close()
        return json.loads(json.dumps(summary, default=float))
