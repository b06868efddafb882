"""A scorer around another one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, ClassVar

import keras

from anogan_tf import judging, scoring
from anogan_tf.gan import GAN
from anogan_tf.scoring import Calibration, Images, Outputs, Scorer


class Wrapper:
    """A scorer around another one, for pictures larger than its networks take; what is here asks the one inside.

    Args:
        scorer: The scorer inside.
    """

    OWN: tuple[str, ...] = ()  # names of the arguments beside the scorer inside
    method: ClassVar[str]
    any_size: ClassVar[bool] = False
    reference: Any
    calibration: Calibration | None
    info: dict[str, Any]

    def __init__(self, scorer: Scorer) -> None:
        if scorer.any_size:
            raise ValueError(
                f"A {type(self).__name__} is around a scorer of images of one size. Received: a "
                f"{type(scorer).__name__}, which takes images of any size."
            )
        self.scorer = scorer
        self.calibration = None
        self.info = {}

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of the scorer inside, and its own, as JSON can hold them."""
        return self.scorer.settings | self._own_settings

    @property
    def reference_type(self) -> type:
        return self.scorer.reference_type

    @property
    def gan(self) -> GAN:
        return self.scorer.gan

    @property
    def encoder(self) -> keras.Model | None:
        return self.scorer.encoder

    @property
    def chunk(self) -> int:
        return self.scorer.chunk

    @chunk.setter
    def chunk(self, chunk: int) -> None:
        self.scorer.chunk = chunk

    @property
    def smoothing(self) -> float:
        return self.scorer.smoothing

    @property
    def seed(self) -> int:
        return self.scorer.seed

    @property
    def learns(self) -> bool:
        return self.scorer.learns

    @property
    def needs_z(self) -> bool:
        return self.scorer.needs_z

    @property
    def maps_need_z(self) -> bool:
        return self.scorer.maps_need_z

    @property
    def fingerprint(self) -> str:
        return self.scorer.fingerprint

    @property
    def _own_settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.OWN}

    def __reduce__(self) -> tuple:
        """Copies and pickles are made of what the scorer was made of, and what it learned."""
        return _made, (type(self), self.scorer, self._own_settings), scoring.learned(self)

    def score_batches(self, data: Images, *, draw: bool = True) -> Iterator[Outputs]:
        """As `score`, a few images at a time; memory stays flat."""
        return scoring.score_batches(self, data, draw)

    def calibrate(self, data: Images, alpha: float = 0.05) -> None:
        """Sets the thresholds from normal images that nothing was learned from, see `scoring.calibrate`."""
        scoring.calibrate(self, data, alpha)

    def cross_calibrate(self, data: Any, alpha: float = 0.05, *, folds: Any = None, groups: Any = None) -> None:
        """Refused, see `scoring.refuse_cross`; a `LocalNeighbours` takes it."""
        scoring.refuse_cross(self)

    def recalibrate(self, alpha: float = 0.05) -> None:
        """Sets the thresholds at another rate of false alarms, without scoring, see `scoring.recalibrate`."""
        scoring.recalibrate(self, alpha)

    def test(
        self,
        data: Images,
        threshold: float | str | None = None,
        *,
        results_dir: str | os.PathLike | None = None,
        pictures: int = 100,
    ) -> judging.TestResult:
        """Judges labelled images and measures, see `judging.test`; unpacks to results, threshold, accuracy."""
        return judging.test(self, data, threshold, results_dir=results_dir, pictures=pictures)


def _made(cls: type, scorer: Scorer, own_settings: dict) -> Any:
    return cls(scorer, **own_settings)
