"""What a score learns from normal images: what each of its kinds learns, and how they blend."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from anogan_tf.kinds import KINDS

LOWEST = 1e-7  # of a score, before its logarithm
SPREAD = "log_scores/"  # names of the arrays of a blend


class Share(NamedTuple):
    """A kind's share in a blend.

    Attributes:
        mean: Of its log-scores over normal images.
        deviation: Their standard deviation.
        weight: What it counts for.
    """

    mean: float
    deviation: float
    weight: float = 1.0


class Reference:
    """The score of evidence: of one kind, or of several.

    One kind of evidence has its own score. Of several the score is the weighted mean of their log-scores, each
    standardised with its mean and deviation over normal images, so that no kind outweighs another by its unit.

    Args:
        learned: What each kind learned, by its name, see `kinds.Kind`; without those that learn nothing.
        log_scores: For several kinds a dict of each one's share; None for one kind.

    Attributes:
        fingerprint: Of the networks that the evidence was of, see `scoring.fingerprint`; None where nobody told.
    """

    def __init__(
        self,
        learned: dict[str, Any] | None = None,
        log_scores: dict[str, Share] | None = None,
        fingerprint: str | None = None,
    ) -> None:
        self.learned = learned or {}
        self.log_scores = log_scores
        self.fingerprint = fingerprint

    @classmethod
    def fit(cls, evidence: dict[str, np.ndarray], seed: int = 0, told: float | None = None) -> Reference:
        """Learns from `evidence` of n normal images, a dict of arrays `(n, …)`, see `Comparison.evidence`.

        By how much D tells of what was done to them, `told`, come the weights in a blend, see `kinds.Kind.weight`.

        The spread of log-scores comes from a random half of the images with what was learned from the other half:
        images that a subspace was fitted to lie closer to it than new ones.

        Raises:
            ValueError: If there are too few images.
        """
        learned = _learned(evidence, told)
        if len(evidence) == 1:
            return cls(learned)
        order = np.random.default_rng(seed).permutation(len(next(iter(evidence.values()))))
        half = len(order) // 2
        halves = (order[:half], order[half:]) if half >= 2 else (order, order)
        one, other = ({name: values[half] for name, values in evidence.items()} for half in halves)
        logs = cls(_learned(one, told))._logs(other)
        shares = {
            name: Share(float(log.mean()), float(log.std() + LOWEST), KINDS[name].weight(told))
            for name, log in logs.items()
        }
        return cls(learned, shares)

    def __call__(self, evidence: dict[str, np.ndarray]) -> np.ndarray:
        """The score of each image, `(batch,)`."""
        if self.log_scores is None:
            (scores,) = self._scores(evidence).values()
            return scores
        standard = list(self._standardised(self._logs(evidence)).values())
        weights = np.array([share.weight for share in self.log_scores.values()], standard[0].dtype)
        return np.average(standard, axis=0, weights=weights)

    def tensor(self, scores: dict[str, tf.Tensor]) -> tf.Tensor:
        """The score of each image, `(batch,)`, from those of each kind, for what is saved."""
        if self.log_scores is None:
            (only,) = scores.values()
            return only
        standard = self._standardised({name: tf.math.log(scores[name] + LOWEST) for name in self.log_scores})
        return tf.add_n([part * standard[name] for name, part in self.parts.items()])

    @property
    def parts(self) -> dict[str, float] | None:
        """What part of a blend each kind makes, together 1; None for one kind."""
        if self.log_scores is None:
            return None
        total = sum(share.weight for share in self.log_scores.values())
        return {name: share.weight / total for name, share in self.log_scores.items()}

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All that was learned, as a dict of arrays; those of features have no prefix."""
        arrays = {
            _place(name, key): array for name, learned in self.learned.items() for key, array in learned.arrays.items()
        }
        return arrays | {SPREAD + name: np.array(share) for name, share in (self.log_scores or {}).items()}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Reference:
        """The reference whose `arrays` these are."""
        spread = {
            place.removeprefix(SPREAD): Share(*map(float, share))  # without a weight in runs of before there were any
            for place, share in arrays.items()
            if place.startswith(SPREAD)
        }
        own = {name: {} for name in KINDS}
        for place in arrays.keys() - {SPREAD + name for name in spread}:
            name, _, key = place.rpartition("/")
            own[name or "features"][key] = arrays[place]
        learned = {name: KINDS[name].learned.from_arrays(found) for name, found in own.items() if found}
        return cls(learned, spread or None)

    def _standardised(self, logs: dict[str, Any]) -> dict[str, Any]:
        """The log-scores of each kind, in deviations above the mean of normal images'."""
        return {name: (logs[name] - mean) / deviation for name, (mean, deviation, _) in self.log_scores.items()}

    def _scores(self, evidence: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: KINDS[name].score(values, self.learned.get(name)) for name, values in evidence.items()}

    def _logs(self, evidence: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: np.log(scores + LOWEST) for name, scores in self._scores(evidence).items()}


def _learned(evidence: dict[str, np.ndarray], told: float | None) -> dict[str, Any]:
    return {name: KINDS[name].learn(found, told) for name, found in evidence.items() if KINDS[name].learned is not None}


def _place(name: str, key: str) -> str:
    return key if name == "features" else f"{name}/{key}"
