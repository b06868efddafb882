import copy
import functools
import inspect
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf

import anogan_tf as agt
from anogan_tf.callbacks import Checkpoint
from anogan_tf.training import step_seed
from tests.conftest import KeepFirst, small_gan


def dataset(images, batch_size=8):
    return tf.data.Dataset.from_tensor_slices(images).batch(batch_size)


def weights_of(model):
    return [variable.numpy() for variable in model.variables]


def assert_equal_weights(a, b):
    for x, y in zip(weights_of(a), weights_of(b), strict=True):
        np.testing.assert_array_equal(x, y)


KINDS = pytest.mark.parametrize("kind", ["DCGAN", "WGANGP"])
FEW_STEPS = {"DCGAN": {}, "WGANGP": {"critic_steps": 1}}  # where their number is not what is tested, as each is traced


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


@pytest.mark.usefixtures("untraced")
@KINDS
def test_labels_are_ignored(kind, images):
    with_labels, without = small_gan(kind), small_gan(kind)
    for gan, data in ((with_labels, (images, np.arange(40))), (without, images)):
        gan.compile(**FEW_STEPS[kind])
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


@pytest.mark.usefixtures("untraced")
def test_generator_steps_per_discriminator_step(images):
    gan = small_gan()
    gan.compile(generator_steps=3)
    gan.fit(dataset(images, 20), epochs=1, shuffle=False, verbose=0)
    assert int(gan.d_optimizer.iterations) == 2
    assert int(gan.g_optimizer.iterations) == 6


@pytest.mark.usefixtures("untraced")
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
        gan.compile(**FEW_STEPS[kind])
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


@pytest.mark.usefixtures("untraced")
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
    gan.fit(dataset(images, 20), epochs=1, shuffle=False, verbose=0)
    gan.save(tmp_path / "gan.keras")
    loaded = keras.saving.load_model(tmp_path / "gan.keras")
    assert {name: getattr(loaded, name) for name in options} == options
    assert (loaded.prior, loaded.seed) == ("normal", 0)
    assert float(loaded.g_optimizer.learning_rate) == pytest.approx(0.003)
    for model in (gan, loaded):
        model.fit(dataset(images, 20), epochs=1, shuffle=False, verbose=0)
    assert int(loaded.g_optimizer.iterations) == int(gan.g_optimizer.iterations)
    assert_equal_weights(gan, loaded)


@pytest.mark.parametrize(
    ("kind", "architecture", "broken"),
    [
        ("DCGAN", "dcgan", "given more epochs"),
        ("DCGAN", "hazelnut", "killed"),
        ("WGANGP", "dcgan", "killed"),
        pytest.param("WGANGP", "residual", "killed", marks=pytest.mark.slow),
    ],
)
def test_resumed_training_equals_an_unbroken_one(kind, architecture, broken, tmp_path):
    """What is killed leaves the checkpoint that the unbroken one had at that time; a DCGAN trains in graphs."""
    digits = agt.data.load("digits", batch_size=48)

    def train(epochs, folder, *callbacks):
        gan = small_gan(kind, architecture=architecture)
        options = {"run_eagerly": kind == "WGANGP", **({"critic_steps": 2} if kind == "WGANGP" else {})}
        gan.compile(keras.optimizers.Adam(1e-3, use_ema=True, ema_momentum=0.9), **options)
        checkpoint = Checkpoint(tmp_path / folder / "checkpoint.weights.h5", every_seconds=0)
        gan.fit(digits.train, epochs=epochs, shuffle=False, verbose=0, callbacks=[checkpoint, *callbacks])
        return gan, checkpoint

    unbroken, whole = train(3, "unbroken", *([KeepFirst(tmp_path)] if broken == "killed" else []))
    if broken == "given more epochs":
        train(1, "broken")
    resumed, rest = train(3, "broken")
    assert_equal_weights(unbroken, resumed)
    assert rest.logs == whole.logs
    assert len(rest.logs["d_loss"]) == 3


class Weights(keras.callbacks.Callback):
    """Keeps the generator's weights after each batch."""

    def __init__(self):
        super().__init__()
        self.kept = []

    def on_train_batch_end(self, batch, logs=None):
        self.kept.append([weight.numpy() for weight in self.model.generator.trainable_variables])


@pytest.mark.usefixtures("untraced")
def test_the_generator_ends_as_the_moving_average_of_its_weights(images):
    gan, weights = small_gan(), Weights()
    gan.compile(keras.optimizers.Adam(1e-3, use_ema=True, ema_momentum=0.75))
    gan.fit(dataset(images), epochs=2, verbose=0, callbacks=[weights])
    average = weights.kept[0]
    for some in weights.kept[1:]:
        average = [0.75 * old + 0.25 * new for old, new in zip(average, some, strict=True)]
    for weight, expected in zip(gan.generator.trainable_variables, average, strict=True):
        np.testing.assert_allclose(weight, expected, atol=1e-6)


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
        gan.compile(**FEW_STEPS[kind])
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert isinstance(gan.g_optimizer, keras.optimizers.LossScaleOptimizer)
    history = gan.fit(dataset(images), epochs=1, shuffle=False, verbose=0).history
    assert np.isfinite(history["g_loss"]).all()
    assert gan.generate(1).dtype == np.float32


@KINDS
def test_losses_of_half_precision_are_scaled_and_gradients_scaled_back(kind, images):
    """What a step changes is what it changes in whole precision."""
    changes = []
    for policy in ("float32", "mixed_float16"):
        keras.mixed_precision.set_global_policy(policy)
        try:
            gan = small_gan(kind)
            optimizers = [keras.optimizers.SGD(0.1), keras.optimizers.SGD(0.1)]
            if policy == "mixed_float16":
                optimizers = [keras.optimizers.LossScaleOptimizer(each, initial_scale=64.0) for each in optimizers]
            gan.compile(*optimizers, **FEW_STEPS[kind])
        finally:
            keras.mixed_precision.set_global_policy("float32")
        variables = [*gan.generator.trainable_variables, *gan.discriminator.trainable_variables]
        before = [variable.numpy() for variable in variables]
        gan.fit(dataset(images[:8]), epochs=1, shuffle=False, verbose=0)
        changes.append(np.concatenate([np.ravel(v - b) for v, b in zip(variables, before, strict=True)]))
    whole, half = changes
    assert np.linalg.norm(half - whole) < 0.1 * np.linalg.norm(whole)


@pytest.mark.usefixtures("untraced")
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
        (lambda x: x[:4, 0], r"shape \(8, 8, 1\). Received"),
        (lambda x: x[:0], "Received: no batch"),
        (lambda x: {"image": x}, "a batch of dict"),
    ],
    ids=["0 to 1", "too large", "channels", "rank", "empty", "a dict"],
)
def test_fit_refuses_images_that_the_networks_do_not_take(gan, change, message):
    images = np.linspace(-1, 1, 8 * 64, dtype=np.float32).reshape(8, 8, 8, 1)
    with pytest.raises(ValueError, match=message):
        gan.fit(dataset(change(images)), verbose=0, shuffle=False)


@pytest.mark.usefixtures("untraced")
def test_images_that_are_bright_all_over_are_trained_on():
    gan = small_gan()
    gan.compile()
    bright = np.random.default_rng(0).integers(133, 168, (8, 8, 8, 1)).astype(np.float32)
    assert np.isfinite(gan.fit(dataset(bright / 127.5 - 1), verbose=0, shuffle=False).history["d_loss"]).all()
    with pytest.raises(ValueError, match=r"first batch in \[0"):
        gan.fit(dataset(bright / 255), verbose=0, shuffle=False)
    with pytest.warns(UserWarning, match="unless these are bright all over"):
        gan.fit(dataset(bright / 127.5 - 1 + 1e-4), verbose=0, shuffle=False)


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


@pytest.mark.parametrize("critic_steps", [1, 2])
def test_first_step_of_a_wgan_gp_is_the_algorithm_of_the_paper(critic_steps, images):
    """Critic steps, each with z and ε of its own, and one generator step, done by hand after algorithm 1."""
    gan, reference = (small_gan("WGANGP", kernel_initializer="he_normal") for _ in range(2))
    gan.compile(keras.optimizers.SGD(0.01), keras.optimizers.SGD(0.01), critic_steps=critic_steps, penalty_weight=10.0)
    batch = tf.constant(images[:8])
    z = [gan._noise(batch, 0, 2 * i) for i in range(critic_steps + 1)]
    mixing = [tf.random.stateless_uniform((8, 1, 1, 1), step_seed(0, 0, 2 * i + 1)) for i in range(critic_steps)]
    logs = gan.train_on_batch(batch, return_dict=True)

    g, d = reference.generator, reference.discriminator
    by_hand = {"d_loss": [], "gradient_penalty": [], "wasserstein_estimate": []}
    for z_critic, epsilon in zip(z[:-1], mixing, strict=True):
        with tf.GradientTape() as tape:
            fake = g(z_critic, training=True)
            mixed = epsilon * batch + (1 - epsilon) * fake
            with tf.GradientTape() as inner:
                inner.watch(mixed)
                value = d(mixed, training=True)
            slopes = tf.norm(tf.reshape(inner.gradient(value, mixed), (8, -1)), axis=1)
            wasserstein = tf.reduce_mean(d(batch, training=True)) - tf.reduce_mean(d(fake, training=True))
            penalty = tf.reduce_mean((slopes - 1) ** 2)
            loss = -wasserstein + 10 * penalty
        descend(tape, loss, d, 0.01)
        for name, part in (("d_loss", loss), ("gradient_penalty", penalty), ("wasserstein_estimate", wasserstein)):
            by_hand[name].append(float(part))
    with tf.GradientTape() as tape:
        g_loss = -tf.reduce_mean(d(g(z[-1], training=True), training=True))
    descend(tape, g_loss, g, 0.01)
    for name, values in {**by_hand, "g_loss": [float(g_loss)]}.items():
        assert float(logs[name]) == pytest.approx(np.mean(values), rel=1e-4, abs=1e-6)
    for trained, expected in ((gan.generator, g), (gan.discriminator, d)):
        for x, y in zip(weights_of(trained), weights_of(expected), strict=True):
            np.testing.assert_allclose(x, y, atol=1e-6)


@KINDS
def test_the_second_task_counts_by_its_weight(kind):
    """Under SGD a step of D moves by the gradient of its own loss, and by w times that of the task."""
    images = np.random.default_rng(0).uniform(-1, 1, (8, 8, 8, 1)).astype(np.float32)
    moved = []
    for weight in (0.0, 1.0, 3.0):
        gan = small_gan(kind, self_supervision="rotation", kernel_initializer="he_normal")
        before = gan.discriminator.get_weights()[0]
        options = {"critic_steps": 1} if kind == "WGANGP" else {}
        gan.compile(
            keras.optimizers.SGD(0.0), keras.optimizers.SGD(0.01), task_weight=weight, run_eagerly=True, **options
        )
        gan.train_on_batch(images)
        moved.append(gan.discriminator.get_weights()[0] - before)
    task = moved[1] - moved[0]
    assert np.abs(task).max() > 1e-4
    np.testing.assert_allclose(moved[2] - moved[0], 3 * task, atol=1e-6)


@pytest.mark.usefixtures("untraced")
def test_critic_steps_per_generator_step(images):
    gan = small_gan("WGANGP")
    gan.compile(critic_steps=3)
    gan.fit(dataset(images, 20), epochs=1, shuffle=False, verbose=0)
    assert int(gan.d_optimizer.iterations) == 6
    assert int(gan.g_optimizer.iterations) == 2


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
    gan.compile(*(keras.optimizers.Adam(2e-3, beta_1=0.0, beta_2=0.9) for _ in range(2)), critic_steps=2)
    history = gan.fit(digits.train, epochs=30, shuffle=False, verbose=0).history
    assert history["wasserstein_estimate"][-1] < 0.5 * max(history["wasserstein_estimate"])
    assert history["gradient_penalty"][-1] < 0.2


class Batches(keras.utils.PyDataset):
    def __init__(self, images):
        super().__init__()
        self.images = images

    def __len__(self):
        return len(self.images) // 8

    def __getitem__(self, i):
        return self.images[8 * i : 8 * (i + 1)], np.zeros((8, 2), bool)


def batches(images, *labels):
    """Yields batches of 8 of a NumPy array."""
    for i in range(0, len(images), 8):
        yield (images[i : i + 8], *(label[i : i + 8] for label in labels)) if labels else images[i : i + 8]


FORMS = {
    "an array": lambda x: {"x": x, "batch_size": 8, "shuffle": False, "validation_split": 0.0},
    "an array and labels": lambda x: {"x": x, "y": np.eye(2)[np.zeros(40, int)], "batch_size": 8, "shuffle": False},
    "float64": lambda x: {"x": dataset(x.astype(np.float64))},
    "labels": lambda x: {"x": dataset((x, np.full((40, 1), "normal")))},
    "a generator": lambda x: {"x": batches(x), "steps_per_epoch": 5},
    "a generator with labels": lambda x: {"x": batches(x, np.arange(40)), "steps_per_epoch": 5},
    "an iterator": lambda x: {"x": iter(dataset(x)), "steps_per_epoch": 5},
    "a PyDataset": lambda x: {"x": Batches(x)},
    "a data set over one generator": lambda x: {
        "x": tf.data.Dataset.from_generator(
            functools.partial(iter, batches(x)), output_signature=tf.TensorSpec((None, 8, 8, 1))
        ),
        "steps_per_epoch": 5,
    },
    "unknown shapes": lambda x: {
        "x": tf.data.Dataset.from_generator(lambda: batches(x), output_types=tf.float32),
        "steps_per_epoch": 5,
    },
}


@pytest.fixture(scope="module")
def of_a_data_set(images):
    """Weights after an epoch of five batches of a `tf.data.Dataset`."""
    return fitted(x=dataset(images))


def fitted(**arguments):
    gan = small_gan()
    gan.compile(run_eagerly=True)
    gan.fit(**arguments, verbose=0)
    assert int(gan.d_optimizer.iterations) == 5
    return weights_of(gan)


@pytest.mark.parametrize("form", FORMS)
def test_fit_takes_images_in_every_form_and_loses_no_batch(form, images, of_a_data_set):
    for x, y in zip(fitted(**FORMS[form](images)), of_a_data_set, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-6)


def test_fit_says_that_batching_is_missing(gan, images):
    with pytest.raises(ValueError, match=r"\(batch, 8, 8, 1\): .*\.batch\(32\) is missing\. Received: a first batch"):
        gan.fit(tf.data.Dataset.from_tensor_slices((images, np.arange(40))), verbose=0)


def test_fit_looks_at_all_images_of_an_array(gan, images):
    with pytest.raises(ValueError, match=r"Received: images in \[-1, 2\]"):
        gan.fit(np.concatenate([images, np.linspace(-1, 2, 64, dtype=np.float32).reshape(1, 8, 8, 1)]), verbose=0)


@pytest.mark.parametrize(
    "options",
    [
        {"validation_data": np.zeros((4, 8, 8, 1))},
        {"validation_split": 0.1},
        {"class_weight": {0: 2.0}},
        {"sample_weight": np.ones(40)},
    ],
    ids=lambda options: next(iter(options)),
)
def test_what_has_no_meaning_in_fit_is_refused_before_the_first_epoch(options, gan, images):
    with pytest.raises(ValueError, match=f"score held-out images instead. Received: {next(iter(options))}"):
        gan.fit(images, verbose=0, **options)
    assert int(gan.d_optimizer.iterations) == 0


@pytest.mark.parametrize("method", ["__call__", "predict", "evaluate"])
def test_a_gan_itself_has_no_output_and_says_what_has(method, gan, images):
    with pytest.raises(NotImplementedError, match=r"gan\.generator\(z\).*AnoGAN\(gan\)"):
        getattr(gan, method)(images[:8])


@KINDS
def test_optimizers_may_be_given_by_name(kind):
    gan = small_gan(kind)
    gan.compile("sgd", {"class_name": "adam", "config": {"learning_rate": 0.5}})
    assert isinstance(gan.g_optimizer, keras.optimizers.SGD)
    assert float(gan.d_optimizer.learning_rate) == 0.5


class Adam:
    """An optimizer, but none of Keras 3."""


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((), {"optimizer": "adam", "loss": "mse"}, "compile takes g_optimizer and d_optimizer. Received: loss, opt"),
        ((keras.optimizers.Adam(),) * 2, {}, "two optimizers, .* Received: adam"),
        (("adamm",), {}, "g_optimizer is an optimizer of Keras 3.*Received: g_optimizer='adamm'"),
        (("adam", Adam()), {}, "d_optimizer is an optimizer of Keras 3.* of tests.test_gan"),
    ],
    ids=["Keras' own", "one for both", "no such name", "another library's"],
)
def test_compile_refuses_what_would_fail_in_training(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        small_gan().compile(*arguments, **options)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["copied", "pickled"]
)
@pytest.mark.parametrize("compiled", [False, True], ids=["as loaded", "compiled"])
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
def test_models_survive_copying(copied, compiled):
    gan = small_gan(self_supervision="shift")
    if compiled:
        gan.compile("adam", "sgd", generator_steps=np.int64(2), views=np.int64(1))
    other = copied(gan)
    assert_equal_weights(other, gan)
    assert other.compiled == compiled
    fanogan = copied(agt.FAnoGAN(gan, mode="izi"))
    assert fanogan.settings["mode"] == "izi"
    np.testing.assert_array_equal(fanogan.gan.generate(2), gan.generate(2))


def test_a_gan_that_was_never_compiled_saves(tmp_path):
    gan = small_gan("WGANGP", seed=np.int64(3))
    gan.save(tmp_path / "gan.keras")
    loaded = keras.saving.load_model(tmp_path / "gan.keras")
    assert_equal_weights(loaded, gan)
    assert not loaded.compiled


def own_networks(*inner, g_end="tanh", d_end=None):
    """A generator and a discriminator that are not ours, with layers inside the discriminator."""
    generator = keras.Sequential([keras.Input((5,)), keras.layers.Dense(64, g_end), keras.layers.Reshape((8, 8, 1))])
    layers = [keras.Input((8, 8, 1)), *inner, keras.layers.Flatten(), keras.layers.Dense(1, d_end)]
    return {"generator": generator, "discriminator": keras.Sequential(layers)}


def backbone():
    """A pretrained model, as it would be."""
    images = keras.Input((8, 8, 1))
    features = keras.layers.BatchNormalization()(keras.layers.Conv2D(3, 3, 2, name="inner")(images))
    return keras.Model(images, features, name="backbone")


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_a_model_nested_in_the_discriminator_gives_features(dtype, images):
    gan = agt.DCGAN(**own_networks(backbone()), self_supervision="rotation")
    gan.compile(run_eagerly=True)
    gan.fit(images[:8], shuffle=False, verbose=0)
    anogan = agt.AnoGAN(gan, steps=1, score="discrimination", distance="l1", chunk=8, dtype=dtype)
    assert anogan._comparison.features.output.keys() == {"backbone"}
    out = anogan.score(images[:3])
    features = gan.discriminator.layers[0]
    expected = np.abs(features(images[:3], training=False) - features(out["reconstruction"], training=False))
    np.testing.assert_allclose(out["discrimination"], expected.mean(axis=(1, 2, 3)), rtol=1e-4)


def test_a_critic_with_batch_normalisation_in_a_nested_model_is_refused():
    with pytest.raises(ValueError, match="no batch normalisation"):
        agt.WGANGP(**own_networks(backbone()))


@pytest.mark.parametrize("unknown", [keras.Sequential([keras.layers.Dense(1)]), keras.Model()], ids=["open", "class"])
def test_networks_that_cannot_be_looked_into_are_refused(unknown):
    with pytest.raises(ValueError, match="discriminator is a Functional network"):
        agt.DCGAN(**own_networks() | {"discriminator": unknown})


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ({"g_end": "sigmoid"}, "ends in a tanh. Received: .* from 0 to 1"),
        ({"g_end": "relu"}, "ends in a tanh. Received: .* from 0 to"),
        ({"g_end": "linear"}, "ends in a tanh. Received: .* from -"),
        ({"d_end": "sigmoid"}, "without an activation. Received: .* ends in sigmoid"),
        ({"d_end": "tanh"}, "without an activation. Received: .* ends in tanh"),
    ],
)
def test_ends_that_do_not_let_networks_learn_are_told(ends, message):
    with pytest.warns(UserWarning, match=message):
        agt.DCGAN(**own_networks(**ends))


def test_whole_numbers_of_numpy_are_numbers():
    gan = agt.DCGAN(np.array([8, 8, 1]), np.int64(4), width=np.int32(4), seed=np.int64(2))
    assert (gan.image_shape, gan.latent_dim, gan.seed) == ((8, 8, 1), 4, 2)
    assert_equal_weights(gan, agt.DCGAN((8, 8, 1), 4, width=4, seed=2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_shape": 16}, r"\(height, width, channels\).*Received: image_shape=16"),
        ({"image_shape": (8.5, 8, 1)}, r"Received: image_shape=\(8\.5, 8, 1\)"),
        ({"latent_dim": 4.0}, r"latent_dim is a whole number from 1 to 8192\. Received: latent_dim=4\.0"),
        ({"width": "4"}, "width is a whole number from 1 to 512. Received: width='4'"),
    ],
)
def test_other_numbers_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        small_gan(**arguments)


@pytest.mark.parametrize("kind", ["DCGAN", "WGANGP", "FAnoGAN"])
def test_a_constructor_names_all_its_arguments(kind):
    arguments = inspect.signature(getattr(agt, kind)).parameters
    assert {"seed", "name"} <= set(arguments)
    assert not any(argument.kind is argument.VAR_KEYWORD for argument in arguments.values())


@KINDS
@pytest.mark.parametrize("own", [False, True], ids=["ours", "your own"])
def test_mixed_precision_is_that_of_the_networks_alone(kind, own, images):
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        networks = own_networks(keras.layers.Conv2D(2, 3)) if own else {}
        gan = small_gan(kind, **networks, self_supervision="rotation")
        encoder = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(gan.latent_dim)])
        fanogan = agt.FAnoGAN(gan, variational=True, encoder=encoder, score="paper", chunk=8)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert gan.discriminator.layers[1].compute_dtype == "bfloat16"
    for model in (gan, fanogan):
        model.compile(run_eagerly=True)
        assert np.isfinite(list(model.fit(dataset(images[:8]), verbose=0).history.values())).all()
    state = [*gan.g_optimizer.variables, *gan.d_optimizer.variables, *fanogan.optimizer.variables]
    assert {variable.dtype for variable in [*fanogan.variables, *state]} <= {"float32", "int64", "int32"}
    assert gan.generate(1).dtype == np.float32
    scores = fanogan.score(images[:3])
    assert {scores[name].dtype.name for name in ("anomaly_score", "residual", "anomaly_map", "z")} == {"float32"}
