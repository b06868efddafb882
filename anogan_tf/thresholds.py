"""From scores to a threshold, and to p-values."""

import math
import warnings
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import precision_recall_curve

STRICTER = 5  # times fewer false alarms are wanted of `anomalous` than of `suspicious`
DECISIONS = ("normal", "suspicious", "anomalous")


def conformal(scores: ArrayLike, alpha: float = 0.05) -> tuple[float, float]:
    """The threshold that a new normal image exceeds with probability at most `alpha`.

    With n scores it is the ⌈(n + 1)(1 - α)⌉-th smallest. The promise holds for exchangeable scores, whatever their
    distribution, on average over calibration sets. With n < ⌈1/α⌉ - 1 no score is high enough: the largest is taken.

    Args:
        scores: Scores of normal images that nothing was learned from, `(n,)`.
        alpha: Rate of false alarms, in (0, 1).

    Returns:
        The threshold and the attained α, the most that a new normal image exceeds it with: ⌊(n + 1)α⌋ / (n + 1),
        or 1/(n + 1) for small n.

    Raises:
        ValueError: Without scores, with one that is not finite, or with `alpha` outside (0, 1).

    Warns:
        UserWarning: If n is too small for `alpha`.

    References:
        Vovk et al., "Algorithmic Learning in a Random World", 2005, chapter 2 (split conformal prediction).
    """
    threshold, attained = level(scores, alpha)
    if attained > alpha:
        n = np.size(scores)
        warnings.warn(
            f"α = {alpha:g} needs at least {needed(alpha)} normal "
            f"validation images. Received: {n}, which attain α = 1/{n + 1} = {1 / (n + 1):.3f}.",
            stacklevel=3,
        )
    return threshold, attained


def level(scores: ArrayLike, alpha: float) -> tuple[float, float]:
    """As `conformal`, without a word where n is too small."""
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is a rate of false alarms in (0, 1), such as 0.05. Received: alpha={alpha}.")
    scores = _finite(scores)
    n = len(scores)
    above = exceeding(n, alpha)
    return float(scores[n - above]), above / (n + 1)


def exceeding(n: int, alpha: float) -> int:
    """How many of n + 1 exchangeable scores a conformal threshold of n of them lets exceed it: ⌊(n + 1) α⌋, 1 to n."""
    return max(1, min(n, math.floor((n + 1) * Fraction(str(alpha)))))


def needed(alpha: float) -> int:
    """How many images a rate of false alarms takes: ⌈1/α⌉ - 1."""
    return math.ceil(1 / Fraction(str(alpha))) - 1


def decision(score: float, threshold: float, strict: float) -> str:
    """`"normal"` up to the threshold, `"anomalous"` above the strict one too, and `"suspicious"` between both."""
    if score <= threshold:
        return "normal"
    return "anomalous" if score > strict else "suspicious"


def p_values(scores: ArrayLike, calibration_scores: ArrayLike) -> np.ndarray:
    """The share of normal images that look at least as anomalous: (1 + #{calibration ≥ score}) / (n + 1).

    Args:
        scores: Scores of m images, `(m,)`.
        calibration_scores: Scores of n normal images, `(n,)`.

    Returns:
        `(m,)`, in [1/(n + 1), 1]. At most α exactly where the score exceeds the `conformal` threshold, ties included.
    """
    calibration_scores = _finite(calibration_scores)
    n = len(calibration_scores)
    at_least = n - np.searchsorted(calibration_scores, scores, side="left")
    return (1 + at_least) / (n + 1)


def best_f1(scores: ArrayLike, labels: ArrayLike) -> float:
    """The threshold with the highest F1 on labelled scores, halfway between the two scores it separates."""
    scores, labels = _both_classes(scores, labels)
    precision, recall, thresholds = precision_recall_curve(labels, scores)  # anomalous ⇔ score >= threshold
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    lowest_anomalous = thresholds[np.argmax(f1[:-1])]
    below = scores[scores < lowest_anomalous]
    if len(below) == 0:
        return float(np.nextafter(lowest_anomalous, -np.inf))
    return float((lowest_anomalous + below.max()) / 2)


def midpoint(scores: ArrayLike, labels: ArrayLike) -> float:
    """Halfway between the largest normal and the smallest anomalous score, as in Pippo7x/AnoGAN-Keras."""
    scores, labels = _both_classes(scores, labels)
    return float((scores[labels == 0].max() + scores[labels == 1].min()) / 2)


def _finite(scores):
    """`scores` in ascending order."""
    scores = np.sort(np.asarray(scores, np.float64).ravel())
    if len(scores) == 0 or not np.isfinite(scores).all():
        raise ValueError(f"A threshold needs finite scores of normal images. Received: {len(scores)} scores {scores}.")
    return scores


def _both_classes(scores, labels):
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels)
    if set(np.unique(labels)) != {0, 1}:
        raise ValueError(
            "A threshold from test labels needs normal (0) and anomalous (1) images. Received: labels "
            f"{np.unique(labels).tolist()}."
        )
    return scores, labels
