"""How local features are compared, at the same place, in one pose or anywhere: what normal pictures tell."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from sklearn.metrics import roc_auc_score

from anogan_tf.distances import Kinds, Places, Scales, Turning
from anogan_tf.local_features import VERSION, Features, Filters
from anogan_tf.proxies import DEFECTS, painted
from anogan_tf.registration import Registration

PART = 4  # of the pictures, that a fold holds out
LIKELIHOOD_FOLDS, LIKELIHOOD_HELD_OUT = 4, 6  # and pictures of a fold that are looked at
PAINTED_HELD_OUT, PAINTED = 24, 48  # pictures of a fold that defects are painted on, and of all folds at least
CLEAR, CLEAR_IN_ONE_POSE = 0.03, 0.06  # nats a feature, by which one is clearly likelier
WAYS = (Places, Kinds, Turning)
MARGIN = 0.03  # of AUROC, about the error of one, by which another way has to be better than `Places`

Way = type[Places] | type[Kinds]  # of which `Turning` is one
Scores = Callable[[Scales, np.ndarray], np.ndarray]  # of a reference and distances `(n, height, width)` to `(n,)`


class Choice(NamedTuple):
    """How pictures are compared.

    Attributes:
        way: One of `WAYS`.
        features: The local features of the pictures, in their poses where there is a registration.
        registration: What brings pictures into one pose, or None.
        poses: Those of the pictures, `(n, 3)`, or None.
    """

    way: Way
    features: np.ndarray
    registration: Registration | None = None
    poses: np.ndarray | None = None


def chosen(pictures: np.ndarray, scores: Scores, seed: int = 0, described: Features | None = None) -> Choice:
    """How to compare pictures: at the same place, in one pose, or anywhere.

    `Places`, where they make normal pictures that were left out clearly likelier than `Kinds` do. Where that is so once
    all pictures are in one pose, as of many parts that turn, `Places` in that pose. Elsewhere, as on surfaces, that
    which has the highest mean AUROC for `proxies.painted` defects of each kind, `Places` if none is better by `MARGIN`.
    Whether there is a pose the `Filters` tell, whatever describes pictures then: a network sees so much around a place
    that the same place is likelier for it however parts lie.
    All learn from three quarters of the pictures, several times over. No anomalous picture has a say.

    Args:
        pictures: Normal pictures `(n, height, width, channels)` in [-1, 1], at least 2.
        scores: What makes scores of a reference and distances.
        seed: Of the folds, the clusters and the defects.
        described: What describes them, which says whether it can do without directions; None for `Filters`.
    """
    described = described or Filters()
    features = described.of_pictures(pictures)
    by_filters = features if described == Filters() else Filters().of_pictures(pictures)
    gain = likelihood_gain(by_filters, seed)
    if gain <= CLEAR:
        registration = Registration.fit(pictures)
        poses = registration.poses(pictures)
        in_one_pose = Filters().of_pictures(registration(pictures, poses))
        if likelihood_gain(in_one_pose, seed) > CLEAR_IN_ONE_POSE:
            if by_filters is not features:
                in_one_pose = described.of_pictures(registration(pictures, poses))
            return Choice(Places, in_one_pose, registration, poses)
    if by_filters is not features:
        gain = likelihood_gain(features, seed, described.version)
    if gain > CLEAR:
        return Choice(Places, features)
    ways = [way for way in WAYS if way.directed or described.directed]
    means = aurocs(ways, pictures, features, scores, seed, described).mean(axis=(1, 2))
    means[ways.index(Places)] += MARGIN
    return Choice(ways[means.argmax()], features)


def likelihood_gain(features: np.ndarray, seed: int = 0, version: int = VERSION) -> float:
    """By how many nats a feature `Places` make normal pictures that were left out likelier than `Kinds` do.

    Args:
        features: Of normal pictures, `(n, rows, columns, features)`.
        seed: Of the folds and the clusters.
        version: Of the features.
    """
    gains = []
    for held_out in _folds(len(features), LIKELIHOOD_FOLDS, seed):
        rest, some = np.delete(features, held_out, axis=0), features[held_out[:LIKELIHOOD_HELD_OUT]]
        places, kinds = (way.fit(rest, seed, version).log_likelihood(some) for way in (Places, Kinds))
        gains.append(places - kinds)
    return float(np.mean(gains)) / features.shape[-1]


def aurocs(
    ways: Sequence[Way],
    pictures: np.ndarray,
    features: np.ndarray,
    scores: Scores,
    seed: int = 0,
    described: Features | None = None,
) -> np.ndarray:
    """The AUROC by each way of each of `proxies.DEFECTS` in each fold, `(ways, folds, defects)`; see `chosen`."""
    described, found = described or Filters(), []
    for fold, held_out in enumerate(_folds(len(pictures), _painted_folds(len(pictures)), seed)):
        normal, rest = pictures[held_out[:PAINTED_HELD_OUT]], np.delete(features, held_out, axis=0)
        looked_at = [features[held_out[:PAINTED_HELD_OUT]]]
        looked_at += [described.of_pictures(painted(normal, defect, seed + fold)[0]) for defect in DEFECTS]
        for way in ways:
            reference = Scales.fit(rest, seed, way, described.version)
            usual, *odd = (scores(reference, reference.of_features(some, normal.shape[1:])) for some in looked_at)
            found.append([_auroc(usual, some) for some in odd])
    return np.reshape(found, (-1, len(ways), len(DEFECTS))).swapaxes(0, 1)


def _painted_folds(n):
    """Two of many pictures, and more of few, which tell less each."""
    held_out = min(PAINTED_HELD_OUT, math.ceil(n / PART))
    return min(PART, math.ceil(PAINTED / held_out))


def _folds(n, folds, seed):
    """Numbers of pictures that are held out together, a list for each of some folds."""
    order = np.random.default_rng(seed).permutation(n)
    return [order[fold::PART] for fold in range(min(folds, n))]


def _auroc(normal, anomalous):
    return roc_auc_score(np.repeat([0, 1], (len(normal), len(anomalous))), np.concatenate([normal, anomalous]))
