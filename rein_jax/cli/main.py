"""Entry point of the `rein` command: finds the subcommand, turns user mistakes into one sentence and exit code 2."""

from __future__ import annotations

import os
import sys

from data_pipelines.system_errors import ADVICE, OF_A_PLACE
from rein_jax import __version__, host_memory, registry
from rein_jax.cli import ALIASES, COMMANDS, printable

HELP = {
    "train": "train a model from a config; resumes automatically",
    "evaluate": "measure a trained model on any data sets",
    "predict": "label images, folders or videos with a trained model",
    "report": "write report.html for one or several runs",
    "params": "count and list the parameters of a config",
    "weights": "list, get or verify pretrained backbones",
    "convert": "convert checkpoints (.pth, .safetensors) both ways, without torch",
    "data": "check a data set folder before training on it",
    "prepare": "pack a data set into ArrayRecord files",
    "bench": "measure speed and memory",
    "tables": "fill the paper's tables from finished runs",
    "sweep": "run a grid of configs and print the table",
    "plan": "compile for a TPU or GPU topology without having one; says whether it fits",
    "submit": "make and verify the zip of a benchmark server",
    "export": "export a model to StableHLO or ONNX and check it",
    "serve": "a local web page for a trained model",
    "show": "describe a model file or run folder",
    "diff": "compare two runs' configs and results",
    "doctor": "check this machine's installation",
    "completion": "shell completion for bash, zsh and fish",
}


def usage() -> str:
    lines = ["rein: domain-generalised segmentation on frozen foundation models (JAX, TPU and GPU)", "", "usage: rein COMMAND ...", ""]
    lines += [f"  {name:<10} {HELP[name]}" for name in COMMANDS]
    lines += ["", "First steps:  rein train --config configs/quickstart.py --workdir runs/quickstart", "Help:         rein COMMAND --help"]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 = done, 2 = there is something for the user to correct, other codes as the command's help says."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if argv[0] in ("-V", "--version"):
        print(__version__)
        return 0
    argv = [ALIASES.get(argv[0], argv[0]), *argv[1:]]
    host_memory.keep()
    for name in ("stdout", "stderr"):  # None where the shell has closed it (`>&-`), which libraries do not expect
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
    from data_pipelines.errors import DataError
    from rein_jax.errors import UserError

    try:
        command = registry.load(COMMANDS, argv[0], "command")
        use_compilation_cache()
        code = command(argv[1:]) or 0
        sys.stdout.flush()  # a full disk under `> table.txt` shows here, not when Python has ended
        return code
    except (UserError, DataError) as error:
        return say(argv[0], str(error))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output went away (head, less)
        silence()
        return 75 if argv[0] in ("train", "sweep") else 0  # these had not ended: run again to go on
    except OSError as error:
        if error.errno is None:
            raise
        silence()
        return say(argv[0], system_error(error))
    except Exception as error:
        from rein_jax.evaluation.answers import out_of_memory

        if not out_of_memory(error):
            raise
        what = " ".join(str(error).split())[:200] or type(error).__name__
        return say(argv[0], f"there is too little memory ({what}); take a smaller batch, crop or image, or a machine with more.")


def silence() -> None:
    """Where what was printed cannot be written, let it go, so that Python does not try again when it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(command: str, sentence: str) -> int:
    """Print a mistake, with nothing in it that steers the terminal; its exit code."""
    print(printable(f"rein {command}: {sentence}"), file=sys.stderr)
    return 2


def system_error(error: OSError) -> str:
    """An error of the operating system as a sentence: where, what, and what to do."""
    where = f"{os.fsdecode(error.filename)}: " if error.filename is not None else ""
    if error.errno not in ADVICE:
        return f"{where}{error.strerror}; choose another place, or repair what is there."
    otherwise = " or choose another place" if error.errno in OF_A_PLACE else ""
    return f"{where}{error.strerror}; {ADVICE[error.errno]}{otherwise}, then run the same command again."


def use_compilation_cache() -> None:
    """Keep compiled programs between runs in the cache folder, unless the user has chosen another place."""
    from rein_jax.errors import UserError
    from rein_jax.weights.fetch import cache_dir

    try:
        folder = cache_dir() / "xla"
    except UserError:  # without a home folder everything is compiled anew; what needs the cache itself says so
        return
    there = next((parent for parent in (folder, *folder.absolute().parents) if os.path.exists(parent)), "")
    if not os.access(there, os.W_OK):  # JAX would warn at each program
        return
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "1")


if __name__ == "__main__":
    sys.exit(main())
