"""Pieces of the tables of names that several families share: a torch layer's two arrays, and whole timm or HF blocks."""

from __future__ import annotations

from rein_jax.weight_rules import Rule

Rules = tuple[Rule, ...]


def linear(source: str, target: str, part: tuple[int, int] | None = None) -> Rules:
    """weight and bias of a torch Linear; `part` fills part k of n of the target's outputs."""
    return (
        Rule(f"{source}.weight", f"{target}/kernel", "linear", part),
        Rule(f"{source}.bias", f"{target}/bias", part=part),
    )


def conv(source: str, target: str, layout: str = "conv") -> Rules:
    """weight and bias of a torch convolution (a convolution without bias just never uses the second rule)."""
    return Rule(f"{source}.weight", f"{target}/kernel", layout), Rule(f"{source}.bias", f"{target}/bias")


def norm(source: str, target: str) -> Rules:
    """weight and bias of a torch LayerNorm or GroupNorm."""
    return Rule(f"{source}.weight", f"{target}/scale"), Rule(f"{source}.bias", f"{target}/bias")


def batch_norm(source: str, target: str, index: int | None = None) -> Rules:
    """The four arrays of a torch BatchNorm."""
    pairs = (("weight", "scale"), ("bias", "bias"), ("running_mean", "mean"), ("running_var", "var"))
    return tuple(Rule(f"{source}.{theirs}", f"{target}/{ours}", index=index) for theirs, ours in pairs)


def fused_qkv(source: str, target: str, names: tuple[str, str, str]) -> Rules:
    """Three separate linears as the thirds of one."""
    return tuple(rule for k, name in enumerate(names) for rule in linear(f"{source}{name}", target, (k, 3)))


def patch_embed(source: str) -> Rules:
    """The patch projection of a ViT."""
    return (
        Rule(f"{source}.weight", "backbone/patch_embed/kernel", "conv", resize="patch"),
        Rule(f"{source}.bias", "backbone/patch_embed/bias"),
    )


def timm_block(source: str, target: str) -> Rules:
    """A timm-style ViT block (DINOv2, MAE): norms, fused qkv, MLP or fused SwiGLU, LayerScale."""
    out = [rule for name in ("norm1", "norm2") for rule in norm(source + name, target + name)]
    for name in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2", "mlp.w12", "mlp.w3"):
        out += linear(source + name, target + name.replace(".", "/"))
    return (*out, *(Rule(f"{source}{scale}.gamma", f"{target}{scale}/gamma") for scale in ("ls1", "ls2")))
