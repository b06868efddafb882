"""Runs: folders that hold all that scoring needs."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import keras

import anogan_tf
from anogan_tf import atomic, data, pretrained, published, report, stages, thresholds
from anogan_tf.anogan import AnoGAN
from anogan_tf.callbacks import weights_size
from anogan_tf.data.samples import Preprocessing
from anogan_tf.fanogan import FAnoGAN
from anogan_tf.gan import DCGAN, WGANGP
from anogan_tf.joint import JointNeighbours
from anogan_tf.neighbours import LocalNeighbours
from anogan_tf.networks import Discriminator, Encoder, Generator
from anogan_tf.patches import Patched
from anogan_tf.scoring import Calibration, Scorer, unwrapped
from anogan_tf.weights import check_hdf5, load_weights

FORMAT = 2
OURS = (
    "format", "complete", "versions", "method", "around", "scorer", "gan", "encoder", "features", "reference",
    "calibration",
)  # fmt: skip
GANS = {"dcgan": DCGAN, "wgan-gp": WGANGP}
SCORERS = {cls.method: cls for cls in (AnoGAN, FAnoGAN)}
WRAPPERS = {cls.method: cls for cls in (Patched, LocalNeighbours, JointNeighbours)}
FILES = ("generator", "discriminator", "transformation_head", "encoder", "features", "reference")  # of weights
FEATURES = "features.json"  # the network of pretrained features, without its weights


def save_run(path: str | os.PathLike, scorer: Scorer, **info: Any) -> None:
    """Saves a scorer into a folder, from which `load_run` makes an equal one; nothing of an older run is left.

    Args:
        path: The folder; made where it is missing.
        scorer: An `AnoGAN` or a `FAnoGAN`, or a `LocalNeighbours`, a `JointNeighbours` or a `Patched` of one.
        **info: What else `run.json` shall tell, as JSON can hold it; what it told of a scorer that was loaded, it tells
            again. `preprocessing`, the fields of the `data.Preprocessing` of `splits.preprocessing`, where pictures are
            cropped or have other than 8 or 16 bits.
    """
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    gan, encoder, features = scorer.gan, scorer.encoder, _features_of(scorer)
    networks = _networks(gan, encoder) | ({"features": features.network} if features else {})
    for name, network in networks.items():
        with atomic.replacing(path / f"{name}.weights.h5", size=weights_size(network)) as partial:
            network.save_weights(partial)
    if scorer.reference is not None:
        with atomic.replacing(path / "reference.weights.h5") as partial, h5py.File(partial, "w") as file:
            for name, array in scorer.reference.arrays.items():
                file[name] = array
    if features:
        report.write_json(path / FEATURES, features.config)
    run = {
        "format": FORMAT,
        "complete": True,
        "versions": report.versions(),
        "method": unwrapped(scorer).method,
        "around": [wrapper.method for wrapper in _wrappers(scorer)],
        "scorer": scorer.settings,
        "gan": _gan_settings(gan),
        "encoder": encoder and _encoder_settings(encoder),
        "features": features and {**features.source, "sha256": _sums(path)},
        "reference": {name: getattr(scorer.reference, name, None) for name in ("fingerprint", "in_words", "parts")},
        "calibration": scorer.calibration and vars(scorer.calibration),
        **scorer.info,
        **info,
    }
    report.write_json(path / "run.json", run)
    for name in set(FILES) - set(networks) - ({"reference"} if scorer.reference is not None else set()):
        (path / f"{name}.weights.h5").unlink(missing_ok=True)
    if not features:
        (path / FEATURES).unlink(missing_ok=True)


@stages.stage("Starting")
def load_run(
    path: str | os.PathLike,
    *,
    generator: keras.Model | None = None,
    discriminator: keras.Model | None = None,
    encoder: keras.Model | None = None,
    chunk: int | None = None,
) -> Scorer:
    """Loads a run that `save_run` or `anogan-tf train` wrote, or a published one.

    Args:
        path: The folder, or the name of a published run such as `"mnist-8"`, see `published.find`.
        generator: Your own network, built as when the run was saved, for a run that says it needs it.
        discriminator: Likewise.
        encoder: Likewise.
        chunk: Images scored at once, in place of the run's own number; scores differ by rounding then.

    Returns:
        The scorer, its reference fitted and its thresholds set as they were.

    Raises:
        FileNotFoundError: If there is no run, or a published one lacks a file.
        ValueError: If the run is unfinished, of another format, or does not fit the networks; if a file of a published
            one is not the one that was published.

    Warns:
        UserWarning: If a newer version wrote the run.
    """
    path = published.find(path)
    run = read_run(path)
    newer = _newer(run)
    check_complete(path, run)
    try:
        scorer = _load_run(path, run, generator, discriminator, encoder, chunk)
    except (TypeError, KeyError, AttributeError) as error:
        if newer:
            raise ValueError(f"{path} was {newer}, which does not know what it holds ({error}).") from error
        raise ValueError(f"{path / 'run.json'} is damaged ({type(error).__name__}: {error}).") from error
    if newer:
        warnings.warn(f"{path} was {newer}: what is new in the run is not heeded.", stacklevel=2)
    return scorer


def _newer(run):
    """`written by …, this is …` of a run that a newer version wrote, else None."""
    versions, here = run.get("versions"), anogan_tf.__version__
    there = str(versions.get("anogan-tf")) if isinstance(versions, dict) else ""
    numbers = [tuple(map(int, re.findall(r"\d+", version))) for version in (there, here)]
    return f"written by anogan-tf {there}, this is {here}" if numbers[0] > numbers[1] else None


def check_complete(path: str | os.PathLike, run: Mapping[str, Any]) -> None:
    """Raises a ValueError if the training of a run, by its description, has not finished."""
    if not run.get("complete"):
        raise ValueError(f"The training of {path} has not finished: run the same `anogan-tf train` command again.")


def _load_run(path, run, generator, discriminator, encoder, chunk):
    with _dtype_policy(run["gan"].pop("dtype_policy", keras.config.dtype_policy())):
        gan = _gan(path, run["gan"], generator, discriminator)
        encoder = _encoder(path, run["encoder"], gan, encoder)
    for name, network in _networks(gan, encoder).items():
        load_weights(network, _inside(path, f"{name}.weights.h5"))
    settings = run["scorer"] | ({} if chunk is None else {"chunk": chunk})
    if isinstance(settings.get("learning_rate"), dict):
        settings["learning_rate"] = _of_keras(settings["learning_rate"], keras.optimizers.schedules)
    around = [WRAPPERS[name] for name in run.get("around", _around_before(settings))]
    own = {cls: {name: settings.pop(name) for name in cls.OWN} for cls in around}
    if run.get("features"):
        comparing = next((cls for cls in around if issubclass(cls, LocalNeighbours)), LocalNeighbours)
        own[comparing]["features"] = _features(path, run["features"])
    scorer = SCORERS[run["method"]](gan, encoder=encoder, **settings)
    for cls in around:
        scorer = cls(scorer, **own[cls])
    scorer.info = {name: value for name, value in run.items() if name not in OURS}
    if (path / "reference.weights.h5").exists():
        scorer.reference = scorer.reference_type.from_arrays(_read_arrays(_inside(path, "reference.weights.h5")))
        scorer.reference.fingerprint = run.get("reference", {}).get("fingerprint") or scorer.fingerprint
    if run["calibration"]:
        calibration = calibration_of(run)
        known = calibration.fingerprint or scorer.fingerprint  # older runs did not keep it
        scorer.calibration = dataclasses.replace(calibration, fingerprint=known)
    return scorer


def calibration_of(run: Mapping[str, Any]) -> Calibration:
    """The calibration that the description of a run holds."""
    stored = run["calibration"]
    values = {name: tuple(stored.get(name, ())) for name in ("scores", "peaks")}
    attained = thresholds.level(values["scores"], stored["alpha"])[1]  # older runs have α for it
    return Calibration(**stored | values | {"attained_alpha": attained})


def _features_of(scorer):
    """The pretrained features of a scorer, or of one inside; None for none."""
    return next((each.features for each in _wrappers(scorer) if isinstance(each, LocalNeighbours)), None)


def _features(path, source):
    """The pretrained features that lie in a run, once their files are those that it was saved with."""
    saved, found = source.pop("sha256"), _sums(path)
    if found != saved:
        raise ValueError(
            f"The network of features in {path} is not the one that the run was saved with: the SHA-256 of "
            f"{' and '.join(found)} are not those in run.json."
        )
    network = pretrained.of_config(json.loads((path / FEATURES).read_text()))
    load_weights(network, path / "features.weights.h5")
    return pretrained.NetworkFeatures(network, source)


def _sums(path):
    """The SHA-256 of the files of pretrained features, by name."""
    files = (_inside(path, name) for name in (FEATURES, "features.weights.h5"))
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@contextlib.contextmanager
def _dtype_policy(policy):
    """Makes networks in the precision that they were saved in, whatever Keras' own is now."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _around_before(settings: dict[str, Any]) -> list[str]:
    """The wrappers of a run of a version that did not name them, by the settings that only they have."""
    return [cls.method for cls in (Patched, LocalNeighbours) if settings.keys() & set(cls.OWN)]


def _wrappers(scorer: Scorer) -> list[Any]:
    """The wrappers around the scorer that holds the networks, from the inside."""
    return [] if scorer is unwrapped(scorer) else [*_wrappers(scorer.scorer), scorer]


def read_pictures(
    run: str | os.PathLike, paths: str | os.PathLike | Iterable[str | os.PathLike], batch_size: int = 32
) -> Iterator[dict[str, Any]]:
    """Reads image files as the scorer of a run takes them: cropped, resized and scaled as in its training.

    Args:
        run: As for `load_run`.
        paths: A file, a folder, or several of them.
        batch_size: Pictures read at once, in parallel.

    Returns:
        Batches, dicts with `image`, `id` and what else `score`, `score_batches` and `calibrate` take.

    Raises:
        ValueError: For a folder without pictures; after all others, for files that cannot be read.

    Example:
        >>> scorer = load_run("runs/parts")
        >>> scores = scorer.score(read_pictures("runs/parts", ["photo.png", "more_photos"]))["anomaly_score"]
    """
    paths = paths if isinstance(paths, (str, os.PathLike)) else list(paths)
    return data.read_pictures(paths, preprocessing_of(read_run(run)), batch_size)


def preprocessing_of(description: dict) -> Preprocessing:
    """How a run's pictures become what it scores; a run saved from Python may tell nothing but its networks' size."""
    height, width, channels = description["gan"]["image_shape"]
    factor = description["scorer"].get("factor", 1)
    in_tiles = Patched.method in description.get("around", _around_before(description["scorer"]))
    shape = height * factor, width * factor, channels
    told = description.get("preprocessing") or {"image_shape": shape, "scale": 1.0 if in_tiles else None}
    return Preprocessing.of(told)


def read_run(path: str | os.PathLike) -> dict[str, Any]:
    """The content of the `run.json` of a run, which `path` names as for `load_run`.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is damaged, or of another format.
    """
    file = published.find(path) / "run.json"
    try:
        run = json.loads(file.read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is damaged ({error}).") from error
    if not isinstance(run, dict):
        raise ValueError(f"{file} is damaged (it holds no object).")
    if run.get("format") != FORMAT:
        raise ValueError(
            f"{path} is a run of format {run.get('format')}, written by anogan-tf "
            f"{run.get('versions', {}).get('anogan-tf')}; this version reads format {FORMAT}. Install the version that "
            "wrote it, or train again."
        )
    return run


def files_of(path: str | os.PathLike) -> list[Path]:
    """The files that a run, which `path` names as for `load_run`, is loaded from: `run.json`, and its weights."""
    names = ("run.json", FEATURES, *(f"{name}.weights.h5" for name in FILES))
    return list(filter(Path.is_file, map(published.find(path).joinpath, names)))


def fingerprint(path: str | os.PathLike) -> str:
    """A hash of all that the scores and decisions of a run come of: of its `files_of`."""
    digest = hashlib.sha256()
    for file in files_of(path):
        digest.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _read_arrays(path):
    """What a score learned, from its file, as a dict of arrays."""
    arrays = {}
    with h5py.File(path) as file:
        check_hdf5(file, path)

        def read(name, item):
            if isinstance(item, h5py.Dataset):
                if item.dtype.kind != "f" or item.nbytes > item.id.get_storage_size():
                    raise ValueError(f"{path}: {name} is not an array of floats that the file holds in full.")
                arrays[name] = item[()]

        file.visititems(read)
    return arrays


def _inside(folder, name):
    """A file of a run, or a ValueError for a link out of its folder."""
    if not (folder / name).resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{folder / name} is a link to a file outside of the run.")
    return folder / name


def _of_keras(config, module):
    """What `keras.saving.serialize_keras_object` made of an object of a module of Keras, and of no other class."""
    classes = {name: value for name, value in vars(module).items() if isinstance(value, type)}
    if config["class_name"] not in classes:
        raise ValueError(f"{module.__name__} has no {config['class_name']}.")
    return classes[config["class_name"]].from_config(config["config"])


def _networks(gan, encoder):
    networks = {
        "generator": gan.generator,
        "discriminator": gan.discriminator,
        "transformation_head": gan.transformation_head,
        "encoder": encoder,
    }
    return {name: network for name, network in networks.items() if network is not None}


def _name_of(instance, classes):
    return next(name for name, cls in classes.items() if isinstance(instance, cls))


def _gan_settings(gan):
    settings = {
        "kind": _name_of(gan, GANS),
        "dtype_policy": gan.generator.dtype_policy.name,
        "prior": gan.prior,
        "self_supervision": gan.self_supervision,
        "augment": gan.augment,
        "seed": gan.seed,
        "image_shape": gan.image_shape,
        "latent_dim": gan.latent_dim,
    }
    if not (isinstance(gan.generator, Generator) and isinstance(gan.discriminator, Discriminator)):
        return settings | {"own_networks": True}
    own = _architecture(gan.generator) != _architecture(gan.discriminator)
    return settings | {"own_networks": own, **_architecture(gan.generator)}


def _encoder_settings(encoder):
    if not isinstance(encoder, Encoder):
        return {"own_networks": True}
    return {"own_networks": False, **_architecture(encoder)}


def _architecture(network):
    config = network.get_config()
    return {name: config[name] for name in ("architecture", "width", "kernel_initializer")}


def _with_initializer(settings):
    initializer = settings.get("kernel_initializer")
    if isinstance(initializer, dict):
        settings["kernel_initializer"] = _of_keras(initializer, keras.initializers)
    return settings


def _gan(path, settings, generator, discriminator):
    name = settings.pop("kind")
    if settings.pop("own_networks") and generator is None:
        raise ValueError(
            f"{path} was trained with networks of your own: give them, load_run(path, generator=…, discriminator=…)."
        )
    gan = GANS[name](**_with_initializer(settings), generator=generator, discriminator=discriminator)
    expected = tuple(settings["image_shape"]), settings["latent_dim"]
    if (gan.image_shape, gan.latent_dim) != expected:
        raise ValueError(
            f"{path} has image_shape, latent_dim = {expected}. Received: networks of {gan.image_shape, gan.latent_dim}."
        )
    return gan


def _encoder(path, settings, gan, encoder):
    if settings is None or encoder is not None:
        return encoder
    if settings.pop("own_networks"):
        raise ValueError(f"{path} was trained with an encoder of your own: give it, load_run(path, encoder=…).")
    return Encoder(gan.image_shape, gan.latent_dim, **_with_initializer(settings))
