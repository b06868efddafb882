import math

import numpy as np
import pytest
import tensorflow as tf

from anogan_tf import losses


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


def test_losses_are_computed_in_float32():
    assert losses.residual(tf.zeros((1, 2), tf.bfloat16), tf.ones((1, 2), tf.bfloat16)).dtype == tf.float32
