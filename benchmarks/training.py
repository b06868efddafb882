"""What training costs beyond its own arithmetic: `fit` against a bare loop, and waiting for data.

    python -m benchmarks.training

A bare loop calls one `tf.function` a step that does the same on the same networks: no metrics, callbacks or exact
noise. It takes its turn twice in each round, and how far these differ tells what ratios on the clock are worth. Waiting
is the time that such a loop stands still for the next batch, of PNGs of 256×256 pixels in a folder, read and scaled
down anew each epoch.
"""

import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

import anogan_tf as agt
from anogan_tf import losses, networks
from benchmarks import measuring

SHAPE, BATCH, STEPS = (28, 28, 1), 64, 40
AGAIN = ", again"
CACHES = {"in memory, the default": "auto", "read anew each epoch": False}
FOLDER_SHAPE, PICTURE_SIDE, PICTURES = (64, 64, 3), 256, 400
CRITIC_STEPS = 5  # of a WGAN-GP for each of its generator's


def measure(shape, width, steps, pictures):
    """A dict of figures."""
    options = {"image_shape": shape, "latent_dim": 16, "width": width}
    images = np.random.default_rng(0).uniform(-1, 1, (steps * BATCH, *shape)).astype(np.float32)
    data = tf.data.Dataset.from_tensor_slices(images).batch(BATCH, drop_remainder=True)
    models, loops = {}, {}
    for name, kind, loop in (("DCGAN", agt.DCGAN, dcgan_step), ("WGAN-GP", agt.WGANGP, wgan_gp_step)):
        models[name], loops[name] = kind(**options), loop(kind(**options))
    models["encoder"], loops["encoder"] = (wrap(agt.DCGAN(**options)) for wrap in (agt.FAnoGAN, encoder_step))
    ways = {}
    for name, model in models.items():
        model.compile(**({"critic_steps": CRITIC_STEPS} if name == "WGAN-GP" else {}))
        ways[name] = fitted(model, data)
        for again in ("", AGAIN):
            ways[f"{name}, bare loop{again}"] = looped(loops[name], data)
    timings = measuring.Timings(ways, dict.fromkeys(ways, steps))
    return {
        "seconds_per_step": {name: timings.figures(name) for name in ways},
        "bare_loop_over_fit": {name: timings.ratio(f"{name}, bare loop", name) for name in models},
        "bare_loop_over_fit_cpu": {name: timings.ratio(f"{name}, bare loop", name, "cpu") for name in models},
        "bare_loop_over_itself": {
            name: timings.ratio(f"{name}, bare loop", f"{name}, bare loop{AGAIN}") for name in models
        },
        "waiting_for_data": {name: waiting(FOLDER_SHAPE, pictures, cache) for name, cache in CACHES.items()},
    }


def fitted(model, data):
    return lambda: model.fit(data, shuffle=False, verbose=0)


def looped(step, data):
    def way():
        for images in data:
            step(images)

    return way


def dcgan_step(gan):
    g_adam, d_adam = (adam(network, 1e-3, 0.5) for network in (gan.generator, gan.discriminator))

    @tf.function(autograph=False)
    def step(images):
        generated = gan.generator(noise(gan), training=True)
        with tf.GradientTape() as tape:
            real, fake = (gan.discriminator(batch, training=True) for batch in (images, generated))
            loss = losses.discriminator_loss(real, fake)
        descend(tape, loss, gan.discriminator, d_adam)
        with tf.GradientTape() as tape:
            loss = losses.generator_loss(gan.discriminator(gan.generator(noise(gan), training=True), training=True))
        descend(tape, loss, gan.generator, g_adam)

    return step


def wgan_gp_step(gan):
    g_adam, d_adam = (adam(network, 1e-4, 0.0, 0.9) for network in (gan.generator, gan.discriminator))

    @tf.function(autograph=False)
    def step(images):
        for _ in range(CRITIC_STEPS):
            generated = gan.generator(noise(gan), training=True)
            with tf.GradientTape() as tape:
                real, fake = (gan.discriminator(batch, training=True) for batch in (images, generated))
                mixing = tf.random.uniform((BATCH, 1, 1, 1))
                penalty = losses.gradient_penalty(gan.discriminator, images, generated, mixing)
                loss = 10.0 * penalty - losses.wasserstein_estimate(real, fake)
            descend(tape, loss, gan.discriminator, d_adam)
        with tf.GradientTape() as tape:
            fake = gan.discriminator(gan.generator(noise(gan), training=True), training=True)
            loss = losses.wasserstein_generator_loss(fake)
        descend(tape, loss, gan.generator, g_adam)

    return step


def encoder_step(gan):
    """Of mode izi_f."""
    encoder = agt.FAnoGAN(gan).encoder
    extractor, own_adam = networks.feature_extractor(gan.discriminator), adam(encoder, 1e-3)

    @tf.function(autograph=False)
    def step(images):
        with tf.GradientTape() as tape:
            drawn = gan.generator(encoder(images, training=True), training=False)
            found = [extractor(batch, training=False) for batch in (images, drawn)]
            own = losses.residual(images, drawn, "l2") + losses.feature_distance(*found, "l2")
            loss = tf.reduce_mean(own)
        descend(tape, loss, encoder, own_adam)

    return step


def adam(network, *arguments):
    optimizer = keras.optimizers.Adam(*arguments)
    optimizer.build(network.trainable_variables)
    return optimizer


def noise(gan):
    return tf.random.normal((BATCH, gan.latent_dim))


def descend(tape, loss, network, optimizer):
    variables = network.trainable_variables
    optimizer.apply(tape.gradient(loss, [variable.value for variable in variables]), variables)


def waiting(shape, pictures, cache):
    """The share of a loop's time that it stands still for the next batch of files."""
    step = dcgan_step(agt.DCGAN(shape, width=16))
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(0)
        for i in range(pictures):
            coarse = Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
            coarse.resize((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.BICUBIC).save(Path(folder) / f"{i:04}.png")
        splits = agt.data.load(folder, image_shape=shape, batch_size=BATCH, cache=cache)
        share = []
        for _ in range(1 + measuring.REPETITIONS):  # the first traces
            waited, start = 0.0, time.perf_counter()
            batches = iter(splits.train)
            while True:
                asked = time.perf_counter()
                batch = next(batches, None)
                waited += time.perf_counter() - asked
                if batch is None:
                    break
                step(batch[0])
            share.append(waited / (time.perf_counter() - start))
    return {"share": float(np.median(share[1:])), "steps_in_an_epoch": len(splits.train)}


def table(figures):
    rows = [
        [name, figures["seconds_per_step"][name]["seconds"] * 1000]
        + [figures[ratio][name] for ratio in ("bare_loop_over_fit", "bare_loop_over_fit_cpu", "bare_loop_over_itself")]
        for name in figures["bare_loop_over_fit"]
    ]
    return measuring.table(["", "ms a step of fit", "bare loop / fit", "in CPU time", "bare loop / itself"], rows)


def main():
    parser = measuring.arguments(__doc__, "training")
    options = parser.parse_args()
    started_on = measuring.machine()
    sizes = ((8, 8, 1), 4, 2, 30) if options.quick else (SHAPE, 16, STEPS, PICTURES)
    figures = measure(*sizes)
    print(table(figures))
    for name, waited in figures["waiting_for_data"].items():
        print(f"Waiting for data, {name}: {waited['share']:.1%} of the step.")
    measuring.write(options.out, "training", started_on, figures)


if __name__ == "__main__":
    main()
