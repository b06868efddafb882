import keras
import numpy as np
import pytest

import anogan_tf as agt
from anogan_tf import diagnosis, drawing


def images(n=64, spread=0.5, seed=0):
    return (spread * np.random.default_rng(seed).uniform(-1, 1, size=(n, 8, 8, 1))).astype(np.float32)


def test_a_generator_of_one_image_collapsed():
    same = drawing.measures(images(), images(seed=1), np.repeat(images(1), 64, axis=0), images(seed=1))
    assert "vary 0% as much" in diagnosis.collapse(same["variety"], same["error"])


def test_a_generator_of_a_blur_is_told():
    blur = np.repeat(images().mean(axis=0, keepdims=True), 64, axis=0)
    blurred = drawing.measures(images(), images(seed=1), images(seed=2), blur)
    assert "hardly better than the mean image does: the error is 1.00" in diagnosis.collapse(
        blurred["variety"], blurred["error"]
    )


def test_networks_that_learned_by_heart_are_not_told_to_train_longer():
    assert "train longer" in diagnosis.collapse(0.1, 0.5)
    assert "train on more images" in diagnosis.collapse(0.1, 0.5, longer=False)


def test_a_generator_as_various_as_the_images_is_well():
    like = drawing.measures(images(), images(seed=1), images(seed=2), images(seed=1))
    assert diagnosis.collapse(like["variety"], like["error"]) is None


def generator(momentum):
    z = keras.Input((4,))
    tensor = keras.layers.Reshape((8, 8, 1))(keras.layers.Dense(64)(z))
    tensor = keras.layers.BatchNormalization(momentum=momentum)(tensor)
    network = keras.Model(z, keras.layers.Activation("tanh")(tensor))
    network.layers[-2].set_weights([np.array([v]) for v in (1.0, 0.0, 0.0, 1.0)])
    return network


def test_statistics_that_lag_behind_are_seen_and_left_as_they_are():
    network = generator(0.99)
    network.layers[-2].set_weights([np.array([v]) for v in (1.0, 0.0, 5.0, 1.0)])
    before = network.get_weights()
    assert "statistics lag behind" in diagnosis.inference_gap(network, "normal", images())
    for one, other in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_healthy_generator_is_not_blamed(trained, digits):
    train = np.concatenate([batch["image"] for batch in digits.reference])
    assert diagnosis.inference_gap(trained.generator, trained.prior, train) is None


def test_images_learned_by_heart_are_seen():
    assert "3.0 times the residual" in diagnosis.overfit([0.1, 0.1], [0.3, 0.3])
    assert diagnosis.overfit([0.1, 0.1], [0.15, 0.12]) is None


@pytest.mark.parametrize(("n", "few"), [(12, True), (20, True), (60, False), (1000, False)])
def test_few_calibration_images_are_warned_of(n, few):
    assert (diagnosis.few_images(n, 0.05) is not None) == few


def test_the_spread_of_the_false_alarm_rate_is_what_simulation_says():
    rng = np.random.default_rng(0)
    rates = 1.0 - np.sort(rng.uniform(size=(20000, 20)), axis=1)[:, -1]  # α = 0.05 with n = 20: the largest score
    sentence = diagnosis.few_images(20, 0.05)
    assert f"more than {np.quantile(rates, 0.95):.0%}" in sentence


def test_more_false_alarms_than_promised_are_seen():
    assert "20 of 100 normal test images" in diagnosis.shifted(20, 100, 0.05, 1000)
    assert diagnosis.shifted(6, 100, 0.05, 1000) is None
    assert diagnosis.shifted(20, 100, 0.05, 20) is None  # a threshold on so few may well be that low
    assert diagnosis.shifted(0, 0, 0.05, 100) is None
    assert "3 of 3 normal" in diagnosis.shifted(3, 3, 0.05, 1000)


@pytest.mark.parametrize(("calibrated", "alpha"), [(19, 0.05), (60, 0.05), (60, 0.29), (12, 0.05)])
def test_a_shift_is_seen_by_chance_once_in_a_thousand_tests(calibrated, alpha):
    rng = np.random.default_rng(calibrated)
    tests, images = 20_000, 80
    above = max(1, int((calibrated + 1) * alpha + 1e-9))
    thresholds = np.sort(rng.random((tests, calibrated)), axis=1)[:, -above]
    counts = np.sum(rng.random((tests, images)) > thresholds[:, None], axis=1)
    fires = {int(count): diagnosis.shifted(int(count), images, alpha, calibrated) is not None for count in set(counts)}
    rate = np.mean([fires[int(count)] for count in counts])
    assert rate < 0.002  # of 20,000 tests 20 by chance, and hardly ever 40
    fewest = next(n for n in range(images + 1) if diagnosis.shifted(n, images, alpha, calibrated))
    assert np.mean(counts >= fewest - 1) > 0.0005  # one less would come by chance too often


def test_a_constant_generator_is_flagged_by_the_whole():
    constant = keras.Sequential([keras.Input((4,)), keras.layers.Dense(64, kernel_initializer="zeros")])
    constant.add(keras.layers.Reshape((8, 8, 1)))
    constant = keras.Model(constant.inputs[0], constant.outputs[0])
    gan = agt.DCGAN(generator=constant, discriminator=agt.Discriminator((8, 8, 1), width=4))
    scorer = agt.AnoGAN(gan, steps=1, score="paper", chunk=8)
    (sentence,) = diagnosis.diagnose(scorer, images(), images(seed=1))
    assert sentence.startswith("The generator collapsed")


def test_a_gan_that_draws_what_it_was_shown_is_well():
    gan = agt.DCGAN((8, 8, 1), 4, width=8, kernel_initializer="he_normal")
    shown = gan.generate(128)
    scorer = agt.AnoGAN(gan, steps=20, score="paper", chunk=32)
    measured, found = diagnosis.examine(scorer, shown[:64], shown[64:])
    assert measured["variety"] == pytest.approx(1, abs=0.3)
    assert measured["coverage"] > 0.8
    assert [sentence for sentence in found if "statistics" not in sentence] == []
    assert diagnosis.diagnose(scorer, shown[:64], shown[64:]) == found


@pytest.mark.parametrize(("error", "blamed"), [(0.1, False), (0.3, True)])
def test_what_new_images_lose_is_no_fault_where_components_lose_more(monkeypatch, error, blamed):
    """Images that the generator drew, and noise that it never did; 0.2 of the error is that of components."""
    measured = {"variety": 1.0, "error": error, "error_of_pca": 0.2}
    monkeypatch.setattr(diagnosis.drawing, "measures", lambda *_: measured)
    gan = agt.DCGAN((8, 8, 1), 4, width=8, kernel_initializer="he_normal")
    scorer = agt.AnoGAN(gan, steps=20, score="paper", chunk=32)
    found = diagnosis.diagnose(scorer, gan.generate(32), images())
    assert any("by heart" in sentence for sentence in found) == blamed


@pytest.mark.parametrize(
    ("score", "shown", "means"),
    [
        ("paper", True, "decisions and regions stay"),
        ("paper", False, "the decisions suffer"),
        ("features", False, "suffer less"),
    ],
)
def test_each_finding_says_what_it_means_for_what_decides(digits, score, shown, means):
    gan = agt.DCGAN((8, 8, 1), 6, width=4)
    scorer = agt.AnoGAN(gan, steps=1, score=score, chunk=8)
    train = next(iter(digits.reference))["image"].numpy()
    if scorer.learns:
        scorer.fit_reference(train)
    found = diagnosis.diagnose(scorer, train, train, shown=shown)
    assert found  # an untrained generator draws one gray image
    assert all(means in sentence for sentence in found)


def test_levels_that_cannot_be_kept_are_told_in_numbers():
    both, strict = diagnosis.unkept(12, 0.05), diagnosis.unkept(40, 0.05)
    assert "12 good images" in both
    assert "1/13 = 0.0769" in both
    assert "7 more for suspicious and 87 more for anomalous would do" in both
    assert "0.01 for anomalous. 59 more for anomalous would do" in strict
    assert diagnosis.unkept(99, 0.05) is None
