import numpy as np
import pytest
from scipy import stats

from anogan_tf import thresholds


def test_threshold_is_the_order_statistic_of_the_definition():
    scores = np.random.default_rng(0).permutation(np.arange(1.0, 101.0))
    assert thresholds.conformal(scores, 0.05) == (96.0, 5 / 101)  # ⌈101 · 0.95⌉ = 96
    assert thresholds.conformal(scores[scores <= 19], 0.05) == (19.0, 0.05)  # ⌈20 · 0.95⌉ = 19
    assert thresholds.conformal(np.arange(1.0, 100.0), 0.29) == (71.0, 0.29)  # 100 · 0.71, without rounding up


def test_few_images_attain_what_they_can_and_say_so():
    with pytest.warns(UserWarning, match=r"at least 19 normal.*Received: 18, which attain α = 1/19"):
        threshold, attained = thresholds.conformal(np.arange(18.0), 0.05)
    assert (threshold, attained) == (17.0, 1 / 19)


@pytest.mark.parametrize("n", [41, 100, 300])
@pytest.mark.parametrize("alpha", [0.05, 0.1])
def test_false_alarm_rate_is_alpha(n, alpha):
    """Over draws of calibration set and image the rate of false alarms is ⌊(n + 1) α⌋ / (n + 1)."""
    rng = np.random.default_rng([n, int(1000 * alpha)])
    draws = 20_000
    alarms = 0
    for _ in range(draws):
        scores = rng.gamma(2.0, size=n + 1)
        alarms += scores[-1] > thresholds.conformal(scores[:-1], alpha)[0]
    expected = int((n + 1) * alpha + 1e-9) / (n + 1)
    low, high = stats.binom.interval(0.9999, draws, expected)
    assert low <= alarms <= high
    assert alarms <= stats.binom.ppf(0.9999, draws, alpha)


@pytest.mark.parametrize("n", [5, 19, 41, 100])
@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.3])
@pytest.mark.filterwarnings("ignore:α")
def test_score_exceeds_the_threshold_exactly_where_p_is_at_most_alpha(n, alpha):
    rng = np.random.default_rng(n)
    for _ in range(200):
        calibration = rng.integers(0, 12, n) / 4  # many ties
        scores = rng.integers(-1, 14, 50) / 4
        threshold, attained = thresholds.conformal(calibration, alpha)
        np.testing.assert_array_equal(scores > threshold, thresholds.p_values(scores, calibration) <= attained)


def test_p_values_count_the_normal_images_that_look_as_anomalous():
    np.testing.assert_allclose(thresholds.p_values([0.0, 2.0, 2.5, 9.0], [1.0, 2.0, 3.0]), [1.0, 0.75, 0.5, 0.25])


def test_best_f1_separates_what_can_be_separated():
    threshold = thresholds.best_f1([1.0, 2.0, 5.0, 6.0], [0, 0, 1, 1])
    assert threshold == 3.5


def test_best_f1_is_no_worse_than_any_other_threshold():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 60)
    scores = np.round(rng.normal(labels, 1.5), 1)

    def f1(threshold):
        predictions = scores > threshold
        return 2 * np.sum(predictions & (labels == 1)) / (predictions.sum() + labels.sum())

    best = f1(thresholds.best_f1(scores, labels))
    assert best == pytest.approx(max(f1(t) for t in [-99, *scores]))


def test_best_f1_can_call_everything_anomalous():
    threshold = thresholds.best_f1([1.0, 2.0, 3.0], [1, 0, 1])
    assert threshold < 1.0


def test_midpoint_lies_between_worst_normal_and_best_anomalous():
    assert thresholds.midpoint([1.0, 4.0, 3.0, 9.0], [0, 0, 1, 1]) == 3.5


@pytest.mark.parametrize("choose", [thresholds.best_f1, thresholds.midpoint])
def test_labelled_thresholds_need_both_classes(choose):
    with pytest.raises(ValueError, match=r"Received: labels \[0\]"):
        choose([1.0, 2.0], [0, 0])


@pytest.mark.parametrize("alpha", [0.0, 1.0, 5.0])
def test_alpha_is_a_rate(alpha):
    with pytest.raises(ValueError, match="Received: alpha="):
        thresholds.conformal([1.0], alpha)


@pytest.mark.parametrize("scores", [[], [1.0, np.nan], [np.inf]])
def test_scores_are_finite_and_some(scores):
    with pytest.raises(ValueError, match="finite scores"):
        thresholds.conformal(scores)


def test_three_answers_of_two_thresholds():
    assert [thresholds.decision(score, 1.0, 2.0) for score in (1.0, 1.5, 2.0, 2.1)] == [
        "normal",
        "suspicious",
        "suspicious",
        "anomalous",
    ]
    assert thresholds.decision(1.5, 1.0, 1.0) == "anomalous"


@pytest.mark.parametrize(("alpha", "n"), [(0.05, 19), (0.01, 99), (0.3, 3), (0.5, 1)])
def test_as_many_images_as_are_needed_keep_a_rate(alpha, n):
    assert thresholds.needed(alpha) == n
    assert thresholds.level(np.arange(n), alpha)[1] == int(alpha * (n + 1)) / (n + 1)
    if n > 1:
        assert thresholds.level(np.arange(n - 1), alpha) == (n - 2, 1 / n)
