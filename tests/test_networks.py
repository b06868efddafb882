import math

import keras
import numpy as np
import pytest

import anogan_tf as agt
from anogan_tf import architectures
from anogan_tf.commands import cli
from anogan_tf.networks import Discriminator, Encoder, Generator, feature_extractor, with_dtype

SHAPES = [(8, 8, 1), (8, 256, 3), (28, 28, 1), (33, 47, 3), (64, 64, 3), (100, 60, 1), (256, 256, 3)]


@pytest.mark.parametrize("architecture", ["dcgan", "deep-dcgan", "residual"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_networks_fit_every_image_size(shape, architecture):
    options = {"architecture": architecture, "width": 2}
    generator, discriminator, encoder = (
        Generator(shape, 5, **options),
        Discriminator(shape, **options),
        Encoder(shape, 5, **options),
    )
    images = generator(keras.random.normal((2, 5)), training=False)
    assert images.shape == (2, *shape)
    assert float(keras.ops.max(keras.ops.abs(images))) <= 1.0
    assert discriminator(images, training=False).shape == (2, 1)
    assert encoder(images, training=False).shape == (2, 5)


@pytest.mark.parametrize("shape", [(7, 8, 1), (8, 257, 1), (8, 8, 2), (8, 8)], ids=str)
def test_other_image_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"Received: image_shape=\("):
        Generator(shape)


def test_unknown_architecture_is_refused_and_the_known_are_named():
    with pytest.raises(ValueError, match=r"dcgan.*Received: architecture='resnet'"):
        Discriminator(architecture="resnet")
    with pytest.raises(ValueError, match=r"dcgan.*Received: architecture='hazelnut'"):
        Encoder(architecture="hazelnut")


def test_the_command_line_tells_the_architectures_there_are():
    context = cli.main.make_context("anogan-tf", ["train", "--out", "x"])
    command = cli.main.get_command(context, "train")
    (option,) = [parameter for parameter in command.params if parameter.name == "architecture"]
    assert all(name in option.help for name in architectures.ARCHITECTURES)


def test_one_entry_adds_an_architecture(monkeypatch):
    def generator(image_shape, width, initializer, momentum):
        yield keras.layers.Dense(math.prod(image_shape), "tanh", kernel_initializer=initializer())
        yield keras.layers.BatchNormalization(momentum=momentum)
        yield keras.layers.Reshape(image_shape)

    def features(image_shape, width, initializer, momentum, seed):
        yield keras.layers.Conv2D(width, 3, kernel_initializer=initializer(), name="features_1")

    tiny = architectures.Architecture(generator, features, "ones", momentum=0.5)
    monkeypatch.setitem(architectures.ARCHITECTURES, "tiny", tiny)
    networks = [cls((8, 8, 1), architecture="tiny", width=2) for cls in (Generator, Discriminator, Encoder)]
    assert networks[0].layers[2].momentum == 0.5
    assert (networks[1].get_layer("features_1").kernel.numpy() == 1).all()
    assert networks[2].output_shape == (None, 100)
    assert agt.FAnoGAN(agt.DCGAN((8, 8, 1), 4, architecture="tiny", width=2)).encoder.architecture == "tiny"


def test_configs_of_earlier_versions_build_the_same_networks():
    """As `get_config` wrote them in version 0.1."""
    common = {"image_shape": [8, 12, 3], "width": 4, "seed": 3}
    he = {"module": "keras.initializers", "class_name": "HeNormal", "config": {"seed": None}, "registered_name": None}
    for cls, config in (
        (Generator, {"latent_dim": 5, "architecture": "dcgan", "kernel_initializer": None, "name": "generator"}),
        (Discriminator, {"architecture": "residual", "kernel_initializer": he, "name": "discriminator"}),
        (Encoder, {"latent_dim": 5, "architecture": "residual", "kernel_initializer": he, "name": "encoder"}),
    ):
        network = cls.from_config(common | config)
        assert network.image_shape == (8, 12, 3)
        assert network.get_config().keys() == (common | config).keys()
        options = {name: config[name] for name in ("latent_dim", "architecture") if name in config}
        expected = cls((8, 12, 3), **options, width=4, seed=3, kernel_initializer=config["kernel_initializer"])
        for x, y in zip(network.get_weights(), expected.get_weights(), strict=True):
            np.testing.assert_array_equal(x, y)


def test_hazelnut_needs_sides_that_are_multiples_of_8():
    with pytest.raises(ValueError, match="multiples of 8"):
        Generator((28, 28, 1), architecture="hazelnut")


def test_hazelnut_has_the_parameters_of_the_original():
    assert Generator(architecture="hazelnut").count_params() == 4_372_928
    discriminator = Discriminator(architecture="hazelnut")
    assert discriminator.count_params() == 1_047_425
    assert feature_extractor(discriminator).output["features_3"].shape == (None, 8, 8, 256)


def test_hazelnut_activates_before_it_normalises():
    layers = [layer.name for layer in Generator(architecture="hazelnut").layers]
    assert layers.index("upsample_1") < layers.index("normalize_1")
    assert Generator(architecture="hazelnut").get_layer("upsample_1").activation is keras.activations.relu


@pytest.mark.parametrize("architecture", ["dcgan", "residual"])
def test_default_discriminators_have_no_batch_normalisation(architecture):
    layers = Discriminator(architecture=architecture).layers
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in layers)


def test_residual_networks_have_the_widths_of_f_anogan():
    """At 64×64 its generator narrows 512, 256, 128, 64 by blocks, its critic widens from 64 to 512 at 4×4."""
    generator, critic = Generator(architecture="residual"), Discriminator(architecture="residual")
    assert [generator.get_layer(f"block_{i}").output.shape[1:] for i in (1, 2, 3, 4)] == [
        (8, 8, 512), (16, 16, 256), (32, 32, 128), (64, 64, 64),
    ]  # fmt: skip
    assert feature_extractor(critic).output["features_4"].shape == (None, 4, 4, 512)


def test_encoder_is_linear_at_its_end():
    head = Encoder((8, 8, 1), 4, width=2).layers[-1]
    assert isinstance(head, keras.layers.Dense)
    assert head.activation is keras.activations.linear


def test_default_generator_follows_batch_statistics_closely():
    momenta = {layer.momentum for layer in Generator().layers if isinstance(layer, keras.layers.BatchNormalization)}
    assert all(0.8 <= momentum <= 0.9 for momentum in momenta)
    assert momenta


@pytest.mark.parametrize(
    "model",
    [
        Generator((16, 24, 3), 7, architecture="hazelnut", width=4, kernel_initializer="he_normal", seed=3, name="g"),
        Discriminator((9, 12, 1), width=4, kernel_initializer=keras.initializers.GlorotNormal(), seed=3, name="d"),
        Encoder((9, 12, 3), 6, architecture="residual", width=4, kernel_initializer="he_uniform", seed=3, name="e"),
    ],
    ids=["generator", "discriminator", "encoder"],
)
def test_models_survive_saving(model, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model)
    assert loaded.get_config() == model.get_config()
    x = keras.random.normal((2, *model.input_shape[1:]), seed=1)
    np.testing.assert_array_equal(model(x, training=False), loaded(x, training=False))


def test_the_seed_decides_the_initial_weights():
    a, b, c = (Generator((8, 8, 1), 4, width=2, seed=seed).get_weights() for seed in (1, 1, 2))
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    assert not np.array_equal(a[0], c[0])


def test_layers_of_one_shape_start_with_different_weights():
    weights = Discriminator((8, 8, 1), width=4).get_layer("downsample_1").kernel
    assert not np.array_equal(weights, Discriminator((8, 8, 1), width=4, seed=1).get_layer("downsample_1").kernel)


def test_dcgan_weights_start_with_a_deviation_of_two_hundredths():
    kernel = Discriminator().get_layer("downsample_3").kernel.numpy()
    assert kernel.std() == pytest.approx(0.02, rel=0.02)
    assert abs(kernel.mean()) < 1e-3


def test_features_are_chosen_by_layer_name():
    discriminator = Discriminator((28, 28, 1), width=4)
    features = feature_extractor(discriminator, ["features_1", "features_3"])(np.zeros((1, 28, 28, 1), np.float32))
    assert {name: tuple(value.shape) for name, value in features.items()} == {
        "features_1": (1, 14, 14, 4),
        "features_3": (1, 4, 4, 16),
    }


def test_unknown_feature_layer_is_refused_and_the_known_are_named():
    with pytest.raises(ValueError, match=r"feature_layers=\['conv'\]; there are .*features_1"):
        feature_extractor(Discriminator((8, 8, 1), width=2), ["conv"])


def test_copy_in_another_precision_has_the_same_weights():
    generator = Generator((16, 16, 1), 5, width=4)
    copy = with_dtype(generator, "mixed_bfloat16")
    z = keras.random.normal((3, 5), seed=1)
    assert copy.get_layer("upsample_1").compute_dtype == "bfloat16"
    assert copy.get_layer("upsample_1").variable_dtype == "float32"
    np.testing.assert_allclose(copy(z, training=False), generator(z, training=False), atol=0.02)
    assert not np.array_equal(copy(z, training=False), generator(z, training=False))
