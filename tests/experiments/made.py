"""Run folders with made-up numbers."""

from __future__ import annotations

import json
from pathlib import Path

from rein_jax import configuration

PROTOCOL = "official-512, slide 512 stride 341, single scale, no flip"


def make_run(folder: Path, config: str, numbers: dict[str, float], *overrides: str, conditions=None, full: bool = True) -> Path:
    """A finished run: `numbers` is mIoU by domain; full=False leaves only the summary in results.json."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(configuration.to_json(configuration.load(config, overrides)))
    domains = {name: {"mIoU": value} for name, value in numbers.items()}
    for name, parts in (conditions or {}).items():
        domains[name]["conditions"] = {condition: {"mIoU": value} for condition, value in parts.items()}
    (folder / "results.json").write_text(json.dumps({"steps": 1, "evaluation": {"protocol": PROTOCOL, "domains": domains}}))
    if full:
        (folder / "evaluation").mkdir()
        found = {"format": "rein_jax/evaluation/1", "protocol": {"text": PROTOCOL}, "domains": domains}
        (folder / "evaluation" / "results.json").write_text(json.dumps(found))
    return folder
