"""Meshes and rules: what fits, and the sentence for what does not."""

import re

import jax
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec as P

from rein_jax import registry, trees
from rein_jax.backbones import BACKBONES
from rein_jax.errors import UserError
from rein_jax.sharding import fsdp_spec, make_mesh, place, place_batch, shard_flat
from rein_jax.trees import Wishes

LARGE = 4 * 2**20


def struct(*shape):
    return jax.ShapeDtypeStruct(shape, np.float32)


def test_mesh_fills_the_devices():
    assert dict(make_mesh({"data": -1, "fsdp": 1}).shape) == {"data": 1, "fsdp": 1}
    assert dict(make_mesh(None).shape) == {"data": 1, "fsdp": 1}


@pytest.mark.parametrize("shape, words", [({"data": 3}, "does not fill the 1 devices"), ({"data": -1, "fsdp": -1}, "at most one -1"),
                                          ({"data": 0}, "at least 1"), ({"model": 2}, "mesh.model"), ({"fsdp": 2}, "does not fill")])
def test_mesh_mistakes_are_one_sentence(shape, words):
    with pytest.raises(UserError, match=words):
        make_mesh(shape)


@pytest.mark.parametrize("stacked, shape, spec", [
    (1, (24, 1024, 3072), P(None, None, "fsdp")),
    (1, (4096, 512, 8), P(None, "fsdp")),  # the layer axis is the largest and yet never split
    (2, (24, 4096, 512, 8), P(None, None, "fsdp")),
    (0, (4096, 1024), P("fsdp")),
    (0, (1024, 1023), P()),  # below 4 MB
    (0, (1025, 2047), P()),  # nothing divides
])
def test_fsdp_preset(stacked, shape, spec):
    assert fsdp_spec(struct(*shape), Wishes(stacked=stacked), 4) == spec


@pytest.mark.parametrize("name, other", [
    ("dinov2_vits14", r"cls_token|pos_embed|patch_embed"), ("sam_b", r"pos_embed|patch_embed"), ("resnet_50", "stem"),
    ("convnext_l", "downsample|norms"),
])
def test_layer_axes_of_every_family_say_so(name, other):
    make = registry.load(BACKBONES, name, "backbone")
    module_def, _, shapes = trees.split(nnx.eval_shape(lambda: make(name, rngs=nnx.Rngs(0), image_size=512)), ())
    loose = {key for key, wishes in module_def.wishes.items() if not wishes.stacked}
    assert loose == {key for key in shapes if re.match(f"({other})(/|$)", key)}
    depths = {"dinov2_vits14": 12, "sam_b": 12, "resnet_50": 16, "convnext_l": 36}
    kernels = r"blocks/norm1/scale|runs/\d/norm1/scale|layers/\d/(first|rest)/bn1/scale|blocks/\d/norm/scale"
    assert sum(shape.shape[0] for key, shape in shapes.items() if re.fullmatch(kernels, key)) == depths[name]


def test_rules_first_match_and_mistakes():
    mesh = make_mesh()
    flat = {"head/a": struct(8, 4), "backbone/b": struct(4)}
    found = shard_flat(flat, mesh, [("head/", P("fsdp")), (".*", P())])
    assert found["head/a"].spec == P("fsdp") and found["backbone/b"].spec == P()
    with pytest.raises(UserError, match="No rule covers"):
        shard_flat(flat, mesh, [("head/", P())])
    with pytest.raises(UserError, match="more axes"):
        shard_flat(flat, mesh, [(".*", P(None, None, "data"))])
    with pytest.raises(UserError, match="Unknown sharding 'tp'"):
        shard_flat(flat, mesh, "tp")


def test_place_copies():
    mesh = make_mesh()
    source = np.arange(4.0, dtype=np.float32)
    placed = place({"a": source}, shard_flat({"a": source}, mesh))["a"]
    source[:] = 0
    assert np.array_equal(placed, [0, 1, 2, 3])
    assert place_batch({"image": np.zeros((2, 3), np.uint8)}, mesh)["image"].shape == (2, 3)
