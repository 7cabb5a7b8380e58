"""What a config is: its sections and defaults, the switches between methods, config files, and what they may hold."""

from rein_jax.configuration.arguments import escaped, parse, title
from rein_jax.configuration.defaults import default
from rein_jax.configuration.files import apply, arguments, complete, from_json, load, packaged, split_overrides, to_json
from rein_jax.configuration.keywords import config
from rein_jax.configuration.methods import BACKBONES, METHODS, set_augment, set_backbone, set_head, set_method, small_head

__all__ = [
    "BACKBONES", "METHODS", "apply", "arguments", "complete", "config", "default",
    "escaped", "from_json", "load", "packaged", "parse", "set_augment",
    "set_backbone", "set_head", "set_method", "small_head", "split_overrides", "title", "to_json",
]  # fmt: skip
