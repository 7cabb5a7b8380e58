"""Every `rein` command in a block of README and docs/ is understood: its options exist, and its config with the overrides can be built."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from rein_jax import configuration
from rein_jax.bench import BENCHES
from rein_jax.cli import COMMANDS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```bash\n(.*?)^```", re.S | re.M)
SCRIPTS = {"scripts/cuda_train.sh": "train", "scripts/tpu_vm_train.sh": "train", "scripts/quickstart.sh": None}


def commands(text: str) -> list[list[str]]:
    """The words of every `rein` command, and of the scripts that hand on to `rein train`."""
    found = []
    for block in BLOCK.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(re.split(r" [|>] ", line)[0], comments=True)
            while words and (re.fullmatch(r"\w+=.*", words[0]) or words[0] == "srun"):
                words = words[1:]
            if words and words[0] == "rein":
                found.append(words[1:])
            elif words and (name := SCRIPTS.get(words[0])):
                found.append([name, *words[1:]])
    return found


def check(words: list[str]) -> None:
    """Raises SystemExit or UserError for what the command would refuse before it looks at files."""
    name, *rest = words
    assert name in COMMANDS, f"there is no command rein {name}"
    if name == "bench":
        assert rest[0] in BENCHES, f"there is no rein bench {rest[0]}"
        return
    overrides, rest = configuration.split_overrides(rest)
    options = importlib.import_module(COMMANDS[name].partition(":")[0]).parser().parse_args(rest)
    config = getattr(options, "config", None)
    if config and config != "CONFIG" and config.startswith("configs/"):
        configuration.load(config, overrides)


def test_commands_are_found_in_blocks():
    text = "```bash\nA=1 rein train --config x \\\n  --workdir y   # why\nsrun scripts/cuda_train.sh --workdir 'a b'\nls\n```\n`rein no`\n"
    assert commands(text) == [["train", "--config", "x", "--workdir", "y"], ["train", "--workdir", "a b"]]


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page.read_text(encoding="utf-8"))], ids=lambda page: page.stem)
def test_commands_of_the_page_are_understood(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    for words in commands(page.read_text(encoding="utf-8")):
        try:
            check(words)
        except (SystemExit, ValueError) as error:
            pytest.fail(f"{page.name}: rein {shlex.join(words)}: {error}")
