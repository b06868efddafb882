import numpy as np
import pytest
import tensorflow as tf

import anogan_tf as agt
from anogan_tf import differences
from anogan_tf.differences import Differences
from anogan_tf.kinds import KINDS
from tests.conftest import small_gan


def of_normal(n=30, rows=3, columns=5, features=4, seed=0):
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(n, rows, columns, features)) @ rng.normal(size=(features, features))
    return (0.3 + mixed).astype(np.float32)


def test_the_distance_is_that_of_mahalanobis_by_a_covariance_pulled_to_that_of_all_places():
    normal, others = of_normal(), of_normal(n=2, seed=1)
    away = normal - normal.mean(axis=0)
    everywhere = np.cov(away.reshape(-1, 4), rowvar=False, bias=True)
    part = 30 / (30 + 3 * 4)  # the images' own
    regularised = (0.1 * np.trace(everywhere) / 4 + 1e-5) * np.eye(4)
    found = Differences.fit(normal).distances(others)
    for row, column in np.ndindex(3, 5):
        own = np.cov(away[:, row, column], rowvar=False, bias=True)
        inverse = np.linalg.inv(part * own + (1 - part) * everywhere + regularised)
        d = others[:, row, column] - normal[:, row, column].mean(axis=0)
        np.testing.assert_allclose(found[:, row, column], np.einsum("ni,ij,nj->n", d, inverse, d) / 4, rtol=1e-4)


def test_the_score_is_the_mean_of_the_highest_twentieth():
    normal, other = of_normal(rows=8, columns=10), of_normal(n=1, rows=8, columns=10, seed=1)
    learned = Differences.fit(normal)
    highest = np.sort(learned.distances(other).ravel())[-4:]
    assert learned(other)[0] == pytest.approx(highest.mean())
    assert learned(of_normal(n=1, rows=2, columns=2, seed=1)[:, :1, :1].repeat(8, 1).repeat(10, 2)).shape == (1,)


def test_tensors_say_the_same():
    learned, others = Differences.fit(of_normal()), of_normal(n=6, seed=1)
    distances = learned.distances_tensor(tf.constant(others))
    np.testing.assert_allclose(distances, learned.distances(others), rtol=1e-4)
    np.testing.assert_allclose(learned.tensor(distances), learned(others), rtol=1e-4)


def test_images_that_are_drawn_exactly_do_not_part_at_all():
    learned = Differences.fit(np.zeros((3, 2, 2, 4), np.float32))
    assert (learned(np.zeros((1, 2, 2, 4), np.float32)) == 0).all()
    assert (learned(np.full((1, 2, 2, 4), 0.1, np.float32)) > 1).all()


def test_one_image_is_too_few():
    with pytest.raises(ValueError, match=r"at least 2 normal images\. Received: 1"):
        Differences.fit(of_normal(n=1))


def test_a_difference_lies_where_the_images_differ():
    image = np.tanh(np.random.default_rng(0).normal(size=(1, 16, 24, 3))).astype(np.float32)
    drawn = image.copy()
    drawn[0, 4:8, 16:20] = -1.0
    found = differences.of_reconstructions(tf.constant(image), tf.constant(drawn)).numpy()
    assert found.shape == (1, 8, 12, 35)  # a place for each two pixels a side
    strength = np.abs(found[0]).mean(axis=-1)
    assert np.unravel_index(strength.argmax(), strength.shape) in {(r, c) for r in range(2, 4) for c in range(8, 10)}
    assert strength[:, 0].max() < 1e-4 * strength.max()  # far from it


@pytest.mark.parametrize(("side", "times"), [(8, 4), (64, 4), (128, 2), (256, 1), (300, 1)])
def test_images_are_made_larger_up_to_256_pixels(side, times):
    assert differences.factor(side, side // 2) == times


def test_images_too_small_for_local_features_are_refused():
    with pytest.raises(ValueError, match=r"at least 4 pixels a side\. Received: a GAN of \(2, 2, 1\)"):
        KINDS["difference"].check(type("", (), {"image_shape": (2, 2, 1)})())


def test_the_map_peaks_at_a_painted_defect(images):
    gan = small_gan(seed=5)  # `images` are its own drawings
    scorer = agt.AnoGAN(gan, steps=100, score="difference", chunk=8, smoothing=0)
    scorer.fit_reference(images[:24])
    painted = images[24:32].copy()
    painted[:, 2:4, 4:6] = 1.0
    found, normal = scorer.score(painted), scorer.score(images[24:32])
    peaks = found["anomaly_map"].reshape(8, -1).argmax(axis=1)
    rows, columns = np.unravel_index(peaks, (8, 8))
    inside = (np.abs(rows - 2.5) <= 1.5) & (np.abs(columns - 4.5) <= 1.5)
    assert inside.sum() >= 6
    assert np.median(found["anomaly_score"]) > 2 * np.median(normal["anomaly_score"])
