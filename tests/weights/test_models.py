"""Official Rein checkpoints both ways, conversion, model files, and the commands `convert`, `show`, `diff`."""

import json

import jax
import numpy as np
import pytest

from data_pipelines.labels import CITYSCAPES
from rein_jax import configuration, load, trees
from rein_jax.build import abstract_params
from rein_jax.cli import diff, show
from rein_jax.cli.convert import main as convert_main
from rein_jax.cli.main import main
from rein_jax.errors import UserError
from rein_jax.interop.rein import export_official, import_official
from rein_jax.weights import read_checkpoint
from rein_jax.weights.convert import convert, same
from rein_jax.weights.modelfile import check_backbone, read_meta, read_model, write_model
from rein_jax.weights.torch_write import write_torch
from tests.use.tiny import write_tiny

RNG = np.random.default_rng(0)


def rein(prefix="backbone.reins.", depth=4, width=12):
    shapes = {"learnable_tokens_a": (depth, 5, 3), "learnable_tokens_b": (depth, 3, width), "scale": (), "merge.weight": (8, 24),
              "merge.bias": (8,), "transform.weight": (8, width), "transform.bias": (8,)}
    for name in ("mlp_token2feat", "mlp_delta_f"):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (width, width), (width,)
    return {prefix + name: RNG.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def mask2former_names(c=8, layers=2):
    """Names and shapes of section 3.4 of the reference, small."""
    shapes = {"cls_embed": (4, c), "mask_embed.0": (c, c), "mask_embed.2": (c, c), "mask_embed.4": (c, c), "querys2feat": (c, c),
              "pixel_decoder.mask_feature": (c, c, 1, 1)}
    for i in range(3):
        shapes[f"pixel_decoder.input_convs.{i}.conv"], shapes[f"pixel_decoder.input_convs.{i}.gn"] = (c, 12, 1, 1), (c,)
    for i in range(layers):
        encoder, decoder = f"pixel_decoder.encoder.layers.{i}.", f"transformer_decoder.layers.{i}."
        for name, rows in (("sampling_offsets", 48), ("attention_weights", 24), ("value_proj", c), ("output_proj", c)):
            shapes[f"{encoder}self_attn.{name}"] = (rows, c)
        for layer in (encoder, decoder):
            shapes[f"{layer}ffn.layers.0.0"], shapes[f"{layer}ffn.layers.1"] = (16, c), (c, 16)
        shapes.update({f"{encoder}norms.{k}": (c,) for k in range(2)}, **{f"{decoder}norms.{k}": (c,) for k in range(3)})
        shapes.update({f"{decoder}{name}.attn.out_proj": (c, c) for name in ("self_attn", "cross_attn")})
    shapes["transformer_decoder.post_norm"] = shapes["pixel_decoder.lateral_convs.0.gn"] = shapes["pixel_decoder.output_convs.0.gn"] = (c,)
    out = {f"{name}.{leaf}": shape if leaf == "weight" else shape[:1] for name, shape in shapes.items() for leaf in ("weight", "bias")}
    for i in range(layers):
        for name in ("self_attn", "cross_attn"):
            attention = f"transformer_decoder.layers.{i}.{name}.attn.in_proj_"
            out[f"{attention}weight"], out[f"{attention}bias"] = (3 * c, c), (3 * c,)
    out.update({"level_embed.weight": (3, c), "pixel_decoder.level_encoding.weight": (3, c),
                "pixel_decoder.lateral_convs.0.conv.weight": (c, 12, 1, 1), "pixel_decoder.output_convs.0.conv.weight": (c, c, 3, 3)})
    return out


def official():
    head = {f"decode_head.{name}": RNG.standard_normal(shape).astype(np.float32) for name, shape in mask2former_names().items()}
    return {**rein(), **head}


def assert_equal(a, b):
    assert set(a) == set(b)
    for name in a:
        assert a[name].shape == b[name].shape and a[name].dtype == b[name].dtype, name
        np.testing.assert_array_equal(a[name], b[name])


def test_official_both_ways(tmp_path):
    source = official()
    flat, summary = import_official(source)
    assert flat["adapters/0/layers/tokens_a"].shape == (4, 5, 3) and not summary.skipped
    assert flat["head/layers/ffn/fc1/kernel"].shape == (2, 8, 16)
    assert_equal(export_official(flat, tmp_path / "back.pth", wrapper="state_dict"), source)
    file = read_checkpoint(tmp_path / "back.pth")
    assert file.wrapper == "state_dict"
    assert_equal(dict(file), source)


def test_official_variants():
    stages = {name: array for i in range(4) for name, array in rein(f"backbone.reins.{i}.", 2, 4 * (i + 1)).items()}
    flat, _ = import_official(stages)
    assert flat["adapters/3/maps/mlp_delta_f/kernel"].shape == (16, 16)
    assert_equal(export_official(flat), stages)
    fpn = {"backbone.fpn1.0.weight": RNG.standard_normal(4), "backbone.fpn2.1.weight": RNG.standard_normal((4, 4, 2, 2)),
           "backbone.fpn3.weight": RNG.standard_normal(4), **rein()}
    assert_equal(export_official(import_official(fpn)[0]), fpn)
    assert_equal(export_official(import_official({n.replace("fpn3", "fpn3.0"): a for n, a in fpn.items()})[0]), fpn)
    shapes = {"neck.lateral_convs.1.conv.weight": (8, 12, 1, 1), "decode_head.conv_seg.weight": (4, 8, 1, 1),
              "decode_head.scale_heads.2.2.conv.weight": (8, 8, 3, 3), "decode_head.scale_heads.2.2.bn.running_var": (8,)}
    neck = {name: RNG.standard_normal(shape) for name, shape in shapes.items()}
    flat, _ = import_official(neck)
    assert flat["head/scale_heads/2/1/conv/kernel"].shape == (3, 3, 8, 8)
    assert_equal(export_official(flat), neck)
    group = {"decode_head.scale_heads.2.2.gn.weight": RNG.standard_normal(8), "decode_head.scale_heads.2.2.gn.bias": RNG.standard_normal(8)}
    assert_equal(export_official(import_official(group)[0]), group)
    assert_equal(export_official(import_official({n.replace(".gn.", ".bn."): a for n, a in group.items()})[0]), group)


def test_an_imported_official_model_loads_and_predicts(tmp_path):
    given = "configs/generalisation.py:method=rein,head=semantic_fpn"
    shapes = abstract_params(configuration.load(given, ["backbone.weights=random"]), CITYSCAPES)[1]
    export_official({n: RNG.standard_normal(s.shape).astype(np.float32) for n, s in shapes.items()}, tmp_path / "official.pth")
    target = tmp_path / "model.safetensors"
    assert convert_main([str(tmp_path / "official.pth"), str(target), "--config", given, "--config.backbone.weights=random"]) == 0
    model = load(target)
    assert all(isinstance(array, jax.Array) for array in trees.flatten(model).values())
    found = model.predict([np.zeros((32, 48, 3), np.uint8), np.zeros((9, 9, 3), np.uint8)], whole=True)
    assert [one.labels.shape for one in found] == [(32, 48), (9, 9)]
    with pytest.raises(UserError, match=r"of shape \[H, W, 3\]"):
        model.predict([np.zeros((2, 32, 32, 3), np.uint8)])


def test_official_rein_without_link_leaves_its_idle_maps():
    source = official()
    shapes = {n: a for n, a in import_official(source)[0].items() if not n.startswith(("adapters/0/merge", "adapters/0/maps/transform"))}
    flat, summary = import_official(source, shapes=shapes)
    assert set(flat) == set(shapes) and len(summary.skipped) == 4


def test_official_convnext_has_mmpretrains_names():
    shapes = {"stages.1.0.depthwise_conv.weight": (8, 1, 7, 7), "stages.1.0.pointwise_conv1.weight": (32, 8), "norm1.weight": (8,)}
    source = {**rein("backbone.reins.1.", 2, 8), **{f"backbone.{name}": RNG.standard_normal(shape) for name, shape in shapes.items()}}
    flat, _ = import_official(source, backbone="convnext_l")
    assert "backbone/norms/1/scale" in flat
    assert_equal(export_official(flat, backbone="convnext_l"), source)


def test_official_files_that_do_not_fit(tmp_path):
    with pytest.raises(UserError, match="no key backbone.reins"):
        import_official({"cls_token": np.ones(3)})
    with pytest.raises(UserError, match="'decode_head.surprise'"):
        import_official({**official(), "decode_head.surprise": np.ones(2)})
    frozen = {**official(), "backbone.blocks.0.norm1.weight": np.ones(12), "data_preprocessor.mean": np.ones(3)}
    assert set(import_official(frozen)[1].skipped) == {"backbone.blocks.0.norm1.weight", "data_preprocessor.mean"}
    with pytest.raises(UserError, match="have no name in the official"):
        export_official({"adapters/0/layers/lora": np.ones(2)})
    wanted, _ = import_official(official())
    wanted["head/other"] = np.ones(2, np.float32)
    with pytest.raises(UserError, match="lacks what this model needs: 'head/other'"):
        import_official(official(), shapes=wanted)


def test_convert_round_trip_is_bit_identical(tmp_path):
    arrays = {**official(), "half": np.ones(3, np.float16), "count": np.array(7), "nan": np.array([np.nan, np.inf, -0.0], np.float32)}
    write_torch(tmp_path / "a.pth", arrays, "model")
    convert(tmp_path / "a.pth", tmp_path / "b.safetensors")
    convert(tmp_path / "b.safetensors", tmp_path / "c.pth")
    a, b, c = (read_checkpoint(tmp_path / name) for name in ("a.pth", "b.safetensors", "c.pth"))
    assert same(a, b) and same(b, c) and c.wrapper == "model"
    data = bytearray((tmp_path / "b.safetensors").read_bytes())
    data[-3] ^= 4
    (tmp_path / "b.safetensors").write_bytes(data)
    assert not same(a, read_checkpoint(tmp_path / "b.safetensors"))
    with pytest.raises(UserError, match="was changed or damaged"):
        convert(tmp_path / "b.safetensors", tmp_path / "d.pth")
    with pytest.raises(UserError, match="exists"):
        convert(tmp_path / "a.pth", tmp_path / "c.pth")
    with pytest.raises(UserError, match="the source itself"):
        convert(tmp_path / "a.pth", tmp_path / "a.pth", force=True)
    with pytest.raises(UserError, match="ends neither"):
        convert(tmp_path / "a.pth", tmp_path / "a.bin")
    assert not (tmp_path / "d.pth").exists()


META = {
    "config": {"name": "quick", "adapter": {"name": "rein"}, "backbone": {"name": "dinov2_vits14"}, "head": {"name": "mask2former"},
               "trainable": ["adapters/", "head/"], "eval": {"protocol": "full", "mode": "slide", "crop": 512, "stride": 341},
               "data": {"train": [{"name": "streets", "split": "train"}]}, "optim": {"lr": 1e-4}},
    "classes": ["road", "car"], "palette": np.array([[1, 2, 3], [4, 5, 6]]), "preprocessing": {"mean": (1.0, 2.0, 3.0)},
    "weights": {"name": "dinov2_vits14", "source": "a.safetensors", "sha256": "ab" * 32}, "frozen": "sha256:" + "ab" * 32, "step": 100,
    "evaluation": {"domains": {"night": {"mIoU": 40.0, "mAcc": 50.0}}, "mean": {"mIoU": 40.0}}, "version": "0.1",
}


def model(path, **changes):
    arrays = import_official(official())[0]
    write_model(path, arrays, {**META, **changes})
    return arrays


def test_model_file(tmp_path):
    path = tmp_path / "model.safetensors"
    arrays = model(path)
    found, meta = read_model(path)
    assert_equal(found, arrays)
    assert meta["palette"] == [[1, 2, 3], [4, 5, 6]] and meta["config"]["optim"]["lr"] == 1e-4 and "Apache-2.0" in meta["licence"]
    assert read_meta(path) == meta
    check_backbone(path, meta, "sha256:" + "ab" * 32)
    with pytest.raises(UserError, match="sha256:abab.*sha256:cdcd"):
        check_backbone(path, meta, "sha256:" + "cd" * 32)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="changed or damaged"):
        read_model(path)
    data[-1] ^= 1
    path.write_bytes(data.replace(b"mask2former", b"mask3former"))
    with pytest.raises(UserError, match="metadata"):
        read_model(path)
    path.write_bytes(data[:-1])
    with pytest.raises(UserError, match="bytes long"):
        read_model(path)


def test_other_files_are_no_models(tmp_path):
    write_torch(tmp_path / "a.pth", official())
    with pytest.raises(UserError, match="not a model that rein wrote"):
        read_model(tmp_path / "a.pth")
    with pytest.raises(TypeError, match="metadata of a model"):
        write_model(tmp_path / "m", {}, {"x": object()})


def test_commands(tmp_path, capsys):
    model(tmp_path / "a.safetensors")
    model(tmp_path / "b.safetensors", config={**META["config"], "optim": {"lr": 2e-4}}, evaluation={"mean": {"mIoU": 42.5}})
    assert show.main([str(tmp_path / "a.safetensors")]) == 0
    shown = capsys.readouterr().out
    for part in ("rein; trained: adapters/, head/", "dinov2_vits14, from a.safetensors", "sha256:abab", "2: road, car", "streets (train)",
                 "night mIoU 40.00", "Apache-2.0", "protocol full"):
        assert part in shown
    assert show.main([str(tmp_path / "a.safetensors"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["step"] == 100
    assert diff.main([str(tmp_path / "a.safetensors"), str(tmp_path / "b.safetensors")]) == 0
    shown = capsys.readouterr().out
    assert "0.0001  ->  0.0002" in shown and "+2.50" in shown
    assert convert_main([str(tmp_path / "a.safetensors"), str(tmp_path / "a.pth")]) == 0
    capsys.readouterr()
    assert show.main([str(tmp_path / "a.pth"), "--names"]) == 0
    shown = capsys.readouterr().out
    assert "an official Rein checkpoint" in shown and "decode_head.cls_embed.weight  (4, 8)" in shown
    with pytest.raises(UserError, match="holds no model.safetensors"):
        show.main([str(tmp_path / "..")])
    with pytest.raises(UserError, match="config.json does not exist"):
        diff.main([str(tmp_path), str(tmp_path)])


def test_runs_are_compared(tmp_path):
    for name, lr, value in (("a", 1e-4, 60.0), ("b", 1e-4, 61.0)):
        run = tmp_path / name
        run.mkdir()
        (run / "config.json").write_text(json.dumps({"optim": {"lr": lr}, "data": {"train": [{"name": name}]}}))
        (run / "results.json").write_text(json.dumps({"steps": 5, "evaluation": {"mean": {"mIoU": value}}}))
    found = diff.compare(diff.read_run(tmp_path / "a"), diff.read_run(tmp_path / "b"))
    assert found == {"config": {"data.train.0.name": ("a", "b")}, "facts": {}, "numbers": {"mean mIoU": (60.0, 61.0)}}


def test_a_head_that_the_official_code_lacks_is_said(tmp_path, capsys):
    """Once an error of NumPy about axes."""
    model = write_tiny(tmp_path / "model.safetensors", "rein", head="linear")
    assert main(["convert", str(model), str(tmp_path / "x.pth")]) == 2
    assert "not those of the official Rein code" in capsys.readouterr().err and not (tmp_path / "x.pth").exists()
