import keras
import numpy as np
import pytest
import tensorflow as tf

import anogan_tf as agt
from anogan_tf import losses
from anogan_tf.augmentation import moved
from anogan_tf.callbacks import Checkpoint
from anogan_tf.search import sample_prior
from anogan_tf.training import step_seed
from tests.conftest import KeepFirst, small_gan

MODES = pytest.mark.parametrize(
    "options",
    [{"mode": "izi"}, {"mode": "ziz"}, {"mode": "izi_f"}, {"mode": "izi_f", "variational": True}],
    ids=["izi", "ziz", "izi_f", "variational"],
)


@pytest.fixture(scope="module")
def gan(digits):
    """A Wasserstein GAN trained for a few epochs, enough to be no longer at its initial weights."""
    gan = small_gan("WGANGP")
    gan.compile(critic_steps=1)
    gan.fit(digits.train, epochs=2, shuffle=False, verbose=0)
    return gan


def encoder_on(gan, digits, epochs=1, **options):
    fanogan = agt.FAnoGAN(gan, **{"chunk": 8} | options)
    fanogan.compile()
    fanogan.fit(digits.train, epochs=epochs, shuffle=False, verbose=0)
    return fanogan


@pytest.fixture(scope="module")
def fanogan(gan, digits):
    """Trained and calibrated once, as no test changes it."""
    fanogan = encoder_on(gan, digits)
    fanogan.fit_reference(digits.reference)
    fanogan.calibrate(digits.validation)
    return fanogan


@pytest.fixture(scope="module")
def queries(digits):
    return next(iter(digits.test))["image"].numpy()[:11]


@MODES
def test_training_lowers_the_loss_and_changes_no_weight_of_the_gan(options, digits):
    gan = small_gan("WGANGP", width=8, kernel_initializer="he_normal")
    before = [variable.numpy() for variable in gan.variables]
    trainable = [variable.path for variable in gan.trainable_variables]
    fanogan = agt.FAnoGAN(gan, **options)
    fanogan.compile(keras.optimizers.Adam(3e-3))
    history = fanogan.fit(digits.train, epochs=30, shuffle=False, verbose=0).history
    assert history["loss"][-1] < 0.95 * history["loss"][0]
    for variable, value in zip(gan.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert [variable.path for variable in gan.trainable_variables] == trainable


def moving_gan():
    """A compiled GAN that is trained on moved images, and keeps an average."""
    gan = small_gan(architecture="upsampling", augment="translation", seed=3)
    gan.compile(keras.optimizers.Adam(1e-3, use_ema=True, ema_momentum=0.5))
    return gan


def test_encoder_and_generator_are_trained_together(digits, queries):
    gan = moving_gan()
    fanogan = agt.FAnoGAN(gan, mode="joint", kl_weight=0.1)
    fanogan.compile()
    before = [weight.numpy() for weight in gan.trainable_variables]
    codes = np.var(fanogan.encoder(queries, training=False))
    history = fanogan.fit(digits.train, epochs=20, shuffle=False, verbose=0).history
    assert set(history) == {"loss", "image_loss", "feature_loss", "kl_loss"}
    assert history["image_loss"][-1] < 0.65 * history["image_loss"][0]
    assert all(np.any(new != old) for new, old in zip(gan.trainable_variables, before, strict=True))
    assert abs(np.log(np.var(fanogan.encoder(queries, training=False)))) < abs(np.log(codes))


@pytest.mark.usefixtures("untraced")
def test_a_joint_step_is_one_of_the_gan_and_the_sum_of_its_terms(queries):
    """The terms computed by hand with a copy of the GAN that took its step."""
    gan = moving_gan()
    fanogan = agt.FAnoGAN(gan, mode="joint", feature_weight=0.5, kl_weight=0.3, moves=0.125, seed=7)
    fanogan.compile()
    twin = moving_gan()
    twin.train_on_batch(queries)
    x = moved(tf.constant(queries), 0.125, step_seed(7, 0, 1))
    z = fanogan.encoder(x, training=True)
    reconstruction = twin.generator(z, training=False)
    f = keras.Model(twin.discriminator.inputs[0], twin.discriminator.get_layer("features_2").output)
    mean, variance = np.mean(z, axis=0), np.var(z, axis=0)
    expected = {
        "image_loss": tf.reduce_mean((x - reconstruction) ** 2),
        "feature_loss": tf.reduce_mean((f(x) - f(reconstruction)) ** 2),
        "kl_loss": np.mean(mean**2 + variance - np.log(variance) - 1) / 2,
    }
    logs = fanogan.train_on_batch(queries, return_dict=True)
    for name, value in expected.items():
        assert float(logs[name]) == pytest.approx(float(value), rel=1e-3)
    total = expected["image_loss"] + 0.5 * expected["feature_loss"] + 0.3 * expected["kl_loss"]
    assert float(logs["loss"]) == pytest.approx(float(total), rel=1e-3)


def test_joint_training_needs_a_compiled_gan():
    with pytest.raises(ValueError, match=r"call gan.compile\(\) first"):
        agt.FAnoGAN(small_gan(), mode="joint").compile()


@pytest.mark.parametrize("architecture", ["dcgan", "hazelnut"])
def test_an_encoder_finds_the_z_of_generated_images(architecture):
    """Trained on G(z), it must map G(z) close to z."""
    gan = small_gan(architecture=architecture, latent_dim=2, width=8, kernel_initializer="glorot_normal")
    fanogan = agt.FAnoGAN(gan, mode="ziz")
    fanogan.compile(keras.optimizers.Adam(3e-3))
    z = sample_prior((200, 2), "normal", (9, 9))
    images = gan.generator(z, training=False).numpy()
    fanogan.fit(tf.data.Dataset.from_tensors(images[:64]).repeat(200), shuffle=False, verbose=0)
    found = fanogan.encoder(images, training=False).numpy()
    assert np.mean((found - z) ** 2) < 0.1 * np.var(z)


@pytest.mark.usefixtures("untraced")
def test_losses_are_those_of_the_paper(gan, queries):
    """The terms of one step before its update, computed by hand."""
    e, g, d = agt.FAnoGAN(gan).encoder, gan.generator, gan.discriminator
    x = tf.constant(queries)
    reconstruction = g(e(x, training=True), training=False)
    f = keras.Model(d.inputs[0], d.get_layer("features_2").output)
    izi = tf.reduce_mean((x - reconstruction) ** 2)
    features = tf.reduce_mean((f(x) - f(reconstruction)) ** 2)
    z = sample_prior((11, 6), "normal", step_seed(0, 0, 0))
    ziz = tf.reduce_mean((z - e(g(z, training=False), training=True)) ** 2)
    for mode, expected in (("izi", izi), ("izi_f", izi + 0.5 * features), ("ziz", ziz)):
        fanogan = agt.FAnoGAN(gan, mode=mode, feature_weight=0.5)
        fanogan.compile()
        logs = fanogan.train_on_batch(x, return_dict=True)
        assert float(logs["loss"]) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("log_variance", [0.0, 1.2])
def test_the_variational_loss_has_the_divergence_and_draws_z(log_variance, gan, queries):
    fanogan = agt.FAnoGAN(gan, mode="izi", variational=True, kl_weight=0.5)
    fanogan.compile()
    fanogan._log_variance.bias.assign(tf.fill((6,), log_variance))
    x = tf.constant(queries)
    mean = fanogan.encoder(x, training=True)
    z = mean + np.sqrt(np.exp(log_variance)) * tf.random.stateless_normal(mean.shape, step_seed(0, 0, 0))
    image_loss = tf.reduce_mean((x - gan.generator(z, training=False)) ** 2)
    kl_loss = tf.reduce_mean(losses.kl_to_normal(mean, tf.fill(mean.shape, log_variance)))
    logs = fanogan.train_on_batch(x, return_dict=True)
    assert float(logs["image_loss"]) == pytest.approx(float(image_loss), rel=1e-4)
    assert float(logs["kl_loss"]) == pytest.approx(float(kl_loss), rel=1e-4)
    assert float(logs["loss"]) == pytest.approx(float(image_loss + 0.5 * kl_loss), rel=1e-4)


def test_scores_are_those_of_the_paper(gan, queries):
    fanogan = agt.FAnoGAN(gan, score="paper", feature_weight=0.3, smoothing=0, chunk=8)
    out = fanogan.score(queries)
    f = keras.Model(gan.discriminator.inputs[0], gan.discriminator.get_layer("features_2").output)
    np.testing.assert_allclose(out["z"], fanogan.encoder(queries, training=False), atol=1e-5)
    np.testing.assert_allclose(out["reconstruction"], fanogan.reconstruct(queries), atol=1e-5)
    difference = queries - out["reconstruction"]
    np.testing.assert_allclose(out["residual"], np.mean(difference**2, axis=(1, 2, 3)), rtol=1e-4)
    discrimination = np.mean((f(queries) - f(out["reconstruction"])) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(out["discrimination"], discrimination, rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(out["anomaly_score"], out["residual"] + 0.3 * out["discrimination"], rtol=1e-5)
    np.testing.assert_allclose(out["anomaly_map"], np.mean(difference**2, axis=3), rtol=1e-4, atol=1e-6)


def test_a_score_is_bit_identical_alone_permuted_and_in_company(fanogan, queries):
    together = fanogan.score(queries)
    order = np.random.default_rng(0).permutation(len(queries))
    permuted = fanogan.score(queries[order])
    alone = [fanogan.score(queries[i : i + 1]) for i in range(len(queries))]
    for name in ("anomaly_score", "residual", "discrimination", "reconstruction", "anomaly_map", "z"):
        np.testing.assert_array_equal(together[name][order], permuted[name])
        np.testing.assert_array_equal(together[name], np.concatenate([out[name] for out in alone]))


def test_scoring_changes_no_weight_and_traces_once(fanogan, queries):
    before = [variable.numpy() for variable in fanogan.variables]
    fanogan.score(queries[:1])
    list(fanogan.score_batches(tf.data.Dataset.from_tensor_slices(queries).batch(7)))
    for variable, value in zip(fanogan.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert fanogan._encode.experimental_get_tracing_count() == 1


def test_calibrated_it_tests_and_writes_a_results_folder(fanogan, digits, tmp_path):
    results, threshold, _ = fanogan.test(digits.test, results_dir=tmp_path, pictures=2)
    assert len(results) == len(digits.samples.part("test"))
    assert results[0]["prediction"] == int(results[0]["anomaly_score"] > threshold)
    assert (tmp_path / "index.html").exists()


@pytest.mark.usefixtures("untraced")
@MODES
def test_saving_keeps_networks_optimizer_and_settings(options, gan, digits, queries, tmp_path):
    fanogan = encoder_on(gan, digits, **options)
    fanogan.save(tmp_path / "fanogan.keras")
    loaded = keras.saving.load_model(tmp_path / "fanogan.keras")
    assert loaded.settings == fanogan.settings
    np.testing.assert_array_equal(loaded.reconstruct(queries), fanogan.reconstruct(queries))
    for model in (fanogan, loaded):
        model.fit(digits.train, epochs=1, initial_epoch=0, shuffle=False, verbose=0)
    for x, y in zip(fanogan.variables, loaded.variables, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"mode": "ziz"}, id="ziz", marks=pytest.mark.slow),
        pytest.param({"mode": "izi_f", "variational": True}, id="variational"),
        pytest.param({"mode": "joint"}, id="joint"),
    ],
)
def test_resumed_training_equals_an_unbroken_one(options, gan, tmp_path):
    """One of them trains in graphs."""
    digits = agt.data.load("digits", batch_size=48)

    def train(folder, *callbacks):
        fanogan = agt.FAnoGAN(moving_gan() if options["mode"] == "joint" else gan, **options)
        fanogan.compile(run_eagerly="variational" not in options)
        checkpoint = Checkpoint(tmp_path / folder / "checkpoint.weights.h5", every_seconds=0)
        fanogan.fit(digits.train, epochs=3, shuffle=False, verbose=0, callbacks=[checkpoint, *callbacks])
        return fanogan

    unbroken, resumed = train("unbroken", KeepFirst(tmp_path)), train("broken")
    for x, y in zip(unbroken.variables, resumed.variables, strict=True):
        np.testing.assert_array_equal(x, y)


def test_training_works_under_a_strategy(strategy, digits):
    with strategy.scope():
        fanogan = agt.FAnoGAN(small_gan("WGANGP"), variational=True)
        fanogan.compile()
    history = fanogan.fit(digits.train, epochs=2, shuffle=False, verbose=0).history
    assert np.isfinite(history["loss"]).all()


def test_a_step_on_two_replicas_equals_one_on_the_whole_batch(queries, mirrored):
    steps = []
    for strategy in (tf.distribute.get_strategy(), mirrored):
        with strategy.scope():
            fanogan = agt.FAnoGAN(small_gan("WGANGP", kernel_initializer="he_normal"))
            fanogan.compile(keras.optimizers.SGD(1.0))
        before = fanogan.encoder.trainable_variables[0].numpy()
        fanogan.fit(tf.data.Dataset.from_tensor_slices(queries[:8]).batch(8), shuffle=False, verbose=0)
        steps.append(fanogan.encoder.trainable_variables[0].numpy() - before)
    assert np.abs(steps[0]).max() > 1e-3
    np.testing.assert_allclose(steps[0], steps[1], atol=1e-6)


@pytest.mark.usefixtures("untraced")
def test_own_networks_take_the_place_of_ours(digits, queries):
    generator = keras.Sequential([keras.Input((5,)), keras.layers.Dense(64, "tanh"), keras.layers.Reshape((8, 8, 1))])
    discriminator = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 3), keras.layers.Flatten(), keras.layers.Dense(1)]
    )
    encoder = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(5)])
    gan = agt.WGANGP(generator=generator, discriminator=discriminator)
    fanogan = encoder_on(gan, digits, encoder=encoder, variational=True, score="paper")
    assert fanogan.encoder is encoder
    assert fanogan.score(queries)["z"].shape == (11, 5)
    assert encoder_on(gan, digits, score="paper").score(queries)["z"].shape == (11, 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "zizi"}, "Received: mode='zizi'"),
        ({"distance": "l3"}, "distance='l3'"),
        ({"score": "best"}, "score='best'"),
        ({"mode": "ziz", "variational": True}, "trained on images.*mode='ziz'"),
        ({"encoder": keras.Sequential([keras.layers.Dense(6)])}, "encoder is a Functional network"),
        ({"encoder": agt.Encoder((8, 8, 1), 5, width=2)}, r"\(8, 8, 1\) → \(6,\). Received: .* → \(5,\)"),
    ],
)
def test_wrong_arguments_are_refused(gan, options, message):
    with pytest.raises(ValueError, match=message):
        agt.FAnoGAN(gan, **options)


def test_a_variational_encoder_needs_a_normal_prior():
    with pytest.raises(ValueError, match="prior='uniform'"):
        agt.FAnoGAN(small_gan(prior="uniform"), variational=True)


def test_fit_refuses_images_that_the_networks_do_not_take(fanogan, images):
    levels = np.rint((images + 1) * 127.5)
    with pytest.raises(ValueError, match=r"first batch in \[0"):
        fanogan.fit(tf.data.Dataset.from_tensor_slices(levels / 255).batch(8), shuffle=False, verbose=0)


def test_fit_takes_arrays_and_an_optimizer_by_name(gan, images):
    trained = []
    for data in (
        {"x": images, "batch_size": 8, "shuffle": False},
        {"x": tf.data.Dataset.from_tensors(images).unbatch().batch(8)},
    ):
        fanogan = agt.FAnoGAN(gan)
        fanogan.compile("sgd", run_eagerly=True)
        fanogan.fit(**data, verbose=0)
        trained.append(fanogan.encoder.get_weights()[0])
    np.testing.assert_allclose(*trained, atol=1e-6)


def test_what_has_no_meaning_in_training_is_refused_before_the_first_epoch(gan, images):
    fanogan = agt.FAnoGAN(gan)
    with pytest.raises(ValueError, match=r"the encoder's optimizer\. Received: loss"):
        fanogan.compile(loss="mse")
    fanogan.compile()
    with pytest.raises(ValueError, match="Received: validation_data"):
        fanogan.fit(images, validation_data=images, verbose=0)
    assert int(fanogan.optimizer.iterations) == 0
    with pytest.raises(NotImplementedError, match=r"score\(images\)"):
        fanogan.predict(images, verbose=0)


def test_the_hybrid_search_starts_at_the_code_of_each_image(fanogan, gan, queries):
    start = agt.AnoGAN(gan, encoder=fanogan.encoder, steps=0, chunk=8, score="paper").score(queries)
    np.testing.assert_allclose(start["z"], fanogan.encoder(queries, training=False), atol=1e-5)
    searched = agt.AnoGAN(gan, encoder=fanogan.encoder, steps=10, chunk=8, score="paper").score(queries)
    assert (searched["anomaly_score"] <= start["anomaly_score"] + 1e-6).all()
    assert searched["anomaly_score"].mean() < start["anomaly_score"].mean()


def test_restarts_of_the_hybrid_search_lie_around_the_code(fanogan, gan, queries):
    anogan = agt.AnoGAN(gan, encoder=fanogan.encoder, restarts=3, chunk=8, score="paper")
    images = np.concatenate([queries, queries[:5]])
    starts = anogan._start(images).numpy().reshape(16, 3, 6)
    codes = fanogan.encoder(images, training=False).numpy()
    np.testing.assert_allclose(starts[:, 0], codes, atol=1e-5)
    offsets = starts[:, 1:] - codes[:, None]
    np.testing.assert_allclose(offsets, np.broadcast_to(offsets[:1], offsets.shape), atol=1e-5)
    assert 0.1 < offsets[0].std() < 1.0


def test_the_hybrid_score_is_bit_identical_alone_and_in_company(fanogan, gan, queries):
    anogan = agt.AnoGAN(gan, encoder=fanogan.encoder, steps=5, restarts=2, chunk=8, score="paper")
    together = anogan.score(queries)["anomaly_score"]
    alone = [anogan.score(queries[i : i + 1])["anomaly_score"][0] for i in range(len(queries))]
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("method", ["f-anogan", "hybrid"])
def test_runs_load_as_they_were_saved(method, fanogan, gan, digits, queries, tmp_path):
    scorer = fanogan
    if method == "hybrid":
        scorer = agt.AnoGAN(gan, encoder=fanogan.encoder, steps=3, chunk=8)
        scorer.fit_reference(digits.reference)
        scorer.calibrate(digits.validation)
    agt.save_run(tmp_path, scorer)
    loaded = agt.load_run(tmp_path)
    assert type(loaded) is type(scorer)
    assert type(loaded.gan) is agt.WGANGP
    assert loaded.settings == scorer.settings
    for name, values in scorer.score(queries).items():
        np.testing.assert_array_equal(loaded.score(queries)[name], values)


def test_a_run_with_an_encoder_of_your_own_says_so_and_takes_it(gan, queries, tmp_path):
    def own():
        return keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(6)])

    scorer = agt.FAnoGAN(gan, encoder=own(), score="paper", chunk=8)
    agt.save_run(tmp_path, scorer)
    with pytest.raises(ValueError, match="encoder of your own"):
        agt.load_run(tmp_path)
    loaded = agt.load_run(tmp_path, encoder=own())
    np.testing.assert_array_equal(loaded.score(queries)["z"], scorer.score(queries)["z"])
