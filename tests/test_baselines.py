import numpy as np
import pytest

from anogan_tf.commands import baselines


def images(n=40, seed=0, channels=1):
    return np.random.default_rng(seed).uniform(-1, 1, size=(n, 8, 8, channels)).astype(np.float32)


@pytest.mark.parametrize(
    "baseline",
    [baselines.mean_image, baselines.pca, baselines.nearest_neighbours, baselines.position_gaussians],
    ids=lambda baseline: baseline.__name__,
)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_map_for_each_image_that_marks_a_defect(baseline, channels):
    normal = 0.05 * images(60, channels=channels)
    test = 0.05 * images(5, seed=1, channels=channels)
    test[0, 2:4, 4:6] = 0.9
    maps = baseline(normal, test)
    assert maps.shape == (5, 8, 8)
    row, column = np.unravel_index(maps[0].argmax(), (8, 8))
    assert max(abs(row - 2.5), abs(column - 4.5)) <= 2.5  # features see two pixels further
    assert maps[0].mean() > 2 * maps[1:].mean(axis=(1, 2)).max()


def test_mean_image_is_the_squared_distance_to_it():
    train = images()
    np.testing.assert_allclose(
        baselines.mean_image(train, train[:2])[..., None], (train[:2] - train.mean(axis=0)) ** 2, rtol=1e-5
    )


def test_pca_draws_what_lies_in_its_components():
    basis = images(3)
    weights = np.random.default_rng(1).normal(size=(50, 3))
    train = np.tensordot(weights, basis, 1).astype(np.float32)
    assert baselines.pca(train, train[:5], 3).max() < 1e-8 < 1e-3 < baselines.pca(train, train[:5], 2).max()


def test_the_nearest_neighbour_of_a_training_image_is_itself():
    train = images()
    np.testing.assert_allclose(baselines.nearest_neighbours(train, train[:3], k=1), 0.0, atol=1e-6)
    np.testing.assert_allclose(
        baselines.nearest_neighbours(train[:2], train[:1], k=2)[0],
        np.square(train[0] - train[1]).mean(axis=-1) / 2,
        rtol=1e-5,
    )


def test_gaussians_give_their_number_of_features_to_normal_images():
    normal = images(3000)
    maps = baselines.position_gaussians(normal, images(500, seed=1), regularisation=1e-6)
    assert maps.mean() == pytest.approx(32, rel=0.1)  # the mean of a chi-squared variable of 32 dimensions


def test_an_auto_encoder_learns_to_draw_its_training_images():
    rows = np.linspace(-0.9, 0.9, 8)[:, None, None] * np.ones((8, 8, 1))
    train = (rows[None] + 0.02 * images(64)).astype(np.float32)
    options = {"batch_size": 16, "latent_dim": 4, "width": 8}
    errors = [baselines.auto_encoder(train, train[:8], steps=steps, **options).mean() for steps in (1, 80)]
    assert errors[1] < errors[0] / 3
