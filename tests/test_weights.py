import shutil

import keras
import numpy as np
import pytest

import anogan_tf as agt
from tests.conftest import small_gan

tf_keras = pytest.importorskip("tf_keras")


def hazelnut_of_keras_2():
    """The networks of Pippo7x/AnoGAN-Keras, as their notebook builds them."""
    layers = tf_keras.layers
    convolution = {"padding": "same", "use_bias": False}
    generator = tf_keras.Sequential(
        [
            layers.Dense(8 * 8 * 256, activation="relu", use_bias=False, input_shape=(100,)),
            layers.BatchNormalization(),
            layers.Reshape((8, 8, 256)),
            layers.Conv2DTranspose(256, 5, strides=2, activation="relu", **convolution),
            layers.BatchNormalization(),
            layers.Conv2DTranspose(128, 5, strides=2, activation="relu", **convolution),
            layers.BatchNormalization(),
            layers.Conv2DTranspose(64, 5, strides=2, activation="relu", **convolution),
            layers.BatchNormalization(),
            layers.Conv2DTranspose(3, 5, strides=1, activation="tanh", **convolution),
        ]
    )
    blocks = []
    for filters in (64, 128, 256):
        shape = {"input_shape": (64, 64, 3)} if filters == 64 else {}
        blocks += [
            layers.Conv2D(filters, 5, strides=2, padding="same", **shape),
            layers.BatchNormalization(),
            layers.LeakyReLU(0.2),
            layers.Dropout(0.3),
        ]
    discriminator = tf_keras.Sequential([*blocks, layers.Flatten(), layers.Dense(1)])
    rng = np.random.default_rng(0)
    for model in (generator, discriminator):  # statistics and scales that are not those of a new layer
        model.set_weights([w + 0.1 * rng.random(w.shape).astype(np.float32) for w in model.get_weights()])
    return generator, discriminator


@pytest.fixture(scope="module")
def old_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keras2")
    tf_keras.layers.Dense(1)  # so that the suffixes of layer names are shifted, as in a long session
    generator, discriminator = hazelnut_of_keras_2()
    for name, model in (("generator", generator), ("discriminator", discriminator)):
        model.save_weights(folder / f"{name}.h5")
        shutil.copy(folder / f"{name}.h5", folder / f"{name}-renamed.weights.h5")
        model.save(folder / f"{name}-whole.h5")
    return folder, generator, discriminator


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("suffix", [".h5", "-renamed.weights.h5", "-whole.h5"])
def test_files_of_keras_2_load_whatever_their_name(old_files, suffix):
    folder, generator, discriminator = old_files
    gan = agt.DCGAN(architecture="hazelnut")
    agt.load_weights(gan.generator, folder / f"generator{suffix}")
    agt.load_weights(gan.discriminator, folder / f"discriminator{suffix}")
    z = np.random.default_rng(1).normal(size=(2, 100)).astype(np.float32)
    images = generator(z, training=False).numpy()
    np.testing.assert_allclose(gan.generator(z, training=False), images, atol=1e-5)
    np.testing.assert_allclose(
        gan.discriminator(images, training=False), discriminator(images, training=False), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("name", ["generator", "discriminator"])
def test_files_that_we_write_load_in_keras_2(name, tmp_path):
    ours = getattr(agt.DCGAN(architecture="hazelnut", seed=4), name)
    ours.set_weights([w + 0.1 * np.random.default_rng(0).random(w.shape, np.float32) for w in ours.get_weights()])
    agt.save_keras2_weights(ours, tmp_path / f"{name}.h5")
    theirs = dict(zip(("generator", "discriminator"), hazelnut_of_keras_2(), strict=True))[name]
    theirs.load_weights(tmp_path / f"{name}.h5")
    x = np.random.default_rng(1).uniform(-1, 1, (2, *ours.input_shape[1:])).astype(np.float32)
    np.testing.assert_allclose(ours(x, training=False), theirs(x, training=False), rtol=1e-5, atol=1e-5)
    again = getattr(agt.DCGAN(architecture="hazelnut", seed=5), name)
    agt.load_weights(again, tmp_path / f"{name}.h5")
    np.testing.assert_array_equal(again(x, training=False), ours(x, training=False))


@pytest.mark.parametrize("name", ["x.weights.h5", "x.h5"])
def test_files_of_keras_3_load_whatever_their_name(tmp_path, name):
    saved, other = small_gan(seed=1).generator, small_gan(seed=9).generator
    saved.save_weights(tmp_path / "x.weights.h5")
    if name == "x.h5":
        (tmp_path / "x.weights.h5").rename(tmp_path / name)
    agt.load_weights(other, tmp_path / name)
    for a, b in zip(saved.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_mismatch_of_an_old_file_is_explained_by_layer(old_files):
    with pytest.raises(ValueError, match=r"BAD project \[\(100, 8192\)\] ← dense.*\(100, 16384\)"):
        agt.load_weights(agt.Generator(architecture="hazelnut", width=32), old_files[0] / "generator.h5")


@pytest.mark.parametrize(
    ("file_of", "lines"),
    [
        (
            {"width": 8},
            [
                r"  BAD project \[\(6, \d+\)\] ← project \[\(6, \d+\)\]",
                r"  BAD to_image \[\(4, 4, 1, 4\), \(1,\)\] ← to_image \[\(4, 4, 1, 8\), \(1,\)\]",
            ],
        ),
        ({"image_shape": (64, 64, 1)}, [r"  BAD - \[\] ← to_image \[\(4, 4, 1, 4\), \(1,\)\]"]),
        ({"image_shape": (16, 16, 1)}, [r"  BAD to_image \[\(4, 4, 1, 4\), \(1,\)\] ← - \[\]"]),
    ],
    ids=["wider", "deeper", "flatter"],
)
def test_mismatch_of_a_new_file_is_explained_by_layer_and_changes_nothing(tmp_path, file_of, lines):
    small_gan(**{"image_shape": (32, 32, 1)} | file_of).generator.save_weights(tmp_path / "x.weights.h5")
    network = small_gan(image_shape=(32, 32, 1)).generator
    before = network.get_weights()
    with pytest.raises(ValueError, match=r"(?s)does not fit generator.*" + ".*".join(lines)) as error:
        agt.load_weights(network, tmp_path / "x.weights.h5")
    order = [line.split()[1] for line in str(error.value).splitlines()[1:]]
    assert [name for name in order if name != "-"] == [layer.name for layer in network.layers if layer.weights]
    for a, b in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_layers_in_another_place_do_not_count_as_the_same(tmp_path):
    """A file of another depth whose shapes agree as far as they go, which Keras would load in part."""
    shallow, deep = (
        keras.Sequential([keras.Input((4,)), *(keras.layers.Dense(4) for _ in range(depth))]) for depth in (1, 2)
    )
    deep.save_weights(tmp_path / "deep.weights.h5")
    with pytest.raises(ValueError, match=r"BAD - \[\] ← dense"):
        agt.load_weights(shallow, tmp_path / "deep.weights.h5")


def test_weights_of_a_compiled_network_with_dropout_load(tmp_path):
    saved, other = (agt.Discriminator(image_shape=(64, 64, 3), architecture="hazelnut", width=4) for _ in range(2))
    saved.compile("adam", "mse")
    saved.fit(np.zeros((2, 64, 64, 3), np.float32), np.zeros((2, 1)), shuffle=False, verbose=0)
    saved.save_weights(tmp_path / "x.weights.h5")
    agt.load_weights(other, tmp_path / "x.weights.h5")
    for a, b in zip(saved.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("content", [b"no HDF5", b""])
def test_other_files_are_refused_by_name(tmp_path, content):
    (tmp_path / "w.h5").write_bytes(content)
    with pytest.raises(ValueError, match=r"w\.h5 is not an HDF5 file"):
        agt.load_weights(small_gan().generator, tmp_path / "w.h5")
    with pytest.raises(FileNotFoundError, match="No such weight file"):
        agt.load_weights(small_gan().generator, tmp_path / "missing.h5")
