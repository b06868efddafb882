"""How far local features are from those of normal pictures: at the same place, anywhere, at two scales."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import tensorflow as tf
from scipy import ndimage
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits

from anogan_tf.local_features import OF_NETWORK, STRIDE, VERSION, undirected, upsampled
from anogan_tf.overview import Joined, Overview
from anogan_tf.registration import Registration

REACH = 1  # places on the grid, in each direction, where a normal picture may show the same
SHIFTS = tuple(itertools.product(range(-REACH, REACH + 1), repeat=2))
AROUND, PRIOR = 5, 3  # places across, whose covariances stand for few pictures' own; and how much they count
LEAST_VARIANCE = 0.01  # of smoothed log-distances of normal pictures at a pixel
REGULARISATION = {OF_NETWORK: 0.1, 1: 1e-3, 2: 1e-3, 3: 1e-3}  # of variances, of features scaled to a variance of 1
# The deviation of a feature in normal pictures, by version; what varies less is taken so.
LEAST = {OF_NETWORK: 0.05, 1: 1e-6, 2: 0.2, 3: 0.2}
VECTORS, CLUSTERS = 40_000, 64  # learned from where places do not matter
CORESET, FARTHEST = 5_000, 1_000  # of the vectors, with which others are compared; and looked at to find them


class Places:
    """How far local features are from the nearest of normal pictures, at the same place or next to it.

    The distance at a place is min ‖W (v - v')‖² over the normal pictures and the 3×3 places around it, where W whitens
    the features of normal pictures at that place (W Σ Wᵀ = 1, Σ their covariance): a direction in which normal pictures
    vary counts for less. This suits parts that are always seen alike.

    Args:
        memory: Features of normal pictures, `(rows, columns, n, features)`.
        version: Of the features.

    References:
        Defard et al., "PaDiM", arXiv 2011.08785, section III (a covariance a place); Roth et al., "Towards Total Recall
        in Industrial Anomaly Detection", arXiv 2106.08265, section 3 (nearest neighbours). Features there are of
        networks pretrained on photographs, here of fixed filters.
    """

    levelled, directed = True, True
    in_words = "the same place of good pictures"

    def __init__(self, memory: np.ndarray, version: int = VERSION) -> None:
        self.memory = np.ascontiguousarray(memory, np.float16)  # another layout rounds in another way
        self.version = version
        values, self.scale, added = _scaled(self.memory, version)
        self._mean = values.mean(axis=2)  # (rows, columns, features)
        self._whitening = _place_whitening(values, self._mean, added)

    @classmethod
    def fit(cls, features: np.ndarray, seed: int = 0, version: int = VERSION) -> "Places":
        """Learns from `(n, rows, columns, features)`."""
        return cls(np.moveaxis(features, 0, 2), version)

    def __reduce__(self) -> tuple:
        return type(self), (self.memory, self.version)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All that was learned, as a dict of arrays."""
        return {"memory": self.memory}

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """The distances of pictures' features `(batch, rows, columns, features)`, `(batch, rows, columns)`."""
        return each_picture(lambda picture: self.compared(picture, **self.known), features)

    def log_likelihood(self, features: np.ndarray) -> float:
        """The mean log-density of features under a Gaussian at each place, up to a constant."""
        away = np.einsum("nrcf,rcfg->nrcg", features / self.scale - self._mean, self._whitening, optimize=True)
        logs = _log_determinant(self._whitening) - np.square(away).sum(axis=-1) / 2
        return float(np.mean(logs) - np.log(self.scale).sum())

    @functools.cached_property
    def known(self) -> dict[str, tf.Tensor]:
        """What distances are computed with, by the names that `compared` gives it."""
        around = np.pad(self._mean, ((REACH, REACH), (REACH, REACH), (0, 0)))
        with tf.init_scope():  # also while a graph is traced, of which they would be a part
            means = tf.stack(_each_shift(around, self._mean.shape), axis=2)  # (rows, columns, 9, features)
            memory, squares = map(tf.constant, self._products())
            whitening, scale = tf.constant(self._whitening), tf.constant(self.scale)
        return {"means": means, "memory": memory, "squares": squares, "whitening": whitening, "scale": scale}

    @staticmethod
    def compared(features: tf.Tensor, **known: tf.Tensor) -> tf.Tensor:
        """The distances `(rows, columns)` of one picture's features `(rows, columns, features)`, by what is `known`."""
        return _to_places(features, **known)

    def tensor(self, features: tf.Tensor) -> tf.Tensor:
        """The distances of one picture's features, as `compared` gives them: nothing in it is lacking in an export."""
        return self.compared(features, **self.known)

    def _products(self):
        """a' `(rows, columns, features, n)`, and a' P a' with the P of each place around, `(rows, columns, 9, n)`."""
        away = self.memory.astype(np.float32) / self.scale - self._mean[:, :, None]  # (rows, columns, n, features)
        around = np.pad(self._whitening, ((REACH, REACH), (REACH, REACH), (0, 0), (0, 0)), mode="edge")
        squares = [np.square(away @ there).sum(axis=-1) for there in _each_shift(around, self._mean.shape)[::-1]]
        return np.ascontiguousarray(np.swapaxes(away, -1, -2)), np.stack(squares, axis=2)


class Kinds:
    """How far local features are from the nearest of normal pictures, wherever it is.

    The features of normal pictures fall into clusters, found by k-means. The distance is min ‖W (v - v')‖² over a part
    of them that leaves none far from it, where W whitens the features of the cluster that v is nearest to. This suits
    parts that turn and move, and surfaces.

    Args:
        vectors: Features of normal pictures, `(n, features)`.
        centres: Of the clusters, `(clusters, features)`, in coordinates in which all vectors together are white.
        coreset: The v', `(m, features)`; None to choose them from the vectors, all of which version 1 has.
        version: Of the features.

    References:
        Roth et al., "Towards Total Recall in Industrial Anomaly Detection", arXiv 2106.08265, section 3.2.
    """

    levelled, directed = False, True
    in_words = "all places of good pictures"

    def __init__(
        self,
        vectors: np.ndarray,
        centres: np.ndarray,
        coreset: np.ndarray | None = None,
        version: int = VERSION,
    ) -> None:
        self.vectors = np.ascontiguousarray(vectors, np.float16)
        self.centres = np.asarray(centres, np.float32)
        self.version = version
        self._values, self.scale, self._middle, self._white, added = _whitened(self.vectors, version)
        own = (np.square(self.centres).sum(axis=1) - 2.0 * (self._values @ self._white) @ self.centres.T).argmin(axis=1)
        size, counts = self.vectors.shape[1], np.bincount(own, minlength=len(self.centres))
        self._means = np.stack([self._values[own == k].sum(axis=0) / max(counts[k], 1) for k in range(len(counts))])
        away = self._values - self._means[own]
        scatters = np.stack([away[own == k].T @ away[own == k] for k in range(len(counts))])
        everywhere = scatters.sum(axis=0) / len(own)
        covariances = (scatters + PRIOR * size * everywhere) / (counts + PRIOR * size)[:, None, None]
        self._whitening = _whitening(covariances, added)  # (clusters, features, features)
        self._shares = (counts + 0.5) / (len(own) + 0.5 * len(counts))
        if coreset is not None or version == 1:
            self.coreset = self.vectors if coreset is None else coreset

    @functools.cached_property
    def coreset(self) -> np.ndarray:
        """The vectors with which others are compared, `(m, features)`."""
        return self.vectors[k_centres(self._values @ self._white, CORESET)]

    @classmethod
    def fit(cls, features: np.ndarray, seed: int = 0, version: int = VERSION) -> "Kinds":
        """Learns from `(n, rows, columns, features)`."""
        flat = features.reshape(-1, features.shape[-1])
        chosen = np.sort(np.random.default_rng(seed).permutation(len(flat))[:VECTORS])
        vectors = flat[chosen].astype(np.float16)
        values, _, _, white, _ = _whitened(vectors, version)
        clusters = min(CLUSTERS, max(1, len(values) // flat.shape[1]))
        means = MiniBatchKMeans(clusters, batch_size=2048, n_init=1, max_iter=30, random_state=seed)
        with threadpool_limits(1, "openmp"):  # its steps are short, and threads that wait for each other cost more
            means.fit(values @ white)
        return cls(vectors, means.cluster_centers_, version=version)

    def __reduce__(self) -> tuple:
        return type(self), (self.vectors, self.centres, self.coreset, self.version)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All that was learned, as a dict of arrays."""
        return {"vectors": self.vectors, "centres": self.centres, "coreset": self.coreset}

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """The distances of pictures' features `(batch, rows, columns, features)`, `(batch, rows, columns)`."""
        return each_picture(lambda picture: self.compared(picture, **self.known), features)

    def log_likelihood(self, features: np.ndarray) -> float:
        """The mean log-density of features under a mixture of Gaussians, one a cluster, up to a constant."""
        values = (features / self.scale - self._middle).reshape(-1, len(self.scale))
        logs = [
            np.log(share) + _log_determinant(whitening) - np.square((values - mean) @ whitening).sum(axis=1) / 2
            for mean, whitening, share in zip(self._means, self._whitening, self._shares, strict=True)
        ]
        return float(np.logaddexp.reduce(logs).mean() - np.log(self.scale).sum())

    @staticmethod
    def compared(features: tf.Tensor, **known: tf.Tensor) -> tf.Tensor:
        """The distances `(rows, columns)` of one picture's features `(rows, columns, features)`, by what is `known`.

        One row after the other: products round by their sizes.
        """
        return _to_kinds_of_rows(features, **known)

    def tensor(self, features: tf.Tensor) -> tf.Tensor:
        """The distances of one picture's features in operations that all exports have: all places at once."""
        flat = _to_kinds(tf.reshape(features, (-1, features.shape[-1])), **self.known)
        return tf.reshape(flat, features.shape[:2])

    @functools.cached_property
    def known(self) -> dict[str, tf.Tensor]:
        """What distances are computed with, by the names that `compared` gives it."""
        normal = self.coreset.astype(np.float32) / self.scale - self._middle
        squares = np.stack([np.square(normal @ whitening).sum(axis=1) for whitening in self._whitening])
        known = {"normal": np.ascontiguousarray(normal.T), "squares": squares, "whitening": self._whitening}
        known |= {"centres": self.centres, "white": self._white, "scale": self.scale, "middle": self._middle}
        with tf.init_scope():  # also while a graph is traced, of which they would be a part
            return {name: tf.constant(values) for name, values in known.items()}


class Turning(Kinds):
    """`Kinds` of features without directions (`local_features.undirected`), for parts that lie in any direction."""

    directed = False
    in_words = "all places of good pictures, in any direction"


@dataclasses.dataclass(frozen=True)
class Usual:
    """How high smoothed log-distances of normal pictures usually are, pixel by pixel.

    An edge or a print that varies is far from its neighbours in many a good picture, and says less there.

    Args:
        mean: Of maps that were no part of what they are distances from, `(height, width)`.
        deviation: Theirs, `(height, width)`.
        lowest: The lowest median of one such map's deviations; -inf if it is not known, as in older runs.
    """

    mean: np.ndarray
    deviation: np.ndarray
    lowest: float = -np.inf

    @classmethod
    def fit(cls, maps: np.ndarray, sigma: float) -> "Usual":
        """Learns from maps `(n, height, width)`; variances are averaged under a Gaussian of σ pixels."""
        maps = maps.astype(np.float32)
        variance = ndimage.gaussian_filter(maps.var(axis=0), sigma) + LEAST_VARIANCE
        usual = cls(maps.mean(axis=0), np.sqrt(variance))
        return dataclasses.replace(usual, lowest=np.float32(min(np.median(usual(each)) for each in maps)))

    def __call__(self, maps: np.ndarray) -> np.ndarray:
        """How many deviations maps `(…, height, width)` are above the mean."""
        return (maps - self.mean) / self.deviation


class Scales:
    """How far local features are from those of normal pictures, on their own grid and on one of twice the spacing.

    The distance at a place is the sum of both: a small defect shows on the first, a large one on the second too.

    Args:
        fine: A `Places` or a `Kinds` of features.
        coarse: One of the means of features over blocks of 2×2 places.
        version: Of the features, see `local_features`; `local_features.OF_NETWORK` for those of a network.

    Attributes:
        usual: A `Usual`, where cross-calibration learned one; else None.
        overview: An `Overview`, likewise.
        joined: How the scores of both join, likewise.
        registration: What brings pictures into the pose in which their features are compared, or None.
    """

    def __init__(
        self,
        fine: Places | Kinds,
        coarse: Places | Kinds,
        version: int = VERSION,
        usual: Usual | None = None,
        overview: Overview | None = None,
        joined: Joined | None = None,
        registration: Registration | None = None,
    ) -> None:
        self.usual = usual
        self.overview = overview
        self.joined = joined
        self.registration = registration
        self.fine = fine
        self.coarse = coarse
        self.version = version

    @property
    def levelled(self) -> bool:
        """Whether a picture's own level says how unusual it is as a whole: of `Places`.

        Not with features of a network, which see so much around a place that a defect raises the level itself.
        """
        return self.fine.levelled and self.version != OF_NETWORK

    @property
    def has_clusters(self) -> bool:
        """Whether a place is compared by the cluster that it is nearest to, from which distances jump to the next."""
        return isinstance(self.fine, Kinds)

    @property
    def in_words(self) -> str:
        """What a place of a picture is compared with."""
        lying = ", once the part is turned and moved to lie as it does there" if self.registration else ""
        return self.fine.in_words + lying

    @classmethod
    def fit(
        cls,
        features: np.ndarray,
        seed: int = 0,
        of_scale: type[Places] | type[Kinds] = Places,
        version: int = VERSION,
    ) -> "Scales":
        """Learns from `(n, rows, columns, features)`, with the same distances at both scales, see `choice.chosen`."""
        seen = features if of_scale.directed else undirected(features).numpy()
        return cls(*(of_scale.fit(each, seed, version) for each in (seen, _halved(seen).numpy())), version)

    def __reduce__(self) -> tuple:
        return type(self), (self.fine, self.coarse, self.version, *(getattr(self, name) for name in PARTS))

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All that was learned, as a dict of arrays."""
        scales = {"fine": self.fine, "coarse": self.coarse}
        arrays = {f"{name}/{key}": array for name, scale in scales.items() for key, array in scale.arrays.items()}
        for name, part in ((name, getattr(self, name)) for name in PARTS):
            if part is not None:
                arrays |= {f"{name}/{field.name}": getattr(part, field.name) for field in dataclasses.fields(part)}
        return arrays | {"features_version": np.float32(self.version), "directed": np.float32(self.fine.directed)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Scales":
        """The distances whose `arrays` these are; of version 1 where they name none.

        Raises:
            ValueError: If the features are of a version that is not known here.
        """
        version = int(arrays.get("features_version", 1))
        if version not in LEAST:
            raise ValueError(
                f"The reference holds local features of version {version}; this anogan-tf knows "
                f"{sorted(LEAST.keys() - {OF_NETWORK})}. "
                "Install the one that wrote it, or fit the reference again."
            )
        of_scale = Places if "fine/memory" in arrays else Kinds if arrays.get("directed", 1) else Turning

        fine, coarse = (of_scale(**part_of(arrays, name), version=version) for name in ("fine", "coarse"))
        parts = {name: part_of(arrays, name) for name in PARTS}
        return cls(fine, coarse, version, *(PARTS[name](**part) if part else None for name, part in parts.items()))

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """The distances of pictures' features `(batch, rows, columns, features)`, `(batch, rows, columns)`."""
        return each_picture(self._of_features, features)

    def of_features(self, features: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """The distances of pictures of a shape `(height, width, …)`, by their features, in their own pixels.

        One picture at a time: n of them cost n times as much, and none depends on the others.
        """
        return each_picture(functools.partial(self._of_features, shape=tuple(shape[:2])), features)

    def tensor(self, features: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
        """As `of_features`, of one picture's features, in operations that all formats of exports have."""
        seen = features if self.fine.directed else undirected(features)
        return _larger(_summed(seen, self.fine.tensor, self.coarse.tensor, self.version), STRIDE, shape, self.version)

    def _of_features(self, features, shape=None):
        return _at_both(features, self.fine.known, self.coarse.known, type(self.fine), self.version, shape)


# What a reference may have besides, the first three by cross-calibration alone.
PARTS = {"usual": Usual, "overview": Overview, "joined": Joined, "registration": Registration}


@tf.function(autograph=False)
def _at_both(features, fine, coarse, of_scale, version, shape):
    """Distances of one picture's features at both scales, on their grid, or in pixels where a shape is given.

    Args:
        features: `(rows, columns, features)`.
        fine: What is known at the first scale.
        coarse: What is known at the second.
        of_scale: The class of both.
        version: Of the features.
        shape: `(height, width)` of the picture, or None.
    """
    seen = features if of_scale.directed else undirected(features)
    summed = _summed(seen, *(functools.partial(of_scale.compared, **known) for known in (fine, coarse)), version)
    return summed if shape is None else _larger(summed, STRIDE, shape, version)


def _summed(features, fine, coarse, version):
    """Distances at two scales, by a function of each, on the grid of the first."""
    return fine(features) + _larger(coarse(_halved(features[None])[0]), 2, features.shape, version)


def _larger(distances, times, shape, version):
    """Distances `(rows, columns)` on a grid of `times` as many points a side, as much of it as a shape has."""
    return upsampled(distances[None], times, version)[0, : shape[0], : shape[1]]


@tf.function(autograph=False)
def _to_places(features, *, means, memory, squares, whitening, scale):
    """Distances `(rows, columns)` of features `(rows, columns, features)` to `Places`, which are traced once a size.

    With v = m + a and v' = m + a', m the mean at the place of v', and P = W Wᵀ at the place of v, the distance is
    a P a - 2 a P a' + a' P a'. The last is known beforehand; the product in the middle is of the normal pictures at
    one place with all that are compared with them.
    """
    away = (features / scale)[:, :, None] - means
    white = away @ whitening  # (rows, columns, 9, features)
    pulls = _shifted(-2.0 * tf.matmul(white, whitening, transpose_b=True), -1, 0.0)
    closest = tf.reduce_min(pulls @ memory + squares, axis=-1)  # (rows, columns, 9)
    nearest = tf.reduce_sum(tf.square(white), axis=-1) + _shifted(closest, 1, np.inf)
    return tf.maximum(tf.reduce_min(nearest, axis=-1), 0.0)


@tf.function(autograph=False)
def _to_kinds_of_rows(features, **known):
    """`_to_kinds` of features `(rows, columns, features)`, `(rows, columns)`."""
    return tf.map_fn(lambda row: _to_kinds(row, **known), features)


def _to_kinds(features, *, normal, squares, whitening, centres, white, scale, middle):
    """Distances `(n,)` of features `(n, features)` to `Kinds`.

    With P = W Wᵀ of the cluster of v, the distance is v P v - 2 v P v' + v' P v', the last known beforehand.
    """
    values = features / scale - middle
    products = tf.matmul(values @ white, centres, transpose_b=True)
    clusters = tf.argmin(tf.reduce_sum(tf.square(centres), axis=1) - 2.0 * products, axis=1)
    own = tf.gather(whitening, clusters)  # (n, features, features)
    apart = tf.linalg.matvec(own, values, transpose_a=True)
    closest = tf.reduce_min(-2.0 * tf.linalg.matvec(own, apart) @ normal + tf.gather(squares, clusters), axis=1)
    return tf.maximum(tf.reduce_sum(tf.square(apart), axis=1) + closest, 0.0)


def k_centres(vectors: np.ndarray, n: int) -> np.ndarray:
    """The numbers, ascending, of n of the vectors such that every other is near one of them; of all if they are fewer.

    Greedily: after the first vector, always the one that is farthest from those chosen. It is looked for among the
    `FARTHEST`, as long as they have one farther than all others, whose distances are then brought up to date at once.
    """
    if n >= len(vectors):
        return np.arange(len(vectors))
    numbers, nearest = [0], _squared(vectors, vectors[:1])[:, 0]
    while len(numbers) < n:
        nearest[numbers] = -np.inf
        some = np.argsort(-nearest, kind="stable")[:FARTHEST]
        own, apart, picked = nearest[some], _squared(vectors[some], vectors[some]), []
        others = own[-1]
        while len(numbers) + len(picked) < n and own.max() >= others:
            picked.append(own.argmax())
            own = np.minimum(own, apart[picked[-1]])
            own[picked] = -np.inf
        numbers.extend(some[picked])
        nearest = np.minimum(nearest, _squared(vectors, vectors[some[picked]]).min(axis=1))
    return np.sort(numbers)


def _squared(vectors, others):
    """The squared distances of vectors `(n, features)` to others `(m, features)`, `(n, m)`."""
    lengths, theirs = (np.square(each).sum(axis=1) for each in (vectors, others))
    return lengths[:, None] - 2.0 * (vectors @ others.T) + theirs


def part_of(arrays: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """The arrays whose names are `name/…`, by what follows."""
    return {key.partition("/")[2]: array for key, array in arrays.items() if key.startswith(f"{name}/")}


def each_picture(function: Callable, pictures: Iterable[np.ndarray]) -> np.ndarray:
    """What a function says of each picture, as one array; equal ones, which fill up a chunk, are asked about once."""
    found = {}
    pictures = [np.asarray(picture, np.float32) for picture in pictures]
    keys = [picture.tobytes() for picture in pictures]
    for key, picture in zip(keys, pictures, strict=True):
        if key not in found:
            found[key] = np.asarray(function(picture))
    return np.stack([found[key] for key in keys])


def _halved(features):
    """The means over blocks of 2×2 places, `(n, ceil(rows / 2), ceil(columns / 2), features)`."""
    return tf.nn.avg_pool2d(features, 2, 2, "SAME")


def _around(shape):
    """Where in an array padded by `REACH` what lies at each of the `SHIFTS` from every place is, as slices."""
    rows, columns = shape[:2]
    return [np.s_[REACH + r : REACH + r + rows, REACH + c : REACH + c + columns] for r, c in SHIFTS]


def _each_shift(padded, shape):
    """Of an array padded by `REACH`, what lies at each of the `SHIFTS` from every place, as a list."""
    return [padded[where] for where in _around(shape)]


def _shifted(maps, sign, outside):
    """Maps `(rows, columns, 9, …)`, each as it is at its one of the `SHIFTS`, or at minus that, from every place."""
    margins = [[REACH, REACH]] * 2 + [[0, 0]] * (len(maps.shape) - 2)
    padded = tf.pad(maps, margins, constant_values=outside)
    return tf.stack([padded[(*where, i)] for i, where in enumerate(_around(maps.shape)[::sign])], axis=2)


def _place_whitening(features, mean, added):
    """W at each place, `(rows, columns, features, features)`, to be multiplied from the right.

    Few pictures do not tell a covariance: it is pulled to the mean of those of the places around, as if that came from
    `PRIOR` times as many pictures as there are features.
    """
    n, size = features.shape[2:]
    away = features - mean[:, :, None]  # (rows, columns, n, features)
    covariance = np.swapaxes(away, -1, -2) @ away / max(n - 1, 1)
    around = ndimage.uniform_filter(covariance, (AROUND, AROUND, 1, 1), mode="nearest")
    return _whitening((n * covariance + PRIOR * size * around) / (n + PRIOR * size), added)


def _whitening(covariances, added):
    factors = np.linalg.cholesky(covariances + np.diag(added))
    return np.swapaxes(np.linalg.inv(factors), -1, -2).astype(np.float32)


def _log_determinant(whitening):
    return np.log(np.diagonal(whitening, axis1=-2, axis2=-1)).sum(axis=-1)


def _scaled(vectors, version):
    """Vectors `(…, features)` scaled to a variance of 1, or less: their scale, and what is added to each variance.

    That is what it is short of 1, and the regularisation.
    """
    values = vectors.astype(np.float32)
    deviation = values.std(axis=tuple(range(values.ndim - 1)))
    scale = np.maximum(deviation, LEAST[version])
    values /= scale
    return values, scale, REGULARISATION[version] + (1.0 - np.square(deviation / scale))


def _whitened(vectors, version):
    """Vectors scaled and centred; their scale and middle; what whitens them; what is added to their variances."""
    values, scale, added = _scaled(vectors, version)
    middle = values.mean(axis=0)
    return values - middle, scale, middle, _whitening(np.cov(values, rowvar=False), added), added
