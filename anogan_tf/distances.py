"""How far local features are from those of normal pictures: at the same place, anywhere, at two scales."""

import numpy as np
import tensorflow as tf
from scipy import ndimage
from sklearn.cluster import MiniBatchKMeans

REACH = 1  # places on the grid, in each direction, where a normal picture may show the same
AROUND, PRIOR = 5, 3  # places across, whose covariances stand for few pictures' own; and how much they count
REGULARISATION = 1e-3  # of variances, of features scaled to a variance of 1
VECTORS, KINDS = 40_000, 64  # remembered where places do not matter
FOLDS, HELD_OUT = 4, 6  # of normal pictures, and pictures looked at in each, to choose between places and kinds


class Places:
    """How far local features are from the nearest of normal pictures, at the same place or next to it.

    The distance at a place is min ‖W (v - v')‖² over the normal pictures and the 3×3 places around it, where W whitens
    the features of normal pictures at that place (W Σ Wᵀ = 1, Σ their covariance): a direction in which normal pictures
    vary counts for less. This suits parts that are always seen alike.

    Args:
        memory: Features of normal pictures, `(rows, columns, n, features)`.

    References:
        Defard et al., "PaDiM", arXiv 2011.08785, section III (a covariance a place); Roth et al., "Towards Total Recall
        in Industrial Anomaly Detection", arXiv 2106.08265, section 3 (nearest neighbours). Features there are of
        networks pretrained on photographs, here of fixed filters.
    """

    levelled = True

    def __init__(self, memory):
        self.memory = np.ascontiguousarray(memory, np.float16)  # another layout rounds in another way
        values = self.memory.astype(np.float32)
        self.scale = np.maximum(values.std(axis=(0, 1, 2)), 1e-6)
        mean = (values / self.scale).mean(axis=2)  # (rows, columns, features)
        whitening = _place_whitening(values / self.scale, mean)
        self._learned = tuple(map(tf.constant, (self.memory, mean, whitening)))  # on the device, once
        self._distances = tf.function(self._of_rows, autograph=False)

    @classmethod
    def fit(cls, features, seed=0):
        """Learns from `(n, rows, columns, features)`."""
        return cls(np.moveaxis(features, 0, 2))

    @property
    def arrays(self):
        """All that was learned, as a dict of arrays."""
        return {"memory": self.memory}

    def __call__(self, features):
        """The distances of pictures' features `(batch, rows, columns, features)`, `(batch, rows, columns)`."""
        rows = tf.transpose(features / self.scale, (1, 2, 0, 3))  # (rows, columns, batch, features)
        return self._distances(rows).numpy().transpose(2, 0, 1)

    def log_likelihood(self, features):
        """The mean log-density of features under a Gaussian at each place, up to a constant."""
        _, mean, whitening = (array.numpy() for array in self._learned)
        away = np.einsum("nrcf,rcfg->nrcg", features / self.scale - mean, whitening, optimize=True)
        return float(np.mean(_log_determinant(whitening) - np.square(away).sum(axis=-1) / 2) - np.log(self.scale).sum())

    def _of_rows(self, rows):
        places = tf.range(len(self.memory))
        return tf.map_fn(lambda row: self._of_row(row, rows[row]), places, fn_output_signature=tf.float32)

    def _of_row(self, row, features):
        """The distances in one row, `(columns, batch)`, of features `(columns, batch, features)`."""
        height, width = self.memory.shape[:2]
        memory, mean, whitening = self._learned
        mean, whitening = mean[row][:, None], whitening[row]
        queries = (features - mean) @ whitening
        lengths = tf.reduce_sum(tf.square(queries), axis=-1)  # (columns, batch)
        nearest = tf.fill(tf.shape(lengths), np.inf)
        for down in range(-REACH, REACH + 1):
            there = tf.gather(memory, tf.clip_by_value(row + down, 0, height - 1))
            for right in range(-REACH, REACH + 1):
                columns = np.clip(np.arange(width) + right, 0, width - 1)
                normal = tf.cast(tf.gather(there, columns), tf.float32) / self.scale
                normal = (normal - mean) @ whitening  # (columns, n, features)
                products = tf.matmul(queries, normal, transpose_b=True)  # (columns, batch, n)
                closest = tf.reduce_min(tf.reduce_sum(tf.square(normal), axis=-1)[:, None] - 2.0 * products, axis=-1)
                nearest = tf.minimum(nearest, lengths + closest)
        return tf.maximum(nearest, 0.0)


class Kinds:
    """How far local features are from the nearest of normal pictures, wherever it is.

    Features of normal pictures are of some kinds, found by k-means. The distance is min ‖W (v - v')‖² over a random
    part of all of them, where W whitens the features of the kind that v is nearest to. This suits parts that turn and
    move, and surfaces.

    Args:
        vectors: Features of normal pictures, `(n, features)`.
        centres: Of the kinds, `(kinds, features)`, in coordinates in which all vectors together are white.
    """

    levelled = False

    def __init__(self, vectors, centres):
        self.vectors = np.ascontiguousarray(vectors, np.float16)
        self.centres = np.asarray(centres, np.float32)
        self._values, self.scale, self._middle, self._white = _whitened(self.vectors)
        own = self._nearest_kinds(self._values)
        size, counts = self.vectors.shape[1], np.bincount(own, minlength=len(self.centres))
        self._means = np.stack([self._values[own == k].sum(axis=0) / max(counts[k], 1) for k in range(len(counts))])
        away = self._values - self._means[own]
        scatters = np.stack([away[own == k].T @ away[own == k] for k in range(len(counts))])
        everywhere = scatters.sum(axis=0) / len(own)
        covariances = (scatters + PRIOR * size * everywhere) / (counts + PRIOR * size)[:, None, None]
        self._whitening = _whitening(covariances)  # (kinds, features, features)
        self._shares = (counts + 0.5) / (len(own) + 0.5 * len(counts))
        self._lengths = np.stack([np.square(self._values @ whitening).sum(axis=1) for whitening in self._whitening])

    @classmethod
    def fit(cls, features, seed=0):
        """Learns from `(n, rows, columns, features)`."""
        flat = features.reshape(-1, features.shape[-1])
        chosen = np.sort(np.random.default_rng(seed).permutation(len(flat))[:VECTORS])
        vectors = flat[chosen].astype(np.float16)
        values, _, _, white = _whitened(vectors)
        kinds = min(KINDS, max(1, len(values) // flat.shape[1]))
        means = MiniBatchKMeans(kinds, batch_size=2048, n_init=1, max_iter=30, random_state=seed).fit(values @ white)
        return cls(vectors, means.cluster_centers_)

    @property
    def arrays(self):
        """All that was learned, as a dict of arrays."""
        return {"vectors": self.vectors, "centres": self.centres}

    def __call__(self, features):
        """The distances of pictures' features `(batch, rows, columns, features)`, `(batch, rows, columns)`."""
        return each_picture(self._of_picture, np.asarray(features))

    def log_likelihood(self, features):
        """The mean log-density of features under a mixture of Gaussians, one a kind, up to a constant."""
        values = (features / self.scale - self._middle).reshape(-1, len(self.scale))
        logs = [
            np.log(share) + _log_determinant(whitening) - np.square((values - mean) @ whitening).sum(axis=1) / 2
            for mean, whitening, share in zip(self._means, self._whitening, self._shares, strict=True)
        ]
        return float(np.logaddexp.reduce(logs).mean() - np.log(self.scale).sum())

    def _of_picture(self, features):
        """One picture at a time, so that its distances do not depend on others."""
        values = (features / self.scale - self._middle).reshape(-1, len(self.scale))
        own, nearest = self._nearest_kinds(values), np.empty(len(values), np.float32)
        for kind in np.unique(own):
            whitening, here = self._whitening[kind], own == kind
            queries = values[here] @ whitening
            products = queries @ whitening.T @ self._values.T  # (queries, vectors)
            nearest[here] = np.square(queries).sum(axis=1) + np.min(self._lengths[kind] - 2.0 * products, axis=1)
        return np.maximum(nearest, 0.0).reshape(features.shape[:2])

    def _nearest_kinds(self, values):
        away = np.square(self.centres).sum(axis=1) - 2.0 * (values @ self._white) @ self.centres.T
        return away.argmin(axis=1)


class Scales:
    """How far local features are from those of normal pictures, on their own grid and on one of twice the spacing.

    The distance at a place is the sum of both: a small defect shows on the first, a large one on the second too.

    Args:
        fine: A `Places` or a `Kinds` of features.
        coarse: One of the means of features over blocks of 2×2 places.
    """

    def __init__(self, fine, coarse):
        self.fine = fine
        self.coarse = coarse

    @property
    def levelled(self):
        """Whether a picture's own level says how unusual it is as a whole: of `Places`."""
        return self.fine.levelled

    def __reduce__(self):
        """Copies and pickles are made of the arrays."""
        return type(self).from_arrays, (self.arrays,)

    @classmethod
    def fit(cls, features, seed=0):
        """Learns from `(n, rows, columns, features)`, at both scales with what suits the first, see `chosen`."""
        of_scale = chosen(features, seed)
        return cls(of_scale.fit(features, seed), of_scale.fit(_halved(features), seed))

    @property
    def arrays(self):
        """All that was learned, as a dict of arrays."""
        scales = {"fine": self.fine, "coarse": self.coarse}
        return {f"{name}/{key}": array for name, scale in scales.items() for key, array in scale.arrays.items()}

    @classmethod
    def from_arrays(cls, arrays):
        """The distances whose `arrays` these are."""
        of_scale = Places if "fine/memory" in arrays else Kinds
        own = {"fine": {}, "coarse": {}}
        for name, array in arrays.items():
            scale, _, key = name.partition("/")
            own[scale][key] = array
        return cls(of_scale(**own["fine"]), of_scale(**own["coarse"]))

    def __call__(self, features):
        """The distances of pictures' features `(batch, rows, columns, features)`, `(batch, rows, columns)`."""
        rows, columns = features.shape[1:3]
        coarse = self.coarse(_halved(features)).repeat(2, axis=1).repeat(2, axis=2)
        return self.fine(features) + coarse[:, :rows, :columns]


def chosen(features, seed=0):
    """`Places` or `Kinds`, whichever makes other normal pictures likelier.

    Both are fitted to three quarters of the pictures, and describe some of the last quarter, four times over.

    Args:
        features: `(n, rows, columns, features)` of normal pictures.
        seed: Of the folds, and of the kinds.
    """
    order = np.random.default_rng(seed).permutation(len(features))
    gains = []
    for fold in range(FOLDS):
        held_out = order[fold::FOLDS]
        if len(held_out):
            rest, some = np.delete(features, held_out, axis=0), features[held_out[:HELD_OUT]]
            gains.append(Places.fit(rest).log_likelihood(some) - Kinds.fit(rest, seed).log_likelihood(some))
    return Places if np.mean(gains) > 0 else Kinds


def each_picture(function, pictures):
    """What a function says of each picture, as one array; equal ones, which fill up a chunk, are asked about once."""
    found = {}
    keys = [picture.tobytes() for picture in pictures]
    for key, picture in zip(keys, pictures, strict=True):
        if key not in found:
            found[key] = function(picture)
    return np.stack([found[key] for key in keys])


def _halved(features):
    """The means over blocks of 2×2 places, `(n, ceil(rows / 2), ceil(columns / 2), features)`."""
    return tf.nn.avg_pool2d(features, 2, 2, "SAME").numpy()


def _place_whitening(features, mean):
    """W at each place, `(rows, columns, features, features)`, to be multiplied from the right.

    Few pictures do not tell a covariance: it is drawn to the mean of those of the places around, as if that came from
    `PRIOR` times as many pictures as there are features.
    """
    n, size = features.shape[2:]
    away = features - mean[:, :, None]  # (rows, columns, n, features)
    covariance = np.swapaxes(away, -1, -2) @ away / max(n - 1, 1)
    around = ndimage.uniform_filter(covariance, (AROUND, AROUND, 1, 1), mode="nearest")
    return _whitening((n * covariance + PRIOR * size * around) / (n + PRIOR * size))


def _whitening(covariances):
    factors = np.linalg.cholesky(covariances + REGULARISATION * np.eye(covariances.shape[-1]))
    return np.swapaxes(np.linalg.inv(factors), -1, -2).astype(np.float32)


def _log_determinant(whitening):
    return np.log(np.diagonal(whitening, axis1=-2, axis2=-1)).sum(axis=-1)


def _whitened(vectors):
    """Vectors scaled to a variance of 1 and centred, their scale and middle, and what whitens them."""
    values = vectors.astype(np.float32)
    scale = np.maximum(values.std(axis=0), 1e-6)
    values /= scale
    middle = values.mean(axis=0)
    return values - middle, scale, middle, _whitening(np.cov(values, rowvar=False))
