"""Fixed filters and a pretrained network together: each compares with good pictures, and both decide."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from anogan_tf import pretrained, stages
from anogan_tf.choice import Choice
from anogan_tf.distances import Scales, part_of
from anogan_tf.neighbours import LocalNeighbours, shown_things
from anogan_tf.scoring import Images, Outputs, Row, Scorer

NARROWEST = 1e-3  # deviation of scores, and of the values of maps


class JointReference:
    """What pictures are compared with by fixed filters and by a network, and how both join.

    The score is the mean of both scores, the map that of both maps, each in deviations of good pictures that were held
    out. The mean of their scores is 0, by either.

    Args:
        filters: The reference by filters.
        network: The one by the network.
        of_scores: The deviations of scores, by filters and by the network, `(2,)`.
        of_maps: Those of the values of maps, `(2,)`.
    """

    def __init__(self, filters: Scales, network: Scales, of_scores: Sequence[float], of_maps: Sequence[float]) -> None:
        self.filters, self.network = filters, network
        self.of_scores, self.of_maps = np.float32(of_scores), np.float32(of_maps)

    @property
    def both(self) -> tuple[Scales, Scales]:
        """By filters and by the network."""
        return self.filters, self.network

    @property
    def has_clusters(self) -> bool:
        """Whether one of them is compared by clusters."""
        return any(each.has_clusters for each in self.both)

    @property
    def in_words(self) -> str:
        """What a place of a picture is compared with."""
        filters, network = (each.in_words for each in self.both)
        return filters if filters == network else f"{filters} by filters and {network} by the network"

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All that was learned, as a dict of arrays."""
        parts = {"filters": self.filters, "network": self.network}
        arrays = {f"{name}/{key}": array for name, part in parts.items() for key, array in part.arrays.items()}
        return arrays | {"of_scores": self.of_scores, "of_maps": self.of_maps}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> JointReference:
        """The reference whose `arrays` these are."""
        both = (Scales.from_arrays(part_of(arrays, name)) for name in ("filters", "network"))
        return cls(*both, arrays["of_scores"], arrays["of_maps"])

    def joined(self, filters: Mapping[str, Any], network: Mapping[str, Any]) -> dict[str, Any]:
        """The scores and maps of pictures, arrays or tensors, of those by filters and of those by the network."""
        return {
            "anomaly_score": _mean(filters["anomaly_score"], network["anomaly_score"], self.of_scores),
            "anomaly_map": _mean(filters["anomaly_map"], network["anomaly_map"], self.of_maps),
        }


class JointNeighbours(LocalNeighbours):
    """Scores pictures by fixed filters and by the features of a pretrained network, as neither is better everywhere.

    Two `LocalNeighbours`, one of either, each of which finds out what to compare with. The anomaly score is the mean of
    both scores, each in deviations of good pictures that were held out: 0 is as usual as good pictures are. The anomaly
    map is the mean of both maps, each in deviations of its values in them. Which pictures are nearly the same and are
    held out together, filters tell.

    Args:
        scorer: As of `LocalNeighbours`, and so is `factor`.
        factor: How many times larger than the networks' the pictures are, in each direction.
        features: The features of a network, as `LocalNeighbours` takes them.

    Raises:
        ValueError: As `LocalNeighbours` does.

    Example:
        >>> scorer = JointNeighbours(AnoGAN(gan, score="paper"), features="EfficientNetV2B0")
        >>> scorer.cross_calibrate(large.reference)
    """

    method: ClassVar[str] = "joint-neighbours"
    reference_type = JointReference

    def __init__(
        self,
        scorer: Scorer,
        *,
        factor: int = 4,
        features: pretrained.NetworkFeatures | keras.Model | str | os.PathLike,
    ) -> None:
        super().__init__(scorer, factor=factor, features=features)
        if self.features is None:
            raise ValueError("Filters are joined with a network: give its features, or take LocalNeighbours.")
        self.reference: JointReference | None = None

    @stages.stage("Learning the reference")
    def fit_reference(self, data: Images) -> None:
        """Learns from normal training pictures, of a random `REMEMBERED` where there are more.

        How the scores join is of pictures that are held out in turn, as by `cross_calibrate`.

        Raises:
            ValueError: For fewer than 2 pictures that may be parted.
        """
        rows = self._remembered(data)
        choices = self._choices(rows)
        self._learned(choices, shown_things(rows, choices[0].features))
        self.calibration = None  # it was of another score

    def parts(self) -> tuple[LocalNeighbours, LocalNeighbours]:
        """A scorer by filters and one by the network, with what each compares with."""
        filters = LocalNeighbours(self.scorer, factor=self.factor)
        network = LocalNeighbours(self.scorer, factor=self.factor, features=self.features)
        if self.reference is not None:
            filters.reference, network.reference = self.reference.both
        filters.info = network.info = self.info
        return filters, network

    def _choices(self, rows: list[Row]) -> list[Choice]:
        return [part._chosen(rows) for part in self.parts()]

    def _learned(
        self, choices: list[Choice], things: np.ndarray, folds: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        parts = self.parts()
        found = [part._cross_fitted(choice, things, folds) for part, choice in zip(parts, choices, strict=True)]
        scores, maps, _ = zip(*found, strict=True)
        self.reference = JointReference(
            *(part.reference for part in parts),
            [max(each.std(), NARROWEST) for each in scores],
            [max(_deviation(each), NARROWEST) for each in maps],
        )
        peaks = [_mean(*both, self.reference.of_maps).max() for both in zip(*maps, strict=True)]
        return _mean(*scores, self.reference.of_scores), np.array(peaks)

    def _known(self) -> JointReference:
        return super()._known()

    def _decide(self, images: np.ndarray) -> Outputs:
        return self._known().joined(*(part._decide(images) for part in self.parts()))

    def _decide_tensor(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._known().joined(*(part._decide_tensor(image) for part in self.parts()))


def _mean(filters: Any, network: Any, deviations: np.ndarray) -> Any:
    """The mean of what filters and the network give, arrays or tensors, each in its deviations."""
    return (0.5 / deviations[0]) * filters + (0.5 / deviations[1]) * network


def _deviation(maps: np.ndarray) -> float:
    """Of all values of maps, `(n, height, width)`, one map at a time."""
    mean = np.mean([each.mean(dtype=np.float64) for each in maps])
    return float(np.sqrt(np.mean([np.square(each - mean).mean() for each in maps])))
