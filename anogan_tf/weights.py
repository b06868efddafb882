"""Weight files of Keras 2 and Keras 3, told apart by their content."""

from __future__ import annotations

import itertools
import os
import tempfile
from pathlib import Path

import h5py
import keras

from anogan_tf import atomic

ABSENT = ("-", [])


def load_weights(network: keras.Model, path: str | os.PathLike) -> None:
    """Loads a weight file into a network, whatever the file is called.

    Args:
        network: A built Keras model, such as `gan.generator`.
        path: Keras 2 `.h5` (weights, or a whole model), or Keras 3 `.weights.h5`; told apart by content.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no weight file, refers to others, or its layers do not fit; expected and found shapes are
            listed by layer, and nothing is read before they fit.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No such weight file: {path}.")
    try:
        with h5py.File(path) as file:
            check_hdf5(file, path)
            legacy = "layer_names" in file.attrs or "model_weights" in file
            if not legacy and "layers" not in file:
                raise ValueError(f"{path} holds no Keras weights. It has: {sorted(file)}.")
            found = _legacy_layers(file.get("model_weights", file)) if legacy else _saved_layers(file)
    except (OSError, RuntimeError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} is not an HDF5 file of weights, or is damaged ({error}).") from error
    with tempfile.TemporaryDirectory() as folder:
        named = Path(folder) / ("legacy.h5" if legacy else "v3.weights.h5")
        named.symlink_to(path.resolve())
        if legacy:
            _check_order(network, found, path)
        else:
            own = Path(folder) / "own.weights.h5"
            network.save_weights(own)
            with h5py.File(own) as file:
                _check_places(network, _saved_layers(file), found, path)
        network.load_weights(named)


def save_keras2_weights(network: keras.Model, path: str | os.PathLike) -> None:
    """Writes a weights file as Keras 2 does, which `tf_keras` and old programs load into the same topology.

    Args:
        network: A flat Functional or Sequential Keras model, such as `gan.generator`.
        path: The file, `.h5`.
    """
    layers = [layer for layer in network.layers if not isinstance(layer, keras.layers.InputLayer)]
    with atomic.replacing(path) as partial, h5py.File(partial, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in layers]
        file.attrs["backend"] = b"tensorflow"
        file.attrs["keras_version"] = b"2.15.0"
        for layer in layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{weight.name}:0" for weight in layer.weights]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, weight in zip(names, layer.weights, strict=True):
                group[name] = weight.numpy()


def check_hdf5(file: h5py.File, path: str | os.PathLike) -> None:
    """Raises a ValueError if an HDF5 file has links, or arrays that lie in other files."""

    def elsewhere(name, item):
        return name if isinstance(item, h5py.Dataset) and (item.external or item.is_virtual) else None

    def linked(name, link):
        return None if isinstance(link, h5py.HardLink) else name

    name = file.visititems_links(linked) or file.visititems(elsewhere)  # stops at the first
    if name is not None:
        raise ValueError(f"{path}: {name} refers to something else, which a file of weights has no need to.")


def _legacy_layers(group):
    """Names and shapes of the layers with weights in a Keras 2 file, in order."""
    layers = []
    for name in group.attrs["layer_names"]:
        shapes = [group[name][weight].shape for weight in group[name].attrs["weight_names"]]
        if shapes:
            layers.append((name if isinstance(name, str) else name.decode(), shapes))
    return layers


def _saved_layers(file):
    """Names and shapes of the layers with weights in a Keras 3 file, by their place, such as `layers/conv2d_1`."""
    layers = {}

    def visit(place, item):
        if isinstance(item, h5py.Dataset) and "seed_generator" not in place:
            holder = item.parent.attrs.get("name", place)
            layers.setdefault(place.rpartition("/vars/")[0], (holder, []))[1].append(item.shape)

    file["layers"].visititems(visit)
    return layers


def _check_order(network, found, path):
    """Compares shapes layer by layer, in order, as Keras matches a Keras 2 file."""
    expected = [(layer.name, [tuple(w.shape) for w in layer.weights]) for layer in network.layers if layer.weights]
    _check_shapes(network, itertools.zip_longest(expected, found, fillvalue=ABSENT), path)


def _check_places(network, expected, found, path):
    """Compares shapes layer by layer, by their places, as Keras matches a Keras 3 file."""
    order = {layer.name: number for number, layer in enumerate(network.layers)}
    places = sorted(expected, key=lambda place: order.get(expected[place][0], len(order)))
    places += [place for place in found if place not in expected]
    _check_shapes(network, [(expected.get(place, ABSENT), found.get(place, ABSENT)) for place in places], path)


def _check_shapes(network, pairs, path):
    pairs = list(pairs)
    if any(expected[1] != found[1] for expected, found in pairs):
        lines = [f"  {'ok ' if e[1] == f[1] else 'BAD'} {e[0]} {e[1]} ← {f[0]} {f[1]}" for e, f in pairs]
        raise ValueError(f"{path} does not fit {network.name}; expected ← found, layer by layer:\n" + "\n".join(lines))
