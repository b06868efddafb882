import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from anogan_tf import surprise
from anogan_tf.surprise import Surprise


def log_likelihoods(probability, n=50, deviations=(0.05, 0.2), seed=0):
    """Of two tasks and four transformations, around log of a probability, `(n, 4, 2)`."""
    noise = np.random.default_rng(seed).normal(size=(n, 4, len(deviations))) * deviations
    return np.minimum(np.log(probability) + noise, 0.0).astype(np.float32)


def test_what_is_known_is_0_where_all_is_guessed_and_1_where_all_is_sure():
    guessed = np.full((3, 8, 2), np.log([0.5, 0.25]), np.float32)  # two classes, and four
    assert surprise.share_told(guessed) == pytest.approx(0.0, abs=1e-6)
    assert surprise.share_told(np.zeros((3, 8, 2))) == 1.0


def test_a_hesitant_discriminator_is_scored_by_logarithms_of_tasks_that_weigh_what_they_are_sure_of():
    seen = log_likelihoods(0.5)
    learned = Surprise.fit(seen)
    assert learned.power == 0.0
    deviations = seen.mean(axis=1).std(axis=0)
    assert learned.weights.mean() == pytest.approx(1.0)
    np.testing.assert_allclose(learned.weights[0] / learned.weights[1], deviations[1] / deviations[0], rtol=1e-3)
    new = log_likelihoods(0.3, n=3, seed=1)
    np.testing.assert_allclose(learned(new), -(new * learned.weights).sum(axis=2).mean(axis=1), rtol=1e-5)


def test_a_sure_discriminator_is_scored_by_probabilities():
    learned = Surprise.fit(log_likelihoods(0.95))
    assert learned.power == 1.0
    new = log_likelihoods(0.3, n=3, seed=1)
    np.testing.assert_allclose(
        learned(new), ((1.0 - np.exp(new)) * learned.weights).sum(axis=2).mean(axis=1), rtol=1e-5
    )


def test_what_it_was_trained_on_does_not_tell_how_sure_it_is():
    assert Surprise.fit(log_likelihoods(0.95), told=0.45).power == pytest.approx(0.5)


def test_between_them_stands_the_transform_of_box_and_cox():
    new = log_likelihoods(0.3, n=3, seed=1)
    score = Surprise([1.0, 0.0], 0.4)(new)
    np.testing.assert_allclose(
        score, -stats.boxcox(np.exp(new[..., 0].ravel()), 0.4).reshape(3, 4).mean(axis=1), rtol=1e-5
    )


@pytest.mark.parametrize("power", [0.0, 0.4, 1.0])
def test_tensors_give_the_same_and_so_do_arrays(power):
    learned, new = Surprise([0.5, 1.5], power), log_likelihoods(0.3, n=3)
    np.testing.assert_allclose(learned.tensor(tf.constant(new)), learned(new), rtol=1e-5)
    np.testing.assert_array_equal(Surprise.from_arrays(learned.arrays)(new), learned(new))


def test_two_images_are_needed():
    with pytest.raises(ValueError, match="at least 2 normal images"):
        Surprise.fit(log_likelihoods(0.5, n=1))
