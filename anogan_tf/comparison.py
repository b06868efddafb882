"""What scores are made of: images, their reconstructions G(z), and what the discriminator says of them."""

import tensorflow as tf

from anogan_tf import losses
from anogan_tf.networks import feature_extractor

LEARNED = ("features", "transformations")  # kinds of score made of evidence, which may be blended
PLAIN = ("paper", "residual", "discrimination")


class Comparison:
    """Compares images with the reconstructions at given z, networks in inference mode, in their own precision.

    Args:
        gan: A trained GAN; never changed.
        feature_layers: Names of the discriminator layers that make f; None for the deepest feature map.
        distance: `"l1"` for |·| or `"l2"` for (·)².
        score: The kind of score, see `kinds`.

    Raises:
        ValueError: For a score or a distance that there is not, or that this GAN cannot give.
    """

    def __init__(self, gan, feature_layers, distance, score):
        if distance not in ("l1", "l2"):
            raise ValueError(f'distance is "l1" or "l2". Received: distance={distance!r}.')
        self.kinds = kinds(score)
        self.transformations = gan.transformations
        if "transformations" in self.kinds and not self.transformations:
            raise ValueError(
                f"score={score!r} needs a discriminator that tells transformations, such as that of "
                'DCGAN(self_supervision=("rotation", "shift")). Received: a GAN without self_supervision.'
            )
        self.generator = gan.generator
        self.features = feature_extractor(gan.discriminator, feature_layers)
        self.tell = gan.tell_transformations
        self.distance = distance

    @property
    def learns(self):
        """Whether the score has anything to learn from normal images."""
        return "features" in self.kinds or len(self.kinds) > 1

    @tf.function(autograph=False)
    def evidence(self, images):
        """What the score is made of, as a dict of tensors; empty for plain scores.

        `features`: f(x) as one vector an image, `(batch, elements)`. `transformations`: -log p(t | t(x)), a mean over
        all transformations t, `(batch,)`.
        """
        return self._evidence(images, self.features(images, training=False))

    @tf.function(autograph=False)
    def outputs(self, images, z):
        """A dict of `residual`, `discrimination`, `reconstruction`, `anomaly_map`, `z` and the `evidence`."""
        reconstruction = tf.cast(self.generator(z, training=False), tf.float32)
        features = self.features(images, training=False)
        reconstruction_features = self.features(reconstruction, training=False)
        return {
            "residual": losses.residual(images, reconstruction, self.distance),
            "discrimination": losses.feature_distance(features, reconstruction_features, self.distance),
            "reconstruction": reconstruction,
            "anomaly_map": tf.reduce_mean(losses.elementwise(images, reconstruction, self.distance), axis=-1),
            "z": z,
            "evidence": self._evidence(images, features),
        }

    def scored(self, images, z, reference, *, residual_weight, feature_weight):
        """The `outputs` as NumPy arrays, with the `anomaly_score`.

        Args:
            images: `(batch, height, width, channels)`.
            z: `(batch, latent_dim)`.
            reference: The `Reference` of a score that learns, else None.
            residual_weight: The weight of R in the score `"paper"`.
            feature_weight: That of D.

        Raises:
            ValueError: If the score learns and there is no reference yet.
        """
        if self.learns and reference is None:
            raise ValueError(
                f'score="{"+".join(self.kinds)}" learns from normal images first: call fit_reference(training images), '
                'or choose score="paper".'
            )
        outputs = tf.nest.map_structure(lambda tensor: tensor.numpy(), self.outputs(images, z))
        evidence = outputs.pop("evidence")
        if self.kinds == ("paper",):
            score = residual_weight * outputs["residual"] + feature_weight * outputs["discrimination"]
        elif self.kinds[0] in PLAIN:
            score = outputs[self.kinds[0]]
        else:
            score = reference(evidence) if self.learns else evidence["transformations"]
        return outputs | {"anomaly_score": score}

    def _evidence(self, images, features):
        found = {}
        if "features" in self.kinds:
            flat = [tf.reshape(tensor, (tf.shape(tensor)[0], -1)) for tensor in features.values()]
            found["features"] = tf.cast(tf.concat(flat, axis=1), tf.float32)  # (batch, elements)
        if "transformations" in self.kinds:
            found["transformations"] = self._surprise(images)
        return found

    def _surprise(self, images):
        rows = tf.shape(images)[0]

        def one(number):
            numbers = tf.repeat(number, rows)
            logits = self.tell(self.transformations(images, numbers), training=False)
            return -self.transformations.log_likelihood(logits, numbers)

        each = tf.map_fn(one, tf.range(len(self.transformations)), fn_output_signature=tf.float32)
        return tf.reduce_mean(each, axis=0)  # (batch,)


def kinds(score):
    """The kinds that a score consists of, as a tuple: one of `PLAIN`, or one or several of `LEARNED`.

    Args:
        score: A name, or names of learned kinds joined by `+`, such as `"features+transformations"`.

    Raises:
        ValueError: For any other.
    """
    parts = tuple(score.split("+"))
    learned = len(set(parts)) == len(parts) and all(part in LEARNED for part in parts)
    if not (learned or score in PLAIN):
        raise ValueError(
            f"score is one of {(*LEARNED, *PLAIN)}, or {' and '.join(LEARNED)} joined by +. Received: score={score!r}."
        )
    return parts
