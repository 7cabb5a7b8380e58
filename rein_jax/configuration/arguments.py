"""The arguments of a config file, `configs/x.py:key=value,...`, and the name that they give a run."""

from __future__ import annotations

from rein_jax.errors import UserError
from rein_jax.registry import unknown


def parse(arg: str | None, **known: str) -> dict[str, str]:
    """Arguments after the colon of `--config=file.py:key=value,...`, over their defaults; an unknown key is a UserError."""
    out = dict(known)
    for item in filter(None, (arg or "").split(",")):
        key, sep, value = item.partition("=")
        if key not in known:
            raise unknown(key, known, "config argument")
        if not sep:
            raise UserError(f"The config argument {item!r} needs a value: {key}=...")
        out[key] = value
    return out


def title(family: str, args: dict[str, str], defaults: dict[str, str], *always: str) -> str:
    """A config's name: the family, the values of the arguments in `always`, and every other argument that is not at its default."""
    parts = [args[key] for key in always]
    parts += [value if key in ("head", "augment") else f"{key}={value}" for key, value in args.items()
              if key not in always and value != defaults[key]]
    return "-".join([family, *parts])
