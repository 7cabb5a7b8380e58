"""Repeat a table of RESULTS.md: make the runs it lacks, go on with stopped ones, leave finished ones alone, then collect them all.

    python benchmarks/generalisation/repeat.py                                     # names of the tables
    python benchmarks/generalisation/repeat.py "camvid, mask2former, 2000 steps"   # one of them, or `all`
    python benchmarks/generalisation/repeat.py all --commands > jobs.txt           # its training commands, for a scheduler
    python benchmarks/generalisation/repeat.py all --rehearse                      # each run for two steps, before hours are spent

CamVid must lie in DATA/camvid. Numbers go to results.json and RESULTS.md, where `git diff` shows what came out differently;
those of a rehearsal stay in its folder, RUNS/rehearsal.
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE)]

import collect  # noqa: E402

from data_pipelines.paths import path_argument  # noqa: E402
from rein_jax import configuration  # noqa: E402
from rein_jax.experiments.sweep import safe  # noqa: E402

CONFIG = "configs/generalisation.py"
_LONG, _500 = "--config.train.steps=2000", "--config.train.steps=500"
_CURVE = _LONG + " --config.train.eval_every=500 --config.train.eval_images=16"
_4000 = "--config.train.steps=4000 --config.train.eval_every=500 --config.train.eval_images=16"
_RESNET = _LONG + " --config.backbone.name=resnet_50 --config.backbone.weights=random"
_256 = _LONG + " --config.train.batch=1 --config.data.crop=(256,256) --config.data.resize=288:480"
_WIDE = "--config.train.steps=1000 --config.head.channels=128 --config.head.encoder_ffn=256 --config.head.decoder_ffn=512"
_EOMT = (_LONG + " --config.optim.lr=1e-4 --config.optim.groups=eomt --config.optim.layer_decay=0.8 --config.optim.clip=0.01 "
         "--config.optim.warmup_steps=50 --config.optim.backbone_warmup=100")
_FULL = "method=full,backbone_lr=0.01"
_CAMVID, _FPN = "task=camvid", "task=camvid,head=semantic_fpn"
_STREETS, _TRANSFER = "task=streets,edition=1", "task=transfer,edition=1"
_TRANSFER_LONG = (
    f"{_TRANSFER} --grid method=freeze,rein --grid seed=0,1,2 {_CURVE}", f"{_TRANSFER},{_FULL} --grid seed=0,1,2 {_CURVE}",
    f"{_TRANSFER} --grid method=lora,adaptformer --grid seed=0,1 {_CURVE}", f"{_TRANSFER},method=vpt {_CURVE} --config.seed=1")
_TRANSFER_4000 = (f"{_TRANSFER} --grid method=rein,lora {_4000}", f"{_TRANSFER},{_FULL} {_4000}")
_TRANSFER_500 = (f"{_TRANSFER} --grid method=rein,full --grid seed=1 {_500}", f"{_TRANSFER},{_FULL} --grid seed=1 {_500}")
_EDITION_2 = (f"task=transfer,method=rein,edition=2 --grid seed=0,1 {_500}",)
# Table -> what `rein sweep` is given for it: arguments of the config, then axes and what all its runs share.
TABLES: dict[str, tuple[str, ...]] = {
    "camvid, eomt, 2000 steps": (f"{_CAMVID},method=full,head=eomt {_EOMT}",),
    "camvid, mask2former, 1000 steps, head of width 128": (f"{_CAMVID},method=freeze {_WIDE}",),
    "camvid, mask2former, 2000 steps": (
        f"{_CAMVID} --grid method=freeze,rein --grid seed=0,1,2 {_LONG}", f"{_CAMVID},{_FULL} --grid seed=0,1,2 {_LONG}",
        f"{_CAMVID} --grid method=lora,adaptformer --grid seed=0,2 {_LONG}", f"{_CAMVID},method=vpt {_LONG}",
        f"{_CAMVID} --grid queries=official,learned {_LONG}"),
    "camvid, mask2former, 2000 steps, crops of 256, batch 1": (
        f"{_CAMVID} --grid method=freeze,rein {_256}", f"{_CAMVID},{_FULL} {_256}"),
    "camvid, mask2former, 2000 steps, resnet_50 from random weights": (f"{_CAMVID},method=full,backbone_lr=1 {_RESNET}",),
    "camvid, semantic_fpn, 2000 steps": (
        f"{_FPN} --grid method=freeze,rein {_LONG}", f"{_FPN} --grid method=lora,adaptformer --grid seed=0,1 {_LONG}",
        f"{_FPN} --grid method=vpt,soma,recyclelora {_LONG}",
        f"{_FPN},{_FULL} {_LONG}",
        f"{_FPN},{_FULL} --grid part=attention,mlp,embed {_LONG}", f"{_FPN},method=full --grid backbone_lr=0.03,0.1 {_LONG}",
        f"{_FPN},method=rein --config.adapter.zero_mlp_delta_f=True {_LONG}",
        f"{_FPN},method=rein --config.adapter.shared=False {_LONG}"),
    "camvid, semantic_fpn, 2000 steps, 1/16 of the source": (
        f"{_FPN},share=1/16 --grid method=freeze,rein {_LONG}", f"{_FPN},{_FULL},share=1/16 {_LONG}"),
    "camvid, semantic_fpn, 4000 steps": (f"{_FPN},method=rein --config.train.steps=4000",),
    "streets, mask2former, 120 steps": (
        f"{_STREETS} --grid method=freeze,full,rein --grid seed=0,1,2", f"{_STREETS} --grid method=lora,adaptformer,vpt --grid seed=0,1",
        f"{_STREETS} --grid augment=advstyle,pasta,gtr_ltr --grid seed=0,1", f"{_STREETS},method=full --grid backbone_lr=0.03,0.01",
        f"{_STREETS} --grid queries=official,learned --grid seed=0,1,2"),
    "streets, mask2former, 2000 steps": _TRANSFER_LONG,
    "streets, mask2former, 4000 steps": _TRANSFER_4000,
    "streets, mask2former, 500 steps": (
        f"{_STREETS} --grid method=rein,lora {_500}", f"{_STREETS},method=rein --grid adapter_lr=0.3,3,10 {_500}", *_TRANSFER_500),
    "streets, mask2former, 500 steps, streets edition 2": _EDITION_2,
    "transfer, mask2former, 2000 steps": _TRANSFER_LONG,
    "transfer, mask2former, 4000 steps": _TRANSFER_4000,
    "transfer, mask2former, 500 steps": _TRANSFER_500,
    "transfer, mask2former, 500 steps, streets edition 2": _EDITION_2,
}


def rehearsal(line: str) -> str:
    """The same runs for two steps, tested on one image of each style and every two-hundredth of CamVid."""
    line = re.sub(r" --config\.(train\.steps|optim\.\w*warmup\w*)=\d+", "", line)
    line = re.sub(r"(?<=\.eval_every)=\d+", "=2", line)
    domains = configuration.load(f"{ROOT / CONFIG}:{line.split()[0]}").eval.domains
    few = [f"--config.eval.domains.{number}.{'subset=1/200' if domain['name'] == 'camvid' else 'length=1'}"
           for number, domain in enumerate(domains)]
    return " ".join([line, "--config.train.steps=2", *few])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("table", nargs="?", choices=["all", *TABLES], metavar="TABLE", help="a heading of RESULTS.md, or all (default: list them)")
    add("--runs", type=path_argument, default=Path("runs/generalisation"), metavar="DIR", help="folder of the runs (default: %(default)s)")
    add("--data", type=path_argument, default=Path("/data"), metavar="DIR", help="folder that holds camvid (default: %(default)s)")
    add("--commands", action="store_true", help="print one command a run that is not finished, and run nothing")
    add("--rehearse", action="store_true", help="every run for two steps, tested on few images, in DIR/rehearsal")
    given = parser.parse_args()
    if given.table is None:
        print(*TABLES, sep="\n")
        return 0
    runs = given.runs.absolute()  # commands run in the root of the repository
    if given.rehearse:
        runs /= "rehearsal"
    folders = {line: str(runs / safe(line)) for title, lines in TABLES.items() if given.table in ("all", title) for line in lines}
    for line, folder in folders.items():
        arguments, *rest = shlex.split(rehearsal(line) if given.rehearse else line)
        command = ["sweep", f"{CONFIG}:{arguments}", *rest, f"--config.data.root={given.data.absolute()}"]
        command += ["--workdir", folder]
        if given.commands:
            command.append("--commands")
        if code := subprocess.run([sys.executable, "-m", "rein_jax.cli.main", *command], cwd=ROOT).returncode:
            return code
    if given.commands:
        return 0
    return collect.main([*folders.values(), "--into", str(runs / "tables" if given.rehearse else collect.HERE)])


if __name__ == "__main__":
    sys.exit(main())
