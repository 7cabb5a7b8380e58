"""Times the Mask2Former head of `transformers` (pixel decoder, decoder, class scores) for `rein bench head`; prints one JSON line.

The same sizes and the same function as our head (up to initial values): 6 encoder and 9 decoder layers, 10 predictions.
"""

import argparse
import json
import resource
import time

import torch
from transformers import Mask2FormerConfig, SwinConfig
from transformers.models.mask2former import modeling_mask2former as m2f


def build(width: int, queries: int, classes: int):
    config = Mask2FormerConfig(
        backbone_config=SwinConfig(), feature_size=256, mask_feature_size=256, hidden_dim=256, encoder_feedforward_dim=1024,
        encoder_layers=6, decoder_layers=10, num_attention_heads=8, dropout=0.0, dim_feedforward=2048, num_queries=queries)
    pixel = m2f.Mask2FormerPixelDecoder(config, [width] * 4)
    decoder = m2f.Mask2FormerTransformerModule(256, config)
    return torch.nn.ModuleDict({"pixel": pixel, "decoder": decoder, "classes": torch.nn.Linear(256, classes + 1)})


def initialise(pixel, decoder) -> None:
    """Values on which the arithmetic does not overflow; sampling offsets start on the ring, as in training."""
    for name, value in [*pixel.named_parameters(), *decoder.named_parameters()]:
        if value.dim() > 1:
            torch.nn.init.xavier_uniform_(value)
        elif "norm" not in name and not name.endswith("weight"):
            torch.nn.init.zeros_(value)
    for layer in pixel.encoder.layers:
        attention = layer.self_attn
        torch.nn.init.zeros_(attention.sampling_offsets.weight)
        angle = torch.arange(attention.n_heads) * (2 * torch.pi / attention.n_heads)
        ring = torch.stack([angle.cos(), angle.sin()], -1)
        ring = ring / ring.abs().max(-1, keepdim=True)[0]
        steps = torch.arange(1, attention.n_points + 1)[:, None]
        grid = (ring[:, None, None] * steps).expand(attention.n_heads, attention.n_levels, attention.n_points, 2)
        attention.sampling_offsets.bias.data.copy_(grid.reshape(-1))


def forward(head, maps):
    pixel = head["pixel"](maps, output_hidden_states=False, return_dict=True)
    out = head["decoder"](multi_scale_features=pixel.multi_scale_features, mask_features=pixel.mask_features, output_hidden_states=True)
    classes = [head["classes"](x.transpose(0, 1)) for x in out.intermediate_hidden_states]
    return classes, out.masks_queries_logits


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__)
    for name, default in (("size", 512), ("width", 384), ("batch", 1), ("passes", 3), ("threads", 2), ("queries", 100), ("classes", 19)):
        parse.add_argument(f"--{name}", type=int, default=default)
    parse.add_argument("--mode", choices=("forward", "gradients"), required=True)
    given = parse.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    head = build(given.width, given.queries, given.classes)
    initialise(head["pixel"], head["decoder"])
    maps = [torch.randn(given.batch, given.width, given.size // s, given.size // s, requires_grad=True) for s in (4, 8, 16, 32)]

    def once():
        if given.mode == "forward":
            with torch.no_grad():
                return forward(head, maps)
        classes, masks = forward(head, maps)
        return (sum((c**2).mean() for c in classes) + sum((m**2).mean() for m in masks)).backward()

    seconds, processor = [], []
    for _ in range(given.passes + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        once()
        seconds.append(time.perf_counter() - wall)
        processor.append(time.process_time() - cpu)
    print(json.dumps({"seconds": seconds[1:], "cpu_seconds": processor[1:], "first_s": seconds[0], "torch": torch.__version__,
                      "predictions": len(forward(head, maps)[1]), "parameters": sum(p.numel() for p in head.parameters()),
                      "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


if __name__ == "__main__":
    main()
