"""Every method on one tiny backbone: what it promises at the start, its invariants, its merge, and its torch twin."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rein_jax import trees
from rein_jax.adapters.adaptformer import AdaptFormer
from rein_jax.adapters.base import BlockSpec, LayerContext
from rein_jax.adapters.lora import LoRA
from rein_jax.adapters.merge import merge_adapters
from rein_jax.adapters.recyclelora import RecycleLoRA
from rein_jax.adapters.rein import Rein
from rein_jax.adapters.soma import SoMA
from rein_jax.adapters.vpt import VPT
from rein_jax.backbones.dinov2 import DINOv2
from rein_jax.errors import UserError
from rein_jax.precision import policy
from tests.adapters import tiny

METHODS = {
    "rein": (Rein, dict(num_tokens=9, rank=4, query_dims=16)),
    "rein_whole_tokens": (Rein, dict(num_tokens=9, rank=None, query_dims=16, link=False)),
    "rein_own_maps": (Rein, dict(num_tokens=9, rank=4, query_dims=16, shared=False)),
    "rein_some_blocks": (Rein, dict(num_tokens=9, rank=4, query_dims=16, blocks=(1, 3))),
    "lora": (LoRA, {}),
    "lora_separate": (LoRA, dict(separate=True, rank=4, alpha=8, targets=("qkv", "proj", "fc2"))),
    "lora_query_value": (LoRA, dict(rank=4, targets="v,q,fc1")),
    "adaptformer": (AdaptFormer, dict(hidden=8)),
    "vpt_deep": (VPT, dict(num_tokens=5)),
    "vpt_shallow": (VPT, dict(num_tokens=5, deep=False)),
    "soma": (SoMA, dict(rank=4)),
    "recyclelora": (RecycleLoRA, dict(main=5, sub=2)),
}
QUICK = ("rein", "lora", "vpt_deep")  # the other methods' runs of a test are slow ones
EVERY = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in METHODS]
EXACT = ("lora", "lora_separate", "lora_query_value", "adaptformer", "soma", "recyclelora")


@pytest.fixture(scope="module")
def plain():
    module_def, leaves = tiny.build()
    return module_def, leaves, tiny.run(module_def, leaves, tiny.images())


def close(a, b, tolerance=2e-6):
    for x, y in zip(a, b, strict=True):
        assert np.abs(np.asarray(x) - np.asarray(y)).max() <= tolerance * np.abs(np.asarray(y)).max()


@pytest.mark.parametrize("name", METHODS)
def test_start_and_tree(name, plain):
    module_def, leaves = tiny.build(*METHODS[name], initial=name in EXACT)
    backbone = {n for n in leaves if n.startswith("backbone/")}
    assert backbone == {n for n in plain[1] if n.startswith("backbone/")}, "a method must not change the backbone's tree"
    maps = tiny.run(module_def, leaves, tiny.images())
    assert [m.shape for m in maps] == [m.shape for m in plain[2]]
    if name in EXACT:
        close(maps, plain[2])


@pytest.mark.parametrize("name", [name if name == "rein" else pytest.param(name, marks=pytest.mark.slow) for name in METHODS])
def test_scan_equals_unrolled_and_remat(name):
    module_def, leaves = tiny.build(*METHODS[name])
    maps, grads = tiny.gradients(module_def, leaves, tiny.images())
    for change in ({"unroll": True}, {"remat": "full"}):
        other, _ = tiny.build(*METHODS[name], **change)
        same, again = tiny.gradients(other, leaves, tiny.images())
        close(same, maps)
        for leaf in grads:
            assert np.allclose(grads[leaf], again[leaf], rtol=1e-4, atol=1e-4 * np.abs(grads[leaf]).max() + 1e-12), leaf


@pytest.mark.parametrize("name", EVERY)
def test_bfloat16_stream_stays_bfloat16(name):
    module_def, leaves = tiny.build(*METHODS[name])
    half = trees.cast({n: jnp.asarray(a) for n, a in leaves.items()}, jnp.bfloat16)
    maps = tiny.run(module_def, half, jnp.asarray(tiny.images(), jnp.bfloat16))
    assert all(m.dtype == jnp.bfloat16 and bool(jnp.isfinite(m.astype(jnp.float32)).all()) for m in maps)


@pytest.mark.parametrize("name", ["lora", "lora_separate", "lora_query_value", "soma", "recyclelora"])
def test_merged_weights_are_the_same_function(name, plain):
    module_def, leaves = tiny.build(*METHODS[name])
    merged = merge_adapters(module_def, leaves)
    close(tiny.run(plain[0], merged, tiny.images()), tiny.run(module_def, leaves, tiny.images()))


def test_methods_that_do_not_merge_say_so():
    with pytest.raises(UserError, match="does not merge"):
        merge_adapters(*tiny.build(*METHODS["adaptformer"]))


def test_lora_starts_with_gradient_in_b_only_and_stays_low_rank():
    module_def, leaves = tiny.build(LoRA, {"rank": 4}, initial=True)
    _, grads = tiny.gradients(module_def, leaves, tiny.images())
    assert not np.any(grads["adapters/0/layers/qkv_a"]) and np.any(grads["adapters/0/layers/qkv_b"])
    module_def, leaves = tiny.build(LoRA, {"rank": 4})
    delta = merge_adapters(module_def, leaves)["backbone/blocks/attn/qkv/kernel"] - leaves["backbone/blocks/attn/qkv/kernel"]
    assert max(np.linalg.matrix_rank(np.asarray(d), tol=1e-4) for d in delta) == 4


def test_adaptformer_is_linear_in_its_scale_and_off_without_up():
    module_def, leaves = tiny.build(AdaptFormer, {"hidden": 8})
    off = {n: (np.zeros_like(a) if "/up/" in n else a) for n, a in leaves.items()}
    close(tiny.run(module_def, off, tiny.images()), tiny.run(*tiny.build(), tiny.images()))
    adapter = trees.merge(module_def, leaves).adapters[0]
    layer = nnx.merge(*[*nnx.split(adapter.layers)][:1], jax.tree.map(lambda a: a[0], nnx.split(adapter.layers)[1]))
    x = jnp.ones((1, 3, 48))
    one = adapter.on_mlp(LayerContext(layer, 0, 1, None), x, jnp.zeros_like(x))
    adapter.factor = 0.3
    assert np.allclose(adapter.on_mlp(LayerContext(layer, 0, 1, None), x, jnp.zeros_like(x)), 3 * one, rtol=1e-5)


def test_vpt_does_not_care_for_the_order_of_prompts_and_needs_every_block():
    module_def, leaves = tiny.build(VPT, {"num_tokens": 5})
    maps = tiny.run(module_def, leaves, tiny.images())
    name = "adapters/0/layers/prompts"
    close(tiny.run(module_def, {**leaves, name: leaves[name][:, ::-1]}, tiny.images()), maps, 1e-5)
    for block in range(tiny.SIZES.depth):
        moved = leaves[name].copy()
        moved[block] *= -1  # a constant shift would vanish in the LayerNorm
        assert not np.allclose(tiny.run(module_def, {**leaves, name: moved}, tiny.images())[3], maps[3])


def test_dropout_needs_a_key_and_changes_the_output():
    module_def, leaves = tiny.build(AdaptFormer, {"hidden": 8, "dropout": 0.5})
    a, b, c = (tiny.run(module_def, leaves, tiny.images(), key) for key in (None, jax.random.key(0), jax.random.key(1)))
    assert not np.allclose(a[3], b[3]) and not np.allclose(b[3], c[3])


@pytest.mark.parametrize("deep", [True, False])
def test_vpt_drops_other_prompts_in_each_image(deep):
    module_def, leaves = tiny.build(VPT, {"num_tokens": 5, "deep": deep, "dropout": 0.5})
    twice = np.repeat(tiny.images(1), 2, 0)
    plain, dropped = (tiny.run(module_def, leaves, twice, key)[3] for key in (None, jax.random.key(0)))
    assert np.allclose(plain[0], plain[1], atol=1e-5) and not np.allclose(dropped[0], dropped[1], atol=1e-3)


def test_lora_on_queries_and_values_of_a_fused_map_leaves_the_keys():
    module_def, leaves = tiny.build(LoRA, {"targets": ("q", "v")})
    delta = merge_adapters(module_def, leaves)["backbone/blocks/attn/qkv/kernel"] - leaves["backbone/blocks/attn/qkv/kernel"]
    q, k, v = np.split(np.asarray(delta), 3, -1)
    assert np.any(q) and np.any(v) and not np.any(k)


def test_soma_moves_as_little_in_bfloat16_as_in_float32():
    """A change of a thousandth: in bfloat16 the products of A and of A0 agree to all their digits."""
    module_def, leaves = tiny.build(SoMA, {"rank": 4}, initial=True)
    rng = np.random.default_rng(0)
    own = [n for n in leaves if n.startswith("adapters/") and n.endswith(("_a", "_b"))]
    moved = {n: leaves[n] * (1 + 1e-3 * rng.standard_normal(leaves[n].shape).astype("f4")) for n in own}
    adapter = lambda values: trees.merge(module_def, values).adapters[0]
    x = jnp.asarray(rng.standard_normal((1, 7, 48)), jnp.float32)

    def change(values, x):
        here = adapter(values)
        layer = nnx.merge(nnx.split(here.layers)[0], jax.tree.map(lambda a: a[0], nnx.split(here.layers)[1]))
        return np.asarray(here.on_linear(LayerContext(layer, 0, 1, None), "fc1", x, jnp.zeros((1, 7, 192), x.dtype)), np.float32)

    exact = change({**leaves, **moved}, x)
    stored = policy("bf16").inputs({n: jnp.asarray(a) for n, a in {**leaves, **moved}.items()}, module_def.wishes)
    half = change(stored, x.astype(jnp.bfloat16))
    assert np.abs(half - exact).max() < 0.02 * np.abs(exact).max()


@pytest.mark.parametrize("name", ["soma", "recyclelora"])
def test_the_pretrained_twins_never_train(name):
    _, trainable, _ = trees.split(nnx.eval_shape(lambda: tiny.Tiny(*METHODS[name], rngs=nnx.Rngs(0))), ("adapters/",))
    assert trainable and not any(name.endswith("0") for name in trainable)


def test_soma_takes_the_minor_directions():
    module_def, leaves = tiny.build(SoMA, {"rank": 4, "start": 2}, initial=True)
    stem = "adapters/0/layers/fc1"
    a, b = leaves[f"{stem}_a"][0, 0], leaves[f"{stem}_b"][0, 0]
    kernel = leaves["backbone/blocks/mlp/fc1/kernel"][2]
    s = np.linalg.svd(kernel, compute_uv=False)
    assert np.allclose(a.T @ a, b @ b.T, atol=1e-5) and np.allclose(np.diag(a.T @ a), s[-4:], atol=1e-5)
    left = np.linalg.svd(kernel - a @ b, compute_uv=False)
    assert np.allclose(left[:-4], s[:-4], atol=1e-4) and np.abs(left[-4:]).max() < 1e-4
    assert leaves["adapters/0/layers/fc1_a"].shape[0] == tiny.SIZES.depth - 2
    released = tiny.build(SoMA, {"rank": 4, "order": "released"}, initial=True)[1]
    assert not released[f"{stem}_a0"].any()


def test_recyclelora_recycles_the_least_and_the_most_used_directions():
    """PyTorch's own words: W [out, in] = kernel transposed; W[:, P] = Q R with |diag R| falling."""
    module_def, leaves = tiny.build(*METHODS["recyclelora"], initial=True)
    for target, place in (("qkv", "attn"), ("proj", "attn"), ("fc1", "mlp"), ("fc2", "mlp")):
        stem = f"adapters/0/layers/{target}"
        for i, kernel in enumerate(leaves[f"backbone/blocks/{place}/{target}/kernel"]):
            (main_a, main_b), (sub_a, sub_b) = ([leaves[f"{stem}_{part}_{leaf}"][i, 0] for leaf in "ab"] for part in ("main", "sub"))
            b = np.concatenate([sub_b, main_b])
            np.testing.assert_allclose(b @ b.T, np.eye(7), atol=1e-6)  # main and sub are orthogonal to each other too
            a = np.concatenate([sub_a, main_a], 1)
            assert set(np.unique(a)) == {0, 1} and (a.sum(0) == 1).all() and a.sum(1).max() == 1
            assert sub_a[:, 0].argmax() == np.linalg.norm(kernel, axis=1).argmax()  # the first pivot is the largest input channel
            diagonal = np.abs(np.sum(b * (a.T @ kernel), 1))
            assert (np.diff(diagonal) <= 1e-6).all()
            if target != "fc2":  # its 192 channels span 48 directions, so later ones have a part in each
                others = kernel[main_a.sum(1) == 0]
                assert np.abs(others @ main_b.T).max() < 1e-5  # what the main factors add, no other channel of W writes
    delta = trees.merge(module_def, leaves).adapters[0]
    assert delta.factor == 1 / 7 and not any(np.any(d) for d in delta.kernel_deltas().values())


@pytest.mark.parametrize(
    "method, options, message",
    [
        (LoRA, {"targets": ("qvk",)}, "Did you mean 'qkv'"),
        (LoRA, {"rank": 0}, "config.adapter.rank"),
        (Rein, {"num_tokens": 1}, "config.adapter.num_tokens"),
        (Rein, {"blocks": (3, 9)}, "config.adapter.blocks"),
        (SoMA, {"rank": 999}, "config.adapter.rank"),
        (SoMA, {"order": "x"}, "config.adapter.order"),
        (SoMA, {"alpha": 0}, "config.adapter.alpha"),
        (RecycleLoRA, {"main": 40, "sub": 9}, "between 1 and 48"),
        (RecycleLoRA, {"main": 0, "sub": 0}, "config.adapter.main"),
        (RecycleLoRA, {"alpha": -1}, "config.adapter.alpha"),
        (VPT, {"num_tokens": 0}, "config.adapter.num_tokens"),
        (LoRA, {"targets": ("qkv", "q")}, "leave one out"),
        (SoMA, {"targets": ("q",)}, "config.adapter.targets"),
        *((method, {"dropout": 1.0}, "config.adapter.dropout") for method in (LoRA, AdaptFormer, VPT)),
    ],
)
def test_wrong_options_are_named(method, options, message):
    with pytest.raises(UserError, match=message):
        tiny.build(method, options)


def test_a_backbone_that_cannot_take_a_method_is_named():
    spec = BlockSpec(3, 64, hook_points=())
    for method, name in ((VPT, "vpt"), (AdaptFormer, "adaptformer")):
        with pytest.raises(UserError, match=name):
            method(spec, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    "method, options, published",
    [
        (Rein, {}, 2_990_081),
        (Rein, {"rank": None}, 24 * 100 * 1024 + 2 * (1024**2 + 1024) + 256 * 1025 + 256 * 769 + 1),
        (Rein, {"rank": None, "shared": False, "link": False}, 52_838_401),
        (LoRA, {}, 786_432),
        (LoRA, {"targets": ("q", "v")}, 786_432),
        (AdaptFormer, {}, 3_171_840),
        (VPT, {}, 3_686_400),
        (SoMA, {}, 2 * (4_718_592 + 147_456)),
        (RecycleLoRA, {}, 2 * (12_582_912 + 1_572_864)),
    ],
)
def test_published_counts_on_vit_large(method, options, published):
    spec = nnx.eval_shape(lambda: DINOv2("vitl14", rngs=nnx.Rngs(0))).block_specs[0]
    assert trees.count(trees.flatten(nnx.eval_shape(lambda: method(spec, rngs=nnx.Rngs(0), **options)))) == published


def twin(name, leaves):
    """The method's places in PyTorch, with its leaves as tensors that take gradients."""
    torch = pytest.importorskip("torch")
    own = {n.removeprefix("adapters/0/"): a for n, a in leaves.items() if n.startswith("adapters/")}
    p = {n: torch.tensor(np.asarray(a), requires_grad=True) for n, a in own.items()}
    if name == "lora":
        places = dict(linear=lambda i, n, x, y: y + (x @ p["layers/qkv_a"][i, 0]) @ p["layers/qkv_b"][i, 0] if n == "qkv" else y)
    elif name == "adaptformer":
        down = lambda i, x: torch.relu(x @ p["layers/down/kernel"][i] + p["layers/down/bias"][i])
        places = dict(mlp=lambda i, x, y: y + 0.1 * (down(i, x) @ p["layers/up/kernel"][i] + p["layers/up/bias"][i]))
    elif name == "vpt_deep":
        insert = lambda i, x: torch.cat([x[:, :1], p["layers/prompts"][i].expand(x.shape[0], -1, -1), x[:, 1:]], 1)
        places = dict(enter=insert, leave=lambda i, x: torch.cat([x[:, :1], x[:, 6:]], 1))
    elif name == "recyclelora":
        def recycled(i, n, x, y):
            for part in ("main", "sub"):
                a, b, a0, b0 = (p[f"layers/{n}_{part}_{leaf}"][i, 0] for leaf in ("a", "b", "a0", "b0"))
                y = y + ((x @ a) @ b - (x @ a0) @ b0) / 7
            return y

        places = dict(linear=recycled)
    else:
        def minor(i, n, x, y):
            a, b, a0, b0 = (p[f"layers/{n}_{leaf}"][i] for leaf in ("a", "b", "a0", "b0"))
            y = y + torch.cat([(x @ a[k]) @ b[k] - (x @ a0[k]) @ b0[k] for k in range(len(a))], -1)
            return y + p[f"layers/{n}_bias"][i] - p[f"layers/{n}_bias0"][i]

        places = dict(linear=lambda i, n, x, y: minor(i - 1, n, x, y) if i >= 1 else y)
    return p, places


@pytest.mark.parity
@pytest.mark.parametrize("name", ["lora", "adaptformer", "vpt_deep", "soma", "recyclelora"])
def test_torch_twin_in_value_and_gradient(name):
    method, options = METHODS[name]
    options = {**options, "dropout": 0.0} if name == "adaptformer" else options
    module_def, leaves = tiny.build(method, options)
    p, places = twin(name, leaves)
    outputs = tiny.torch_twin(leaves, tiny.images(), **places)

    def tokens(leaves, x):
        model = trees.merge(module_def, leaves)
        return model.backbone.tokens(x, tuple(model.adapters))[0]

    ours = jax.jit(tokens)(leaves, tiny.images())
    close([t[:, 1:] for t in ours], [t.detach().numpy() for t in outputs], 1e-5)
    sum((t**2).sum() for t in outputs).backward()

    own = {n: a for n, a in leaves.items() if n.startswith("adapters/")}

    def loss(t):
        model = trees.merge(module_def, {**leaves, **t})
        return sum((tap[:, 1:] ** 2).sum() for tap in model.backbone.tokens(tiny.images(), tuple(model.adapters))[0])

    for leaf, grad in jax.jit(jax.grad(loss))(own).items():
        theirs = p[leaf.removeprefix("adapters/0/")].grad
        if theirs is not None:
            assert np.abs(grad - theirs.numpy()).max() <= 5e-5 * np.abs(theirs.numpy()).max(), leaf
