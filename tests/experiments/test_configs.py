"""The text of every config and the parameters of a few, against files; UPDATE_GOLDEN=1 rewrites them. Wrong arguments are named."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from rein_jax import configuration, trees
from rein_jax.errors import UserError
from rein_jax.experiments import paper
from tests.experiments.test_paper import parts_of

GOLDEN = Path(__file__).parent.parent / "golden"
EXTRA = (
    "configs/quickstart.py", "configs/quickstart.py:method=full,head=semantic_fpn,augment=pasta", "configs/camvid_dinov2s.py",
    "configs/folder.py:source=mydata", "configs/generalisation.py", "configs/generalisation.py:task=camvid,method=full",
    "configs/rein_dinov2_gta.py", "configs/citys_to_acdc.py:crop=512", "configs/gta_to_cbm.py:method=bitfit",
    "configs/gta_to_cbm.py:method=soma", "configs/gta_to_cbm.py:backbone=clip_l,neck=fpn", "configs/gta_to_cbm.py:head=semantic_fpn",
    "configs/gta_to_cbm.py:backbone=dinov2_vitl14_reg,method=full,head=eomt", "configs/gta_to_cbm.py:head=eomt",
    "configs/gta_to_cbm.py:method=recyclelora", "configs/gta_to_cbm.py:backbone=dinov3_l",
    "configs/gta_to_cbm.py:rank=none,shared=false,link=false", "configs/gta_to_cbm.py:tokens=50,rank=8,backbone=dinov2_s",
)  # fmt: skip
# Written out in full; every other config has the number and a hash of its parameter table in counts.json.
LISTED = {
    "rein_dinov2_l": "configs/rein_dinov2_gta.py",
    "lora_eva02_l": "configs/gta_to_cbm.py:backbone=eva02_l,method=lora",
    "rein_resnet50": "configs/gta_to_cbm.py:backbone=resnet50,method=rein",
    "freeze_clip_l": "configs/gta_to_cbm.py:backbone=clip_l,method=freeze",
    "soma_dinov2_l": "configs/gta_to_cbm.py:method=soma",
}


def flat(config, prefix="") -> dict[str, str]:
    """{"optim.lr": "0.0001", ...}"""
    out = {}
    for key, value in config.items():
        out |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: json.dumps(value)}
    return out


def compare(path: Path, text: str) -> None:
    """The text equals the file's; UPDATE_GOLDEN=1 writes it instead."""
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text, f"{path.name} differs; if that is meant, run with UPDATE_GOLDEN=1 and read the diff"


def test_every_packaged_config_is_here():
    here = {name.partition(":")[0].removeprefix("configs/").removesuffix(".py") for name in (*EXTRA, *paper.configs())}
    assert here == set(configuration.packaged()) - {"base"}


def test_text_of_every_config():
    """One file: what all configs share, then for each what it sets otherwise."""
    texts = {name: flat(json.loads(configuration.to_json(configuration.load(name)))) for name in (*EXTRA, *paper.configs())}
    first = texts["configs/rein_dinov2_gta.py"]
    lines = ["== configs/rein_dinov2_gta.py, in full", *(f"{key} = {value}" for key, value in sorted(first.items()))]
    for name, keys in texts.items():
        lines += ["", f"== {name}, where it differs"]
        for key in sorted(first.keys() | keys.keys()):
            if first.get(key) != keys.get(key):
                lines.append(f"{key} = {keys.get(key, '(not set)')}")
    compare(GOLDEN / "configs.txt", "\n".join(lines) + "\n")


@pytest.mark.parametrize("name", LISTED)
def test_parameter_table(name):
    parts = parts_of(LISTED[name])[1]
    compare(GOLDEN / f"{name}.txt", trees.table(parts.trainable, parts.frozen) + "\n")


def test_parameter_counts_of_every_config():
    found = {}
    for name in (*EXTRA, *paper.configs()):
        parts = parts_of(name)[1]
        table = trees.table(parts.trainable, parts.frozen)
        found[name] = {"trained": trees.count(parts.trainable), "frozen": trees.count(parts.frozen),
                       "table": hashlib.sha256(table.encode()).hexdigest()[:16]}  # fmt: skip
    compare(GOLDEN / "counts.json", json.dumps(found, indent=1) + "\n")


def test_the_headline_is_the_published_recipe():
    config = configuration.load("configs/rein_dinov2_gta.py")
    other = configuration.load("configs/gta_to_cbm.py:backbone=dinov2_l,method=rein")
    same = lambda c: {**c.to_dict(), "name": ""}
    assert same(config) == same(other)
    assert (config.optim.lr, config.optim.weight_decay, config.train.steps, config.train.batch) == (1e-4, 0.05, 40_000, 4)
    assert (config.data.crop, config.eval.crop, config.eval.stride, config.eval.protocol) == ((512, 512), 512, 341, "official_512")
    acdc = configuration.load("configs/citys_to_acdc.py")
    assert (acdc.optim.lr, acdc.optim.warmup_steps, acdc.train.batch, acdc.eval.stride) == (6e-5, 10_000, 8, 683)


def test_query_sources_follow_the_official_configs():
    source = lambda arguments: configuration.load(f"configs/gta_to_cbm.py:{arguments}").head.query_source
    assert source("backbone=dinov2_l") == source("backbone=eva02_l") == "linked"
    assert source("backbone=clip_l") == source("backbone=sam_h") == "learned_feat"
    assert source("method=lora") == source("link=false") == source("method=full,backbone=sam_h") == "learned"
    assert configuration.load("configs/gta_to_cbm.py:backbone=sam_h,tokens=50").head.num_queries == 50


def test_a_part_of_the_backbone_trains_alone():
    trainable = parts_of("configs/generalisation.py:method=full,part=norms")[1].trainable
    inside = {name.split("/")[2] for name in trainable if name.startswith("backbone/")}
    assert inside == {"norm1", "norm2", "ls1", "ls2"}


@pytest.mark.parametrize(
    "name, words",
    [
        ("configs/gta_to_cbm.py:backbone=dinov2_x", "Unknown backbone 'dinov2_x'"),
        ("configs/gta_to_cbm.py:methd=rein", "Did you mean 'method'"),
        ("configs/gta_to_cbm.py:method=lorra", "Did you mean 'lora'"),
        ("configs/gta_to_cbm.py:head=fpn", "decode head"),
        ("configs/gta_to_cbm.py:augment=psta", "Did you mean 'pasta'"),
        ("configs/gta_to_cbm.py:method=lora,tokens=50", "tokens=50 belongs to method=rein"),
        ("configs/gta_to_cbm.py:method=vpt,rank=4", "rank=4 belongs to"),
        ("configs/gta_to_cbm.py:tokens=many", "whole number"),
        ("configs/gta_to_cbm.py:shared=no", "true or false"),
        ("configs/gta_to_cbm.py:neck=fpn", "belongs to CLIP"),
        ("configs/gta_to_cbm.py:neck=x", "value of the config argument neck"),
        ("configs/gta_to_cbm.py:head=semantic_fpn,link=true", "needs head=mask2former"),
        ("configs/gta_to_cbm.py:head=linear,neck=multilevel", "goes with head=mask2former"),
        ("configs/citys_to_acdc.py:crop=768", "1024 and 512"),
        ("configs/synthetic_to_citys.py:stage=2", "init_from"),
        ("configs/synthetic_to_citys.py:init_from=x", "stage=2"),
        ("configs/synthetic_to_citys.py:stage=3", "Unknown stage"),
        ("configs/synthetic_to_citys.py:sources=gta", "Did you mean 'gtav'"),
        ("configs/generalisation.py:part=mlp", "part=mlp belongs to method=full"),
        ("configs/generalisation.py:method=full,part=mpl", "Did you mean 'mlp'"),
        ("configs/generalisation.py:share=1/16", "share=1/16 belongs to task=camvid"),
    ],
)
def test_wrong_arguments_are_named(name, words):
    with pytest.raises(UserError, match=words):
        configuration.load(name)
