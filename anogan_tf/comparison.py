"""What scores are made of: images, their reconstructions G(z), and the discriminator's features of both."""

import tensorflow as tf

from anogan_tf import losses
from anogan_tf.networks import feature_extractor


class Comparison:
    """Compares images with the reconstructions at given z, networks in inference mode, in their own precision.

    Args:
        gan: A trained GAN; never changed.
        feature_layers: Names of the discriminator layers that make f; None for the deepest feature map.
        distance: `"l1"` for |·| or `"l2"` for (·)².
    """

    def __init__(self, gan, feature_layers, distance):
        self.generator = gan.generator
        self.features = feature_extractor(gan.discriminator, feature_layers)
        self.distance = distance

    def vectors(self, images):
        """f(x) as one vector an image, `(batch, elements)`."""
        return _flat(self.features(images, training=False))

    @tf.function(autograph=False)
    def outputs(self, images, z):
        """A dict of `residual`, `discrimination`, `reconstruction`, `anomaly_map`, `z`, and `features`, f(x) flat."""
        reconstruction = tf.cast(self.generator(z, training=False), tf.float32)
        features = self.features(images, training=False)
        reconstruction_features = self.features(reconstruction, training=False)
        return {
            "residual": losses.residual(images, reconstruction, self.distance),
            "discrimination": losses.feature_distance(features, reconstruction_features, self.distance),
            "reconstruction": reconstruction,
            "anomaly_map": tf.reduce_mean(losses.elementwise(images, reconstruction, self.distance), axis=-1),
            "z": z,
            "features": _flat(features),
        }


def with_anomaly_score(outputs, kind, reference, *, residual_weight, feature_weight):
    """The `Comparison.outputs` as NumPy arrays, with the `anomaly_score` of the given kind in place of `features`.

    Args:
        outputs: What `Comparison.outputs` returns.
        kind: One of `scoring.SCORES`.
        reference: The `scoring.PrincipalSubspace` for the kind `"features"`.
        residual_weight: The weight of R in the kind `"paper"`.
        feature_weight: That of D.

    Raises:
        ValueError: If the kind is `"features"` and there is no reference yet.
    """
    outputs = {name: value.numpy() for name, value in outputs.items()}
    features = outputs.pop("features")
    if kind == "features":
        if reference is None:
            raise ValueError(
                'score="features" learns from normal images first: call fit_reference(training images), or choose '
                'score="paper".'
            )
        score = reference(features)
    elif kind == "paper":
        score = residual_weight * outputs["residual"] + feature_weight * outputs["discrimination"]
    else:
        score = outputs[kind]
    return outputs | {"anomaly_score": score}


def _flat(features):
    flat = [tf.reshape(tensor, (tf.shape(tensor)[0], -1)) for tensor in features.values()]
    return tf.cast(tf.concat(flat, axis=1), tf.float32)  # (batch, elements)
