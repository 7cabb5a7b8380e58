"""Use a trained model: classes of every pixel, their scores, pictures.

    python examples/use.py --model runs/mine --image street.jpg --out predictions
    python examples/use.py                                               # trains a tiny model on the embedded streets first
"""

from __future__ import annotations

import argparse
from pathlib import Path

import rein_jax as rj


def train_tiny(workdir: Path, steps: int) -> Path:
    """A model of toy size, so that there is one to use."""
    variant = {"embed_dim": 48, "depth": 4, "num_heads": 3}
    config = rj.config(
        backbone={"name": "dinov2", "weights": "random", "image_size": 64, "options": {"variant": variant}},
        adapter={"name": "rein", "num_tokens": 20, "rank": 4, "link": False}, head={"name": "linear"}, train={"steps": steps, "batch": 4},
        data={"train": [{"name": "streets", "size": (64, 128)}], "crop": (64, 64), "resize": "none"}, eval={"crop": 64, "stride": 64},
        optim={"lr": 1e-2},
    )  # fmt: skip
    rj.train(config, workdir)
    return workdir


def main(argv: list[str] | None = None) -> rj.Segmentation:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a run folder or a model.safetensors")
    parser.add_argument("--image", help="a picture; without it a street at night")
    parser.add_argument("--out", type=Path, default=Path("predictions"))
    parser.add_argument("--steps", type=int, default=20, help="of the tiny model's training")
    args = parser.parse_args(argv)

    model = rj.Segmenter.from_pretrained(args.model or train_tiny(args.out / "tiny_run", args.steps))
    print(f"{model.num_params():,} parameters, classes: {', '.join(model.classes.names)}")
    image = args.image or rj.data.open("streets", style="night", split="test", size=(64, 128))[0]["image"]
    result = model.predict(image)
    for name, share in result.shares.items():
        print(f"{name:15} {share:6.1%} of the pixels")
    print(f"labels {result.labels.shape}, scores {result.scores.shape}, overlay {result.overlay().shape}")
    print(f"mean confidence {result.confidence.mean():.2f}; written:", *result.save(args.out, "street"))
    return result


if __name__ == "__main__":
    main()
