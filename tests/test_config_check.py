"""Values and keys that no part of a run can take: one sentence that names the key, before anything is read or compiled."""

from dataclasses import fields

import pytest

from data_pipelines.errors import DataError
from rein_jax import build, configuration
from rein_jax.configuration import check as config_check
from rein_jax.configuration.options import accepted
from rein_jax.errors import UserError
from rein_jax.experiments.paper import TABLES
from rein_jax.optim import OptimConfig

CONFIG = "configs/generalisation.py"


@pytest.mark.parametrize("override, words", [
    ("adapter.blocks=5", "config.adapter.blocks is 5; it must be a list of values, each a whole number of at least 0 or None"),
    ("adapter.rank=0", "config.adapter.rank is 0; it must be a whole number of at least 1 or None"), ("adapter.link=2", "true or false"),
    ("seed=-1", "config.seed is -1"), ("data.crop=a,b", "config.data.crop is"), ("data.crop=128", "list of 2 values"),
    ("data.threads=-1", "config.data.threads is -1"), ("data.workers=-1", "config.data.workers is -1"), ("data.flip=2", "at most 1"),
    ("data.weights=-1", "config.data.weights"), ("backbone.image_size=0", "config.backbone.image_size is 0"),
    ("backbone.options.patch=x", "config.backbone.options.patch is 'x'"), ("trainable=5", "config.trainable"),
    ("optim.betas=1", "config.optim.betas is 1"), ("optim.betas=(0.9,1.5)", "below 1"), ("optim.clip=-1", "config.optim.clip"),
    ("optim.name=adamv", "Unknown optim.name 'adamv'"), ("optim.schedule=step", "Unknown optim.schedule 'step'"),
    ("optim.name=3", "config.optim.name is 3; it must be a text or an optax.GradientTransformation"),
    ("optim.name=lion optim.eps=1e-3", "optim.eps belongs to adam, adamw, lamb, muon"),
    ("eval.protocol=foo", "Unknown test protocol 'foo'"), ("eval.mode=wholes", "slide or whole"), ("eval.stride=0", "config.eval.stride"),
    ("eval.batch=0", "config.eval.batch"), ("loss.weights=1,2", "list of 3 values"), ("loss.points=0", "config.loss.points"),
    ("head.num_queries=0", "config.head.num_queries"), ("augment.name=gtr_ltr augment.keep=1", "config.augment.keep is 1"),
])
def test_a_value_of_another_kind_is_refused_before_the_run(override, words):
    with pytest.raises((UserError, DataError), match=words.replace("(", r"\(")):
        build.build_all(configuration.load(CONFIG, override.split()), abstract=True)


@pytest.mark.parametrize("change, words", [
    ("config.data.flipp = 0.1", "Unknown config key 'config.data.flipp'. Did you mean 'config.data.flip'"),
    ("config.adaptor = {}", "Unknown config key 'config.adaptor'. Did you mean 'config.adapter'"),
    ("config.eval.domain = []", "Did you mean 'config.eval.domains'"), ("config.optim.lrr = 1.0", "Did you mean 'config.optim.lr'"),
    ("config.backbone.wieghts = ''", "Did you mean 'config.backbone.weights'"), ("config.data.crop = 128", "config.data.crop is 128"),
    ("config.adapter.token = 8", "Did you mean 'config.adapter.num_tokens'"), ("config.data.train = 'streets'", "a list of data sets"),
])
def test_a_slip_in_a_config_file_is_refused(tmp_path, change, words):
    file = tmp_path / "mine.py"
    file.write_text(f"from configs import quickstart\n\n\ndef get_config():\n    config = quickstart.get_config()\n"
                    f"    with config.unlocked(), config.ignore_type():\n        {change}\n    return config\n")
    with pytest.raises(UserError, match=words):
        build.build_all(configuration.load(str(file)), abstract=True)


def test_every_config_of_the_paper_passes():
    for name in {row.config for table in TABLES.values() for row in table.rows if row.config}:
        config_check.check(configuration.load(name))
    for name in configuration.packaged():
        if name != "base":
            config_check.check(configuration.load(name))


def test_the_table_of_the_optimizer_is_its_class():
    assert set(config_check.SECTIONS["optim"]) == {field.name for field in fields(OptimConfig)}


def test_annotations_of_options_are_understood():
    """An annotation that is not understood would pass every value."""
    from rein_jax import registry
    from rein_jax.adapters import ADAPTERS
    from rein_jax.augment import AUGMENTS
    from rein_jax.heads import HEADS
    from rein_jax.losses import LOSSES

    given = ("self", "rngs", "backbone", "adapter", "in_channels", "num_classes")
    for target in (*ADAPTERS.values(), *AUGMENTS.values(), *HEADS.values(), *LOSSES.values()):
        for name, annotation in accepted(registry.resolve(target)).items():
            if name not in given:
                with pytest.raises(UserError, match=f"x.{name} is"):
                    config_check.option(f"x.{name}", object(), annotation)
