"""Each augmentation's defining property."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rein_jax.augment.advstyle import AdvStyle
from rein_jax.augment.gtr_ltr import GTRLTR, bands, blobs
from rein_jax.augment.masks import real_pixels
from rein_jax.augment.pasta import PASTA, frequency_radius, modulate
from rein_jax.errors import UserError

KEY = jax.random.key(3)


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    smooth = [cv2.GaussianBlur(rng.integers(0, 256, (48, 64, 3), np.uint8), (0, 0), 3) for _ in range(2)]
    image = np.stack([cv2.normalize(s, None, 0, 255, cv2.NORM_MINMAX) for s in smooth])
    image[1, 40:] = 0
    return {"image": jnp.asarray(image), "label": jnp.zeros((2, 48, 64), jnp.uint8), "size": jnp.asarray([[48, 64], [40, 64]], jnp.int32)}


def colour_loss(batch):
    """A loss that likes red and dislikes contrast."""
    x = batch["image"].astype(jnp.float32) / 255
    return jnp.square(x - jnp.asarray([0.9, 0.2, 0.1])).mean()


def test_advstyle_raises_the_loss_by_an_affine_change_of_each_channel(batch):
    augment = AdvStyle(gamma=0.02, both=False)
    out = augment(batch, KEY, colour_loss)
    assert colour_loss(out) > colour_loss({**batch, "image": batch["image"].astype(jnp.float32)})
    x, y = np.asarray(batch["image"][0], np.float64).reshape(-1, 3), np.asarray(out["image"][0], np.float64).reshape(-1, 3)
    for c in range(3):
        slope, offset = np.polyfit(x[:, c], y[:, c], 1)
        assert np.abs(slope * x[:, c] + offset - y[:, c]).max() < 1e-2
    assert not np.asarray(out["image"][1, 40:]).any(), "padding must stay empty"


def test_advstyle_without_step_changes_nothing_and_doubles_the_batch(batch):
    out = jax.jit(lambda b: AdvStyle(gamma=0.0)(b, KEY, colour_loss))(batch)
    assert out["image"].shape[0] == out["label"].shape[0] == out["size"].shape[0] == 4
    assert np.abs(np.asarray(out["image"][2:]) - np.asarray(batch["image"], np.float32)).max() < 1e-3


def test_advstyle_without_step_leaves_channels_that_hardly_vary(batch):
    image = np.full((1, 48, 64, 3), 100, np.uint8)
    image[0, 5, 5] = 101
    flat = {"image": jnp.asarray(image), "label": batch["label"][:1]}
    for normalise in (True, False):
        out = AdvStyle(gamma=0.0, both=False, normalise=normalise)(flat, KEY, colour_loss)["image"]
        assert np.abs(np.asarray(out) - image).max() < 1e-2


def test_advstyle_sends_no_gradient_to_the_parameters(batch):
    def loss(weight):
        inner = lambda b: weight * colour_loss(b)
        return AdvStyle(both=False)(batch, KEY, inner)["image"].sum()

    assert jax.grad(loss)(2.0) == 0.0


def test_pasta_without_noise_is_the_identity(batch):
    assert np.array_equal(PASTA(alpha=0.0, beta=0.0)(batch, KEY)["image"], batch["image"])
    large = {"image": jax.random.randint(KEY, (1, 512, 513, 3), 0, 256).astype(jnp.uint8)}
    assert np.array_equal(PASTA(alpha=0.0, beta=0.0)(large, KEY)["image"], large["image"])


def test_padding_is_no_part_of_the_image(batch):
    """A flat image beside padding has no detail: PASTA moves it as a whole, GTR-LTR's bands hold nothing but its mean."""
    flat = {**batch, "image": jnp.where(jnp.arange(48)[:, None, None] < batch["size"][:, 0, None, None, None], 90, 0).astype(jnp.uint8)
            * jnp.ones((1, 1, 64, 3), jnp.uint8)}
    noisy = np.asarray(PASTA()(flat, KEY)["image"])
    assert np.ptp(noisy[1, :40].reshape(-1, 3), axis=0).max() <= 1 and not noisy[1, 40:].any()
    x = flat["image"].astype(jnp.float32) / 255
    *details, rest = bands(x, real_pixels(flat))
    assert max(float(jnp.abs(band[1, :40]).max()) for band in details) < 1e-5 and np.allclose(rest[1, :40], 90 / 255, atol=1e-5)


def test_pasta_leaves_the_phase_or_turns_it_by_pi(batch):
    x = jnp.asarray(batch["image"], jnp.float32) / 255
    noise = PASTA().noise(KEY, x.shape)
    ratio = np.fft.fft2(modulate(x, noise), axes=(1, 2)) / np.fft.fft2(x, axes=(1, 2))
    mirrored = np.roll(np.asarray(noise)[:, ::-1, ::-1], (1, 1), (1, 2))
    strong = np.abs(np.fft.fft2(x, axes=(1, 2))) > 0.5
    assert np.abs(ratio.imag)[strong].max() < 2e-3
    assert np.allclose(ratio.real[strong], ((np.asarray(noise) + mirrored) / 2)[strong], atol=2e-3)


def test_pasta_noise_grows_with_frequency_as_published():
    sigma = PASTA().sigma(64, 64)
    assert sigma[0, 0] == pytest.approx(0.25) and sigma[32, 32] == pytest.approx(9.25)
    noise = np.asarray(PASTA().noise(KEY, (64, 64, 64, 3)))
    assert noise[:, 32, 32].std() == pytest.approx(9.25, rel=0.15) and noise[:, 0, 0].std() == pytest.approx(0.25, rel=0.15)
    assert np.abs(noise.mean((0, 3)) - 1).max() < 4 * 9.25 / np.sqrt(64 * 3) + 1
    assert np.array_equal(np.round(frequency_radius(6, 1, "released")[:, 0] * 2), [0, 1, 2, 2, 1, 0])
    assert np.array_equal(np.round(frequency_radius(5, 2, "released")[:, 0] * 2), [1, 2, 2, 1, 0])


def test_gtr_ltr_keeps_the_original_in_blobs_of_the_right_share(batch):
    share = jax.jit(jax.vmap(lambda key: blobs(key, (96, 128), 0.3).mean()))(jax.random.split(KEY, 40)).mean()
    assert float(share) == pytest.approx(0.3, abs=0.05)
    none, every = GTRLTR(probability=1.0, keep=(0.0, 0.0)), GTRLTR(probability=1.0, keep=(1.0, 1.0))
    assert np.array_equal(jax.jit(every.__call__)(batch, KEY)["image"], batch["image"])
    changed = np.asarray(jax.jit(none.__call__)(batch, KEY)["image"])
    assert (changed[0] != np.asarray(batch["image"][0])).any(-1).mean() > 0.95
    half = np.asarray(jax.jit(GTRLTR(probability=1.0, keep=(0.5, 0.5)).__call__)(batch, KEY)["image"])
    same, new = (half == np.asarray(batch["image"])).all(-1), (half == changed).all(-1)
    assert (same | new)[0].all(), "every pixel is either the original's or the texture's"


def test_gtr_ltr_takes_the_statistics_of_its_texture(batch, tmp_path):
    cv2.imwrite(str(tmp_path / "t.png"), np.full((40, 40, 3), (10, 120, 240), np.uint8))
    styled = np.asarray(GTRLTR(probability=1.0, keep=(0.0, 0.0), texture=str(tmp_path))(batch, KEY)["image"])[0]
    assert np.abs(styled.reshape(-1, 3).mean(0) - [240, 120, 10]).max() < 3
    x = jnp.asarray(batch["image"], jnp.float32)
    assert np.allclose(sum(bands(x)), x, atol=1e-2)


@pytest.mark.parametrize("make", [lambda: AdvStyle(gamma=-1), lambda: PASTA(k=0), lambda: PASTA(grid="x"), lambda: GTRLTR(keep=(0.5, 0.1)),
                                  lambda: GTRLTR(texture="/nowhere")])  # fmt: skip
def test_wrong_options_are_named(make):
    with pytest.raises(UserError, match="config.augment"):
        make()
