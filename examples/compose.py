"""Put a model together from parts, look at what trains, save it and load it again.

    python examples/compose.py --adapter lora --head semantic_fpn
    python examples/compose.py --backbone dinov2_vits14 --size 512        # published weights, fetched once
"""

from __future__ import annotations

import argparse

import numpy as np

import rein_jax as rj

ADAPTERS = {"rein": rj.Rein, "lora": rj.LoRA, "adaptformer": rj.AdaptFormer, "vpt": rj.VPT}
SMALL = {"mask2former": {"channels": 32, "groups": 8, "encoder_layers": 1, "decoder_layers": 3, "encoder_ffn": 64, "decoder_ffn": 64},
         "semantic_fpn": {"channels": 32, "head_channels": 32}, "linear": {}}  # fmt: skip
HEADS = {"mask2former": rj.Mask2Former, "semantic_fpn": rj.SemanticFPN, "linear": rj.LinearHead}


def compose(backbone_name: str | None, size: int, adapter_name: str, head_name: str, classes: list[str]) -> rj.Segmenter:
    """A model of the named parts; without a backbone's name a tiny one with random weights."""
    if backbone_name:
        backbone = rj.DINOv2.from_pretrained(backbone_name, image_size=size)
    else:
        backbone = rj.DINOv2(rj.backbones.ViTConfig(embed_dim=48, depth=4, num_heads=3), image_size=size)
    options = {"num_tokens": 20, "rank": 4, "query_dims": 32} if adapter_name == "rein" else {}
    adapter = ADAPTERS[adapter_name](backbone, **options)
    head = HEADS[head_name](backbone, num_classes=len(classes), adapter=adapter, **SMALL[head_name])
    return rj.Segmenter(backbone, head, adapter=adapter, classes=classes)


def main(argv: list[str] | None = None) -> rj.Segmenter:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", help="a published DINOv2, such as dinov2_vits14")
    parser.add_argument("--size", type=int, default=64, help="side of the images in pixels")
    parser.add_argument("--adapter", choices=sorted(ADAPTERS), default="rein")
    parser.add_argument("--head", choices=sorted(HEADS), default="mask2former")
    parser.add_argument("--out", default="composed", help="folder of the saved model")
    args = parser.parse_args(argv)

    model = compose(args.backbone, args.size, args.adapter, args.head, ["road", "building", "vegetation", "sky"])
    for part in ("backbone", "adapters", "head"):
        print(f"{part:10} {model.num_params(rj.trainable(part)):12,} parameters")
    print(f"{'trained':10} {model.num_params(rj.trainable('adapter', 'head')):12,} parameters")

    again = rj.Segmenter.from_pretrained(model.save(args.out))
    image = np.random.default_rng(0).integers(0, 256, (args.size, 2 * args.size, 3), dtype=np.uint8)
    here, there = model.predict(image), again.predict(image)
    print(here, "the same after loading:", np.array_equal(here.scores, there.scores))
    return again


if __name__ == "__main__":
    main()
