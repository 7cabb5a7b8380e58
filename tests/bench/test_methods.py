"""`rein bench methods`: operations of the methods on one backbone, and Rein's share."""

from __future__ import annotations

import pytest

from rein_jax.bench import methods
from rein_jax.errors import UserError


def test_counts_without_compiling(capsys):
    found = methods.main(["--no-compile", "--methods", "freeze,rein,lora,vpt"])
    rows = found["methods"]
    assert rows["freeze"]["forward_ratio"] == 1.0 and rows["freeze"]["trained_in_backbone"] == 0
    assert 1.0 < rows["lora"]["forward_ratio"] < rows["rein"]["forward_ratio"] < 1.1 < rows["vpt"]["forward_ratio"]
    assert "compiled_forward_flops" not in rows["rein"] and "684,033" in capsys.readouterr().err


def test_rein_on_vit_large_is_within_a_tenth_and_as_the_formula_says():
    """A block of width d over N tokens: 24 d^2 + 4 N d a token; Rein of m tokens and rank r: 2 d^2 + 4 d r + 4 m r."""
    found = methods.main(["--no-compile", "--methods", "rein", "--backbone", "dinov2_l"])
    d, n, m, r = 1024, 1025, 100, 16
    formula = (2 * d**2 + 4 * d * r + 4 * m * r) / (24 * d**2 + 4 * n * d)
    assert found["methods"]["rein"]["forward_ratio"] - 1 == pytest.approx(formula, rel=0.05) and formula < 0.1


@pytest.mark.slow
def test_a_method_that_the_backbone_cannot_take_has_a_line_of_its_own(capsys):
    found = methods.main(["--no-compile", "--methods", "rein,vpt", "--backbone", "sam_b"])
    assert "token sequence" in found["methods"]["vpt"]["refused"] and "forward_ratio" in found["methods"]["rein"]
    assert "refused" in capsys.readouterr().err
    with pytest.raises(UserError, match="Did you mean 'rein'"):
        methods.main(["--methods", "rien"])


@pytest.mark.slow
def test_compiled_programs_agree_with_the_count():
    """XLA counts element-wise operations too; at 512 Rein adds less than a tenth (at 256 its d x d maps alone are a ninth of a ViT-S)."""
    found = methods.main(["--no-run", "--methods", "freeze,rein", "--crop", "512", "--batch", "1"])["methods"]
    assert found["rein"]["compiled_forward_flops"] / found["freeze"]["compiled_forward_flops"] < 1.1
    assert found["rein"]["compiled_forward_flops"] == pytest.approx(found["rein"]["forward_flops"], rel=0.05)
    assert found["rein"]["temporary_bytes"] > 0 and found["rein"]["step_flops"] > found["rein"]["forward_flops"]
