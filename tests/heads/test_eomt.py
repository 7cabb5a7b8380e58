"""EoMT against transformers' model: predictions of every block, gradients, masking as training goes on; its files and its optimizer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rein_jax import optim, trees
from rein_jax.adapters.lora import LoRA
from rein_jax.adapters.vpt import VPT
from rein_jax.backbones.dinov2 import DINOv2
from rein_jax.backbones.resnet import ResNet, ResNetConfig
from rein_jax.backbones.vit import ViTConfig
from rein_jax.errors import UserError
from rein_jax.heads.eomt import EoMT
from rein_jax.interop.eomt import import_eomt
from rein_jax.losses.mask_loss import MaskLoss
from rein_jax.segmenter import SegmentationModel

SIZES = ViTConfig(32, 4, 2, registers=4)
SIDE, QUERIES, CLASSES, BLOCKS = 96, 6, 19, 2


def made(masking="always", adapters=(), sizes=SIZES, blocks=BLOCKS, final_norm=True):
    """(module_def, shapes) of a tiny model."""

    def make():
        rngs = nnx.Rngs(0)
        backbone = DINOv2(sizes, image_size=SIDE, rngs=rngs, final_norm=final_norm)
        guests = [kind(backbone.block_specs[0], rngs=rngs, **options) for kind, options in adapters]
        head = EoMT(backbone.out_channels, CLASSES, rngs=rngs, num_queries=QUERIES, blocks=blocks, masking=masking)
        head.check(backbone, guests)
        return SegmentationModel(backbone, head, adapter=guests, loss=MaskLoss(CLASSES, points=64))

    module_def, _, shapes = trees.split(nnx.eval_shape(make), ())
    return module_def, shapes


def filled(shapes):
    rng = np.random.default_rng(0)
    return {name: (0.3 * rng.standard_normal(s.shape)).astype(np.float32) for name, s in shapes.items()}


@pytest.fixture(scope="module")
def theirs():
    """(torch, transformers' model with random weights, ours of the same weights: shapes and values)."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.EomtConfig(
        hidden_size=SIZES.embed_dim, num_hidden_layers=SIZES.depth, num_attention_heads=SIZES.num_heads, image_size=SIDE, num_blocks=BLOCKS,
        num_queries=QUERIES, num_labels=CLASSES, attn_implementation="eager")
    model = transformers.EomtForUniversalSegmentation(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter))
    state = {name: value.detach().numpy().copy() for name, value in model.state_dict().items()}
    values, summary = import_eomt(state, made()[1], SIZES, (SIDE // 16, SIDE // 16))
    assert summary.scheme == "hf"
    return torch, model, values


def pictures():
    return np.random.default_rng(1).normal(size=(2, SIDE, SIDE, 3)).astype(np.float32)


def answers(module_def, values, images, key=None, progress=None):
    model = trees.merge(module_def, values)
    return model.head.forward_with_backbone(model.backbone, tuple(model.adapters), images, key, progress)


def recorded(model, torch, images, training):
    """transformers' predictions (cls, masks) before each of the last blocks and after them, [P, B, Q, ...]."""
    found, predict = [], model.predict
    model.predict = lambda logits: found.append(predict(logits)) or found[-1]
    try:
        model.train(training)
        model(torch.from_numpy(images).permute(0, 3, 1, 2))
    finally:
        del model.predict
    masks, classes = zip(*found, strict=True)
    return torch.stack(classes), torch.stack(masks)


def close(ours, wanted, tolerance=1e-5):
    wanted = wanted.detach().numpy()
    np.testing.assert_allclose(ours, wanted, rtol=tolerance, atol=tolerance * np.abs(wanted).max())


def test_every_prediction_and_gradient_equals_transformers(theirs):
    torch, model, values = theirs
    images = pictures()
    classes, masks = recorded(model, torch, images, training=True)  # all queries keep their masks
    assert classes.shape == (BLOCKS + 1, 2, QUERIES, CLASSES + 1)
    weights = [np.random.default_rng(2).normal(size=t.shape).astype(np.float32) for t in (classes, masks)]
    model.zero_grad()
    ((classes * torch.from_numpy(weights[0])).sum() + (masks * torch.from_numpy(weights[1])).sum()).backward()
    wanted, _ = import_eomt({name: p.grad.numpy() for name, p in model.named_parameters()}, made()[1], SIZES, (SIDE // 16,) * 2)
    module_def, _ = made()

    def loss(values):
        found = answers(module_def, values, images)
        return (found["cls"] * weights[0]).sum() + (found["mask"] * weights[1]).sum(), found

    grads, found = jax.jit(jax.grad(loss, has_aux=True))(values)
    close(found["cls"], classes)
    close(found["mask"], masks)
    for name, gradient in grads.items():
        if name == "backbone/pos_embed":
            gradient = gradient.at[:, 0].set(0)  # theirs has no row for the class token
        np.testing.assert_allclose(gradient, wanted[name], rtol=1e-4, atol=2e-5 * np.abs(wanted[name]).max(), err_msg=name)


def test_a_finished_model_needs_no_masks(theirs):
    torch, model, values = theirs
    with torch.no_grad():
        model.attn_mask_probs.zero_()
        classes, masks = recorded(model, torch, pictures(), training=False)
        model.attn_mask_probs.fill_(1.0)
    assert len(classes) == 1
    for masking in ("annealed", "never"):
        found = answers(made(masking)[0], values, pictures())
        close(found["cls"], classes)
        close(found["mask"], masks)


def test_masks_fall_away_as_training_goes_on():
    module_def, shapes = made("annealed")
    values, images, key = filled(shapes), pictures(), jax.random.key(3)
    head = trees.merge(module_def, values).head
    np.testing.assert_allclose(head.chances(0.0), [1, 1])
    np.testing.assert_allclose(head.chances(0.375), [0.5**0.9, 1], rtol=1e-6)
    np.testing.assert_allclose(head.chances(0.75), [0, 0])
    run = jax.jit(lambda progress: answers(module_def, values, images, key, progress))
    masked, free = answers(made("always")[0], values, images), answers(made("never")[0], values, images)
    start, end, middle = run(0.0), run(1.0), run(0.4)
    assert start["cls"].shape[0] == BLOCKS + 1
    np.testing.assert_allclose(start["mask"], masked["mask"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(end["mask"][-1], free["mask"][0], rtol=1e-5, atol=1e-5)
    assert not np.allclose(middle["mask"][-1], masked["mask"][-1], atol=1e-3)
    assert not np.allclose(middle["mask"][-1], free["mask"][0], atol=1e-3)


def test_patches_and_other_queries_stay_open():
    """A mask closes patches to its query alone; even one that closes all leaves queries and class token."""
    module_def, shapes = made()
    head = trees.merge(module_def, filled(shapes)).head
    masks = -jnp.ones((1, QUERIES, 12, 12))
    allowed = np.asarray(head._allowed(QUERIES + 5 + 9, masks, (3, 3), 1.0, None))
    assert allowed[:, QUERIES:].all() and allowed[:, :QUERIES, :QUERIES + 5].all() and not allowed[:, :QUERIES, QUERIES + 5:].any()


def test_the_whole_model_learns_and_scores(theirs):
    module_def, shapes = made("annealed", [(LoRA, {"rank": 2})])
    values = filled(shapes)
    rng = np.random.default_rng(4)
    batch = {"image": rng.integers(0, 256, (2, 80, 96, 3), np.uint8), "label": rng.integers(0, CLASSES, (2, 80, 96), np.uint8),
             "size": np.array([[80, 96], [64, 80]], np.int32), "progress": jnp.float32(0.5)}
    grads, terms = jax.jit(jax.grad(lambda v: trees.merge(module_def, v).loss(batch, jax.random.key(0)), has_aux=True))(values)
    assert len(terms) == 3 * (BLOCKS + 1)
    assert all(np.isfinite(g).all() for g in grads.values())
    assert all(np.abs(grads[name]).max() > 0 for name in grads if name.startswith(("head/", "adapters/", "backbone/norm/")))
    model = trees.merge(module_def, values)
    scores = jax.jit(lambda images: model.scores(images))(batch["image"])
    assert scores.shape == (2, 80, 96, CLASSES)
    assert np.allclose(model.probabilities(scores).sum(-1), 1, atol=1e-5)
    maps, _ = model.encode(model.normalise(batch["image"]))
    assert [m.shape for m in maps] == [(2, 20, 24, 32), (2, 10, 12, 32), (2, 5, 6, 32), (2, 2, 3, 32)]


def test_what_does_not_go_together_says_so():
    with pytest.raises(UserError, match="final_norm"):
        made(final_norm=False)
    with pytest.raises(UserError, match="inserts tokens"):
        made(adapters=[(VPT, {"num_tokens": 3})])
    with pytest.raises(UserError, match="below the backbone's 4 blocks"):
        made(blocks=4)
    with pytest.raises(UserError, match="plain ViT"):
        head = EoMT((32,) * 4, CLASSES, rngs=nnx.Rngs(0), num_queries=2)
        head.check(ResNet(ResNetConfig((1, 1, 1, 1), (8, 8, 8, 32), stem=8), rngs=nnx.Rngs(0)), ())
    with pytest.raises(UserError, match="masking"):
        EoMT((32,) * 4, CLASSES, rngs=nnx.Rngs(0), masking="sometimes")


def test_official_names_hold_the_same_model(theirs):
    """The names of the official checkpoints (timm's for the encoder), from those of transformers."""
    torch, model, values = theirs
    state, official = model.state_dict(), {}
    encoder = "network.encoder.backbone."
    for name, value in state.items():
        official |= renamed(name, value.numpy(), state, encoder)
    official["network.attn_mask_probs"] = np.zeros(BLOCKS, np.float32)
    official["network.encoder.pixel_mean"] = np.zeros((1, 3, 1, 1), np.float32)
    found, _ = import_eomt({f"module.{n}": a for n, a in official.items()}, made()[1], SIZES, (SIDE // 16,) * 2)
    for name, value in values.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    with pytest.raises(UserError, match="network.q.weight|head/query"):
        import_eomt({n: a for n, a in official.items() if n != "network.q.weight"}, made()[1], SIZES, (SIDE // 16,) * 2)


def renamed(name, value, state, encoder):
    """{official name: array} of an array of transformers' model."""
    part, kind = name.rpartition(".")[::2]
    if part.endswith(("k_proj", "v_proj")) or name in ("attn_mask_probs", "criterion.empty_weight"):
        return {}
    if part.endswith("q_proj"):
        stem = part.removesuffix("q_proj")
        joined = np.concatenate([state[f"{stem}{p}_proj.{kind}"].numpy() for p in "qkv"])
        return {f"{encoder}{stem.replace('layers', 'blocks').replace('attention.', 'attn.qkv')}.{kind}": joined}
    plain = {"embeddings.cls_token": "cls_token", "embeddings.register_tokens": "reg_token",
             "embeddings.position_embeddings.weight": "pos_embed", "layernorm.weight": "norm.weight", "layernorm.bias": "norm.bias"}
    if name in plain:
        return {encoder + plain[name]: value[None] if name.endswith("embeddings.weight") else value}
    if name.startswith("embeddings.patch"):
        return {f"{encoder}patch_embed.proj.{kind}": value}
    if name.startswith("layers."):
        changed = name.replace("layers.", "blocks.").replace("attention.out_proj", "attn.proj")
        return {encoder + changed.replace("layer_scale", "ls").replace("lambda1", "gamma"): value}
    for old, new in (("query", "q"), ("class_predictor", "class_head"), ("mask_head.fc1", "mask_head.0"), ("mask_head.fc2", "mask_head.2"),
                     ("mask_head.fc3", "mask_head.4"), ("upscale_block.block", "upscale"), ("layernorm2d", "norm")):
        name = name.replace(old, new)
    return {f"network.{name}": value}


def test_head_count_of_vit_l():
    head = nnx.eval_shape(lambda: EoMT((1024,) * 4, 19, rngs=nnx.Rngs(0)))
    assert sum(int(np.prod(v.shape)) for v in jax.tree.leaves(nnx.state(head))) == 11_684_884


def test_learning_rates_by_block_and_in_two_stages():
    shapes = {"backbone/blocks/norm1/scale": (4, 3), "backbone/cls_token": (1, 1, 3), "backbone/norm/scale": (3,), "head/query": (2, 3)}
    arrays = {name: jnp.ones(shape) for name, shape in shapes.items()}
    config = optim.OptimConfig(steps=20, lr=1.0, weight_decay=0.0, groups="eomt", layer_decay=0.8, warmup_steps=4, backbone_warmup=6)
    tx, rate = optim.make_optimizer(config, arrays)
    state, update = tx.init(arrays), jax.jit(tx.update)
    for step in range(20):
        changes, state = update({n: jnp.ones_like(a) for n, a in arrays.items()}, state, arrays)
        head = step / 4 if step < 4 else (1 - (step - 4) / 16) ** 0.9  # what Adam does with a constant gradient is one rate a step
        body = 0.0 if step < 4 else (step - 4) / 6 if step < 10 else (1 - (step - 10) / 10) ** 0.9
        np.testing.assert_allclose(rate(step), head, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(-changes["head/query"], head, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(-changes["backbone/norm/scale"], body, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(-changes["backbone/cls_token"], body * 0.8**3, rtol=1e-4, atol=1e-6)
        for block in range(4):
            np.testing.assert_allclose(-changes["backbone/blocks/norm1/scale"][block], body * 0.8 ** (3 - block), rtol=1e-4, atol=1e-6)
    with pytest.raises(UserError, match="backbone_warmup"):
        optim.OptimConfig(steps=10, warmup_steps=4, backbone_warmup=6)
    with pytest.raises(UserError, match="layer_decay"):
        optim.make_optimizer(config, {"head/query": arrays["head/query"]})
    with pytest.raises(UserError, match="layer_decay"):
        optim.make_optimizer(config, {"backbone/blocks/0/norm1/scale": jnp.ones((4, 3)), "head/query": arrays["head/query"]})
