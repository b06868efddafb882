"""How well a generator draws: against the definitions of the paper, and cases of which the answer is known."""

import numpy as np
import pytest

from anogan_tf import drawing
from anogan_tf.commands import baselines


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def pictures(rng, n, side=16):
    """Smooth images of three kinds of variation."""
    down, right = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    kinds = np.stack([down, right, np.hypot(down, right)])
    return np.tanh(np.tensordot(rng.normal(size=(n, 3)), kinds, 1)).astype(np.float32)[..., None]


def test_density_and_coverage_are_those_of_the_paper(rng):
    real, generated, k = rng.normal(size=(30, 4)), rng.normal(size=(20, 4)) * 0.7, 3
    radii = [sorted(np.linalg.norm(real - x, axis=1))[k] for x in real]
    inside = [[np.linalg.norm(y - x) < r for y in generated] for x, r in zip(real, radii, strict=True)]
    expected = np.sum(inside) / (k * 20), np.mean(np.any(inside, axis=1))
    np.testing.assert_allclose(drawing.density_and_coverage(real, generated, k), expected)


def test_images_like_the_real_ones_cover_them_and_others_do_not(rng):
    real = rng.normal(size=(60, 5))
    assert drawing.density_and_coverage(real, real) == (1.0, 1.0)
    assert drawing.density_and_coverage(real, real + 100) == (0.0, 0.0)
    one = np.repeat(real[:1], 60, axis=0)  # always the same
    density, coverage = drawing.density_and_coverage(real, one)
    assert density > 0.1
    assert coverage < 0.3


def test_variety_is_the_ratio_of_variances(rng):
    images = pictures(rng, 50)
    assert drawing.variety(images, images) == 1
    assert drawing.variety(0.5 * images + 0.1, images) == pytest.approx(0.25, rel=1e-5)
    assert drawing.variety(np.repeat(images[:1], 9, axis=0), images) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("side", [8, 16])
def test_measures_of_what_is_drawn_and_reconstructed(rng, side):
    every = pictures(rng, 90)[:, :: 16 // side, :: 16 // side]
    train, held_out = every[:60], every[60:]
    perfect = drawing.measures(train, held_out, train, held_out)
    assert (perfect["variety"], perfect["density"], perfect["coverage"], perfect["error"]) == (1, 1, 1, 0)
    mean = np.repeat(train.mean(axis=0, keepdims=True), 30, axis=0)
    blurred = drawing.measures(train, held_out, mean, mean)
    assert blurred["error"] == pytest.approx(1)
    assert blurred["coverage"] < 0.5
    pca = baselines.pca(train, held_out).mean() / np.mean((held_out - train.mean(axis=0)) ** 2)
    assert blurred["error_of_pca"] == pytest.approx(pca, rel=1e-4)
