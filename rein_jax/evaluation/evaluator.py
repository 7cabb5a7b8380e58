"""`rein_jax.evaluate`: a model on any number of domains, exact, resumable, and with its protocol written beside the numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from data_pipelines.corruptions import suite
from data_pipelines.objects import as_source
from data_pipelines.paths import local_path
from data_pipelines.protocols import Protocol
from rein_jax.errors import UserError
from rein_jax.evaluation.domain import DomainEvaluator
from rein_jax.evaluation.eval_model import EvalModel, check_classes, eval_model
from rein_jax.evaluation.options import Options
from rein_jax.evaluation.options import options as make_options
from rein_jax.evaluation.predictions import Files
from rein_jax.evaluation.windows import Predictor
from rein_jax.metrics import confusion
from rein_jax.reporting import results, robustness


def evaluate(
    model: Any,
    domains: Any,
    *,
    protocol: str | Protocol | None = None,
    mode: str | None = None,
    crop: int | tuple[int, int] | None = None,
    stride: int | tuple[int, int] | None = None,
    batch: int | None = None,
    scales: Iterable[float] = (1.0,),
    flip: bool = False,
    boundary: bool = False,
    calibration: bool = True,
    corruptions: str | Sequence[str] = (),
    severities: Sequence[int] = (1, 2, 3, 4, 5),
    reference: results.Results | str | Path | None = None,
    out: str | Path | None = None,
    resume: bool = True,
    save_predictions: bool = False,
    panels: int = 6,
    save_every: int = 50,
    threads: int = 4,
    precision: str | None = None,
    mesh: Any = None,
    progress: bool = True,
    facts: Mapping[str, Any] | None = None,
) -> results.Results:
    """Measure a model on data sets it may never have seen; every number comes with the protocol it was measured by.

    Images that cannot be read are named in the result and left out of the numbers, which then say so. Over several processes each takes
    its share of the images; counts are added exactly, every process returns the sum.

    Args:
        model: run folder or model.safetensors, a Segmenter, or (module_def, params).
        domains: a source (`rj.data.open`), several, or {name: source}.
        protocol: resolution, "official-512", "official-1024", "full" or "fit-WxH" (data_pipelines.protocols).
        mode: "slide" over windows of `crop` pixels every `stride`, or "whole".
        batch: windows per device in one call. This and the four before: None is what the model's own run states, otherwise "full", "slide",
            512, 341 and 4.
        scales, flip: average the probabilities of several views.
        boundary, calibration: measure these too.
        corruptions: names, families or suites of data_pipelines.corruptions ("cityscapes-c") under which every domain is measured again at
            these severities; reference: results of another model for the relative scores.
        out: folder for results.json, per-image counts, panels of the best and worst images (`panels` each), and with `save_predictions` the
            predicted train ids as PNG. With `resume` images counted there under the same model, precision, protocol and data are not
            computed again; counts are written every `save_every` images.
        threads: that read images ahead.
        precision: "fp32", "bf16" or "auto" (bf16 except on CPU) to compute in; None takes the parameters as they are.
        mesh: devices to use (default: all of this process). progress: show a bar. facts: what results.json is to say about the model.

    Returns:
        Results: `.domains` {name: {"mIoU", "IoU", ...}}, `.mean`, `.table()`, `.save(folder)`.

    Raises:
        UserError: no data, other classes than the model's, or options that cannot be.

    Example:
        results = rj.evaluate(model, rj.data.open("acdc", "/data/acdc", split="val"))
    """
    chosen, domains = eval_model(model, facts, precision), named(domains)
    protocol, mode, crop, stride, batch = own_options(chosen, protocol, mode, crop, stride, batch)
    options = make_options(protocol, mode, crop, stride, scales, flip, boundary, calibration, save_predictions, panels, save_every,
                           threads, progress and jax.process_index() == 0)
    for source in domains.values():
        check_classes(chosen.classes, source)
    # Slips in what is measured last come to light before the hours of what is measured first.
    views = {name: suite(source, corruptions, tuple(severities)) for name, source in domains.items()} if corruptions else {}
    other = results.load_results(reference, accumulators=False) if views and isinstance(reference, (str, Path)) else reference
    for name in views if other is not None else ():
        if name not in other.data.get("robustness", {}):
            raise UserError(f"The reference holds no corruptions of {name!r}; measure it with the same --corruptions first.")
    predictor = Predictor(
        chosen.module_def, chosen.params, classes=len(chosen.classes), window=crop, stride=stride, mode=mode, batch=batch,
        scales=options.scales, flip=flip, confidence=calibration, patch=chosen.patch, mesh=mesh,
    )
    out = None if out is None else local_path(out)
    found = _measure(domains, predictor, chosen, options, out, resume)
    if views:
        found.data["robustness"] = _corrupted(views, found, other, predictor, chosen, options, out, resume)
    if out is not None and jax.process_index() == 0:
        found.save(out)
    return found


def evaluate_files(folder: str | Path, domains: Mapping[str, Any] | Sequence[Any], *, boundary: bool = False,
                   out: str | Path | None = None, panels: int = 6, threads: int = 4, progress: bool = True) -> results.Results:
    """Score predictions that were written as PNG files of train ids, one for each image, found below `folder` by name."""
    options = replace(make_options("full", "slide", 1, 1, (1.0,), False, boundary, False, False, panels, 1 << 30, threads, progress),
                      mode="files")
    domains, folder = named(domains), local_path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; name the folder that holds the predicted PNG files.")
    classes = next(iter(domains.values())).classes
    for source in domains.values():
        check_classes(classes, source)
    facts = {"name": folder.resolve().name, "path": str(folder), "identity": f"files in {folder.resolve()}"}
    chosen = EvalModel(None, {}, classes, facts=facts)
    out = None if out is None else local_path(out)
    found = _measure(domains, Files(folder), chosen, options, out, resume=False)
    if out is not None:
        found.save(out)
    return found


def own_options(chosen: EvalModel, protocol, mode, crop, stride, batch) -> tuple:
    """(protocol, mode, crop, stride, batch) as given; None is what the model's own run states, and the published windows without one."""
    own = {"protocol": "full", "mode": "slide", "crop": 512, "stride": 341, "batch": 4} | (chosen.facts.get("config") or {}).get("eval", {})
    if crop is not None and stride is None:  # the run's steps belong to its windows
        stride = tuple(2 * side // 3 for side in crop) if isinstance(crop, tuple | list) else 2 * crop // 3
    given = {"protocol": protocol, "mode": mode, "crop": crop, "stride": stride, "batch": batch}
    return tuple(own[key] if value is None else value for key, value in given.items())


def _measure(domains, predictor, chosen: EvalModel, options: Options, out: Path | None, resume: bool) -> results.Results:
    accumulators, summaries = {}, {}
    for name, source in domains.items():
        accumulators[name], facts = DomainEvaluator(name, source, predictor, chosen, options, out).run(resume)
        summaries[name] = results.summarise(accumulators[name], chosen.classes.names, facts)
    return results.Results(document(chosen, options, summaries), accumulators)


def _corrupted(domains, clean: results.Results, reference: results.Results | None, predictor, chosen: EvalModel, options: Options,
               out: Path | None, resume: bool) -> dict[str, Any]:
    """Every domain again under each corruption, given as {domain: its corrupted views}; counts go to OUT/corruptions/DOMAIN."""
    options = replace(options, measures=(), panels=0, save_predictions=False)
    found = {}
    for name, corrupted in domains.items():
        folder = None if out is None else out / "corruptions" / results.safe(name)
        views = {view.domain: view for view in corrupted}
        each = _measure(views, predictor, chosen, options, folder, resume)
        measured = {(view.corruption, view.severity): each.domains[key]["exact"]["mIoU"] for key, view in views.items()}
        other = None if reference is None else reference.data["robustness"][name]
        found[name] = robustness.summarise(clean.domains[name]["exact"]["mIoU"], measured, other)
    return found


def document(chosen: EvalModel, options: Options, summaries: Mapping[str, Any]) -> dict[str, Any]:
    """The content of results.json."""
    return {
        "format": results.FORMAT, "created": results.now(), "versions": results.versions(), "model": chosen.facts,
        "protocol": options.describe(), "classes": list(chosen.classes.names),
        "palette": [list(map(int, colour)) for colour in chosen.classes.palette],
        "domains": summaries, "mean": confusion.mean_over_domains(summaries),
    }


def named(domains: Mapping[str, Any] | Sequence[Any]) -> dict[str, Any]:
    """{name: source}; sources without a chosen name are called by their `domain`, numbered when two are alike."""
    if not isinstance(domains, Mapping | list | tuple):  # one source
        domains = [domains]
    if isinstance(domains, Mapping):
        found = {name: as_source(source) for name, source in domains.items()}
    else:
        found = {}
        for source in map(as_source, domains):
            name, k = source.domain, 2
            while name in found:
                name, k = f"{source.domain}-{k}", k + 1
            found[name] = source
    if not found:
        raise UserError("There is no domain to evaluate on; name at least one data set.")
    for name, source in found.items():
        if not len(source):
            raise UserError(f"{name} holds no images; check its folder and split.")
        if not getattr(source, "has_labels", True):
            raise UserError(f"{name} has no labels to compare with; use `rein predict` for images without labels.")
    files = {}
    for name in found:
        if files.setdefault(results.safe(name), name) != name:
            raise UserError(f"The domains {files[results.safe(name)]!r} and {name!r} would share files; rename one of them.")
    return found
