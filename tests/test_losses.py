import math

import numpy as np
import pytest
import tensorflow as tf

import anogan_tf as agt
from anogan_tf import losses
from tests.conftest import small_gan


def test_discriminator_loss_is_the_cross_entropy():
    loss = losses.discriminator_loss(tf.constant([[2.0]]), tf.constant([[-1.0]]))
    assert float(loss) == pytest.approx(-math.log(1 / (1 + math.exp(-2))) - math.log(1 - 1 / (1 + math.e)), rel=1e-6)


def test_label_smoothing_is_one_sided():
    real, generated = tf.constant([[2.0]]), tf.constant([[-1.0]])
    smoothed = losses.discriminator_loss(real, generated, label_smoothing=0.1)
    change = smoothed - losses.discriminator_loss(real, generated)
    assert float(change) == pytest.approx(0.1 * 2.0, rel=1e-5)  # d/dy of the cross-entropy is -logit
    generated_alone = losses.discriminator_loss(tf.constant([[0.0]]), generated, label_smoothing=0.1)
    assert float(generated_alone) == pytest.approx(math.log(2) + math.log(1 + math.exp(-1)), rel=1e-5)


def test_generator_loss_does_not_saturate():
    logits = tf.Variable([[-20.0]])
    with tf.GradientTape() as tape:
        loss = losses.generator_loss(logits)
    np.testing.assert_allclose(tape.gradient(loss, logits), [[-1.0]], rtol=1e-4)


def test_residual_is_a_mean_over_elements_for_each_image():
    images = tf.zeros((2, 2, 3, 1))
    reconstructions = tf.stack([tf.fill((2, 3, 1), 0.5), tf.fill((2, 3, 1), -2.0)])
    np.testing.assert_allclose(losses.residual(images, reconstructions), [0.5, 2.0])
    np.testing.assert_allclose(losses.residual(images, reconstructions, "l2"), [0.25, 4.0])


def test_feature_distance_weighs_layers_alike_whatever_their_size():
    features = {"a": tf.zeros((1, 4, 4, 2)), "b": tf.zeros((1, 3))}
    others = {"a": tf.ones((1, 4, 4, 2)), "b": tf.fill((1, 3), 3.0)}
    np.testing.assert_allclose(losses.feature_distance(features, others), [2.0])


def test_normal_prior_is_the_log_density():
    z = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    log_density = -0.5 * (z**2).sum(axis=1) - 2.5 * math.log(2 * math.pi)
    expected = -2 / 5 * (log_density + 2.5 * math.log(2 * math.pi))
    np.testing.assert_allclose(losses.latent_prior(z), expected, rtol=1e-5)


def test_uniform_prior_is_flat_inside_and_grows_outside():
    z = tf.constant([[-1.0, 0.3], [2.0, 0.0]])
    np.testing.assert_allclose(losses.latent_prior(z, "uniform"), [0.0, 0.5])


@pytest.mark.parametrize(("prior", "moves"), [("uniform", False), ("normal", True)])
def test_the_search_is_drawn_by_the_prior_of_its_gan(prior, moves, images):
    """Inside [-1, 1] the uniform prior does not pull, and the normal one does."""
    gan = small_gan(prior=prior)
    found = []
    for weight in (0.0, 10.0):
        anogan = agt.AnoGAN(gan, steps=3, learning_rate=1e-3, prior_weight=weight, score="paper", chunk=4)
        z0 = tf.clip_by_value(anogan._start(np.zeros((12, 8, 8, 1))), -0.9, 0.9)
        anogan._start = lambda _, z0=z0: z0
        found.append(anogan.score(images[:2])["z"])
    assert np.abs(found[0]).max() < 1.0
    assert (not np.array_equal(*found)) == moves


def test_losses_are_computed_in_float32():
    a, b = tf.zeros((1, 2), tf.bfloat16), tf.ones((1, 2), tf.bfloat16)
    for loss in (losses.residual(a, b), losses.discriminator_loss(a, b), losses.generator_loss(a)):
        assert loss.dtype == tf.float32


def test_wasserstein_losses():
    real, generated = tf.constant([[2.0], [4.0]]), tf.constant([[-1.0], [0.0]])
    assert float(losses.wasserstein_estimate(real, generated)) == 3.5
    assert float(losses.wasserstein_generator_loss(generated)) == 0.5


@pytest.mark.parametrize("length", [0.25, 1.0, 3.0])
def test_penalty_of_a_linear_critic_is_the_square_of_its_slope_less_one(length):
    weights = np.random.default_rng(0).normal(size=(4, 3, 2)).astype(np.float32)
    weights *= length / np.linalg.norm(weights)

    def critic(images, training):
        return tf.einsum("bhwc,hwc->b", images, weights)[:, None]

    penalty = losses.gradient_penalty(critic, tf.ones((5, 4, 3, 2)), tf.zeros((5, 4, 3, 2)), tf.ones((5, 1, 1, 1)))
    assert float(penalty) == pytest.approx((np.linalg.norm(weights.ravel()) - 1) ** 2, abs=1e-6)


def test_penalty_of_a_flat_critic_has_finite_gradients():
    weight = tf.Variable(tf.zeros((1, 2, 2, 1)))
    with tf.GradientTape() as tape:
        penalty = losses.gradient_penalty(
            lambda images, training: tf.reduce_sum(weight * images, axis=(1, 2, 3))[:, None],
            *(tf.ones((3, 2, 2, 1)), tf.zeros((3, 2, 2, 1)), tf.fill((3, 1, 1, 1), 0.5)),
        )
    assert float(penalty) == pytest.approx(1.0, abs=1e-5)
    assert np.isfinite(tape.gradient(penalty, weight)).all()


def test_penalty_is_taken_between_image_and_generated_with_one_mixing_weight_an_image():
    seen = []

    def critic(images, training):
        seen.append(images)
        return tf.reduce_sum(images, axis=(1, 2, 3))[:, None]

    mixing = tf.reshape([0.0, 0.25, 1.0], (3, 1, 1, 1))
    losses.gradient_penalty(critic, tf.ones((3, 2, 2, 1)), -tf.ones((3, 2, 2, 1)), mixing)
    np.testing.assert_allclose(seen[0][:, 0, 0, 0], [-1.0, -0.5, 1.0])
    assert np.ptp(seen[0], axis=(1, 2, 3)).max() == 0


def test_divergence_from_the_prior_agrees_with_sampling():
    mean, log_variance = tf.constant([[0.5, -1.0]]), tf.constant([[0.3, -0.7]])
    assert float(losses.kl_to_normal(tf.zeros((1, 4)), tf.zeros((1, 4)))[0]) == 0.0
    mu, sigma = mean.numpy(), np.exp(0.5 * log_variance.numpy())
    z = np.random.default_rng(0).normal(mu, sigma, (200_000, 2))
    log_ratio = -0.5 * ((z - mu) / sigma) ** 2 - np.log(sigma) + 0.5 * z**2
    assert float(losses.kl_to_normal(mean, log_variance)[0]) == pytest.approx(log_ratio.mean(), abs=0.01)
