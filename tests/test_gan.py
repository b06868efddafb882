import keras
import numpy as np
import pytest
import tensorflow as tf

import anogan_tf as agt
from anogan_tf.callbacks import Checkpoint
from anogan_tf.training import step_seed
from tests.conftest import small_gan


def dataset(images, batch_size=8):
    return tf.data.Dataset.from_tensor_slices(images).batch(batch_size)


def weights_of(model):
    return [variable.numpy() for variable in model.variables]


def assert_equal_weights(a, b):
    for x, y in zip(weights_of(a), weights_of(b), strict=True):
        np.testing.assert_array_equal(x, y)


KINDS = pytest.mark.parametrize("kind", ["DCGAN", "WGANGP"])


@pytest.fixture
def gan():
    gan = small_gan()
    gan.compile()
    return gan


def test_fit_trains_both_networks_and_logs_losses_and_accuracies(gan, images):
    before = [weights_of(gan.generator)[0], weights_of(gan.discriminator)[0]]
    history = gan.fit(dataset(images), epochs=2, shuffle=False, verbose=0).history
    assert set(history) == {"d_loss", "g_loss", "d_real_accuracy", "d_generated_accuracy"}
    assert not np.array_equal(before[0], weights_of(gan.generator)[0])
    assert not np.array_equal(before[1], weights_of(gan.discriminator)[0])


def test_logged_values_are_means_over_the_epoch(gan, images):
    gan.compile(keras.optimizers.SGD(0.0), keras.optimizers.SGD(0.0))
    history = gan.fit(dataset(images, 20), epochs=1, shuffle=False, verbose=0).history
    real_logits = gan.discriminator(images, training=True).numpy()
    assert history["d_real_accuracy"][0] == pytest.approx(np.mean(real_logits > 0))


@KINDS
def test_labels_are_ignored(kind, images):
    with_labels, without = small_gan(kind), small_gan(kind)
    for gan, data in ((with_labels, (images, np.arange(40))), (without, images)):
        gan.compile()
        gan.fit(dataset(data), epochs=1, shuffle=False, verbose=0)
    assert_equal_weights(with_labels, without)


def test_first_step_is_the_algorithm_of_the_paper(images):
    """One step, done by hand: D against G(z), then G against the D that has just moved."""
    gan, reference = small_gan(), small_gan()
    gan.compile(keras.optimizers.SGD(0.5), keras.optimizers.SGD(0.5))
    batch = tf.constant(images[:8])
    draws = [gan._noise(batch, 0, draw) for draw in (0, 1)]
    gan.train_on_batch(batch)

    g, d = reference.generator, reference.discriminator
    cross_entropy = tf.nn.sigmoid_cross_entropy_with_logits
    with tf.GradientTape() as tape:
        real, fake = d(batch, training=True), d(g(draws[0], training=True), training=True)
        loss = tf.reduce_mean(cross_entropy(tf.ones_like(real), real) + cross_entropy(tf.zeros_like(fake), fake))
    descend(tape, loss, d, 0.5)
    with tf.GradientTape() as tape:
        fake = d(g(draws[1], training=True), training=True)
        loss = tf.reduce_mean(cross_entropy(tf.ones_like(fake), fake))
    descend(tape, loss, g, 0.5)
    for trained, by_hand in ((gan.generator, g), (gan.discriminator, d)):
        for x, y in zip(weights_of(trained), weights_of(by_hand), strict=True):
            np.testing.assert_allclose(x, y, atol=1e-6)


def descend(tape, loss, network, rate):
    for variable, gradient in zip(
        network.trainable_variables, tape.gradient(loss, [v.value for v in network.trainable_variables]), strict=True
    ):
        variable.assign_sub(rate * gradient)


def test_generator_steps_per_discriminator_step(images):
    gan = small_gan()
    gan.compile(generator_steps=3)
    gan.fit(dataset(images), epochs=1, shuffle=False, verbose=0)
    assert int(gan.d_optimizer.iterations) == 5
    assert int(gan.g_optimizer.iterations) == 15


def test_schedules_drive_the_optimisers(images):
    gan = small_gan()
    stop_after_two = keras.optimizers.schedules.PiecewiseConstantDecay([1], [0.1, 0.0])
    gan.compile(keras.optimizers.SGD(stop_after_two), keras.optimizers.SGD(stop_after_two))
    gan.fit(dataset(images[:16]), epochs=1, shuffle=False, verbose=0)
    moved = gan.generator.trainable_variables[0].numpy()
    gan.fit(dataset(images[:16]), epochs=1, shuffle=False, verbose=0)
    np.testing.assert_array_equal(gan.generator.trainable_variables[0], moved)


def test_noise_is_a_function_of_seed_step_and_draw(gan, images):
    batch = tf.constant(images[:3])
    z = gan._noise(batch, 4, 0)
    np.testing.assert_array_equal(z, gan._noise(batch, 4, 0))
    for other in (gan._noise(batch, 5, 0), gan._noise(batch, 4, 1), small_gan(seed=1)._noise(batch, 4, 0)):
        assert not np.array_equal(z, other)


def test_replicas_draw_different_noise(gan, images, mirrored):
    draws = mirrored.run(lambda: gan._noise(tf.constant(images[:3]), 0, 0))
    assert not np.array_equal(*[z.numpy() for z in draws.values])


@KINDS
def test_training_works_under_a_strategy(kind, strategy, images, tmp_path):
    with strategy.scope():
        gan = small_gan(kind)
        gan.compile()
    history = gan.fit(dataset(images, 16), epochs=2, shuffle=False, verbose=0).history
    assert np.isfinite(history["d_loss"]).all()
    gan.save_weights(tmp_path / "gan.weights.h5")
    copy = small_gan(kind)
    copy.compile()
    copy.load_weights(tmp_path / "gan.weights.h5")
    np.testing.assert_array_equal(copy.generate(2), gan.generate(2))


@KINDS
def test_a_step_on_two_replicas_equals_one_on_the_whole_batch(kind, mirrored):
    """With SGD and the same z for all images the step does not depend on how the batch is shared out."""
    options = {} if kind == "DCGAN" else {"critic_steps": 1, "penalty_weight": 0.0}
    images = np.random.default_rng(0).uniform(-1, 1, (8, 8, 8, 1)).astype(np.float32)
    steps = []
    for strategy in (tf.distribute.get_strategy(), mirrored):
        with strategy.scope():
            gan = small_gan(kind, kernel_initializer="glorot_uniform")
            gan.compile(keras.optimizers.SGD(0.0), keras.optimizers.SGD(1.0), **options)
            gan._noise = lambda images, step, draw: tf.zeros((tf.shape(images)[0], 6))
        before = weights_of(gan.discriminator)[0]
        gan.fit(dataset(images), epochs=1, shuffle=False, verbose=0)
        steps.append(weights_of(gan.discriminator)[0] - before)
    assert np.abs(steps[0]).max() > 1e-3
    np.testing.assert_allclose(steps[0], steps[1], atol=1e-7)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("DCGAN", {"generator_steps": 2, "label_smoothing": 0.1}),
        ("WGANGP", {"critic_steps": 2, "penalty_weight": 3.0}),
    ],
)
def test_saving_keeps_networks_optimisers_and_options(kind, options, images, tmp_path):
    gan = small_gan(kind)
    gan.compile(keras.optimizers.Adam(0.003), keras.optimizers.Adam(0.001), **options)
    gan.fit(dataset(images), epochs=1, shuffle=False, verbose=0)
    gan.save(tmp_path / "gan.keras")
    loaded = keras.saving.load_model(tmp_path / "gan.keras")
    assert {name: getattr(loaded, name) for name in options} == options
    assert (loaded.prior, loaded.seed) == ("normal", 0)
    assert float(loaded.g_optimizer.learning_rate) == pytest.approx(0.003)
    for model in (gan, loaded):
        model.fit(dataset(images), epochs=1, shuffle=False, verbose=0)
    assert int(loaded.g_optimizer.iterations) == int(gan.g_optimizer.iterations)
    assert_equal_weights(gan, loaded)


@pytest.mark.parametrize(
    ("kind", "architecture"),
    [
        ("DCGAN", "dcgan"),
        ("DCGAN", "hazelnut"),
        ("WGANGP", "dcgan"),
        pytest.param("WGANGP", "residual", marks=pytest.mark.slow),
    ],
)
def test_resumed_training_equals_an_unbroken_one(kind, architecture, digits, tmp_path):
    def train(epochs, folder):
        gan = small_gan(kind, architecture=architecture)
        gan.compile()
        checkpoint = Checkpoint(tmp_path / folder / "checkpoint.weights.h5", every_seconds=0)
        gan.fit(digits.train, epochs=epochs, shuffle=False, verbose=0, callbacks=[checkpoint])
        return gan, checkpoint

    unbroken, whole = train(4, "unbroken")
    train(2, "broken")
    resumed, rest = train(4, "broken")
    assert_equal_weights(unbroken, resumed)
    assert rest.logs == whole.logs
    assert len(rest.logs["d_loss"]) == 4


def test_own_callbacks_of_keras_work(gan, images, tmp_path):
    gan.fit(
        dataset(images),
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=[
            keras.callbacks.ModelCheckpoint(tmp_path / "best.weights.h5", "g_loss", mode="min", save_weights_only=True),
            keras.callbacks.CSVLogger(tmp_path / "log.csv"),
            keras.callbacks.BackupAndRestore(tmp_path / "backup"),
            keras.callbacks.TensorBoard(tmp_path / "logs"),
        ],
    )
    assert (tmp_path / "best.weights.h5").exists()
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3
    assert list((tmp_path / "logs").rglob("events.out.tfevents.*"))


@KINDS
def test_mixed_precision_trains(kind, images):
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        gan = small_gan(kind)
        gan.compile()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert isinstance(gan.g_optimizer, keras.optimizers.LossScaleOptimizer)
    history = gan.fit(dataset(images), epochs=1, shuffle=False, verbose=0).history
    assert np.isfinite(history["g_loss"]).all()
    assert gan.generate(1).dtype == np.float32


def test_own_networks_take_the_place_of_ours(images, tmp_path):
    generator = keras.Sequential([keras.Input((5,)), keras.layers.Dense(64, "tanh"), keras.layers.Reshape((8, 8, 1))])
    discriminator = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(1)])
    gan = agt.DCGAN(generator=generator, discriminator=discriminator)
    gan.compile()
    gan.fit(dataset(images), epochs=1, shuffle=False, verbose=0)
    assert (gan.image_shape, gan.latent_dim) == ((8, 8, 1), 5)
    gan.save(tmp_path / "own.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "own.keras").generate(2), gan.generate(2))


def test_networks_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="go together"):
        agt.DCGAN(generator=agt.Generator((8, 8, 1), 4, width=2))
    with pytest.raises(ValueError, match=r"\(None, 4\) → \(None, 8, 8, 1\), discriminator of \(None, 9, 9, 1\)"):
        agt.DCGAN(generator=agt.Generator((8, 8, 1), 4, width=2), discriminator=agt.Discriminator((9, 9, 1), width=2))


def test_unknown_prior_is_refused():
    with pytest.raises(ValueError, match="Received: prior='gauss'"):
        small_gan(prior="gauss")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: (x + 1) / 2, r"first batch in \[0"),
        (lambda x: x * 3, r"in \[-1, 1\]"),
        (lambda x: np.repeat(x, 3, axis=-1), r"shape \(8, 8, 1\). Received"),
    ],
    ids=["0 to 1", "too large", "channels"],
)
def test_fit_refuses_images_that_the_networks_do_not_take(gan, change, message):
    images = np.linspace(-1, 1, 8 * 64, dtype=np.float32).reshape(8, 8, 8, 1)
    with pytest.raises(ValueError, match=message):
        gan.fit(dataset(change(images)), verbose=0, shuffle=False)


def test_uniform_prior_is_used_for_training_and_sampling(images):
    gan = small_gan(prior="uniform")
    z = gan._noise(tf.zeros((1000, 8, 8, 1)), 0, 0).numpy()
    assert np.abs(z).max() <= 1.0
    assert z.std() == pytest.approx(1 / np.sqrt(3), rel=0.05)


def test_generating_is_repeatable_and_leaves_moving_statistics_alone(gan):
    before = weights_of(gan.generator)
    np.testing.assert_array_equal(gan.generate(4, seed=2), gan.generate(4, seed=2))
    assert not np.array_equal(gan.generate(4, seed=2), gan.generate(4, seed=3))
    for x, y in zip(before, weights_of(gan.generator), strict=True):
        np.testing.assert_array_equal(x, y)


def test_first_step_of_a_wgan_gp_is_the_algorithm_of_the_paper(images):
    """One critic step and one generator step, done by hand after algorithm 1."""
    gan, reference = (small_gan("WGANGP", kernel_initializer="he_normal") for _ in range(2))
    gan.compile(keras.optimizers.SGD(0.01), keras.optimizers.SGD(0.01), critic_steps=1, penalty_weight=10.0)
    batch = tf.constant(images[:8])
    z_critic, z_generator = (gan._noise(batch, 0, draw) for draw in (0, 2))
    mixing = tf.random.stateless_uniform((8, 1, 1, 1), step_seed(0, 0, 1))
    logs = gan.train_on_batch(batch, return_dict=True)

    g, d = reference.generator, reference.discriminator
    with tf.GradientTape() as tape:
        fake = g(z_critic, training=True)
        mixed = mixing * batch + (1 - mixing) * fake
        with tf.GradientTape() as inner:
            inner.watch(mixed)
            value = d(mixed, training=True)
        slopes = tf.norm(tf.reshape(inner.gradient(value, mixed), (8, -1)), axis=1)
        wasserstein = tf.reduce_mean(d(batch, training=True)) - tf.reduce_mean(d(fake, training=True))
        penalty = tf.reduce_mean((slopes - 1) ** 2)
        loss = -wasserstein + 10 * penalty
    descend(tape, loss, d, 0.01)
    with tf.GradientTape() as tape:
        g_loss = -tf.reduce_mean(d(g(z_generator, training=True), training=True))
    descend(tape, g_loss, g, 0.01)
    by_hand = {
        "d_loss": loss,
        "g_loss": g_loss,
        "gradient_penalty": penalty,
        "wasserstein_estimate": wasserstein,
    }
    for name, value in by_hand.items():
        assert float(logs[name]) == pytest.approx(float(value), rel=1e-4, abs=1e-6)
    for trained, expected in ((gan.generator, g), (gan.discriminator, d)):
        for x, y in zip(weights_of(trained), weights_of(expected), strict=True):
            np.testing.assert_allclose(x, y, atol=1e-6)


def test_critic_steps_per_generator_step(images):
    gan = small_gan("WGANGP")
    gan.compile(critic_steps=3)
    gan.fit(dataset(images), epochs=1, shuffle=False, verbose=0)
    assert int(gan.d_optimizer.iterations) == 15
    assert int(gan.g_optimizer.iterations) == 5


def test_wgan_gp_has_the_settings_of_its_paper():
    gan = small_gan("WGANGP")
    gan.compile()
    assert (gan.critic_steps, gan.penalty_weight) == (5, 10.0)
    for optimizer in (gan.g_optimizer, gan.d_optimizer):
        assert float(optimizer.learning_rate) == pytest.approx(1e-4)
        assert (optimizer.beta_1, optimizer.beta_2) == (0.0, 0.9)


def test_a_critic_with_batch_normalisation_is_refused():
    with pytest.raises(ValueError, match=r"no batch normalisation.*'normalize_1'"):
        small_gan("WGANGP", architecture="hazelnut")


@pytest.mark.parametrize("architecture", ["dcgan", pytest.param("residual", marks=pytest.mark.slow)])
def test_each_kind_of_gan_learns_with_each_architecture(architecture, digits):
    """The Wasserstein estimate falls, as samples come closer to the images."""
    gan = small_gan("WGANGP", architecture=architecture, width=8)
    gan.compile(*(keras.optimizers.Adam(2e-3, beta_1=0.0, beta_2=0.9) for _ in range(2)))
    history = gan.fit(digits.train, epochs=40, shuffle=False, verbose=0).history
    assert history["wasserstein_estimate"][-1] < 0.5 * max(history["wasserstein_estimate"])
    assert history["gradient_penalty"][-1] < 0.2
