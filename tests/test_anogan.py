import keras
import numpy as np
import pytest
import tensorflow as tf

import anogan_tf as agt
from tests.conftest import small_gan


@pytest.fixture(scope="session")
def queries(digits):
    return np.concatenate([batch["image"] for batch in digits.test.take(2)])[:21]


def assert_equal_outputs(a, b):
    for name in ("anomaly_score", "residual", "discrimination", "reconstruction", "anomaly_map", "z"):
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def rows(outputs, indices):
    return {name: values[indices] for name, values in outputs.items()}


@pytest.mark.parametrize("score", ["features", "paper"])
@pytest.mark.parametrize("chunk", [1, 5, 8, 16])
def test_a_score_is_bit_identical_alone_permuted_and_in_company(trained, digits, queries, score, chunk):
    anogan = agt.AnoGAN(trained, steps=20, chunk=chunk, score=score)
    anogan.fit_reference(digits.reference)
    together = anogan.score(queries)
    for i in (0, 7, 20):  # the last lies in a partial chunk
        assert_equal_outputs(anogan.score(queries[i : i + 1]), rows(together, [i]))
    order = np.random.default_rng(0).permutation(len(queries))
    assert_equal_outputs(anogan.score(queries[order]), rows(together, order))
    again = anogan.score(tf.data.Dataset.from_tensor_slices(queries).batch(6))
    assert_equal_outputs(again, together)


def test_score_does_not_depend_on_what_was_scored_before(trained, queries):
    anogan = agt.AnoGAN(trained, steps=10, chunk=4, score="paper")
    first = anogan.score(queries[:3])
    anogan.score(queries[5:])
    assert_equal_outputs(anogan.score(queries[:3]), first)
    assert_equal_outputs(agt.AnoGAN(trained, steps=10, chunk=4, score="paper").score(queries[:3]), first)


def test_there_is_one_trace_whatever_the_batches(scorer, queries):
    scorer.score(queries[:1])
    scorer.score(queries)
    list(scorer.score_batches(tf.data.Dataset.from_tensor_slices(queries).batch(7)))
    (search,) = scorer._searches.values()
    assert search.advance.experimental_get_tracing_count() == 1
    assert scorer._comparison.outputs.experimental_get_tracing_count() == 1


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("architecture", ["dcgan", "hazelnut"])
def test_scoring_changes_nothing_in_the_gan(architecture, digits, queries):
    gan = small_gan(architecture=architecture)
    gan.compile()
    gan.fit(digits.train, epochs=1, shuffle=False, verbose=0)
    before = [variable.numpy() for variable in gan.variables]
    trainable = [variable.path for variable in gan.discriminator.trainable_variables]
    anogan = agt.AnoGAN(gan, steps=3, chunk=8)
    anogan.fit_reference(digits.reference)
    first = anogan.score(queries)
    for variable, value in zip(gan.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value, err_msg=variable.path)
    assert [variable.path for variable in gan.discriminator.trainable_variables] == trainable
    assert_equal_outputs(anogan.score(queries), first)
    gan.fit(digits.train, epochs=1, shuffle=False, verbose=0)
    assert not np.array_equal(gan.discriminator.trainable_variables[0], before[0])


def test_gradients_reach_z_only(trained, queries):
    anogan = agt.AnoGAN(trained, chunk=4)
    context = anogan._context(queries[:12])
    z = tf.Variable(anogan._start(queries[:12]))
    with tf.GradientTape(persistent=True) as tape:
        loss = anogan._loss(z, context)
    assert np.all(np.abs(tape.gradient(loss, z)).sum(axis=1) > 0)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(z)
        anogan._loss(z, context)
    assert [variable.ref() for variable in tape.watched_variables()] == [z.ref()]


def test_image_i_has_no_gradient_from_image_j(trained, queries):
    anogan = agt.AnoGAN(trained, chunk=4, score="paper")
    context = anogan._context(queries[:12])
    z = tf.Variable(anogan._start(queries[:12]))
    with tf.GradientTape() as tape:
        first = anogan._loss(z, context)[0]
    gradient = tape.gradient(first, z).numpy()
    assert np.abs(gradient[0]).max() > 0
    np.testing.assert_array_equal(gradient[1:], 0)


def test_scores_are_those_of_the_returned_z(scorer, trained, queries):
    out = scorer.score(queries)
    reconstruction = trained.generator(out["z"], training=False).numpy()
    np.testing.assert_allclose(out["reconstruction"], reconstruction, atol=1e-6)
    np.testing.assert_allclose(out["residual"], np.abs(queries - reconstruction).mean(axis=(1, 2, 3)), rtol=1e-5)


def test_paper_score_is_equation_7(trained, queries):
    out = agt.AnoGAN(trained, steps=2, chunk=8, score="paper", feature_weight=0.7).score(queries)
    expected = 0.3 * out["residual"] + 0.7 * out["discrimination"]
    np.testing.assert_allclose(out["anomaly_score"], expected, rtol=1e-5)


@pytest.mark.parametrize("score", ["residual", "discrimination"])
def test_parts_of_the_score_can_decide(trained, queries, score):
    out = agt.AnoGAN(trained, steps=2, chunk=8, score=score).score(queries)
    np.testing.assert_array_equal(out["anomaly_score"], out[score])


def test_l2_takes_means_of_squares(trained, queries):
    out = agt.AnoGAN(trained, steps=2, chunk=8, score="residual", distance="l2", smoothing=0).score(queries)
    squares = np.square(queries - out["reconstruction"])
    np.testing.assert_allclose(out["residual"], squares.mean(axis=(1, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(out["anomaly_map"], squares.mean(axis=-1), rtol=1e-5)


def test_without_features_in_the_loss_they_are_not_computed(trained, queries):
    anogan = agt.AnoGAN(trained, chunk=4, feature_weight=0.0)
    assert anogan._context(queries[:12])[1] == {}
    loss = anogan._loss(anogan._start(queries[:12]), anogan._context(queries[:12]))
    reconstruction = trained.generator(anogan._start(queries[:12]), training=False)
    np.testing.assert_allclose(loss, np.abs(queries[:12] - reconstruction).mean(axis=(1, 2, 3)), rtol=1e-5)


@pytest.fixture(scope="session")
def wide_gan():
    """Untrained, but with weights large enough that its images differ."""
    return small_gan(width=16, kernel_initializer="glorot_uniform", seed=2)


def test_a_planted_z_is_found(wide_gan):
    planted = wide_gan.generator(keras.random.normal((8, 6), seed=1), training=False).numpy()
    anogan = agt.AnoGAN(wide_gan, steps=300, restarts=4, chunk=8, score="paper")
    before = anogan.search_path(planted, steps=1)["loss"][0]
    assert np.all(anogan.score(planted)["anomaly_score"] * 10 <= before)


def test_more_restarts_are_never_worse(wide_gan, queries):
    losses = []
    for restarts in (1, 3):
        anogan = agt.AnoGAN(wide_gan, steps=10, restarts=restarts, chunk=8, score="paper")
        losses.append(anogan.score(queries[:8])["anomaly_score"])
    assert np.all(losses[1] <= losses[0] * (1 + 1e-4))
    assert np.any(losses[1] < losses[0] * 0.999)


def test_latent_prior_holds_z_back(wide_gan, queries):
    norms = [
        np.square(agt.AnoGAN(wide_gan, steps=30, chunk=8, score="paper", prior_weight=w).score(queries)["z"]).mean()
        for w in (0.0, 1.0)
    ]
    assert norms[1] < 0.5 * norms[0]


def test_bfloat16_search_stays_close_and_scores_in_float32(wide_gan):
    planted = wide_gan.generator(keras.random.normal((8, 6), seed=1), training=False).numpy()
    exact, rough = (
        agt.AnoGAN(wide_gan, steps=60, chunk=8, score="paper", dtype=dtype).score(planted)
        for dtype in (None, "bfloat16")
    )
    assert rough["reconstruction"].dtype == np.float32
    assert np.median(rough["anomaly_score"]) < 2 * np.median(exact["anomaly_score"]) + 0.02
    np.testing.assert_allclose(rough["reconstruction"], wide_gan.generator(rough["z"], training=False), atol=1e-6)


@pytest.mark.usefixtures("untraced")
def test_bfloat16_search_follows_a_gan_that_trains_on(digits):
    gan = small_gan(width=8, kernel_initializer="glorot_uniform")
    gan.compile()
    images = np.concatenate([batch["image"] for batch in digits.validation])[:8]
    before, fresh = (agt.AnoGAN(gan, steps=5, chunk=8, score="paper", dtype="bfloat16") for _ in range(2))
    first = before.score(images)["z"]
    gan.fit(digits.train, epochs=1, shuffle=False, verbose=0)
    assert not np.array_equal(before.score(images)["z"], first)
    np.testing.assert_array_equal(before.score(images)["z"], fresh.score(images)["z"])


def test_search_path_shows_every_step_of_the_search(trained, queries):
    anogan = agt.AnoGAN(trained, steps=12, chunk=8, score="paper")
    path = anogan.search_path(queries[:3])
    assert path["loss"].shape == (13, 3)
    assert path["z"].shape == (13, 3, 6)
    np.testing.assert_array_equal(path["z"][0], anogan._start(queries[:3]))
    assert_equal_outputs({**anogan.score(queries[:3])}, anogan.score(queries[:3]))
    best = path["loss"].argmin(axis=0)
    np.testing.assert_allclose(anogan.score(queries[:3])["z"], path["z"][best, range(3)], atol=1e-6)


def test_search_path_takes_bytes_too_and_says_what_it_cannot_take(trained, queries):
    anogan = agt.AnoGAN(trained, steps=1)
    levels = np.rint((queries[:2] + 1) * 127.5).astype(np.uint8)
    of_bytes, of_floats = (anogan.search_path(images)["loss"] for images in (levels, levels / np.float32(127.5) - 1))
    np.testing.assert_array_equal(of_bytes, of_floats)
    with pytest.raises(ValueError, match="The scorer takes images"):
        anogan.search_path(queries[0])


def test_search_path_takes_at_most_a_chunk(scorer, queries):
    with pytest.raises(ValueError, match="1 to 8 images"):
        scorer.search_path(queries)


def test_reference_is_needed_for_features_and_ignored_by_others(trained, queries, digits):
    with pytest.raises(ValueError, match="call fit_reference"):
        agt.AnoGAN(trained, steps=1, chunk=8).score(queries)
    plain = agt.AnoGAN(trained, steps=1, chunk=8, score="paper")
    plain.fit_reference(digits.reference)
    assert plain.reference is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distance": "cosine"}, "distance='cosine'"),
        ({"score": "best"}, "score='best'"),
        ({"feature_weight": 1.5}, "feature_weight=1.5"),
        ({"steps": -1}, "at least 0"),
        ({"restarts": 0}, "at least 1"),
        ({"feature_layers": ["nothing"]}, r"feature_layers=\['nothing'\]"),
    ],
)
def test_wrong_arguments_are_refused(trained, options, message):
    with pytest.raises(ValueError, match=message):
        agt.AnoGAN(trained, **options)
