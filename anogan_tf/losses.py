"""The losses, as pure functions of tensors."""

import tensorflow as tf


def discriminator_loss(real_logits, generated_logits, *, label_smoothing=0.0):
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
    real_labels = (1.0 - label_smoothing) * tf.ones_like(real_logits)
    return _mean_cross_entropy(real_labels, real_logits) + _mean_cross_entropy(
        tf.zeros_like(generated_logits), generated_logits
    )


def generator_loss(generated_logits):
    """-E[log D(G(z))], the non-saturating objective of the generator.

    Args:
        generated_logits: `(batch, 1)`, before the sigmoid.

    Returns:
        A scalar.

    References:
        Goodfellow et al., arXiv 1406.2661, section 3.
    """
    return _mean_cross_entropy(tf.ones_like(generated_logits), generated_logits)


def residual(images, reconstructions, distance="l1"):
    """The residual loss R: the distance of each image to its reconstruction.

    Args:
        images: `(batch, height, width, channels)`.
        reconstructions: Of the same shape.
        distance: `"l1"` for the mean of |x - G(z)| over elements, `"l2"` for the mean of (x - G(z))².

    Returns:
        `(batch,)`, a mean over elements, so that it does not depend on the image size.

    References:
        Schlegl et al., arXiv 1703.05921, eq. 3 (there a sum); Schlegl et al., Medical Image Analysis 2019, eq. 4.
    """
    return _per_image_mean(elementwise(images, reconstructions, distance))


def feature_distance(features, reconstruction_features, distance="l1"):
    """The discrimination loss D: the distance of discriminator features f(x) and f(G(z)), by feature matching.

    Args:
        features: A dict of tensors `(batch, …)`, one a feature layer.
        reconstruction_features: The same of the reconstructions.
        distance: `"l1"` or `"l2"`, as in `residual`.

    Returns:
        `(batch,)`, the mean over each layer's elements, averaged over layers.

    References:
        Schlegl et al., arXiv 1703.05921, eq. 5; Schlegl et al., Medical Image Analysis 2019, eq. 5.
    """
    distances = [residual(features[name], reconstruction_features[name], distance) for name in features]
    return tf.add_n(distances) / len(distances)  # (batch,)


def latent_prior(z, prior="normal"):
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


def elementwise(a, b, distance):
    """|a - b| for `"l1"`, (a - b)² for `"l2"`, in float32 and of the same shape."""
    difference = tf.cast(a, tf.float32) - tf.cast(b, tf.float32)
    return tf.abs(difference) if distance == "l1" else tf.square(difference)


def _per_image_mean(values):
    return tf.reduce_mean(values, axis=tuple(range(1, len(values.shape))))  # (batch,)


def _mean_cross_entropy(labels, logits):
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels, tf.cast(logits, tf.float32)))
