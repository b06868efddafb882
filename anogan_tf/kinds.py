"""The kinds of score: what each is made of, what it learns from normal images, and the number that comes of both.

A kind is an object without state, a `Kind`. To add one, write it here and enter it in `KINDS`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from anogan_tf import differences, surprise
from anogan_tf.gaussian import Gaussian
from anogan_tf.local_features import SMALLEST
from anogan_tf.networks import feature_extractor, feature_maps
from anogan_tf.subspace import PrincipalSubspace
from anogan_tf.surprise import Surprise

GUESSED, KNOWN, ALL = 0.15, 0.7, 0.9  # shares of what was done to normal images that D tells: hardly any; much; all


class Seen(NamedTuple):
    """What there is to make a score of.

    Attributes:
        gan: The GAN.
        images: x, `(batch, height, width, channels)`.
        features: f(x), a tensor a layer.
        reconstruction: G(z), of the shape of x; None before there is a z.
        residual: R, `(batch,)`, likewise.
        discrimination: D, likewise.
        weights: Of R and D in A(x).
    """

    gan: Any
    images: tf.Tensor
    features: dict[str, tf.Tensor]
    reconstruction: tf.Tensor | None = None
    residual: tf.Tensor | None = None
    discrimination: tf.Tensor | None = None
    weights: tuple[float, float] = (1.0, 1.0)


class Kind:
    """One kind of score.

    Attributes:
        name: What `score=` calls it.
        of_reconstruction: Whether it is made of the reconstruction G(z), so that each image needs its z.
        maps: Whether it has anomaly maps of its own; otherwise they are of the residual.
        learned: What it learns from normal images: a class of `Learned` with `fit(evidence)`, which is called with
            evidence; None for nothing.
    """

    name = ""
    of_reconstruction = False
    maps = False
    learned: Any = None

    def check(self, gan: Any) -> None:
        """Raises a ValueError if this GAN cannot give such a score."""

    def evidence(self, seen: Seen) -> tf.Tensor:
        """What the score is made of, a row an image."""
        raise NotImplementedError

    def score(self, evidence: np.ndarray, learned: Any = None) -> np.ndarray:
        """The score of each row of evidence, `(batch,)`."""
        return np.asarray(evidence) if learned is None else learned(evidence)

    def learn(self, evidence: np.ndarray, told: float | None = None) -> Any:
        """What it learns from the evidence of normal images; `told` as in `weight`."""
        return self.learned.fit(evidence)

    def weight(self, told: float | None) -> float:
        """What it counts for in a blend with tasks of which D tells this share, see `told`; None without any."""
        return 1.0

    def map(self, evidence: np.ndarray, learned: Any) -> np.ndarray:
        """The anomaly map of each row of evidence, `(batch, rows, columns)`, of a kind that has `maps`."""
        raise NotImplementedError

    def tensors(self, seen: Seen, learned: Any = None) -> dict[str, tf.Tensor]:
        """The `anomaly_score` of each image, `(batch,)`, and the `anomaly_map` of a kind that has `maps`.

        In operations that all formats of exports have.
        """
        evidence = self.evidence(seen)
        return {"anomaly_score": evidence if learned is None else learned.tensor(evidence)}


class Features(Kind):
    """The distance of f(x) to the principal subspace of normal images' features (`subspace.PrincipalSubspace`)."""

    name = "features"
    learned = PrincipalSubspace

    def evidence(self, seen: Seen) -> tf.Tensor:
        flat = [tf.reshape(tensor, (tf.shape(tensor)[0], -1)) for tensor in seen.features.values()]
        return tf.cast(tf.concat(flat, axis=1), tf.float32)  # (batch, elements)


class Tasks(Kind):
    """How badly a self-supervised discriminator tells what was done to x, task by task (`surprise.Surprise`).

    In a blend it counts for min(1, I / 0.15), where I is the share of what was done to normal images that D tells
    (`surprise.share_told`), 0 where it guesses: then this is noise.
    """

    name = "tasks"
    learned = Surprise

    def check(self, gan: Any) -> None:
        if not gan.transformations:
            raise ValueError(
                f'score="{self.name}" needs a discriminator that tells transformations, such as that of '
                'DCGAN(self_supervision=("rotation", "shift")). Received: a GAN without self_supervision.'
            )

    def evidence(self, seen: Seen) -> tf.Tensor:
        transformations, rows = seen.gan.transformations, tf.shape(seen.images)[0]

        def one(number: tf.Tensor) -> tf.Tensor:
            numbers = tf.repeat(number, rows)
            logits = seen.gan.tell_transformations(transformations(seen.images, numbers), training=False)
            return transformations.log_likelihoods(logits, numbers)

        each = tf.map_fn(one, tf.range(len(transformations)), fn_output_signature=tf.float32)
        return tf.transpose(each, (1, 0, 2))  # (batch, transformations, tasks)

    def learn(self, evidence: np.ndarray, told: float | None = None) -> Any:
        return self.learned.fit(evidence, told)

    def weight(self, told: float | None) -> float:
        return float(np.clip(told / GUESSED, 0.0, 1.0)) if told is not None else 1.0

    def tensors(self, seen: Seen, learned: Any = None) -> dict[str, tf.Tensor]:
        """The same, but all transformations in one batch: not all formats have loops that stack what they find."""
        return {"anomaly_score": learned.tensor(self._of_all(seen))}

    def _of_all(self, seen: Seen) -> tf.Tensor:
        transformations = seen.gan.transformations
        logits = seen.gan.tell_transformations(transformations.of_all(seen.images), training=False)
        return transformations.log_likelihoods_of_all(logits)


class Transformations(Tasks):
    """How badly D tells what was done to x, learning nothing: the mean of -log p(t | t(x)) over all t."""

    name = "transformations"
    learned = None

    def evidence(self, seen: Seen) -> tf.Tensor:
        return -tf.reduce_mean(tf.reduce_sum(super().evidence(seen), axis=2), axis=1)  # (batch,)

    def tensors(self, seen: Seen, learned: Any = None) -> dict[str, tf.Tensor]:
        return {"anomaly_score": -tf.reduce_mean(tf.reduce_sum(self._of_all(seen), axis=2), axis=1)}


class Density(Kind):
    """How unlikely the colours and textures of x are: D's feature maps, each averaged over the image, under a Gaussian.

    Beside `Tasks` or `Transformations` it counts for max(1 - I / 0.7, min(0.2, 0.9 - I), 0), with I as there: the less
    D can tell of what was done to normal images, the less that says of others.

    References:
        Sohn et al., "Learning and Evaluating Representations for Deep One-Class Classification", arXiv 2011.02578
        (densities of what a self-supervised task taught, in place of how well it is done).
    """

    name = "density"
    learned = Gaussian

    def check(self, gan: Any) -> None:
        if not feature_maps(gan.discriminator):
            raise ValueError(
                'score="density" is of the discriminator\'s feature maps, (batch, rows, columns, filters). Received: a '
                f"discriminator without any, of layers {[layer.name for layer in gan.discriminator.layers]}."
            )

    def evidence(self, seen: Seen) -> tf.Tensor:
        extractor = feature_extractor(seen.gan.discriminator, feature_maps(seen.gan.discriminator))
        maps = extractor(seen.images, training=False).values()
        return tf.concat([tf.reduce_mean(tf.cast(each, tf.float32), axis=(1, 2)) for each in maps], axis=1)

    def weight(self, told: float | None) -> float:
        return float(np.clip(max(1.0 - told / KNOWN, min(ALL - KNOWN, ALL - told)), 0, 1)) if told is not None else 1.0


class Paper(Kind):
    """A(x), the weighted sum of R and D: (1 - λ) R + λ D of AnoGAN, R + κ D of f-AnoGAN."""

    name = "paper"
    of_reconstruction = True

    def evidence(self, seen: Seen) -> tf.Tensor:
        return seen.weights[0] * seen.residual + seen.weights[1] * seen.discrimination


class Residual(Kind):
    """R, the distance of x to G(z)."""

    name = "residual"
    of_reconstruction = True

    def evidence(self, seen: Seen) -> tf.Tensor:
        return seen.residual


class Discrimination(Kind):
    """D, the distance of f(x) to f(G(z))."""

    name = "discrimination"
    of_reconstruction = True

    def evidence(self, seen: Seen) -> tf.Tensor:
        return seen.discrimination


class Difference(Kind):
    """How unusual the difference of x and G(z) in local features is (`differences.Differences`)."""

    name = "difference"
    of_reconstruction = True
    maps = True
    learned = differences.Differences

    def check(self, gan: Any) -> None:
        height, width, _ = gan.image_shape
        if min(height, width) * differences.factor(height, width) < SMALLEST:
            least = SMALLEST // differences.LARGER
            raise ValueError(
                f'score="difference" takes images of at least {least} pixels a side. Received: a GAN of '
                f"{gan.image_shape}."
            )

    def evidence(self, seen: Seen) -> tf.Tensor:
        return differences.of_reconstructions(seen.images, seen.reconstruction)

    def map(self, evidence: np.ndarray, learned: Any) -> np.ndarray:
        return learned.distances(evidence)

    def tensors(self, seen: Seen, learned: Any = None) -> dict[str, tf.Tensor]:
        distances = learned.distances_tensor(self.evidence(seen))
        return {"anomaly_score": learned.tensor(distances), "anomaly_map": distances}


KINDS = {
    kind.name: kind
    for kind in (
        *(Features(), Tasks(), Transformations(), Density(), Paper(), Residual(), Discrimination(), Difference()),
    )
}


def of_score(score: str) -> tuple[Kind, ...]:
    """The kinds that a score consists of.

    Args:
        score: The name of one of `KINDS`, or names of several joined by `+`, such as `"features+transformations"`.

    Raises:
        ValueError: For any other.
    """
    names = str(score).split("+")
    if len(set(names)) < len(names) or not all(name in KINDS for name in names):
        raise ValueError(f"score is one of {tuple(KINDS)}, or several of them joined by +. Received: score={score!r}.")
    return tuple(KINDS[name] for name in names)


def told(gan: Any, evidence: dict[str, np.ndarray]) -> float | None:
    """The share of what was done to images that D tells, by their evidence; None where this has no tasks."""
    if "tasks" in evidence:
        return surprise.share_told(evidence["tasks"])
    if "transformations" in evidence:
        return 1.0 - float(evidence["transformations"].mean()) / np.log(len(gan.transformations))
    return None
