"""The losses, as pure functions of tensors."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf


def discriminator_loss(
    real_logits: tf.Tensor, generated_logits: tf.Tensor, *, label_smoothing: float = 0.0
) -> tf.Tensor:
    """-E[log D(x)] - E[log(1 - D(G(z)))], the discriminator's half of the GAN objective.

    Args:
        real_logits: `(batch, 1)`, before the sigmoid.
        generated_logits: `(batch, 1)`, before the sigmoid.
        label_smoothing: One-sided: real images are given the label `1 - label_smoothing`.

    Returns:
        A scalar.

    References:
        Goodfellow et al., arXiv 1406.2661, eq. 1; Salimans et al., arXiv 1606.03498, section 3.4 (smoothing).
    """
    return _mean_cross_entropy(1.0 - label_smoothing, real_logits) + _mean_cross_entropy(0.0, generated_logits)


def generator_loss(generated_logits: tf.Tensor) -> tf.Tensor:
    """-E[log D(G(z))], the non-saturating objective of the generator.

    Args:
        generated_logits: `(batch, 1)`, before the sigmoid.

    Returns:
        A scalar.

    References:
        Goodfellow et al., arXiv 1406.2661, section 3.
    """
    return _mean_cross_entropy(1.0, generated_logits)


def wasserstein_estimate(real_critic: tf.Tensor, generated_critic: tf.Tensor) -> tf.Tensor:
    """E[D(x)] - E[D(G(z))], what the critic maximises: the Wasserstein distance, as far as it can tell.

    Args:
        real_critic: `(batch, 1)`, the critic of real images.
        generated_critic: `(batch, 1)`, the critic of generated images.

    Returns:
        A scalar.

    References:
        Gulrajani et al., arXiv 1704.00028, eq. 2; the critic's loss, eq. 3, is its negative plus the penalty.
    """
    return tf.reduce_mean(tf.cast(real_critic, tf.float32)) - tf.reduce_mean(tf.cast(generated_critic, tf.float32))


def wasserstein_generator_loss(generated_critic: tf.Tensor) -> tf.Tensor:
    """-E[D(G(z))], what the generator of a Wasserstein GAN minimises; `generated_critic` is `(batch, 1)`.

    References:
        Gulrajani et al., arXiv 1704.00028, algorithm 1, line 12.
    """
    return -tf.reduce_mean(tf.cast(generated_critic, tf.float32))


def gradient_penalty(
    critic: Callable[..., tf.Tensor], images: tf.Tensor, generated: tf.Tensor, mixing: tf.Tensor
) -> tf.Tensor:
    """E[(‖∇D(x̂)‖ - 1)²] at x̂ = εx + (1 - ε)G(z), which keeps the critic's slope near one.

    Args:
        critic: A function from images to `(batch, 1)`, called with `training=True`.
        images: Real images x, `(batch, height, width, channels)`.
        generated: Generated images G(z), of the same shape.
        mixing: ε, `(batch, 1, 1, 1)` in [0, 1], one for each image.

    Returns:
        A scalar; its gradient is finite where the critic is flat.

    References:
        Gulrajani et al., arXiv 1704.00028, eq. 3 and algorithm 1, lines 4 to 7.
    """
    mixed = mixing * images + (1.0 - mixing) * generated  # (batch, height, width, channels)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(mixed)
        value = tf.reduce_sum(tf.cast(critic(mixed, training=True), tf.float32))  # each image's gradient is its own
    slopes = tf.sqrt(tf.reduce_sum(tf.square(tape.gradient(value, mixed)), axis=(1, 2, 3)) + 1e-12)  # (batch,)
    return tf.reduce_mean(tf.square(slopes - 1.0))


def kl_to_normal(mean: tf.Tensor, log_variance: tf.Tensor) -> tf.Tensor:
    """The divergence KL(N(μ, σ²) ‖ N(0, 1)) = (μ² + σ² - log σ² - 1) / 2 of each code, a mean over dimensions.

    Args:
        mean: μ, `(batch, latent_dim)`.
        log_variance: log σ², of the same shape.

    Returns:
        `(batch,)`.

    References:
        Kingma and Welling, "Auto-Encoding Variational Bayes", arXiv 1312.6114, appendix B (there a sum).
    """
    return _per_image_mean(0.5 * (tf.square(mean) + tf.exp(log_variance) - log_variance - 1.0))


def kl_of_codes(codes: tf.Tensor) -> tf.Tensor:
    """KL(N(m, s²) ‖ N(0, 1)), with the mean m and the variance s² of the codes of a batch, a mean over dimensions.

    Where each code alone is pulled to 0 by `latent_prior`, here all of them together are kept as the prior is.

    Args:
        codes: E(x), `(batch, latent_dim)`.

    Returns:
        A scalar.

    References:
        Ulyanov et al., "It Takes (Only) Two: Adversarial Generator-Encoder Networks", arXiv 1704.02304, section 3.
    """
    mean, variance = tf.nn.moments(codes, axes=0)  # (latent_dim,)
    return tf.reduce_mean(kl_to_normal(mean[None], tf.math.log(variance + 1e-6)[None]))


def residual(images: tf.Tensor, reconstructions: tf.Tensor, distance: str = "l1") -> tf.Tensor:
    """The residual loss R: the distance of each image to its reconstruction.

    Args:
        images: `(batch, height, width, channels)`.
        reconstructions: Of the same shape.
        distance: `"l1"` for the mean of |x - G(z)| over elements, `"l2"` for the mean of (x - G(z))².

    Returns:
        `(batch,)`, a mean over elements, so that it does not depend on the image size.

    References:
        Schlegl et al., arXiv 1703.05921, eq. 3 (there a sum); f-AnoGAN, Medical Image Analysis 2019, L_izi and A_R.
    """
    return _per_image_mean(elementwise(images, reconstructions, distance))


def feature_distance(
    features: dict[str, tf.Tensor], reconstruction_features: dict[str, tf.Tensor], distance: str = "l1"
) -> tf.Tensor:
    """The discrimination loss D: the distance of discriminator features f(x) and f(G(z)), by feature matching.

    Args:
        features: A dict of tensors `(batch, …)`, one a feature layer.
        reconstruction_features: The same of the reconstructions.
        distance: `"l1"` or `"l2"`, as in `residual`.

    Returns:
        `(batch,)`, the mean over each layer's elements, averaged over layers.

    References:
        Schlegl et al., arXiv 1703.05921, eq. 5; f-AnoGAN, Medical Image Analysis 2019, L_izi_f and A_D.
    """
    distances = [residual(features[name], reconstruction_features[name], distance) for name in features]
    return tf.add_n(distances) / len(distances)  # (batch,)


def latent_prior(z: tf.Tensor, prior: str = "normal") -> tf.Tensor:
    """How far each z lies outside its prior.

    Args:
        z: `(batch, latent_dim)`.
        prior: `"normal"` for the mean of z² over dimensions (-2 log p(z) / d up to a constant), `"uniform"` for the
            mean squared excess over [-1, 1].

    Returns:
        `(batch,)`.
    """
    excess = tf.abs(z) if prior == "normal" else tf.nn.relu(tf.abs(z) - 1.0)
    return tf.reduce_mean(tf.square(excess), axis=-1)  # (batch,)


def elementwise(a: tf.Tensor, b: tf.Tensor, distance: str) -> tf.Tensor:
    """|a - b| for `"l1"`, (a - b)² for `"l2"`, in float32 and of the same shape."""
    difference = tf.cast(a, tf.float32) - tf.cast(b, tf.float32)
    return tf.abs(difference) if distance == "l1" else tf.square(difference)


def _per_image_mean(values):
    return tf.reduce_mean(values, axis=tuple(range(1, len(values.shape))))  # (batch,)


def _mean_cross_entropy(label, logits):
    logits = tf.cast(logits, tf.float32)
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(label * tf.ones_like(logits), logits))
