"""Whether local features are compared at the same place or anywhere: what tells painted defects better."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.metrics import roc_auc_score

from anogan_tf.distances import Kinds, Places, Scales
from anogan_tf.local_features import local_features
from anogan_tf.proxies import DEFECTS, painted

FOLDS, HELD_OUT = 2, 24  # of a quarter of the pictures each; pictures of a fold that are looked at

Scores = Callable[[Scales, np.ndarray], np.ndarray]  # of a reference and distances `(n, height, width)` to `(n,)`


def chosen(pictures: np.ndarray, features: np.ndarray, scores: Scores, seed: int = 0) -> type[Places] | type[Kinds]:
    """`Places` or `Kinds`: whichever has the higher mean AUROC for `proxies.painted` defects of each kind.

    Both learn from the other three quarters of the pictures, twice over. No anomalous picture has a say.

    Args:
        pictures: Normal pictures `(n, height, width, channels)` in [-1, 1], at least 2.
        features: Theirs, `(n, rows, columns, features)`.
        scores: What makes scores of a reference and distances.
        seed: Of the folds, the clusters and the defects.
    """
    return max((Places, Kinds), key=lambda of_scale: np.mean(aurocs(of_scale, pictures, features, scores, seed)))


def aurocs(
    of_scale: type[Places] | type[Kinds], pictures: np.ndarray, features: np.ndarray, scores: Scores, seed: int = 0
) -> np.ndarray:
    """The AUROC of each of `proxies.DEFECTS` in each fold, `(folds, defects)`; the arguments as of `chosen`."""
    order = np.random.default_rng(seed).permutation(len(pictures))
    found = []
    for fold in range(min(FOLDS, len(pictures))):
        held_out = order[fold::4]
        reference = Scales.fit(np.delete(features, held_out, axis=0), seed, of_scale)
        normal = pictures[held_out[:HELD_OUT]]

        def scored(some, reference=reference, shape=normal.shape[1:]):
            return scores(reference, reference.of_features(local_features(some).numpy(), shape))

        usual = scored(normal)
        found.append([_auroc(usual, scored(painted(normal, defect, seed + fold)[0])) for defect in DEFECTS])
    return np.array(found)


def _auroc(normal, anomalous):
    return roc_auc_score(np.repeat([0, 1], (len(normal), len(anomalous))), np.concatenate([normal, anomalous]))
