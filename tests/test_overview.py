import numpy as np
import pytest
import tensorflow as tf
from scipy import stats
from sklearn.metrics import roc_auc_score

from anogan_tf.overview import Joined, Overview


def described(n, seed=0, level=0.0, contrast=1.0):
    """Features `(n, 6, 5, 9)` of gray pictures of some level and contrast, without direction; colours go together."""
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(n, 1, 1, 1)) * np.repeat([1.0, 0.1], [3, 6])
    return (own + level + contrast * rng.normal(size=(n, 6, 5, 9))).astype(np.float32)


@pytest.mark.parametrize("changed", [{"level": 0.7}, {"contrast": 2.0}, {"contrast": 0.5}])
def test_a_level_or_a_contrast_that_no_normal_picture_has_is_far(changed):
    known = Overview.fit(described(200))
    normal, other = known(described(100, 1)), known(described(100, 2, **changed))
    assert roc_auc_score(np.repeat([0, 1], 100), np.concatenate([normal, other])) > 0.9


def test_distances_are_those_of_the_formula_where_pictures_are_many():
    """Mahalanobis' over how many numbers there are: χ² over its degrees of freedom where these are Gaussian."""
    many, new = described(4000), described(500, 1)

    def numbers(features):
        flat = features.reshape(len(features), -1, 9).astype(np.float64)
        return np.concatenate([flat.mean(axis=1), np.log(flat.std(axis=1) + 0.05)], axis=1)

    away = numbers(new) - numbers(many).mean(axis=0)
    expected = np.einsum("ni,ij,nj->n", away, np.linalg.inv(np.cov(numbers(many), rowvar=False)), away) / 18
    found = Overview.fit(many)(new)
    np.testing.assert_allclose(found, expected, rtol=0.1)
    assert stats.kstest(18 * found, stats.chi2(18).cdf).statistic < 0.1


def test_a_picture_does_not_depend_on_the_others():
    known, new = Overview.fit(described(20)), described(5, 1)
    np.testing.assert_array_equal(known(new)[3:], known(new[3:]))
    np.testing.assert_allclose([known.tensor(tf.constant(each))[0] for each in new], known(new), rtol=1e-4)


def test_a_graph_is_as_exact_as_python_though_few_pictures_make_it_steep():
    """As in exports, in 32 bits: of pictures that are nearly the same, but far from even ones."""
    common = 3.0 + described(1, 2)
    known, new = Overview.fit(common + 1e-3 * described(6)), common + 1e-3 * described(5, 1)
    np.testing.assert_allclose([known.tensor(tf.constant(each))[0] for each in new], known(new), rtol=3e-5)


@pytest.mark.parametrize("n", [2, 3])
def test_few_pictures_and_even_ones_give_finite_distances(n):
    assert np.isfinite(Overview.fit(described(n))(described(3, 1))).all()
    even = Overview.fit(np.ones((n, 4, 4, 9), np.float32))
    assert np.isfinite(even(described(3, 1))).all()
    np.testing.assert_allclose(even.tensor(tf.ones((4, 4, 9))), even(np.ones((1, 4, 4, 9))), atol=1e-9)


def test_joined_scores_are_in_deviations_of_normal_ones():
    """Two thirds of what is found at places, one third of the whole; a score below 0 counts as 0."""
    scores = np.random.default_rng(0).lognormal(size=(500, 2)) * [10.0, 1.0]
    joined = Joined.fit(scores)
    logs = stats.zscore(np.log1p(scores))
    np.testing.assert_allclose(joined(scores), logs @ [2 / 3, 1 / 3], atol=1e-9)
    np.testing.assert_allclose(joined.tensor(tf.constant(scores, tf.float32)), joined(scores), rtol=1e-3, atol=1e-5)
    assert joined(np.array([[-5.0, 1.0]])) == joined(np.array([[0.0, 1.0]]))
    assert np.isfinite(Joined.fit(np.ones((3, 2)))(np.ones((1, 2)))).all()
