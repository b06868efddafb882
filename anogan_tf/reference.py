"""What scores learn from normal images: where their features lie, and how far scores spread."""

import numpy as np
from sklearn.decomposition import PCA

LOWEST = 1e-7  # of a score, before its logarithm


class PrincipalSubspace:
    """How far feature vectors lie outside the principal subspace of those of normal images.

    The score is mean((v - v̂)²) over elements, where v̂ is the projection of v on the first principal components of the
    reference images' features. It is the reconstruction error of PCA, on discriminator features in place of pixels.

    Args:
        mean: `(elements,)`.
        components: Orthonormal rows, `(n_components, elements)`.

    References:
        Jackson and Mudholkar, "Control Procedures for Residuals Associated With Principal Component Analysis",
        Technometrics 1979, eq. 2.1 (the Q statistic).
    """

    def __init__(self, mean, components):
        self.mean = np.asarray(mean, np.float32)
        self.components = np.ascontiguousarray(components, np.float32)  # another layout rounds in another way

    @classmethod
    def fit(cls, vectors, n_components=128):
        """Learns from `(n, elements)`; with at most half as many components as images or elements."""
        if len(vectors) < 2:
            raise ValueError(f"A reference takes at least 2 normal images. Received: {len(vectors)}.")
        pca = PCA(min(n_components, *(side // 2 for side in vectors.shape)), random_state=0).fit(vectors)
        return cls(pca.mean_, pca.components_)

    def __call__(self, vectors):
        """The score of each vector, `(batch,)`; one at a time, as a matrix product rounds a row by its place."""
        return np.array([self._distance(vector) for vector in vectors])

    def _distance(self, vector):
        centred = vector - self.mean
        return np.mean(np.square(centred - (self.components @ centred) @ self.components))


class Reference:
    """The score of evidence: of features, of how well transformations are told, or of both.

    One kind of evidence is its own score. Of several the score is the mean of their log-scores, each standardised with
    its mean and deviation over normal images, so that no kind outweighs another by its unit.

    Args:
        subspace: The `PrincipalSubspace` of features; None where they are no evidence.
        log_scores: For several kinds a dict of the mean and the standard deviation of each kind's log-scores over
            normal images; None for one kind.
    """

    def __init__(self, subspace=None, log_scores=None):
        self.subspace = subspace
        self.log_scores = log_scores

    @classmethod
    def fit(cls, evidence):
        """Learns from `evidence` of n normal images, a dict of arrays `(n, …)`, see `Comparison.evidence`.

        The spread of log-scores comes from the second half of the images with a subspace of the first half: images that
        a subspace was fitted to lie closer to it than new ones.

        Raises:
            ValueError: If there are too few images.
        """
        subspace = PrincipalSubspace.fit(evidence["features"]) if "features" in evidence else None
        if len(evidence) == 1:
            return cls(subspace)
        half = len(next(iter(evidence.values()))) // 2
        halves = (slice(half), slice(half, None)) if half >= 2 else (slice(None), slice(None))
        first = cls(subspace and PrincipalSubspace.fit(evidence["features"][halves[0]]))
        logs = first._logs({name: values[halves[1]] for name, values in evidence.items()})
        return cls(subspace, {name: (float(log.mean()), float(log.std() + LOWEST)) for name, log in logs.items()})

    def __call__(self, evidence):
        """The score of each image, `(batch,)`."""
        if self.log_scores is None:
            (scores,) = self._scores(evidence).values()
            return scores
        logs = self._logs(evidence)
        return np.mean([(logs[name] - mean) / std for name, (mean, std) in self.log_scores.items()], axis=0)

    @property
    def arrays(self):
        """All that was learned, as a dict of arrays."""
        arrays = {} if self.subspace is None else {"mean": self.subspace.mean, "components": self.subspace.components}
        return arrays | {f"log_scores/{name}": np.array(pair) for name, pair in (self.log_scores or {}).items()}

    @classmethod
    def from_arrays(cls, arrays):
        """The reference whose `arrays` these are."""
        subspace = PrincipalSubspace(arrays["mean"], arrays["components"]) if "mean" in arrays else None
        spread = {
            name.removeprefix("log_scores/"): tuple(map(float, pair))
            for name, pair in arrays.items()
            if name.startswith("log_scores/")
        }
        return cls(subspace, spread or None)

    def _scores(self, evidence):
        return {
            name: self.subspace(values) if name == "features" else np.asarray(values)
            for name, values in evidence.items()
        }

    def _logs(self, evidence):
        return {name: np.log(scores + LOWEST) for name, scores in self._scores(evidence).items()}
