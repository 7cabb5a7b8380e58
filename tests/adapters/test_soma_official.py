"""SoMA against its official code: one linear map, a tiny model in three states, its optimizer, and whole checkpoints both ways."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import rein_jax as rj
from rein_jax import optim, trees
from rein_jax.adapters.base import BlockSpec
from rein_jax.adapters.soma import SoMA
from rein_jax.backbones.dinov2 import DINOv2, ViTConfig, formats
from rein_jax.build import abstract_params
from rein_jax.cli import convert
from rein_jax.configuration import load, to_json
from rein_jax.errors import UserError
from rein_jax.interop.soma import PARTS, ROOT, export_soma, import_soma, is_soma
from rein_jax.weights.load import load_into
from tests.recorded import FIXTURES, arrays, random_weight
from tests.use.tiny import tiny_config

VALUE, GRADIENT = 1e-5, 5e-5
START, DEPTH = 1, 4


def close(ours, theirs, tolerance, size=None):
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= tolerance * (np.abs(theirs).max() if size is None else size)


# -- one linear map -----------------------------------------------------------------------------------------------------------

LINEAR = {"fc": ("fc1", slice(None), 4.0), "fc_alpha8": ("fc1", slice(None), 8.0), "q": ("qkv", slice(0, 32), 4.0),
          "k": ("qkv", slice(32, 64), 4.0), "v": ("qkv", slice(64, 96), 4.0)}  # fmt: skip
SPEC = BlockSpec(1, 32, linears=(("fc1", (32, 48)), ("qkv", (32, 96))))


def linear(alpha):
    """The adapter on one block of these maps, with its factors from the official weights."""
    inputs = arrays("soma_linear", "inputs")
    adapter = SoMA(SPEC, rank=4, alpha=alpha, start=0)
    values = {f"backbone/blocks/{ours}/{leaf}": array[None] for ours, theirs in (("fc1", "fc"), ("qkv", "qkv"))
              for leaf, array in (("kernel", inputs[f"{theirs}.weight"].T), ("bias", inputs[f"{theirs}.bias"]))}
    for name in adapter.targets:
        for leaf, value in adapter.decomposed(name, values, name).items():
            getattr(adapter.layers, leaf)[...] = jnp.asarray(value)
    return adapter, inputs


@pytest.mark.parametrize("case", LINEAR)
def test_a_linear_map_at_the_start_and_moved(case):
    target, rows, alpha = LINEAR[case]
    adapter, inputs = linear(alpha)
    outputs, part = arrays("soma_linear", "outputs"), rows.start // 32 if rows.start else 0
    theirs = {key: outputs[f"{case}/{key}"] for key in ("W_res", "A", "B", "sBA", "y_start", "y_moved")}
    weight = inputs["fc.weight" if target == "fc1" else "qkv.weight"]
    a0, b0 = (getattr(adapter.layers, f"{target}_{which}0")[...][0, part] for which in "ab")
    taken = adapter.factor * np.asarray(a0 @ b0).T
    close(taken, theirs["sBA"], VALUE, np.abs(weight).max())
    close(weight[rows] - taken, theirs["W_res"], VALUE)

    def output(a, b, bias, x):
        """Of this part alone; the other parts stay as they are."""
        module_def, _, leaves = trees.split(adapter, ())
        for which, at, value in (("a", part, a), ("b", part, b), ("bias", rows, bias)):
            leaves[f"layers/{target}_{which}"] = jnp.asarray(leaves[f"layers/{target}_{which}"]).at[0, at].set(value)
        changed = trees.merge(module_def, leaves)
        y = x @ weight.T + inputs["fc.bias" if target == "fc1" else "qkv.bias"]
        return changed.on_linear(changed.at(0), target, x, y)[:, rows]

    bias, x, cotangent = inputs["fc.bias" if target == "fc1" else "qkv.bias"][rows], inputs["x"], inputs[f"{case}/cotangent"]
    gradients = jax.grad(lambda *leaves: (output(*leaves) * cotangent).sum(), (0, 1, 2, 3))
    own = [getattr(adapter.layers, f"{target}_{which}")[...][0, part] for which in "ab"]
    close(output(*own, bias, x), theirs["y_start"], VALUE)
    grads = gradients(*own, bias, x)
    close((own[0] @ grads[1]).T, (outputs[f"{case}/grad_B_start"] @ theirs["A"]), GRADIENT)  # free of the common sign of a pair
    close((grads[0] @ own[1]).T, (theirs["B"] @ outputs[f"{case}/grad_A_start"]), GRADIENT)
    close(grads[2], outputs[f"{case}/grad_bias_start"], GRADIENT)
    close(grads[3], outputs[f"{case}/grad_x_start"], GRADIENT)

    for which, value in (("a0", theirs["A"].T), ("b0", theirs["B"].T)):  # from here on with the official factors
        leaf = getattr(adapter.layers, f"{target}_{which}")
        leaf[...] = leaf[...].at[0, part].set(value)
    moved = (theirs["A"] + inputs[f"{case}/dA"]).T, (theirs["B"] + inputs[f"{case}/dB"]).T
    close(output(*moved, bias, x), theirs["y_moved"], VALUE)
    grads = gradients(*moved, bias, x)
    for ours, key in zip((grads[0].T, grads[1].T, grads[2], grads[3]), ("A", "B", "bias", "x"), strict=True):
        close(ours, outputs[f"{case}/grad_{key}_moved"], GRADIENT)


def test_ten_steps_of_the_official_optimizer_with_its_average():
    inputs, outputs = arrays("soma_linear", "inputs"), arrays("soma_linear", "outputs")
    residual, bias = outputs["fc/W_res"], inputs["fc.bias"]
    a, b, shift = (f"adapters/0/layers/fc1_{which}" for which in ("a", "b", "bias"))
    params = {a: outputs["fc/A"].T, b: outputs["fc/B"].T, shift: bias}
    tx, schedule = optim.make_optimizer({"lr": 2e-2, "weight_decay": 0.5, "decay_end": 1e-5, "groups": "soma", "steps": 20}, params)

    @jax.jit
    def step(params, state):
        def loss(p):
            y = inputs["x"] @ residual.T + p[shift] + inputs["x"] @ p[a] @ p[b]
            return ((y - inputs["train/target"]) ** 2).mean() / 2

        value, grads = jax.value_and_grad(loss)(params)
        updates, state = tx.update(grads, state, params)
        return {name: params[name] + updates[name] for name in params}, state, value

    state, average, losses = tx.init(params), dict(params), []
    for number in range(10):
        assert float(schedule(number)) * 0.5 == pytest.approx(outputs["train/lr"][number], rel=1e-6)
        params, state, value = step(params, state)
        losses.append(float(value))
        rate = 0.0 if number < 4 else 0.9  # training/step.py with ema=0.9, ema_start=4
        average = {name: rate * average[name] + (1 - rate) * params[name] for name in params}
        for key, value in {"A": params[a].T, "B": params[b].T, "bias": params[shift]}.items():
            if f"train/{key}_after{number + 1}" in outputs:
                close(value, outputs[f"train/{key}_after{number + 1}"], 1e-5)
        if f"train/ema_A_after{number + 1}" in outputs:
            close(average[a].T, outputs[f"train/ema_A_after{number + 1}"], 1e-5)
    close(losses, outputs["train/loss"], 1e-5)
    close(average[shift], outputs["train/ema_bias_after10"], 1e-5)


# -- a tiny model ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny():
    """(module_def, leaves with SoMA's own factors, official factors)."""
    def make():
        backbone = DINOv2(ViTConfig(96, DEPTH, 3), image_size=64, out_indices=tuple(range(DEPTH)))
        return nnx.Dict(backbone=backbone, adapters=nnx.List([SoMA(backbone, rank=4)]))

    module_def, _, shapes = trees.split(nnx.eval_shape(make), ())
    trunk = {name: s for name, s in shapes.items() if name.startswith("backbone/")}
    values, _ = load_into(trunk, pretrained(), *formats(ViTConfig(96, DEPTH, 3))["official"])
    leaves = {name: np.zeros(s.shape, np.float32) for name, s in shapes.items()} | values
    leaves = SoMA.from_backbone(module_def, leaves)
    return module_def, leaves, arrays("soma_tiny", "factors")


def pretrained() -> dict[str, np.ndarray]:
    """The trunk's weights in Meta's names, from the recipe's seed."""
    d, out = 96, {}
    shapes = {"cls_token": (1, 1, d), "pos_embed": (1, 17, d), "mask_token": (1, d), "patch_embed.proj.weight": (d, 3, 16, 16),
              "patch_embed.proj.bias": (d,), "norm.weight": (d,), "norm.bias": (d,)}  # fmt: skip
    for i in range(DEPTH):
        for name, shape in {"norm1.weight": (d,), "norm1.bias": (d,), "attn.qkv.weight": (3 * d, d), "attn.qkv.bias": (3 * d,),
                            "attn.proj.weight": (d, d), "attn.proj.bias": (d,), "ls1.gamma": (d,), "norm2.weight": (d,), "norm2.bias": (d,),
                            "mlp.fc1.weight": (4 * d, d), "mlp.fc1.bias": (4 * d,), "mlp.fc2.weight": (d, 4 * d), "mlp.fc2.bias": (d,),
                            "ls2.gamma": (d,)}.items():  # fmt: skip
            shapes[f"blocks.{i}.{name}"] = shape
    for name, shape in shapes.items():
        out[name] = random_weight(name, shape, 2)
    return out


def with_factors(leaves, official, state, twins=True):
    """The leaves with official factors; twins: also as the frozen ones, the start of the paper's order."""
    out = {name: np.array(array) for name, array in leaves.items()}
    for target in ("qkv", "proj", "fc1", "fc2"):
        for which in "AB":
            rows = [np.stack([official[f"{state}/{ROOT}blocks.{i}.{part}.lora_{which}.weight"].T for part in PARTS[target]])
                    for i in range(START, DEPTH)]
            name = f"adapters/0/layers/{target}_{which.lower()}"
            out[name] = np.stack(rows)
            out[name + "0"] = np.stack(rows) if twins else np.zeros_like(out[name])
    return out


def run(module_def, leaves, inputs, gradients=True):
    """(outputs of the blocks, maps, loss, gradients) as the recipe computes them."""
    image = jnp.asarray(inputs["x"].transpose(0, 2, 3, 1))
    own = {name: a for name, a in leaves.items() if name.startswith("adapters/") and not name.endswith("0")}

    def loss(own):
        model = trees.merge(module_def, {**leaves, **own})
        blocks, _ = model["backbone"].tokens(image, tuple(model["adapters"]))
        maps = model["backbone"](image, tuple(model["adapters"]))
        return sum((m * inputs[f"cotangent_feat{i}"].transpose(0, 2, 3, 1)).sum() for i, m in enumerate(maps)), (blocks, maps)

    if not gradients:
        value, (blocks, maps) = jax.jit(loss)(own)
        return blocks, maps, value, {}
    (value, (blocks, maps)), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(own)
    return blocks, maps, value, grads


def official_gradients(grads) -> dict[str, np.ndarray]:
    out = {}
    for target in ("qkv", "proj", "fc1", "fc2"):
        for layer in range(DEPTH - START):
            for k, part in enumerate(PARTS[target]):
                stem = f"{ROOT}blocks.{START + layer}.{part}."
                for which in "ab":
                    out[f"{stem}lora_{which.upper()}.weight"] = np.asarray(grads[f"adapters/0/layers/{target}_{which}"][layer, k]).T
                out[f"{stem}bias"] = np.split(np.asarray(grads[f"adapters/0/layers/{target}_bias"][layer]), len(PARTS[target]))[k]
    return out


def test_the_start_is_the_pretrained_model(tiny):
    module_def, leaves, official = tiny
    inputs, outputs = arrays("soma_tiny", "inputs"), arrays("soma_tiny", "outputs")
    blocks, maps, _, _ = run(module_def, leaves, inputs, gradients=False)  # with factors of our own decomposition
    for i in range(DEPTH):
        close(blocks[i], outputs[f"start/block{i}"], VALUE)
        close(maps[i].transpose(0, 3, 1, 2), outputs[f"start/feat{i}"], VALUE)
    blocks, _, value, grads = run(module_def, with_factors(leaves, official, "start"), inputs)
    close(value, outputs["start/loss"], VALUE)
    for name, ours in official_gradients(grads).items():
        if f"start/grad:{name}" in outputs:
            close(ours, outputs[f"start/grad:{name}"], GRADIENT)


def test_moved(tiny):
    module_def, leaves, official = tiny
    inputs, outputs = arrays("soma_tiny", "inputs"), arrays("soma_tiny", "outputs")
    leaves = with_factors(leaves, official, "start")
    draw = lambda name, shape: random_weight(f"moved.{name}", shape, 2)
    for target in ("qkv", "proj", "fc1", "fc2"):
        for layer in range(DEPTH - START):
            for k, part in enumerate(PARTS[target]):
                stem = f"{ROOT}blocks.{START + layer}.{part}."
                for which in "ab":
                    leaf = leaves[f"adapters/0/layers/{target}_{which}"]
                    leaf[layer, k] += 0.5 * draw(f"{stem}lora_{which.upper()}.weight", leaf[layer, k].T.shape).T
                bias = leaves[f"adapters/0/layers/{target}_bias"]
                third = np.array_split(np.arange(bias.shape[1]), len(PARTS[target]))[k]
                bias[layer, third] += draw(f"{stem}bias", (len(third),))
    blocks, _, value, grads = run(module_def, leaves, inputs)
    for i in range(DEPTH):
        close(blocks[i], outputs[f"moved/block{i}"], VALUE)
    close(value, outputs["moved/loss"], VALUE)
    grads = official_gradients(grads)
    checked = [name for name in grads if f"moved/grad:{name}" in outputs]
    assert len(checked) == 17
    for name in checked:
        close(grads[name], outputs[f"moved/grad:{name}"], GRADIENT)


def test_the_order_of_the_published_code(tiny):
    module_def, leaves, official = tiny
    leaves = with_factors(leaves, official, "released", twins=False)
    blocks, _, _, _ = run(module_def, leaves, arrays("soma_tiny", "inputs"), gradients=False)
    for i in range(DEPTH):
        close(blocks[i], arrays("soma_tiny", "outputs")[f"released/block{i}"], VALUE)


@pytest.mark.parametrize("steps, key", [(40, "anneal_T40"), (40_000, "anneal_T40000")])
def test_rates_and_decays_of_a_step(steps, key):
    outputs = arrays("soma_tiny", "outputs")
    rate = optim.poly_schedule(1e-4, steps)
    for number, lr, backbone, decay, rising in zip(*(outputs[f"{key}/{part}"] for part in (
            "step", "lr", "backbone_lr", "decay_from_0.05", "decay_from_0")), strict=True):  # fmt: skip
        assert float(rate(int(number))) == pytest.approx(lr, rel=2e-6, abs=1e-12)
        assert float(rate(int(number))) * 0.5 == pytest.approx(backbone, rel=2e-6, abs=1e-12)
        for start, expected in ((0.05, decay), (0.0, rising)):
            assert float(optim.schedules.cosine_decay(start, 1e-5, steps)(int(number))) == pytest.approx(expected, rel=1e-5, abs=1e-9)


# -- whole checkpoints ------------------------------------------------------------------------------------------------------------


def rows() -> list[list[str]]:
    text = (FIXTURES / "soma_checkpoint_names" / "names.txt").read_text()
    return [line.split("\t") for line in text.splitlines() if not line.startswith("#")]


@pytest.fixture(scope="module")
def large():
    """(shapes of the trained parameters, of the frozen ones, an official file of zeros without memory)."""
    config = load("gta_to_cbm:backbone=dinov2_l,method=soma", ["adapter.order=released"])
    module_def, trainable, frozen = abstract_params(config, rj.CITYSCAPES)
    zero = lambda text: np.broadcast_to(np.float32(0), [int(side) for side in text.split("x")])
    return module_def, trainable, frozen, {row[0]: zero(row[1]) for row in rows()}


def test_every_name_of_a_published_checkpoint_has_its_place(large):
    module_def, trainable, frozen, file = large
    kept = {row[0]: file[row[0]] for row in rows() if row[5] == "K"}
    assert len(file) == 923 and len(kept) == 679 and is_soma(file) and not is_soma({"backbone.reins.scale": 0})
    values, summary = import_soma(kept, trainable, order="released")
    assert {name: value.shape for name, value in values.items()} == {name: tuple(s.shape) for name, s in trainable.items()}
    zeros = {name: np.broadcast_to(np.float32(0), s.shape) for name, s in {**trainable, **frozen}.items()}
    back = export_soma(zeros, start=8, factor=1.0)
    unused = {f"{ROOT}mask_token", f"{ROOT}norm.weight", f"{ROOT}norm.bias"}
    assert set(file) - set(back) - unused <= {row[0] for row in rows() if row[2] == "buffer"} and not set(back) - set(file)
    assert all(back[name].shape == file[name].shape for name in back)


def test_groups_of_the_optimizer_are_the_originals(large):
    module_def, trainable, _, _ = large
    theirs = {row[0]: (float(row[3]), float(row[4])) for row in rows() if row[2] == "T"}
    groups = optim.assign_groups("soma", {name: module_def.wishes[name] for name in trainable})
    numbers = {name: np.broadcast_to(np.float32(i), s.shape) for i, (name, s) in enumerate(trainable.items())}
    zeros = {n: np.broadcast_to(np.float32(-1), s.shape) for n, s in large[2].items()}
    order = list(trainable)
    for name, array in export_soma({**zeros, **numbers}, start=8, factor=0.0).items():
        if name in theirs:
            group = groups[order[int(array.reshape(-1)[0])]]
            assert (1e-4 * group.lr, 0.05 * group.decay) == pytest.approx(theirs[name]), name


def test_a_model_goes_out_and_comes_back(tiny, tmp_path):
    """Both orders, as the official code's file and back, bit for bit."""
    _, leaves, official = tiny
    for order, twins in (("paper", True), ("released", False)):
        whole = with_factors(leaves, official, "start" if twins else "released", twins)
        head = nothing_but_head()
        out = export_soma({**whole, **head}, tmp_path / "soma.pth", start=START, factor=1.0)
        if order == "paper":
            assert np.linalg.svd(out[f"{ROOT}blocks.1.attn.proj.weight"], compute_uv=False)[-4] < 1e-5
        own = {n: a for n, a in {**whole, **head}.items() if not n.startswith("backbone/") and not n.endswith("0")}
        back, _ = import_soma(tmp_path / "soma.pth", own, order=order)
        assert back.keys() == own.keys()
        for name, array in own.items():
            np.testing.assert_array_equal(back[name], array, err_msg=name)
        other = {"paper": "released", "released": "paper"}[order]
        with pytest.raises(UserError, match=f"in the {order} order, and the config says {other}; add --config.adapter.order={order}"):
            import_soma(tmp_path / "soma.pth", own, order=other)
    with pytest.raises(UserError, match="adapts the blocks 1 to 3, 3 of them, and this config 2; set config.adapter.start=1"):
        import_soma(tmp_path / "soma.pth", {n: a[:2] if n.startswith("adapters") else a for n, a in own.items()}, order="released")
    with pytest.raises(UserError, match=r"set\s+config.adapter.rank=4"):
        import_soma(tmp_path / "soma.pth", {n: a[..., :2] if n.endswith("_a") else a for n, a in own.items()}, order="released")
    with pytest.raises(UserError, match="is no checkpoint of the official SoMA code"):
        import_soma({"a": np.zeros(2, np.float32)}, own, order="paper")


def nothing_but_head() -> dict[str, np.ndarray]:
    head = rj.Mask2Former(in_channels=(96,) * 4, num_classes=3, num_queries=4, channels=16, groups=4, heads=2, encoder_layers=1,
                          decoder_layers=1, encoder_ffn=16, decoder_ffn=16)  # fmt: skip
    return {f"head/{name}": np.asarray(array) for name, array in trees.flatten(head).items()}


def test_rein_convert_both_ways(tmp_path):
    """A model file becomes a .pth of the official code and a model again, with the same scores."""
    config = tiny_config("soma", "mask2former")
    config.adapter.rank, config.head.query_source, config.head.num_queries = 2, "learned", 8
    (tmp_path / "config.json").write_text(to_json(config))
    model = rj.Segmenter.from_config(config)
    for leaf in ("qkv_a", "fc1_b", "proj_bias"):
        getattr(model.adapters[0].layers, leaf)[...] += 0.1
    model.save(tmp_path / "model.safetensors")
    assert convert.main([str(tmp_path / "model.safetensors"), str(tmp_path / "soma.pth")]) == 0
    target = tmp_path / "back.safetensors"
    assert convert.main([str(tmp_path / "soma.pth"), str(target), "--config", str(tmp_path / "config.json")]) == 0
    back = rj.Segmenter.from_pretrained(target)
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    np.testing.assert_allclose(back.predict(image).scores, model.predict(image).scores, rtol=1e-5, atol=1e-6)
