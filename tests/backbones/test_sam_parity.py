"""SAM's encoder against transformers on random weights: padded windows, stretched tables, maps that are not square."""

import jax
import numpy as np
import pytest
from flax import nnx

from rein_jax import trees
from rein_jax.backbones.sam import SAM, SAMConfig, formats
from tests.filling import Guests, assert_layers, filled, randomise, torch_arrays

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
SIZES = SAMConfig(32, 4, 2, full=(1, 3), window=3, pretrained=8)


@pytest.fixture(scope="module")
def theirs():
    from transformers.models.sam.modeling_sam import SamVisionModel

    config = transformers.SamVisionConfig(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=2, image_size=128, patch_size=16, window_size=3,
        global_attn_indexes=[1, 3], output_channels=8, mlp_dim=128,
    )  # fmt: skip
    return randomise(SamVisionModel(config))


def ours(model, image_size):
    make = lambda: Guests(SAM(SIZES, image_size=image_size, out_indices=(0, 1, 2, 3), rngs=nnx.Rngs(0)))
    return filled(make, torch_arrays(model, "vision_encoder."), *formats(SIZES)["hf"])


def test_square_image_of_the_pretrained_size(theirs, recorded):
    images = np.random.default_rng(0).normal(size=(2, 128, 128, 3)).astype(np.float32)
    encoder = theirs.vision_encoder
    blocks = {f"block {i}": layer for i, layer in enumerate(encoder.layers)}
    expected = recorded(blocks, lambda: theirs(torch.from_numpy(images.transpose(0, 3, 1, 2))))
    module_def, params = ours(theirs, 128)
    outputs, grid = jax.jit(lambda p, x: trees.merge(module_def, p).backbone.tokens(x))(params, images)
    assert_layers((name, tap.reshape(2, 8, 8, 32), value) for (name, value), tap in zip(expected.items(), outputs, strict=True))


@pytest.mark.parametrize("unroll", [False, True])
def test_other_sizes_resize_positions_and_stretch_tables(theirs, recorded, unroll):
    """Blocks of 7 x 4 tokens: windows of 3 are padded on both sides, the tables of 15 become 13 and 7 rows."""
    images = np.random.default_rng(0).normal(size=(2, 112, 64, 3)).astype(np.float32)
    encoder = theirs.vision_encoder
    with torch.no_grad():
        x = encoder.patch_embed.projection(torch.from_numpy(images.transpose(0, 3, 1, 2)))
        table = encoder.pos_embed.permute(0, 3, 1, 2)
        x = x + torch.nn.functional.interpolate(table, size=(7, 4), mode="bicubic", align_corners=False)
    x = x.permute(0, 2, 3, 1)

    def run():
        hidden = x
        for layer in encoder.layers:
            hidden = layer(hidden)
            hidden = hidden[0] if isinstance(hidden, tuple) else hidden

    expected = {"embedding": x.numpy()}
    expected |= recorded({f"block {i}": layer for i, layer in enumerate(encoder.layers)}, run)
    module_def, params = ours(theirs, 128)

    def mine(params, images):
        backbone = trees.merge(module_def, params).backbone
        backbone.unroll = unroll
        return [backbone.embed(images)[0], *backbone.tokens(images)[0]]

    outputs = jax.jit(mine)(params, images)
    assert_layers((name, tap.reshape(2, 7, 4, 32), value) for (name, value), tap in zip(expected.items(), outputs, strict=True))
