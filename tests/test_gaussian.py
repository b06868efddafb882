import numpy as np
import pytest
import tensorflow as tf

from anogan_tf.gaussian import Gaussian


def correlated(n, seed=0):
    """Vectors of a Gaussian whose covariance is known, `(n, 3)`, and that."""
    factor = np.array([[2.0, 0.0, 0.0], [1.0, 1.5, 0.0], [-1.0, 0.5, 1.0]])
    return np.random.default_rng(seed).normal(size=(n, 3)) @ factor.T + [5.0, -1.0, 0.0], factor @ factor.T


def test_the_score_is_the_mahalanobis_distance():
    vectors, covariance = correlated(20000)
    beside = np.array([[6.0, -1.0, 0.0], [5.0, 1.0, 0.0], [5.0, -1.0, -1.0]], np.float32)
    away = beside - [5.0, -1.0, 0.0]
    expected = np.einsum("ni,ij,nj->n", away, np.linalg.inv(covariance), away) / 3
    np.testing.assert_allclose(Gaussian.fit(vectors)(beside), expected, rtol=0.05)  # regularised, and of a sample


def test_new_normal_vectors_score_about_one_whatever_their_units():
    train, new = correlated(4000)[0], correlated(2000, seed=1)[0]
    units = np.array([1e-3, 1.0, 1e4])
    scores = [Gaussian.fit(train * scale)((new * scale).astype(np.float32)) for scale in (1.0, units)]
    assert scores[0].mean() == pytest.approx(1.0, abs=0.1)
    np.testing.assert_allclose(*scores, rtol=1e-2)


def test_few_vectors_of_many_elements_have_finite_scores_and_one_is_too_few():
    vectors = np.random.default_rng(0).normal(size=(5, 40)).astype(np.float32)
    vectors[:, 7] = 3.0  # and one that does not vary
    assert np.isfinite(Gaussian.fit(vectors)(vectors + 1.0)).all()
    with pytest.raises(ValueError, match=r"at least 2 normal images\. Received: 1"):
        Gaussian.fit(vectors[:1])


def test_arrays_hold_it_and_a_graph_gives_the_same():
    vectors = correlated(50)[0].astype(np.float32)
    learned = Gaussian.fit(vectors)
    np.testing.assert_array_equal(Gaussian.from_arrays(learned.arrays)(vectors), learned(vectors))
    np.testing.assert_allclose(learned.tensor(tf.constant(vectors)), learned(vectors), rtol=1e-4)
