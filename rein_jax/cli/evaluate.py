"""`rein evaluate`: measure a trained model, or predictions in files, on any data sets."""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_pipelines import dataset
from rein_jax.cli import above, at_least, path_argument, printable
from rein_jax.errors import UserError

EPILOG = """examples:
  rein evaluate runs/camvid --domain camvid:split=day_test --domain camvid:split=dusk,label=dusk
  rein evaluate runs/gta/model.safetensors --domain cityscapes --domain bdd100k --domain mapillary --protocol official-512
  rein evaluate runs/citys --domain acdc --protocol official-1024 --crop 1024 --stride 683 --boundary
  rein evaluate runs/citys --domain cityscapes --corruptions cityscapes-c --reference runs/freeze/eval/full
  rein evaluate --predictions out/predictions/dusk --domain camvid:split=dusk --out runs/scored

A domain is NAME[:KEY=VALUE,...]: split (default val, where there is one), source (folder or .zip; default $REIN_DATA/NAME),
label (its name in tables) and the data set's options. Without --domain the run's own config.eval.domains are measured."""


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    parse = argparse.ArgumentParser(prog="rein evaluate", description=__doc__, epilog=EPILOG, allow_abbrev=False,
                                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("model", nargs="?", type=path_argument, metavar="RUN_OR_MODEL", help="run folder or model.safetensors")
    parse.add_argument("--domain", action="append", default=[], metavar="NAME[:KEY=VALUE,...]", help="data set; may be repeated")
    parse.add_argument("--predictions", type=path_argument, metavar="DIR", help="score the PNG files of train ids below DIR, not a model")
    parse.add_argument("--protocol", help="resolution: official-512, official-1024, full or fit-WxH (default: the run's, else full)")
    parse.add_argument("--mode", choices=("slide", "whole"), help="sliding window or whole image (default: the run's, else slide)")
    parse.add_argument("--crop", type=at_least(1), metavar="PX", help="side of a window (default: the run's, else 512)")
    parse.add_argument("--stride", type=at_least(1), metavar="PX", help="step of windows (default: the run's, else two thirds of crop)")
    parse.add_argument("--batch", type=at_least(1), metavar="N", help="windows per device in one call (default: the run's, else 4)")
    parse.add_argument("--precision", choices=("auto", "fp32", "bf16"), help="default: the run's, else auto (fp32 on CPU)")
    parse.add_argument("--scales", type=above(0), nargs="+", default=[1.0], metavar="S", help="average the probabilities of these scales")
    parse.add_argument("--flip", action="store_true", help="average with the mirrored image")
    parse.add_argument("--boundary", action="store_true", help="measure boundary IoU too")
    parse.add_argument("--no-calibration", action="store_true", help="leave calibration out")
    parse.add_argument("--corruptions", nargs="+", default=[], metavar="NAME", help="also under corruptions: cityscapes-c, noise, fog, ...")
    parse.add_argument("--severities", type=int, nargs="+", default=[1, 2, 3, 4, 5], metavar="N")
    parse.add_argument("--reference", type=path_argument, metavar="DIR", help="results of another model, for relative scores (CD, rCD)")
    parse.add_argument("--out", type=path_argument, metavar="DIR", help="folder of results.json and report.html (default RUN/eval/...)")
    parse.add_argument("--save-predictions", action="store_true", help="write every prediction as PNG of train ids")
    parse.add_argument("--panels", type=at_least(0), default=6, metavar="N", help="best and worst images kept for the report (default 6)")
    parse.add_argument("--threads", type=at_least(1), default=4, metavar="N", help="threads that read images (default 4)")
    parse.add_argument("--overwrite", action="store_true", help="replace results of another model or protocol in --out")
    parse.add_argument("--no-resume", action="store_true", help="measure every image anew")
    parse.add_argument("--no-report", action="store_true", help="do not write report.html")
    parse.add_argument("--table", choices=("text", "markdown", "csv", "latex"), default="text", help="form of the printed table")
    return parse


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, also when images could not be read: the result names and counts them. Printed: the table, then the files."""
    given = parser().parse_args(argv)
    if (given.model is None) == (given.predictions is None):
        raise UserError("Name either a run folder or model file, or a folder of --predictions.")
    config = run_config(given.model) if given.model else None
    domains = open_domains(given.domain, config)
    found = _files(given, domains) if given.predictions else _model(given, domains, config)
    print(printable(found.table(given.table)))
    if not given.no_report and found.folder is not None:
        from rein_jax.reporting.report import write_report

        print(f"\n{write_report(found)}", file=sys.stderr)
    return 0


def _files(given: argparse.Namespace, domains: dict[str, Any]):
    from rein_jax.evaluation.evaluator import evaluate_files

    out = given.out or given.predictions / "evaluation"
    return evaluate_files(given.predictions, domains, boundary=given.boundary, out=out, panels=given.panels, threads=given.threads)


def _model(given: argparse.Namespace, domains: dict[str, Any], config: Any):
    from rein_jax.evaluation.eval_model import open_model
    from rein_jax.evaluation.evaluator import evaluate

    how = measure_options(given, config)
    model, facts = open_model(given.model)
    out = given.out or default_out(given.model, how, given)
    if not given.overwrite:
        refuse_foreign(out, facts, given.model)
    return evaluate(
        model, domains, **how, scales=given.scales, flip=given.flip, boundary=given.boundary, calibration=not given.no_calibration,
        corruptions=given.corruptions, severities=given.severities, reference=given.reference, out=out, resume=not given.no_resume,
        save_predictions=given.save_predictions, panels=given.panels, threads=given.threads, facts=facts,
    )


def run_config(model: str | Path) -> Any:
    """The config of a run folder (or of the folder around a model file), else the model file's own; None where there is none."""
    from rein_jax import build, configuration
    from rein_jax.weights.modelfile import read_meta

    path = Path(model)
    if not path.exists():
        raise UserError(f"{path} does not exist; name a run folder or a model.safetensors.")
    file = (path if path.is_dir() else path.parent) / "config.json"
    if file.is_file():
        return configuration.load(str(file))
    kept = read_meta(build.model_file(path)).get("config")
    if not kept:
        return None
    config = configuration.from_json(kept)
    if _root(config) and not Path(_root(config)).is_dir():  # a folder of the machine that trained the model
        config.data.root = ""
    return config


def _root(config: Any) -> str:
    """config.data.root, "" where the config says nothing about it."""
    return config.data.get("root", "") if config is not None and "data" in config else ""


def measure_options(given: argparse.Namespace, config: Any) -> dict[str, Any]:
    """protocol, mode, crop, stride and batch: from the command line, else from the run's config, else the defaults."""
    section = dict(config.eval) if config is not None and "eval" in config else {}
    crop = given.crop or section.get("crop", 512)
    stride = given.stride or (section.get("stride", 341) if given.crop is None else 2 * crop // 3)
    plain = lambda value: value if isinstance(value, int) else tuple(value)
    return {"protocol": given.protocol or section.get("protocol", "full"), "mode": given.mode or section.get("mode", "slide"),
            "crop": plain(crop), "stride": plain(stride), "batch": given.batch or section.get("batch", 4),
            "precision": given.precision or (config.precision if config is not None and "precision" in config else "auto")}


def default_out(model: Path, how: dict[str, Any], given: argparse.Namespace) -> Path:
    """RUN/eval/full-slide512-341: one folder for each way of measuring."""
    parts = [str(how["protocol"]).replace("_", "-"), "whole" if how["mode"] == "whole" else f"slide{how['crop']}-{how['stride']}"]
    parts += [f"x{s:g}" for s in given.scales if s != 1.0] + (["flip"] if given.flip else [])
    name = "-".join("".join(c if c.isalnum() or c in ".-" else "" for c in part) for part in parts)
    return (model if model.is_dir() else model.parent) / "eval" / name


def refuse_foreign(out: Path, facts: dict[str, Any], model: Path) -> None:
    """Results of another model are not overwritten by accident."""
    from rein_jax.reporting.results import FILE, load_results

    if (out / FILE).is_file():
        other = load_results(out / FILE, accumulators=False).data["model"]
        if other.get("identity") != facts["identity"]:
            raise UserError(f"{out} holds results of another model ({other.get('path', other.get('name'))}), not of {model}; "
                            "choose another --out or pass --overwrite.")


def open_domains(specs: Sequence[str], config: Any) -> dict[str, Any]:
    """{name: source} of the --domain options, or of the run's config."""
    from rein_jax import datasets

    if not specs:
        if config is None or not config.get("eval", {}).get("domains"):
            raise UserError("No data set is named; add --domain NAME (see `rein data list`).")
        return datasets.open_domains(config)
    entries = [parse_domain(spec) for spec in specs]
    return datasets.named_domains(entries, [datasets.open_entry(entry, _root(config)) for entry in entries], "label=NAME")


def parse_domain(spec: str) -> dict[str, Any]:
    r""""acdc:split=val,condition=night" -> {"name": "acdc", "split": "val", "condition": "night"}; `\,` is a comma inside a value."""
    name, _, rest = spec.partition(":")
    entry: dict[str, Any] = {"name": name}
    for item in filter(None, re.split(r"(?<!\\),", rest)):
        key, equals, value = item.replace(r"\,", ",").partition("=")
        if not equals or not key:
            raise UserError(f"--domain {spec}: {item!r} is not KEY=VALUE; a comma inside a value is written \\, in quotes.")
        entry[key] = value if key in ("source", "label", "subset", "split") else _value(value)
    if "split" not in entry:
        splits = getattr(dataset(name), "splits", ("val",))
        entry["split"] = "val" if "val" in splits else splits[-1]
    return entry


def _value(text: str) -> Any:
    """Numbers and true/false as such, everything else as text."""
    lowered = {"true": True, "false": False}.get(text.lower())
    if lowered is not None:
        return lowered
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return value if isinstance(value, (int, float)) else text
