"""Images beside their reconstructions G(z), and what the discriminator says of both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from anogan_tf import kinds, losses
from anogan_tf.kinds import Seen
from anogan_tf.networks import feature_extractor
from anogan_tf.reference import Reference
from anogan_tf.resampling import bilinear


class Comparison:
    """Compares images with the reconstructions at given z, networks in inference mode, in their own precision.

    Args:
        gan: A trained GAN; never changed.
        feature_layers: Names of the discriminator layers that make f; None for the deepest feature map.
        distance: `"l1"` for |·| or `"l2"` for (·)².
        score: The kind of score, see `kinds.of_score`.
        residual_weight: The weight of R in the score `"paper"`.
        feature_weight: That of D.

    Raises:
        ValueError: For a score or a distance that there is not, or that this GAN cannot give.
    """

    def __init__(
        self,
        gan: Any,
        feature_layers: Sequence[str] | None,
        distance: str,
        score: str,
        *,
        residual_weight: float,
        feature_weight: float,
    ) -> None:
        if distance not in ("l1", "l2"):
            raise ValueError(f'distance is "l1" or "l2". Received: distance={distance!r}.')
        self.kinds = kinds.of_score(score)
        for kind in self.kinds:
            kind.check(gan)
        self.mapping = next((kind for kind in self.kinds if kind.maps), None)  # the kind whose maps are shown
        self.gan = gan
        self.features = feature_extractor(gan.discriminator, feature_layers)
        self.distance = distance
        self.weights = (residual_weight, feature_weight)

    @property
    def learns(self) -> bool:
        """Whether the score has anything to learn from normal images."""
        return len(self.kinds) > 1 or self.kinds[0].learned is not None

    @property
    def of_reconstruction(self) -> bool:
        """Whether any part of the score is made of G(z)."""
        return any(kind.of_reconstruction for kind in self.kinds)

    @tf.function(autograph=False)
    def evidence(self, images: tf.Tensor, z: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """What the score is made of, by kind, a row an image; `z` for one that is made of the reconstruction."""
        if z is not None:
            return self.outputs(images, z)["evidence"]
        return self._evidence(Seen(self.gan, images, self.features(images, training=False)))

    @tf.function(autograph=False)
    def outputs(self, images: tf.Tensor, z: tf.Tensor) -> dict[str, Any]:
        """A dict of `residual`, `discrimination`, `reconstruction`, `anomaly_map`, `z`, and `evidence` of these."""
        reconstruction = tf.cast(self.gan.generator(z, training=False), tf.float32)
        features = self.features(images, training=False)
        reconstruction_features = self.features(reconstruction, training=False)
        residual = losses.residual(images, reconstruction, self.distance)
        discrimination = losses.feature_distance(features, reconstruction_features, self.distance)
        seen = Seen(self.gan, images, features, reconstruction, residual, discrimination, self.weights)
        return {
            "residual": residual,
            "discrimination": discrimination,
            "reconstruction": reconstruction,
            "anomaly_map": tf.reduce_mean(losses.elementwise(images, reconstruction, self.distance), axis=-1),
            "z": z,
            "evidence": self._evidence(seen) if self.of_reconstruction else {},
        }

    def tensors(self, images: tf.Tensor, z: tf.Tensor | None, reference: Reference | None) -> dict[str, tf.Tensor]:
        """As `scored`, of tensors, in operations that all formats of exports have."""
        outputs = {} if z is None else dict(self.outputs(images, z))
        outputs.pop("evidence", None)
        features = self.features(images, training=False)
        drawn = (outputs.get(name) for name in ("reconstruction", "residual", "discrimination"))
        seen = Seen(self.gan, images, features, *drawn, self.weights)
        learned = {} if reference is None else reference.learned
        found = {kind.name: kind.tensors(seen, learned.get(kind.name)) for kind in self.kinds}
        scores = {name: each.pop("anomaly_score") for name, each in found.items()}
        maps = {}
        if self.mapping:
            maps = {"anomaly_map": bilinear(found[self.mapping.name]["anomaly_map"], images.shape[1:3])}
        return outputs | maps | {"anomaly_score": (reference or Reference()).tensor(scores)}

    def scored(
        self, images: np.ndarray, z: tf.Tensor | None, reference: Reference | None, *, decide: bool = True
    ) -> dict[str, np.ndarray]:
        """The `anomaly_score`, and the `outputs` at z, as NumPy arrays.

        A score that is not made of G(z) is computed apart from it, so that it is the same with and without z.

        Args:
            images: `(batch, height, width, channels)`.
            z: `(batch, latent_dim)`; None for no outputs.
            reference: The `Reference` of a score that learns, else None.
            decide: Whether to give the score.

        Raises:
            ValueError: If the score learns and there is no reference yet.
        """
        images = tf.convert_to_tensor(images)
        outputs = {} if z is None else tf.nest.map_structure(lambda tensor: tensor.numpy(), self.outputs(images, z))
        evidence = outputs.pop("evidence", {})
        if self.mapping:
            learned = self._known(reference).learned[self.mapping.name]
            maps = self.mapping.map(evidence[self.mapping.name], learned)
            outputs["anomaly_map"] = bilinear(maps, images.shape[1:3]).numpy()
        if not decide:
            return outputs
        if not self.of_reconstruction:
            evidence = {name: tensor.numpy() for name, tensor in self.evidence(images).items()}
        return outputs | {"anomaly_score": self._score(evidence, reference)}

    def _score(self, evidence: dict[str, np.ndarray], reference: Reference | None) -> np.ndarray:
        if not self.learns:
            return self.kinds[0].score(evidence[self.kinds[0].name])
        return self._known(reference)(evidence)

    def _known(self, reference: Reference | None) -> Reference:
        if reference is None:
            names = "+".join(kind.name for kind in self.kinds)
            raise ValueError(
                f'score="{names}" learns from normal images first: call fit_reference(training images), or choose '
                'score="paper".'
            )
        return reference

    def _evidence(self, seen: Seen) -> dict[str, tf.Tensor]:
        return {kind.name: kind.evidence(seen) for kind in self.kinds}
