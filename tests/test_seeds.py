"""The systems that this package replaces, each in our words with its own settings, for a few steps."""

import csv
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from click.testing import CliRunner
from PIL import Image

import anogan_tf as agt
from anogan_tf import plots
from anogan_tf.commands.cli import main

pytestmark = pytest.mark.usefixtures("untraced")


@pytest.fixture
def mnist_like():
    """Images (12, 28, 28, 1) in [-1, 1] that have some structure."""
    side = np.linspace(-1, 1, 28)
    discs = [np.hypot(side[:, None] - x, side) < 0.5 for x in np.linspace(-0.4, 0.4, 12)]
    return np.where(discs, 0.9, -0.9).astype(np.float32)[..., None]


def dataset(images, batch_size=6):
    return tf.data.Dataset.from_tensor_slices(images).batch(batch_size)


def test_jmjeon94_long_l2_search_with_path_and_red_difference(mnist_like, tmp_path):
    """z ~ N(0, 1) of 64, 2,001 steps of Adam at 1e-3, squared error of images and features, α = 0.1."""
    gan = agt.DCGAN((28, 28, 1), latent_dim=64, width=2, seed=2)
    gan.compile()
    gan.fit(dataset(mnist_like), epochs=1, shuffle=False, verbose=0)
    anogan = agt.AnoGAN(
        gan, steps=2001, learning_rate=1e-3, distance="l2", feature_weight=0.1, score="paper", smoothing=0, chunk=1
    )
    query = mnist_like[:1]
    out = anogan.score(query)
    path = anogan.search_path(query, steps=100)
    assert path["loss"].shape == (101, 1)
    assert out["anomaly_score"][0] < path["loss"][-1, 0] < path["loss"][0, 0]
    shown = [gan.generator(path["z"][step], training=False).numpy() for step in (0, 50, 100)]
    plots.search_path(query, shown, (0, 50, 100)).savefig(tmp_path / "path.png")
    figure = plots.result(query[0], out["reconstruction"][0], out["anomaly_map"][0])
    assert figure.axes[2].get_title() == "difference"


def test_blog_on_tensorflow_1_15(mnist_like):
    """z uniform(-1, 1) of 50, Xavier, rates that drop, two G steps, λ = 0.7, first convolution, mapping-loss curve."""
    gan = agt.DCGAN((28, 28, 1), latent_dim=50, width=2, prior="uniform", kernel_initializer="glorot_uniform")

    def drop():
        return keras.optimizers.schedules.PiecewiseConstantDecay([150], [1e-3, 1e-4])

    gan.compile(keras.optimizers.Adam(drop()), keras.optimizers.Adam(drop()), generator_steps=2)
    history = gan.fit(dataset(mnist_like), epochs=1, shuffle=False, verbose=0).history
    assert {"d_real_accuracy", "d_generated_accuracy"} <= set(history)
    anogan = agt.AnoGAN(
        gan,
        steps=150,
        learning_rate=keras.optimizers.schedules.PiecewiseConstantDecay([49], [0.1, 0.01]),
        feature_weight=0.7,
        feature_layers=["features_1"],
        distance="l1",
        score="paper",
        chunk=4,
    )
    losses = anogan.search_path(mnist_like[:4])["loss"]
    assert losses.shape == (151, 4)
    assert losses[-1].mean() < losses[0].mean()
    plots.mapping_loss(losses)
    vectors = anogan.score(mnist_like[:4])
    np.testing.assert_allclose(vectors["anomaly_score"], 0.3 * vectors["residual"] + 0.7 * vectors["discrimination"])


def test_leedoyup_celeba_crop():
    """CelebA, centre crop 108, 64×64, z uniform(-1, 1) of 100."""
    with tfds.testing.mock_data(num_examples=20):
        splits = agt.data.load("celeb_a", normal="Eyeglasses=0", image_shape=(64, 64, 3), crop=108, batch_size=4)
        images, _ = next(iter(splits.train))
    assert images.shape == (4, 64, 64, 3)
    gan = agt.DCGAN(latent_dim=100, width=2, prior="uniform")
    gan.compile()
    gan.fit(splits.train.take(1), epochs=1, shuffle=False, verbose=0)
    assert gan.generate(2).shape == (2, 64, 64, 3)


def test_leedoyup_own_folder_with_pattern_samples_and_checkpoint(tmp_path):
    """A folder with a glob pattern from the command line; 100 steps of Adam at 1e-3, λ = 0.1."""
    for i in range(24):
        pixels = np.random.default_rng(i).integers(40, 90, (20, 20), dtype=np.uint8)
        for name in (f"{i:02d}_front.png", f"{i:02d}_back.bmp"):
            (tmp_path / "photos").mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "photos" / name)

    def run(*arguments):
        result = CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output

    out = tmp_path / "run"
    run(
        "train", tmp_path / "photos", "--out", out, "--pattern", "*_front.png", "--size", "16", "--channels", "1",
        "--prior", "uniform", "--latent-dim", "100", "--width", "2", "--epochs", "2", "--batch-size", "4",
        "--architecture", "dcgan", "--augment", "none", "--ema", "0", "--start", "prior",
        "--score", "paper", "--steps", "100", "--search-rate", "0.001", "--feature-weight", "0.1", "--alpha", "0.3",
    )  # fmt: skip
    assert (out / "checkpoint.weights.h5").exists()
    assert sorted(path.name for path in (out / "samples").iterdir()) == ["epoch_0001.png", "epoch_0002.png"]
    run("score", out, tmp_path / "photos", "--pattern", "*", "--out", tmp_path / "results")
    with open(tmp_path / "results" / "scores.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 48
    assert rows[0]["anomaly_score"] == rows[1]["anomaly_score"]  # back and front are the same picture, in two formats


def test_pippo7x_notebook_line_by_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "hazelnut"
    for name, brightness in (("train/good", 100), ("test/good", 100), ("test/crack", 200)):
        (folder / name).mkdir(parents=True)
        for i in range(6):
            pixels = np.random.default_rng(i).integers(brightness - 40, brightness, (70, 70, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    trained = agt.DCGAN(architecture="hazelnut", seed=3)
    (tmp_path / "weights").mkdir()
    agt.save_keras2_weights(trained.generator, "weights/generator.h5")
    agt.save_keras2_weights(trained.discriminator, "weights/discriminator.h5")

    splits = agt.data.load("hazelnut", image_shape=(64, 64, 3), batch_size=17)
    gan = agt.DCGAN(architecture="hazelnut")
    gan.compile(keras.optimizers.Adam(1e-4), keras.optimizers.Adam(1e-4))
    gan.fit(splits.train, epochs=1, shuffle=False, verbose=0)
    agt.load_weights(gan.generator, "weights/generator.h5")
    agt.load_weights(gan.discriminator, "weights/discriminator.h5")
    anogan = agt.AnoGAN(gan, steps=3, learning_rate=1e-3, feature_weight=0.1, score="paper", chunk=4)
    results, threshold, accuracy = anogan.test(splits.test, threshold="midpoint", results_dir="results")

    scores = {label: [r["anomaly_score"] for r in results if r["label"] == label] for label in (0, 1)}
    assert threshold == pytest.approx((max(scores[0]) + min(scores[1])) / 2)
    assert accuracy == np.mean([(r["anomaly_score"] > threshold) == r["label"] for r in results])
    assert (tmp_path / "results" / "test_image_001.png").exists()


def as_dataset(builder, split, **_):
    """80 images of noise, other ones in each split, where the mock of TFDS has the same in all."""
    generator = np.random.default_rng(len(split))
    images = generator.integers(0, 256, (80, *builder.info.features["image"].shape), dtype=np.uint8)
    return tf.data.Dataset.from_tensor_slices({"image": images, "label": generator.integers(0, 10, 80)})


@pytest.mark.parametrize("name", ["mnist", pytest.param("cifar10", marks=pytest.mark.slow)])
def test_mulkong_auto_encoder_and_variational_encoder_of_one_gan(name, tmp_path):
    """MNIST and CIFAR-10, a DCGAN, an encoder trained on images (izi), alone and as a variational one; AUROC."""

    def run(*arguments):
        result = CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output

    encoder = ["--method", "f-anogan", "--mode", "izi", "--encoder-epochs", "1", "--score", "paper", "--alpha", "0.5"]
    gan = ["--gan", "dcgan", "--latent-dim", "100", "--width", "2", "--epochs", "1", "--batch-size", "4"]
    with tfds.testing.mock_data(as_dataset_fn=as_dataset):
        run("train", name, "--normal", "8", "--out", tmp_path / "ae", *gan, *encoder)
        run("train", "--encoder-only", tmp_path / "ae", "--out", tmp_path / "vae", "--variational", *encoder)
        for kind in ("ae", "vae"):
            run("test", tmp_path / kind, "--out", tmp_path / "results" / kind, "--pictures", "1")
    for kind in ("ae", "vae"):
        metrics = json.loads((tmp_path / "results" / kind / "metrics.json").read_text())
        assert metrics["n"] == 80
        assert 0 <= metrics["auroc"] <= 1
    auto_encoder, variational = (agt.load_run(tmp_path / kind) for kind in ("ae", "vae"))
    assert (auto_encoder.mode, auto_encoder.variational) == ("izi", False)
    assert (variational.mode, variational.variational) == ("izi", True)
    for own, other in zip(auto_encoder.gan.generator.weights, variational.gan.generator.weights, strict=True):
        np.testing.assert_array_equal(own, other)
