"""Times Rein + Mask2Former in PyTorch (`transformers`' DINOv2 and Mask2Former, Rein from its equations) for `rein bench torch`.

One frozen DINOv2 of patch 16 with Rein after every block, queries linked to the tokens, 6 encoder and 9 decoder layers, the
Mask2Former loss with its matching, AdamW on Rein and head: the work of our training step. Weights are random. One JSON line.
"""

import argparse
import json
import resource
import time

import torch
import torch.nn.functional as F
from head_torch import initialise
from transformers import Dinov2Config, Dinov2Model, Mask2FormerConfig, SwinConfig
from transformers.models.mask2former import modeling_mask2former as m2f

SIZES = {"s": (384, 12, 6), "b": (768, 12, 12), "l": (1024, 24, 16)}


class Rein(torch.nn.Module):
    """Low-rank tokens of every layer and what the layers share."""

    def __init__(self, layers: int, width: int, tokens: int = 100, rank: int = 16):
        super().__init__()
        self.left = torch.nn.Parameter(torch.randn(layers, tokens, rank) * 0.05)
        self.right = torch.nn.Parameter(torch.randn(layers, rank, width) * 0.05)
        self.scale = torch.nn.Parameter(torch.tensor(0.001))
        self.to_value, self.to_change = torch.nn.Linear(width, width), torch.nn.Linear(width, width)
        self.to_query, self.merge, self.to_feature = torch.nn.Linear(width, 256), torch.nn.Linear(768, 256), torch.nn.Linear(256, 256)

    def refine(self, x, layer: int):
        """x [B, N, C] after a block, the class token first and left alone."""
        tokens = self.left[layer] @ self.right[layer]
        first, rest = x[:, :1], x[:, 1:]
        share = torch.softmax(rest @ tokens.T * tokens.shape[-1] ** -0.5, dim=-1)[..., 1:]
        change = self.to_change(share @ self.to_value(tokens[1:]) + rest)
        return torch.cat([first, rest + self.scale * change], dim=1)

    def queries(self):
        maps = self.to_query(self.left @ self.right)  # [layers, tokens, 256]
        return self.merge(torch.stack([maps.amax(0), maps.mean(0), maps[-1]], dim=-1).flatten(1))


class Segmenter(torch.nn.Module):
    """Images to class scores and masks of 10 predictions."""

    def __init__(self, family: str, crop: int, classes: int):
        super().__init__()
        width, depth, heads = SIZES[family]
        self.backbone = Dinov2Model(Dinov2Config(hidden_size=width, num_hidden_layers=depth, num_attention_heads=heads, image_size=crop,
                                                 patch_size=16))
        self.backbone.requires_grad_(False).eval()
        self.taps = [depth // 4 * k - 1 for k in (1, 2, 3, 4)]
        self.rein = Rein(depth, width)
        self.config = Mask2FormerConfig(
            backbone_config=SwinConfig(), feature_size=256, mask_feature_size=256, hidden_dim=256, encoder_feedforward_dim=1024,
            encoder_layers=6, decoder_layers=10, num_attention_heads=8, dropout=0.0, dim_feedforward=2048, num_queries=100,
            num_labels=classes, train_num_points=12544)
        self.pixel = m2f.Mask2FormerPixelDecoder(self.config, [width] * 4)
        self.decoder = m2f.Mask2FormerTransformerModule(256, self.config)
        self.classes = torch.nn.Linear(256, classes + 1)
        for name in ("queries_embedder", "queries_features"):  # the queries come from the tokens
            delattr(self.decoder, name)

    def maps(self, images):
        x, found = self.backbone.embeddings(images), []
        for number, block in enumerate(self.backbone.encoder.layer):
            x = block(x)
            x = self.rein.refine(x[0] if isinstance(x, tuple) else x, number)
            if number in self.taps:
                side = images.shape[-1] // 16
                found.append(x[:, 1:].transpose(1, 2).unflatten(2, (side, side)))
        return [m if s == 1 else F.interpolate(m, scale_factor=s, mode="bilinear") for m, s in zip(found, (4, 2, 1, 0.5), strict=True)]

    def forward(self, images):
        queries = self.rein.queries()
        position = _Given(queries)
        self.decoder.queries_embedder, self.decoder.queries_features = position, _Given(self.rein.to_feature(queries))
        pixel = self.pixel(self.maps(images), output_hidden_states=False, return_dict=True)
        out = self.decoder(multi_scale_features=pixel.multi_scale_features, mask_features=pixel.mask_features, output_hidden_states=True)
        return [self.classes(x.transpose(0, 1)) for x in out.intermediate_hidden_states], out.masks_queries_logits

    def labels(self, images):
        """[B, H, W]: the last prediction alone becomes labels."""
        classes, masks = self(images)
        masks = F.interpolate(masks[-1], size=images.shape[-2:], mode="bilinear").sigmoid()
        return torch.einsum("bqc,bqhw->bchw", classes[-1].softmax(-1)[..., :-1], masks).argmax(1)


class _Given:
    """Stands where the decoder looks for an embedding."""

    def __init__(self, weight):
        self.weight = weight


def truths(label, classes: int):
    """One binary mask for each class present, of every image."""
    present = [[c for c in range(classes) if bool((image == c).any())] for image in label]
    masks = [torch.stack([(image == c).float() for c in found]) for image, found in zip(label, present, strict=True)]
    return masks, [torch.tensor(found) for found in present]


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__)
    for name, default in (("crop", 512), ("batch", 1), ("passes", 3), ("warmup", 1), ("threads", 2)):
        parse.add_argument(f"--{name}", type=int, default=default)
    parse.add_argument("--family", choices=SIZES, default="s")
    parse.add_argument("--mode", choices=("forward", "step"), required=True)
    parse.add_argument("--compile", action="store_true", help="torch.compile of backbone and head")
    parse.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    given = parse.parse_args()
    torch.set_float32_matmul_precision("high")  # TF32 on a GPU, as JAX there; no change on a CPU
    torch.backends.cudnn.allow_tf32 = True
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    model = Segmenter(given.family, given.crop, 19)
    initialise(model.pixel, model.decoder)
    weights = {"loss_cross_entropy": 2.0, "loss_mask": 5.0, "loss_dice": 5.0}
    loss_of = m2f.Mask2FormerLoss(model.config, weights)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.05)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device), loss_of.to(device)
    halved = given.precision == "bf16"
    if halved:
        model.backbone.to(torch.bfloat16)  # frozen: stored as it is used
    images = torch.rand(given.batch, 3, given.crop, given.crop, device=device)
    label = torch.randint(0, 19, (given.batch, given.crop // 32, given.crop // 32)).repeat_interleave(32, 1).repeat_interleave(32, 2)
    if given.compile:
        model.compile()

    def step():
        with torch.autocast(device, torch.bfloat16, enabled=halved):
            classes, masks = model(images)
        classes, masks = [c.float() for c in classes], [m.float() for m in masks]
        mask_labels, class_labels = truths(label.to(device), 19)
        auxiliary = [{"class_queries_logits": c, "masks_queries_logits": m} for c, m in zip(classes[:-1], masks[:-1], strict=True)]
        found = loss_of(masks[-1], classes[-1], mask_labels, [c.to(device) for c in class_labels], auxiliary)
        total = sum(value * weight for key, value in found.items() for name, weight in weights.items() if name in key)
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        optimizer.step()
        return total

    def forward():
        with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=halved):
            return model.labels(images)

    once = step if given.mode == "step" else forward
    seconds, processor = [], []
    for _ in range(given.warmup + given.passes):
        wall, cpu = time.perf_counter(), time.process_time()
        once()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - wall)
        processor.append(time.process_time() - cpu)
    name, peak = (torch.cuda.get_device_name(), torch.cuda.max_memory_allocated() // 2**20) if device == "cuda" else (device, None)
    print(json.dumps({"seconds": seconds[given.warmup:], "cpu_seconds": processor[given.warmup:], "first_s": seconds[0],
                      "torch": torch.__version__, "device": name, "peak_device_mb": peak,
                      "trainable": sum(p.numel() for p in trained),
                      "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


if __name__ == "__main__":
    main()
