"""Networks that begin as principal components, against scikit-learn's."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.decomposition import PCA

import anogan_tf as agt

SHAPE, LATENT = (8, 12, 3), 5


@pytest.fixture(scope="module")
def images():
    """30 images of three strong directions and some noise, far from the bounds."""
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(30, 3)) @ rng.normal(size=(3, np.prod(SHAPE))) * 0.04 + rng.normal(size=(30, 288)) * 0.01
    return (np.linspace(-0.4, 0.3, 288) + drawn).astype(np.float32).reshape(-1, *SHAPE)


def adapted(images, architecture="principal", **options):
    gan = agt.DCGAN(SHAPE, LATENT, architecture=architecture, width=4, **options)
    gan.adapt(images)
    return gan


@pytest.mark.parametrize("architecture", ["principal", "principal-dcgan"])
def test_reconstructions_begin_as_projections_on_principal_components(images, architecture):
    flat = images.reshape(len(images), -1)
    pca = PCA(LATENT).fit(flat[:20])
    expected = pca.inverse_transform(pca.transform(flat)).reshape(images.shape)
    found = agt.FAnoGAN(adapted(images[:20], architecture)).reconstruct(images)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(found - images).max() > 0.01


@pytest.mark.parametrize(("prior", "variance"), [("normal", 1.0), ("uniform", 1 / 3)])
def test_samples_begin_with_the_covariance_of_images(images, prior, variance):
    """Of z with the prior's variance; along the components that there are."""
    generator = adapted(images, prior=prior).generator
    at_0 = generator(tf.zeros((1, LATENT)))
    np.testing.assert_allclose(at_0[0], images.mean(axis=0), atol=1e-6)
    drawn = (generator(tf.eye(LATENT) * 0.1) - at_0).numpy().reshape(LATENT, -1) / 0.1
    pca = PCA(LATENT).fit(images.reshape(len(images), -1))
    expected = pca.components_.T * pca.explained_variance_ @ pca.components_
    np.testing.assert_allclose(variance * drawn.T @ drawn, expected, atol=1e-5)


def test_the_discriminator_of_dcgan_goes_with_principal_components(images):
    gan = adapted(images, "principal-dcgan", seed=4)
    expected = agt.Discriminator(SHAPE, architecture="dcgan", width=4, seed=5)
    np.testing.assert_array_equal(gan.discriminator(images), expected(images))
    assert np.abs(adapted(images, seed=4).discriminator(images) - expected(images)).max() > 0.01


def test_fewer_images_than_dimensions_leave_the_rest_to_the_correction(images):
    gan = adapted(images[:3])
    kernel = gan.generator.get_layer("components").kernel.numpy()
    assert (np.abs(kernel).max(axis=1) > 0).tolist() == [True, True, False, False, False]
    found = agt.FAnoGAN(gan).reconstruct(images[:3])
    np.testing.assert_allclose(found, images[:3], atol=1e-5)  # three images have two directions


def test_equal_images_have_no_direction_of_their_own(images):
    gan = adapted(images[[0, 0, 0, 1]])
    found = agt.FAnoGAN(gan).encoder(images, training=False)
    assert np.abs(found).max() < 100
    assert (found.numpy()[:, 1:] == 0).all()


def test_a_training_changes_the_correction_and_not_the_components(images):
    gan = adapted(images, augment="translation")
    fanogan = agt.FAnoGAN(gan, mode="joint")
    frozen = [gan.generator.get_layer("components").kernel.numpy(), gan.deviations.mean.numpy()]
    before = fanogan.reconstruct(images)
    gan.compile()
    fanogan.compile()
    fanogan.fit(images, epochs=2, shuffle=False, verbose=0)
    np.testing.assert_array_equal(gan.generator.get_layer("components").kernel, frozen[0])
    np.testing.assert_array_equal(gan.deviations.mean, frozen[1])
    assert np.abs(fanogan.reconstruct(images) - before).max() > 1e-4


def test_the_error_is_in_units_of_how_images_vary(images):
    """Half the contrast around the mean image is half the scale of everything, and the same loss."""
    mean = images.mean(axis=0)
    losses = []
    for contrast in (1.0, 0.5):
        shown = mean + contrast * (images - mean)
        fanogan = agt.FAnoGAN(adapted(shown[:20]), mode="joint")
        parts, _ = fanogan._izi(tf.constant(shown[20:]), 0)
        losses.append([float(part) for part in parts.values()])
    np.testing.assert_allclose(*losses, rtol=1e-3)
    assert losses[0][-1] > 0.01


def test_deviations_are_augmented_and_not_the_mean_image(images):
    gan = adapted(images, augment="translation")
    mean = tf.constant(images.mean(axis=0, keepdims=True))
    np.testing.assert_allclose(gan._augmented(mean, 3, 0), mean, atol=1e-6)
    moved = gan._augmented(tf.constant(images), 3, 0)
    assert np.abs(moved - images).max() > 0.01


def test_components_are_saved_and_loaded(images, tmp_path):
    fanogan = agt.FAnoGAN(adapted(images), mode="joint")
    fanogan.save(tmp_path / "fanogan.keras")
    loaded = keras.models.load_model(tmp_path / "fanogan.keras")
    np.testing.assert_array_equal(loaded.reconstruct(images), fanogan.reconstruct(images))
    assert isinstance(loaded.gan.deviations, agt.principal.Deviations)


def test_networks_of_ones_own_go_beside_those_that_are_adapted(images):
    """Only what begins as principal components is set; an encoder of another generator begins without."""
    principal = agt.Generator(SHAPE, LATENT, architecture="principal", width=4)
    gan = agt.DCGAN(generator=principal, discriminator=agt.Discriminator(SHAPE, width=4))
    gan.adapt(images)
    np.testing.assert_allclose(gan.deviations.mean, images.mean(axis=0), atol=1e-6)
    discriminator = agt.Discriminator(SHAPE, architecture="principal", width=4)
    other = agt.DCGAN(generator=agt.Generator(SHAPE, LATENT, width=4), discriminator=discriminator)
    assert (agt.FAnoGAN(other).encoder.get_layer("projection").kernel.numpy() == 0).all()


def test_what_cannot_be_adapted_to_is_refused(images):
    with pytest.raises(ValueError, match='adapt is for architecture="principal"'):
        agt.DCGAN(SHAPE, LATENT, architecture="upsampling", width=4).adapt(images)
    with pytest.raises(ValueError, match=r"at least 2 images that differ. Received: 4 images, all nearly the same"):
        adapted(images[[0, 0, 0, 0]])
    with pytest.raises(ValueError, match=r"Received: images of shape \(30, 8, 8, 3\)"):
        adapted(images[:, :, :8])
