"""Fixed filters and a pretrained network together: each compares with good pictures, and both decide."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from anogan_tf import pretrained, scoring, stages
from anogan_tf.distances import Scales
from anogan_tf.neighbours import LocalNeighbours, shown_things
from anogan_tf.scoring import Calibration, Images, Outputs, Row, Scorer

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

    def __init__(self, filters: Scales, network: Scales, of_scores: np.ndarray, of_maps: np.ndarray) -> None:
        self.filters, self.network = filters, network
        self.of_scores, self.of_maps = np.float32(of_scores), np.float32(of_maps)

    @property
    def both(self) -> tuple[Scales, Scales]:
        """By filters and by the network."""
        return self.filters, self.network

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

        def part(name):
            of_part = {key.partition("/")[2]: array for key, array in arrays.items() if key.startswith(f"{name}/")}
            return Scales.from_arrays(of_part)

        return cls(part("filters"), part("network"), arrays["of_scores"], arrays["of_maps"])

    def joined(self, found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The scores and maps of pictures, arrays or tensors, of those by filters and of those by the network."""
        shares = {"anomaly_score": 0.5 / self.of_scores, "anomaly_map": 0.5 / self.of_maps}
        filters, network = found
        return {name: of[0] * filters[name] + of[1] * network[name] for name, of in shares.items()}


class JointNeighbours(LocalNeighbours):
    """Scores pictures by fixed filters and by the features of a pretrained network, as neither is better everywhere.

    Two `LocalNeighbours`, one of either, each of which finds out what to compare with. The anomaly score is the mean of
    both scores, each in deviations of good pictures that were held out: 0 is as usual as good pictures are. The anomaly
    map is the mean of both maps, each in deviations of its values in them.

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
            ValueError: For fewer than 2 pictures.
        """
        self._learned(self._remembered(data))
        self.calibration = None  # it was of another score

    @stages.stage("Calibrating")
    def cross_calibrate(
        self, data: Any, alpha: float = 0.05, *, folds: int | None = None, groups: Sequence[Any] | None = None
    ) -> None:
        """As `LocalNeighbours.cross_calibrate`, of both; what is nearly the same filters tell."""
        rows = self._remembered(data, groups)
        scoring.check_normal(rows)
        scores, peaks = self._learned(rows, folds)
        self.calibration = Calibration.of(scores, peaks, alpha, fingerprint=self.fingerprint, method="cross")

    def parts(self) -> tuple[LocalNeighbours, LocalNeighbours]:
        """A scorer by filters and one by the network, with what each compares with."""
        both = self.reference.both if self.reference else (None, None)
        parts = (LocalNeighbours(self.scorer, factor=self.factor, features=each) for each in (None, self.features))
        for part, reference in zip(found := tuple(parts), both, strict=True):
            part.reference = reference
        return found

    def _learned(self, rows: list[Row], folds: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Learns from all pictures; of each, held out in turn, the score and the largest value of the map."""
        found, things = [], None
        for part in (parts := self.parts()):
            choice = part._chosen(rows)
            things = shown_things(rows, choice.features) if things is None else things
            scores, maps, _ = part._cross_fitted(choice, things, folds)
            if choice.registration is not None:
                maps = choice.registration.back(maps.astype(np.float32), choice.poses).astype(np.float16)
            found.append({"anomaly_score": scores, "anomaly_map": maps})
        deviations = [
            [max(each[name].std(dtype=np.float64), NARROWEST) for each in found]
            for name in ("anomaly_score", "anomaly_map")
        ]
        self.reference = JointReference(*(part.reference for part in parts), *deviations)
        held_out = self.reference.joined(found)
        return held_out["anomaly_score"], held_out["anomaly_map"].max(axis=(1, 2))

    def _decide(self, images: np.ndarray) -> Outputs:
        return self._known().joined([part._decide(images) for part in self.parts()])

    def _decide_tensor(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._known().joined([part._decide_tensor(image) for part in self.parts()])
