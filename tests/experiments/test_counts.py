"""`rein params` names the published count beside ours."""

from __future__ import annotations

from rein_jax import configuration
from rein_jax.cli import params
from rein_jax.experiments import counts


def test_a_row_of_the_paper_names_the_published_count(capsys):
    assert params.main(["configs/rein_dinov2_gta.py"]) == 0
    assert "2,990,081 = 2.99M; published: 2.99M" in capsys.readouterr().out
    assert counts.published(configuration.load("configs/gta_to_cbm.py:tokens=50")) == ""


def test_mae_says_why_it_differs(capsys):
    params.main(["configs/gta_to_cbm.py:backbone=mae_l,method=full"])
    text = capsys.readouterr().out
    assert "304.15M; published: 330.94M" in text and "mmseg" in text
