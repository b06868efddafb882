import keras
import numpy as np
import pytest
import tensorflow as tf

import anogan_tf as agt
from anogan_tf import surprise, transformations
from anogan_tf.kinds import KINDS, Seen
from anogan_tf.transformations import Transformations

SELF_SUPERVISED = {
    **{name: name for name in ("features", "tasks", "transformations")},
    "both": "features+transformations",
    "tasks beside features": "features+tasks",
}


def images(shape=(8, 8, 1), n=2, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, size=(n, *shape)).astype(np.float32)


def test_the_first_transformation_changes_nothing():
    x = images((8, 12, 3))
    np.testing.assert_array_equal(Transformations((8, 12, 3))(x, [0, 0]), x)


@pytest.mark.parametrize("quarters", range(4))
def test_rotations_are_quarter_turns(quarters):
    x = images((6, 6, 3))
    turned = Transformations((6, 6, 3), "rotation")(x, [quarters, 0])
    np.testing.assert_array_equal(turned[0], np.rot90(x[0], quarters))
    np.testing.assert_array_equal(turned[1], x[1])


def test_images_that_are_not_square_are_turned_upside_down_only():
    known = Transformations((6, 8, 1), ["rotation"])
    assert known.classes == (2,)
    x = images((6, 8, 1), n=1)
    np.testing.assert_array_equal(known(x, [1])[0], x[0, ::-1, ::-1])


def test_shifts_move_by_a_quarter_and_mirror_the_border():
    known = Transformations((8, 12, 1), "shift")
    assert known.classes == (3, 3)
    assert len(known) == 9
    number = int(np.flatnonzero((known.labels == (2, 0)).all(axis=1))[0])  # down by 2
    x = images((8, 12, 1), n=1)
    down = known(x, [number])[0].numpy()
    np.testing.assert_array_equal(down[2:], x[0, :-2])
    np.testing.assert_array_equal(down[:2], x[0, 2:0:-1])
    number = int(np.flatnonzero((known.labels == (0, 1)).all(axis=1))[0])  # left by 3
    np.testing.assert_array_equal(known(x, [number])[0, :, :-3], x[0, :, 3:])


def test_all_combinations_differ():
    known = Transformations((8, 8, 1))
    assert (len(known), known.classes) == (36, (4, 3, 3))
    assert len({tuple(row) for row in known.labels}) == 36
    x = np.repeat(images(n=1), 36, axis=0)
    assert len({image.tobytes() for image in known(x, np.arange(36)).numpy()}) == 36


def test_log_likelihood_sums_what_each_head_says_of_what_was_done():
    known = Transformations((8, 8, 1))
    logits = np.random.default_rng(0).normal(size=(5, 10)).astype(np.float32)
    numbers = np.array([0, 3, 11, 20, 35])
    expected = 0.0
    for part, labels in zip(np.split(logits, [4, 7], axis=1), known.labels[numbers].T, strict=True):
        expected += (part - np.log(np.exp(part).sum(axis=1, keepdims=True)))[np.arange(5), labels]
    np.testing.assert_allclose(known.log_likelihood(logits, numbers), expected, rtol=1e-5)
    all_logits = np.random.default_rng(1).normal(size=(3, 36, 10)).astype(np.float32)
    each = [known.log_likelihoods(all_logits[:, t], np.full(3, t)) for t in range(36)]
    np.testing.assert_allclose(known.log_likelihoods_of_all(all_logits), np.stack(each, axis=1), rtol=1e-5)
    np.testing.assert_allclose(
        known.log_likelihood(logits, numbers), known.log_likelihoods(logits, numbers).numpy().sum(1)
    )


@pytest.mark.parametrize("tasks", ["mirror", ("rotation", "paste"), ()])
def test_unknown_tasks_are_refused(tasks):
    with pytest.raises(ValueError, match=r"one or several of \('rotation', 'shift'\)\. Received:"):
        transformations.check_tasks(tasks)


def oriented(n=96, seed=0):
    """Images with an upper left corner that is bright: turned and moved ones look different."""
    x = np.random.default_rng(seed).uniform(-1.0, -0.8, size=(n, 8, 8, 1)).astype(np.float32)
    x[:, :3, :3] += 1.6
    return x


@pytest.fixture(scope="module", params=[(agt.DCGAN, {}), (agt.WGANGP, {"critic_steps": 1})], ids=["dcgan", "wgan-gp"])
def told(request):
    """A GAN whose discriminator learned to tell how `oriented` images were turned."""
    kind, options = request.param
    gan = kind((8, 8, 1), 4, width=8, self_supervision="rotation")
    gan.compile(*(keras.optimizers.Adam(3e-3, beta_1=0.5) for _ in range(2)), **options)
    gan.losses_seen = gan.fit(
        tf.data.Dataset.from_tensor_slices(oriented()).batch(32), epochs=30, shuffle=False, verbose=0
    ).history
    return gan


def test_the_discriminator_learns_to_tell_rotations(told):
    assert told.losses_seen["task_loss"][0] > 0.5 > 0.1 > told.losses_seen["task_loss"][-1]


def test_images_that_cannot_be_told_are_the_anomalous_ones(told):
    symmetric = np.full((8, 8, 8, 1), -0.9, np.float32)
    scorer = agt.AnoGAN(told, steps=0, score="transformations", chunk=8)
    scorer.fit_reference(oriented())
    assert scorer.reference is None  # it learned nothing
    normal, odd = (scorer.score(x)["anomaly_score"] for x in (oriented(8, seed=1), symmetric))
    assert normal.max() < odd.min()
    known = told.transformations
    logits = [told.tell_transformations(known(symmetric, np.full(8, t)), training=False) for t in range(4)]
    expected = -np.mean([known.log_likelihood(logit, np.full(8, t)) for t, logit in enumerate(logits)], axis=0)
    np.testing.assert_allclose(odd, expected, rtol=1e-4)
    weighed = agt.AnoGAN(told, steps=0, score="tasks", chunk=8)
    weighed.fit_reference(oriented())
    assert weighed.reference.learned["tasks"].power == 0.0  # as of mirror images, whose corner is another
    normal, odd = (weighed.score(x)["anomaly_score"] for x in (oriented(8, seed=1), symmetric))
    assert normal.max() < odd.min()
    np.testing.assert_allclose(odd, expected, rtol=1e-4)  # a single task


def test_how_much_it_tells_is_found_from_mirror_images_of_those_it_was_trained_on(told):
    scorer = agt.AnoGAN(told, steps=0, score="tasks+density", chunk=8)
    scorer.fit_reference(oriented())
    by_heart, new = (
        surprise.share_told(KINDS["tasks"].evidence(Seen(told, images, {})).numpy())
        for images in (oriented(), oriented()[:, :, ::-1])
    )
    assert new < 0.5 < 0.9 < by_heart  # whose bright corner is another
    shares = scorer.reference.log_scores
    assert shares["density"].weight == pytest.approx(KINDS["density"].weight(new), abs=1e-5)
    assert shares["tasks"].weight == pytest.approx(KINDS["tasks"].weight(new), abs=1e-5)


@pytest.mark.parametrize("score", ["transformations", "features+tasks"])
@pytest.mark.parametrize("scorer_class", [agt.AnoGAN, agt.FAnoGAN])
def test_score_does_not_depend_on_its_batch(told, scorer_class, score):
    options = {"steps": 1} if scorer_class is agt.AnoGAN else {}
    scorer = scorer_class(told, score=score, chunk=8, **options)
    scorer.fit_reference(oriented())
    x = images(n=11)
    together = scorer.score(x)["anomaly_score"]
    alone = np.concatenate([scorer.score(x[i : i + 1])["anomaly_score"] for i in (0, 5, 10)])
    np.testing.assert_array_equal(together[[0, 5, 10]], alone)
    np.testing.assert_array_equal(scorer.score(x[::-1])["anomaly_score"][::-1], together)


@pytest.mark.parametrize("score", SELF_SUPERVISED.values(), ids=SELF_SUPERVISED)
def test_a_run_scores_the_same_after_loading(told, score, tmp_path):
    scorer = agt.AnoGAN(told, steps=1, score=score, chunk=8)
    scorer.fit_reference(oriented())
    scorer.calibrate(oriented(40, seed=2))
    agt.save_run(tmp_path / "run", scorer)
    loaded = agt.load_run(tmp_path / "run")
    assert loaded.gan.self_supervision == ("rotation",)
    x = images(n=5)
    np.testing.assert_array_equal(loaded.score(x)["anomaly_score"], scorer.score(x)["anomaly_score"])


def test_a_gan_survives_keras_saving_with_its_head(told, tmp_path):
    told.save(tmp_path / "gan.keras")
    loaded = keras.models.load_model(tmp_path / "gan.keras")
    x = images(n=4)
    np.testing.assert_array_equal(loaded.tell_transformations(x), told.tell_transformations(x))


def test_a_plain_gan_cannot_score_transformations(trained):
    with pytest.raises(ValueError, match="needs a discriminator that tells transformations"):
        agt.AnoGAN(trained, score="transformations")


@pytest.mark.usefixtures("untraced")
def test_plain_gans_train_as_without_the_option():
    data = tf.data.Dataset.from_tensor_slices(oriented()).batch(32)
    weights = []
    for options in ({}, {"self_supervision": None}):
        gan = agt.DCGAN((8, 8, 1), 4, width=8, **options)
        gan.compile()
        gan.fit(data, epochs=1, shuffle=False, verbose=0)
        weights.append(gan.discriminator.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.usefixtures("untraced")
def test_own_discriminators_can_have_a_second_task():
    generator = agt.Generator((8, 8, 1), 4, width=8)
    discriminator = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(8, 3, 2, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(1),
        ]
    )
    gan = agt.DCGAN(generator=generator, discriminator=discriminator, self_supervision=("shift",))
    gan.compile()
    history = gan.fit(tf.data.Dataset.from_tensor_slices(oriented()).batch(32), shuffle=False, verbose=0)
    assert np.isfinite(history.history["task_loss"]).all()
