"""Where images come from: folders, TensorFlow Datasets, `.npz` files, arrays, and the digits inside scikit-learn.

Each function gives `Samples` whose parts are what the source itself says: anomalous images are for testing, the other
images for training unless the source sets some of them apart.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from anogan_tf.data import layouts, records
from anogan_tf.data.images import Crop
from anogan_tf.data.listing import list_folder
from anogan_tf.data.plan import Plan
from anogan_tf.data.reading import need_normal
from anogan_tf.data.samples import Allocate, Preprocessing, Samples, complete_shape, fit_array, to_bytes

PART_NAMES = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}


def is_files(source: str | os.PathLike) -> bool:
    """Whether a source is a folder, or a list of files."""
    return Path(source).is_dir() or str(source).endswith(".csv")


def from_folder(
    folder: str | os.PathLike,
    *,
    normal: Sequence[str] | None = None,
    pattern: str | None = None,
    group_by: str | Callable[[str], object] | None = None,
    testing: bool = False,
) -> tuple[Samples, Plan]:
    """A folder in any of the layouts in `layouts`, or a list of files; also the `Plan` of it.

    Args:
        folder: Path.
        normal: Names of normal classes; None for what the layout says.
        pattern: Glob pattern of file names, such as `"*_front.png"`; None for all image files.
        group_by: Regular expression on ids (relative paths), whose first group (or whole match) names the group of
            an image; or a function of the id.
        testing: See `layouts.read`.
    """
    reading = layouts.read(folder, normal=normal, pattern=pattern, testing=testing)
    ids, labels, parts = np.array(reading.ids), np.array(reading.labels), np.array(reading.parts)
    groups = np.array(reading.groups) if reading.groups else None
    masks = [masks or None for masks in reading.masks]
    is_record = isinstance(reading.files[0], records.Record)
    samples = Samples(
        ids=ids,
        labels=labels,
        classes=np.array(reading.classes),
        parts=np.where((labels == 1) & (parts != "test"), "", parts),
        images=_objects(reading.files),
        files=None if is_record else _objects(reading.files),
        rows=np.arange(len(ids)),
        groups=groups if group_by is None else _groups(ids, group_by),
        masks=_objects(masks) if any(masks) else None,
    )
    return samples, Plan(str(folder), reading.layout, unused=reading.unused, told=reading.told)


def from_digits(normal: Sequence[str] | None) -> Samples:
    """The 1,797 handwritten digits of 8×8 pixels that come with scikit-learn; 8 is normal unless `normal` says so."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]  # (1797, 8, 8, 1)
    return from_arrays(images, digits.target, normal=normal or ("8",))


def from_arrays(
    images: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    normal: Sequence[str] | None = None,
    groups: ArrayLike | None = None,
) -> Samples:
    """Arrays `(n, height, width[, channels])` of bytes, or of floats in [-1, 1]; labels are classes, one an image.

    Without labels all images are normal; with them `normal` is class 0 unless it says otherwise.

    Raises:
        ValueError: For what are no such images, not as many labels, or a class that is not there.
    """
    images = _checked(images)
    normal = normal or ("0",)
    classes = _one_each(images, labels, normal[0], "label")
    labels = np.where(np.isin(classes, normal), 0, 1)
    parts = np.where(labels == 0, "train", "test")
    need_normal("The labels", parts, classes, labels, normal)
    _need_known(normal, np.unique(classes), "The labels")
    samples = _numbered(images, classes, labels, parts)
    return samples if groups is None else dataclasses.replace(samples, groups=_one_each(images, groups, "", "group"))


def opened_npz(path: str | os.PathLike) -> np.lib.npyio.NpzFile:
    """An `.npz` file, to be closed; a ValueError for what is none."""
    try:
        file = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no .npz file, such as np.savez writes.") from error
    if not isinstance(file, np.lib.npyio.NpzFile):
        raise ValueError(f"{path} is no .npz file, such as np.savez writes, but a single array.")
    return file


def from_npz(path: str | os.PathLike, normal: Sequence[str] | None) -> Samples:
    """An `.npz` file with `{train,val,test}_{images,labels}`, or only some of them.

    Raises:
        ValueError: Without `train_images`, without labels of the test, or as `from_arrays`.
    """
    with opened_npz(path) as file:
        names = [name for name in ("train", "val", "test") if f"{name}_images" in file.files]
        if "train" not in names:
            raise ValueError(
                f"{path} needs train_images, and may have {{val,test}}_images and _labels. It has {file.files}."
            )
        if "test" in names and "test_labels" not in file.files:
            raise ValueError(f"{path} has test_images but no test_labels, so nothing can be tested.")
        normal = normal or ("0",)
        images = {name: _checked(file[f"{name}_images"]) for name in names}
        labels = {name: file[f"{name}_labels"] if f"{name}_labels" in file.files else None for name in names}
    parts = np.repeat([PART_NAMES[name] for name in names], [len(images[name]) for name in names])
    classes = np.concatenate([_one_each(images[name], labels[name], normal[0], "label") for name in names])
    labels = np.where(np.isin(classes, normal), 0, 1)
    need_normal(path, parts, classes, labels, normal)
    _need_known(normal, np.unique(classes), path)
    parts = np.where((labels == 1) & (parts != "test"), "" if "test" in names else "test", parts)
    return _numbered(np.concatenate([images[name] for name in names]), classes, labels, parts)


def from_tfds(
    name: str,
    normal: Sequence[str] | None = None,
    data_dir: str | None = None,
    image_shape: Sequence[int | None] | None = None,
    crop: Crop = None,
    allocate: Allocate = np.empty,
) -> Samples:
    """A data set of TensorFlow Datasets, read once into an array of bytes of the networks' size.

    `normal` names classes, or attributes such as `Eyeglasses=0`; a set with neither is all normal. The `test` split
    is for testing, or `validation` where there is no other; a `validation` split beside it is for calibration. Of a
    set with one split the anomalous images are for testing.

    Raises:
        ValueError: For an unknown name, a set without images, or one that is neither prepared nor can be downloaded.
    """
    import tensorflow_datasets as tfds

    builder = _prepared(tfds, name, data_dir)
    features = builder.info.features
    preprocessing = Preprocessing(_shape(name, features, image_shape), crop)
    classify = _classifier(features, normal, name)
    names = [split for split in ("train", "validation", "test") if split in builder.info.splits]
    names = names or ["train", "test"]  # tfds.testing.mock_data knows no splits, and takes any
    last = names[-1] if len(names) > 1 else None
    datasets = [builder.as_dataset(split=split, shuffle_files=False) for split in names]
    count = sum(int(dataset.cardinality()) for dataset in datasets)
    images = allocate((count, *preprocessing.image_shape), np.uint8)
    columns = []
    for split, dataset in zip(names, datasets, strict=True):
        for number, example in enumerate(dataset.as_numpy_iterator()):
            label, class_name = classify(example)
            part = "test" if split == last or (label == 1 and not last) else split
            if label == 1 and part != "test":
                continue
            image, size = fit_array(example["image"], preprocessing)
            images[len(columns)] = to_bytes(image)
            content = hashlib.sha256(np.ascontiguousarray(example["image"])).hexdigest()
            columns.append((f"{split}/{number}", label, class_name, part, size, content))
    ids, labels, classes, parts, sizes, contents = map(np.array, zip(*columns, strict=True))
    need_normal(name, parts, classes, labels, normal)
    return Samples(ids, labels, classes, parts, images, np.arange(len(ids)), sizes, contents=contents)


def check_no_file(source: str | os.PathLike) -> None:
    """Raises a ValueError if what is no source is a file."""
    if Path(source).is_file():
        raise ValueError(f"This is a file, and no .npz or .csv: {source}.")


def _prepared(tfds, name, data_dir):
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except (tfds.core.registered.DatasetNotFoundError, ValueError) as error:
        check_no_file(name)
        raise ValueError(
            f"No such source: {name!r} is no folder ({Path(name).absolute()}), no .npz file, and no data set of "
            f"TensorFlow Datasets ({str(error).partition(chr(10))[0]})."
        ) from None
    try:
        builder.download_and_prepare()
    except Exception as error:
        raise ValueError(
            f"{name} is not prepared in {builder.data_dir} and could not be downloaded "
            f"({type(error).__name__}). Name a folder that holds it with data_dir (--data-dir), or prepare it once on "
            f"a machine with network: tfds build {name}."
        ) from error
    return builder


def _shape(name, features, image_shape):
    """The shape asked for, or else that of the data set's images, which have to be ones that can be used."""
    image = dict(features).get("image")
    if image is None or image.np_dtype != np.uint8 or image.shape[-1:] not in ((1,), (3,)):
        raise ValueError(f"{name} needs a feature `image` of bytes in 1 or 3 channels. Received: {image}.")
    shape = complete_shape(image_shape, image.shape)
    if None in shape:
        raise ValueError(
            f"The images of {name} are of different sizes: give image_shape (--size), such as (64, 64, 3); patches "
            "are taken of images of one size, or of a folder."
        )
    return shape


def _classifier(features, normal, name):
    """A function of a TFDS example to its label and class name."""
    if "label" in features:
        normal = normal or features["label"].names[:1]
        class_names = features["label"].names
        _need_known(normal, class_names, name)
        return lambda example: (int(class_names[example["label"]] not in normal), class_names[example["label"]])
    if "attributes" in features and normal:
        wanted = [condition.partition("=")[::2] for condition in normal]
        _need_known([attribute for attribute, _ in wanted], list(features["attributes"]), name)

        def by_attributes(example):
            abnormal = [a for a, value in wanted if int(example["attributes"][a]) != int(value or 1)]
            return int(bool(abnormal)), ",".join(abnormal)

        return by_attributes
    if normal:
        raise ValueError(
            f"{name} has neither classes nor attributes, so all of it is normal. Received: normal={normal}."
        )
    return lambda example: (0, "")


def image_files_in(folder: str | os.PathLike, pattern: str | None = None) -> list[Path]:
    """All pictures in a folder and below, in the order of their names; neither masks nor what this package wrote.

    Warns:
        UserWarning: If there are links to nothing, which are left out.
    """
    listing = list_folder(folder, pattern)
    listing.check(pattern)
    if listing.dangling:
        n, first = len(listing.dangling), listing.dangling[0]
        warnings.warn(f"Links to nothing are left out of {folder}: {n}, such as {first}.", stacklevel=2)
    return [listing.file(path) for path in listing.pictures]


def _groups(ids, group_by):
    if callable(group_by):
        return np.array([str(group_by(name)) for name in ids])
    try:
        matches = [re.search(group_by, name) for name in ids]
    except re.error as error:
        raise ValueError(f"group_by={group_by!r} (--group-by) is no regular expression: {error}.") from None
    if None in matches:
        raise ValueError(f"group_by={group_by!r} does not match {_listed([ids[matches.index(None)]])}.")
    found = [match[1] if match.re.groups else match[0] for match in matches]
    if None in found:
        raise ValueError(f"The first group of group_by={group_by!r} is not in {_listed([ids[found.index(None)]])}.")
    return np.array(found)


def _need_known(names, known, where):
    missing = [name for name in names if name not in known]
    if missing:
        raise ValueError(f"{where}: no class {_listed(missing)}. There are: {_listed(known)}.")


def _one_each(images, values, default, what):
    """One string for each image: its label, or its group."""
    values = np.full(len(images), default) if values is None else np.ravel(values).astype(str)
    if len(values) != len(images):
        raise ValueError(f"Each image has one {what}. Received: {len(images)} images and {len(values)} {what}s.")
    return values


def _numbered(images, classes, labels, parts):
    n = len(images)
    ids = np.array([str(number) for number in range(1, n + 1)])
    return Samples(ids, labels, classes, parts, images, rows=np.arange(n))


def _checked(given):
    images = np.asarray(given)
    if images.dtype.kind not in "biuf":
        raise ValueError(
            "What is no path is an array of images (n, height, width, 1 or 3). Files are named by their folder or a "
            "CSV list; a tf.data.Dataset goes to fit, calibrate and test as it is. Received: a "
            f"{type(given).__name__}."
        )
    images = images[..., None] if images.ndim == 3 else images
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(f"Images are (n, height, width, 1 or 3). Received: an array of shape {images.shape}.")
    if images.dtype == np.uint8:
        return images
    images = images.astype(np.float32)
    if not (np.isfinite(images).all() and -1.0 <= images.min() < 0.0 and images.max() <= 1.0):
        raise ValueError(
            "Images are bytes (uint8), or finite floats in [-1, 1], such as 2 * x - 1 for x in [0, 1]. Received: "
            f"values in [{images.min():g}, {images.max():g}]."
        )
    return images


def _objects(values):
    """An array of Python objects, whatever sequences they are."""
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _listed(names):
    return ", ".join(repr(str(name)) for name in names)
