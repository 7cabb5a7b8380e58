"""The sine position encoding against its definition."""

import numpy as np
import pytest

from rein_jax.layers.positions import sine_positions


def test_equals_the_definition():
    height, width, half = 3, 5, 6
    got = np.asarray(sine_positions(height, width, 2 * half))
    assert got.shape == (height, width, 2 * half)
    for y in range(height):
        for x in range(width):
            for k in range(half):
                frequency = 10_000 ** (2 * (k // 2) / half)
                wave = np.sin if k % 2 == 0 else np.cos
                assert got[y, x, k] == pytest.approx(wave((y + 1) / (height + 1e-6) * 2 * np.pi / frequency), abs=1e-6)
                assert got[y, x, half + k] == pytest.approx(wave((x + 1) / (width + 1e-6) * 2 * np.pi / frequency), abs=1e-6)


def test_channels_must_divide():
    with pytest.raises(ValueError, match="multiple of 4"):
        sine_positions(2, 2, 6)
