"""Which pictures are held out together, where all of them take turns."""

from collections.abc import Sequence

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from sklearn.metrics import euclidean_distances

ALIKE = 0.25  # of the median distance of two pictures, within which pictures show nearly the same


def folds(together: Sequence[Sequence], n: int, seed: int = 0) -> np.ndarray:
    """A fold for each picture; those that share a name, or are linked by others that do, are in one.

    Args:
        together: Arrays of names, `(pictures,)` each, such as hashes of their content, and their groups.
        n: Folds wanted; fewer where there are not as many pictures that may be parted.
        seed: Of the order in which pictures are dealt.

    Returns:
        Numbers from 0, `(pictures,)`; folds are as even as whole groups allow.

    Raises:
        ValueError: For fewer than 2 folds, or if no picture may be parted from the others.
    """
    if n < 2:
        raise ValueError(f"At least 2 folds take turns. Received: folds={n}.")
    names, members, sizes = np.unique(linked(together), return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise ValueError(
            f"Pictures of at least 2 groups are needed to hold some out. Received: {len(members)} in {len(names)}."
        )
    order = np.random.default_rng(seed).permutation(len(names))
    filled, fold = np.zeros(min(n, len(names)), int), np.empty(len(names), int)
    for group in order[np.argsort(-sizes[order], kind="stable")]:
        fold[group] = filled.argmin()
        filled[fold[group]] += sizes[group]
    return fold[members]


def linked(together: Sequence[Sequence]) -> np.ndarray:
    """For each picture the lowest number of those that it is linked to by names in common, `(pictures,)`."""
    lowest = np.arange(len(together[0]))
    while True:
        before = lowest
        for names in together:
            _, same = np.unique(np.asarray(names), return_inverse=True)
            least = np.full(same.max(initial=0) + 1, len(lowest))
            np.minimum.at(least, same, lowest)
            lowest = least[same]
        if np.array_equal(lowest, before):
            return lowest


def alike(features: np.ndarray) -> np.ndarray:
    """For each picture the number of a group that shows nearly the same: shots of one part, frames of one film.

    All pictures of a group are nearer to each other than `ALIKE` of the median distance of two pictures (complete
    linkage), so that a chain of pictures, each like the next, does not become one group.

    Args:
        features: Of pictures that are compared place by place, `(pictures, rows, columns, features)`.

    Returns:
        Whole numbers, `(pictures,)`.
    """
    deviations = features.std(axis=(0, 1, 2), dtype=np.float64).astype(np.float32)
    flat = (features / np.maximum(deviations, 1e-6)).reshape(len(features), -1)
    apart = squareform(euclidean_distances(flat), checks=False)  # of each pair
    if not np.median(apart):
        return np.arange(len(features))
    return fcluster(linkage(apart, "complete"), ALIKE * np.median(apart), "distance")
