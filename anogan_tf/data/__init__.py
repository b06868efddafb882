"""Images in: a folder, a list of files, a TFDS name, an `.npz` file or arrays become `Samples`, and these pipelines."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from anogan_tf import threads
from anogan_tf.data import cache as cached
from anogan_tf.data import images, inspection, pictures, pipeline, sources
from anogan_tf.data.images import Crop, Encoded, Source, content_hash
from anogan_tf.data.plan import Plan
from anogan_tf.data.samples import FEWEST, LISTED, Preprocessing, Samples, assign_parts, complete_shape

__all__ = [
    "Encoded",
    "Plan",
    "Splits",
    "content_hash",
    "labelled",
    "list_files",
    "load",
    "load_labelled",
    "read_files",
    "read_pictures",
]

DEFAULT_SHAPE = (64, 64, 3)
MEMORY_LIMIT = 2**30


@dataclasses.dataclass(frozen=True, repr=False)
class Splits:
    """The three disjoint parts of a source, as `tf.data` pipelines that are made when asked for.

    Attributes:
        train: (image, label) batches for `fit`, shuffled anew each epoch as a function of (seed, epoch).
        validation: Normal images for calibration, in a fixed order: dicts of batched `image`, `label`, `id`,
            `height`, `width`, and of files their `file` and `bits`.
        test: The same of normal and anomalous images, with `mask` where the source has masks; padded to the largest of
            the batch, `height` and `width` tell its own size. None if the source has no test part and no anomalous
            images.
        reference: The training images in a fixed order, as dicts, for `fit_reference`.
        samples: The manifest behind them.
        fingerprint: A hash of the images, before they were decoded, and of the split.
        preprocessing: How pictures become network inputs.
        plan: What the source was taken for, what of it is not used, and what one should know; `describe` is its text.

    Loaded with `patches=True`, `train` has random patches, an epoch as many of each image as would cover it once; the
    other parts have whole images, one a batch, each of its own size.
    """

    samples: Samples
    fingerprint: str
    preprocessing: Preprocessing
    batch_size: int
    seed: int
    plan: Plan | None = None

    def __repr__(self) -> str:
        counts = (f"{part}={len(self.samples.part(part))}" for part in ("train", "validation", "test"))
        shape, size = self.preprocessing.image_shape, self.batch_size
        return f"Splits({', '.join(counts)}, image_shape={shape}, batch_size={size})"

    def describe(self) -> str:
        """The parts, classes, counts and masks as a small table, and what is not used, as text."""
        return str(self.plan)

    def hashes(self, *parts: str) -> list[str]:
        """The SHA-256 of the content of each image of the parts named, a list; see `Samples.hashes`."""
        return self.samples.take(np.isin(self.samples.parts, parts)).hashes()

    def matches(self, fingerprint: str) -> bool:
        """Whether a fingerprint is that of these images and parts.

        Of images that are kept resized it may be that of earlier versions, which was of the resized ones.
        """
        earlier = dataclasses.replace(self.samples, contents=None)
        return self.fingerprint == fingerprint or (not earlier.are_files and earlier.fingerprint() == fingerprint)

    def check(self) -> None:
        """Raises a ValueError if there are too few normal images for what is learned and compared with."""
        count = np.count_nonzero(self.samples.parts == "train")
        if count < FEWEST:
            held_out = np.count_nonzero(self.samples.parts == "validation")
            raise ValueError(
                f"{FEWEST} normal images to train on are the fewest, and hundreds are better. {self.plan.source} has "
                f"{count}, besides {held_out} held out for calibration."
            )

    @functools.cached_property
    def train(self) -> tf.data.Dataset:
        return pipeline.training(self.samples.part("train"), self.preprocessing, self.batch_size, self.seed)

    @functools.cached_property
    def reference(self) -> tf.data.Dataset:
        return pipeline.ordered(self.samples.part("train"), self.preprocessing, self.batch_size)

    @functools.cached_property
    def validation(self) -> tf.data.Dataset:
        return pipeline.ordered(self.samples.part("validation"), self.preprocessing, self.batch_size)

    @functools.cached_property
    def test(self) -> tf.data.Dataset | Any:  # or None, which a checker would ask about at each use
        test = self.samples.part("test")
        return pipeline.ordered(test, self.preprocessing, self.batch_size) if len(test) else None


def load(
    source: str | os.PathLike | np.ndarray,
    labels: ArrayLike | None = None,
    *,
    image_shape: Sequence[int | None] | None = None,
    normal: str | int | Sequence[str | int] | None = None,
    batch_size: int = 32,
    crop: Crop = None,
    pattern: str | None = None,
    validation_fraction: float = 0.2,
    test_fraction: float = 0.2,
    group_by: str | Callable[[str], object] | ArrayLike | None = None,
    bits: int = 16,
    patches: bool = False,
    scale: float | None = None,
    seed: int = 0,
    cache: str | os.PathLike | Literal[False] = "auto",
    data_dir: str | os.PathLike | None = None,
    skip_unreadable: bool = False,
) -> Splits:
    """Loads images, and splits them into training, validation and test parts.

    Args:
        source: `"digits"`, a folder in one of the layouts of docs/data.md, a `.csv` list of files, an `.npz` file, a
            name of TensorFlow Datasets such as `"mnist"`, or an array `(n, height, width[, channels])` of bytes or of
            floats in [-1, 1].
        labels: For an array: the class of each image.
        image_shape: `(height, width, channels)` of the networks; None, for all or one of them, for the source's own, or
            sides of 64 for files and for patches, or for files as many pixels in the proportions of long pictures, and
            one channel where none has a colour, else three.
        normal: Name of the normal class, or several, or a pattern such as `"*"`; for attributes `"Eyeglasses=0"`. None
            for the source's habit: `good`, `ok` and the like in `train/`, 8 of the digits, the first class elsewhere,
            everything where there are no classes; class folders alone need it.
        batch_size: Images in a batch of any part.
        crop: Side, or (height, width), in pixels of the centre crop before resizing; `"square"` for the largest.
        pattern: Glob pattern of file names in a folder.
        validation_fraction: Share of the normal training images that is held out for calibration, where the source
            has no validation part. A fifth: from 95 images on that gives the 19 which α = 0.05 needs.
        test_fraction: Share of the normal images held out for testing, where the source has classes but no test part.
        group_by: What a split must not break: a regular expression on the relative paths of a folder whose first
            group names the group, a function of it, or for an array one name an image.
        bits: Significant bits of 16-bit files, such as 12.
        patches: Whether pictures are larger than the networks, and keep their own size: training takes random patches
            of `image_shape`, and `Patched` scores the whole. The split is of pictures, so no patch of one that is held
            out is trained on.
        scale: For patches: pictures are resized to their own size times this number; None for 1.
        seed: Seed of the split and of the training order.
        cache: `"memory"` to read files once; a folder to keep them there, decoded; False to read them anew each time;
            `"auto"` for memory up to 1 GiB. Sets of TensorFlow Datasets are always kept in memory or in a folder.
        data_dir: Folder of prepared TensorFlow Datasets.
        skip_unreadable: Whether to leave out files that cannot be read, and say which, rather than to refuse them.

    Returns:
        `Splits`.

    Raises:
        ValueError: For a source or a class that is not there, a folder in no layout that is understood, images that
            cannot be read or are smaller than a patch (they are listed), or too few to split.
        FileNotFoundError: For a folder or file that does not exist.

    Warns:
        UserWarning: If pictures look black for want of `bits`, or masks inverted.
    """
    normal = (normal,) if isinstance(normal, (str, int)) else normal
    normal = normal and tuple(str(name) for name in normal)
    crop = tuple(map(int, crop)) if isinstance(crop, (list, np.ndarray)) else crop
    image_shape = image_shape and tuple(image_shape)
    if scale is not None and not patches:
        raise ValueError(f"scale is for patches=True; other images become image_shape. Received: scale={scale}.")
    scale = (1.0 if scale is None else scale) if patches else None
    Preprocessing(
        complete_shape(image_shape, DEFAULT_SHAPE), crop, bits, scale
    )  # refuses what makes no sense before anything is read
    cache_folder = None if cache in ("memory", "auto", False) else cache
    is_array = not isinstance(source, (str, os.PathLike))
    is_list = not is_array and str(source).endswith(".csv")
    is_folder = not is_array and Path(source).is_dir() and not (Path(source) / "run.json").exists()
    for name, value, meant in (
        ("labels", labels, is_array),
        ("pattern", pattern, is_folder),
        ("group_by", group_by, is_array or is_folder or is_list),
        ("skip_unreadable", skip_unreadable or None, is_folder or is_list),
    ):
        if value is not None and not meant:
            raise ValueError(f"{name} has no meaning for this source. Received: {name}={value!r} for {source}.")
    plan = Plan("images" if is_array else str(source), "arrays" if is_array else "a data set with its own parts")
    if is_array:
        samples = sources.from_arrays(source, labels, normal=normal, groups=group_by)
    elif str(source) == "digits":
        samples = sources.from_digits(normal)
    elif str(source).endswith(".npz"):
        samples = sources.from_npz(source, normal)
    elif is_folder or (is_list and Path(source).is_file()):
        samples, plan = sources.from_folder(source, normal=normal, pattern=pattern, group_by=group_by)
    elif is_list or str(source).startswith((os.sep, ".")):
        sources.check_no_file(source)
        raise FileNotFoundError(f"No such {'file' if is_list else 'folder'}: {source}.")
    else:
        # patches are of the set's own images, which are cropped and scaled when they are read
        shape, cropped = ((None, None, image_shape and image_shape[-1]), None) if patches else (image_shape, crop)
        options = (str(source), normal, data_dir and str(data_dir), shape, cropped)
        read = functools.partial(sources.from_tfds, *options)
        samples = cached.keep(cache_folder, (*options, "with contents"), read)
        samples = dataclasses.replace(samples, sizes=None) if patches else samples
    if samples.are_files:
        height, width, channels = image_shape or (None, None, None)
        square = patches or height or width
        own_sides = DEFAULT_SHAPE[:2] if square else inspection.sides(samples, DEFAULT_SHAPE[0], crop)
        own_shape = (*own_sides, channels or inspection.channels(samples))
    else:
        own_shape = samples.images.shape[1:]
        own_shape = (*DEFAULT_SHAPE[:2], own_shape[-1]) if patches else own_shape
    preprocessing = Preprocessing(complete_shape(image_shape, own_shape), crop, bits, scale)
    if skip_unreadable:
        samples, plan = _readable(samples, preprocessing, plan)
    samples = samples.take(samples.parts != "").hashed()
    before = samples
    samples = assign_parts(samples, validation_fraction=validation_fraction, test_fraction=test_fraction, seed=seed)
    plan = plan.add(
        told=[*inspection.copies(samples), *_told_of_split(before, samples, validation_fraction, test_fraction)]
    )
    samples = samples.take(samples.parts != "")
    fingerprint = samples.fingerprint()
    if samples.are_files:
        files = samples.images[samples.rows]
        samples, told = inspection.sound_masks(samples)
        unused, told_of_files = inspection.left_in_files(files)
        samples = _kept(samples, preprocessing, cache, cache_folder)
        plan = plan.add(unused=unused, told=[*told, *told_of_files, *inspection.flat(samples)])
        _warn_of_dark_files(files, bits)
    elif patches:
        samples.shapes(preprocessing)  # refuses images smaller than a patch
    return Splits(samples, fingerprint, preprocessing, batch_size, seed, plan.of(samples))


def _readable(samples, preprocessing, plan):
    """The samples that can be read, and the plan with the others named."""
    problems = np.array(samples.problems(preprocessing), object)
    broken = [problem for problem in problems if problem]
    if not broken:
        return samples, plan
    listing = "; ".join(problem.rstrip(".") for problem in broken[:LISTED])
    more = f" and {len(broken) - LISTED} more" if len(broken) > LISTED else ""
    plan = plan.add(unused=[f"{len(broken)} images that cannot be read: {listing}{more}"])
    return samples.take(problems == None), plan  # noqa: E711 (an element each)


def _told_of_split(before, after, validation_fraction, test_fraction):
    """Sentences on images that went, and on parts that groups kept from what was asked for."""
    if left_out := np.count_nonzero(after.parts == ""):
        yield f"{left_out} images are left out, as others of their group, or equal ones, are in another part."
    if after.groups is None:
        return
    training = np.count_nonzero((before.parts == "train") & (after.parts != ""))
    for part, fraction in (("test", test_fraction), ("validation", validation_fraction)):
        chosen = (before.parts == "train") & (after.parts == part)
        training -= 0 if part == "test" else np.count_nonzero((before.parts == "train") & (after.parts == "test"))
        if chosen.any() and abs(np.count_nonzero(chosen) - fraction * training) > 0.5:
            yield (
                f"{np.count_nonzero(chosen)} of {training} normal images are held out for {part}, a fraction of "
                f"{np.count_nonzero(chosen) / training:.2g} where {fraction:g} was asked for: groups stay whole."
            )


def _kept(samples, preprocessing, cache, cache_folder):
    """The files' samples, decoded where `cache` says so; the files have all been read once, so that they can be."""
    if cache_folder is None and preprocessing.scale is not None:
        samples = samples.measured(preprocessing)
    if cache == "auto":
        cache = "memory" if samples.shapes(preprocessing).prod(axis=1).sum() <= MEMORY_LIMIT else False
    if cache:
        files = samples.images[samples.rows]
        versions = [(os.path.abspath(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        decode = functools.partial(samples.decoded, preprocessing)
        of_pixels = ("images", "rows", "sizes", "spreads")
        decoded = cached.keep(cache_folder, (versions, preprocessing), decode)
        return dataclasses.replace(samples, **{name: getattr(decoded, name) for name in of_pixels})
    return samples.measured(preprocessing)


def load_labelled(
    source: str | os.PathLike | np.ndarray,
    preprocessing: Preprocessing,
    *,
    normal: str | Sequence[str] | None = None,
    batch_size: int = 32,
    data_dir: str | os.PathLike | None = None,
    pattern: str | None = None,
    keep: Callable[[Samples], Samples] = lambda samples: samples,
) -> tf.data.Dataset | None:
    """All labelled images of a source for testing; of one with a training part, its test part, or None without one.

    Args:
        source: As in `load`.
        preprocessing: A `Preprocessing`, that of the training.
        normal: As in `load`; class folders that are called good, ok and the like need no name.
        batch_size: Images in a batch.
        data_dir: Folder of prepared TensorFlow Datasets.
        pattern: As in `load`.
        keep: A function of the `Samples` to those that are tested on.
    """
    samples = keep(labelled(source, preprocessing, normal=normal, data_dir=data_dir, pattern=pattern))
    return pipeline.ordered(samples, preprocessing, batch_size) if len(samples) else None


def labelled(
    source: str | os.PathLike | np.ndarray,
    preprocessing: Preprocessing,
    *,
    normal: str | Sequence[str] | None = None,
    data_dir: str | os.PathLike | None = None,
    pattern: str | None = None,
) -> Samples:
    """All labelled images of a source for testing, as `Samples`; the arguments are those of `load_labelled`."""
    normal = (normal,) if isinstance(normal, str) else normal and tuple(normal)
    if isinstance(source, (str, os.PathLike)) and sources.is_files(source):
        samples, _ = sources.from_folder(source, normal=normal, pattern=pattern, testing=True)
        return inspection.sound_masks(samples.part("test"))[0]
    options = {"image_shape": preprocessing.image_shape, "normal": normal, "data_dir": data_dir}
    options |= {"crop": preprocessing.crop, "bits": preprocessing.bits, "scale": preprocessing.scale}
    return load(source, patches=preprocessing.scale is not None, **options).samples.part("test")


def list_files(paths: Iterable[str | os.PathLike], pattern: str | None = None) -> list[str]:
    """Files, and all pictures in folders, each once, as text that first names it; a folder without pictures raises a
    ValueError.

    Masks, and what this package wrote, are no pictures; `pattern` is a glob pattern that those in folders must match.
    """
    paths = map(Path, paths)
    files = (file for path in paths for file in (sources.image_files_in(path, pattern) if path.is_dir() else [path]))
    by_place: dict[str, str] = {}
    for file in files:
        by_place.setdefault(os.path.abspath(file), os.fspath(file))
    return list(by_place.values())


def read_files(
    files: Iterable[Source], preprocessing: Preprocessing, batch_size: int, skipped: list[tuple[str, str]]
) -> Iterator[dict[str, Any]]:
    """Batches of pictures, dicts of `image`, `id`, `height`, `width`, `bits`, and `file`; of one where sizes differ.

    Args:
        files: See `list_files`; or pictures in memory, whose ids are their numbers, from 1, and of which only those
            that are `Encoded` have a `file`, themselves.
        preprocessing: A `Preprocessing`.
        batch_size: Files read at once, in parallel where that is faster.
        skipped: A list that gets a pair of id and reason for each file that cannot be read.

    Warns:
        UserWarning: At the end, if files have pages after the first, which are not read.
    """
    paged = []

    def read(numbered):
        number, file = numbered
        name = file if isinstance(file, str) else str(number)
        if isinstance(file, (str, Encoded)) and (images.header(file) or {"pages": 0})["pages"]:
            paged.append(str(file))
        try:
            return name, file, *preprocessing.read(file)
        except ValueError as error:
            return name, str(error).removeprefix(f"{file}: ")

    files = iter(enumerate(files, start=1))
    with ThreadPoolExecutor() as pool:
        while some := list(itertools.islice(files, batch_size)):
            found = threads.mapped(read, some, pool)
            skipped.extend((name, reason[0]) for name, *reason in found if len(reason) == 1)
            good = [row for row in found if len(row) == 4]
            one_size = preprocessing.scale is None
            for rows in [good] if one_size and good else [[row] for row in good]:
                names, read_of, arrays, sizes = zip(*rows, strict=True)
                heights, widths = np.transpose(sizes)
                bits = np.full(len(names), preprocessing.bits)
                columns = {"id": names, "height": heights, "width": widths, "bits": bits}
                if all(isinstance(file, (str, Encoded)) for file in read_of):
                    columns["file"] = read_of
                yield {"image": np.stack(arrays), **columns}
    if paged:
        warnings.warn(f"Of {len(paged)} files only the first page is read, such as {min(paged)}.", stacklevel=2)


def read_pictures(things: Any, preprocessing: Preprocessing, batch_size: int = 32) -> Iterator[dict[str, Any]]:
    """Batches, as of `read_files`, of all pictures in what `pictures.are_pictures` takes.

    Raises:
        ValueError: For a folder without pictures; after all others, for files that cannot be read.
    """
    each, skipped = [], []
    for thing in pictures.each(things):
        each += list_files([thing]) if isinstance(thing, (str, os.PathLike)) else [thing]
    yield from read_files(each, preprocessing, batch_size, skipped)
    if skipped:
        raise ValueError("Files that cannot be read: " + "; ".join(f"{name}: {reason}" for name, reason in skipped))


def _warn_of_dark_files(files, bits, looked_at=16):
    sixteen_bit = list(itertools.islice(filter(images.is_sixteen_bit, files), looked_at))
    brightest = max(map(images.largest_level, sixteen_bit), default=2**bits)
    if brightest < 2**bits / 8:
        warnings.warn(
            f"The 16-bit images use under an eighth of their range: the largest value in {len(sixteen_bit)} of them is "
            f"{brightest} of {2**bits - 1}, so they will look black. If they have fewer significant bits, say so with "
            f"bits={max(brightest.bit_length(), 8)} (--bits).",
            stacklevel=3,
        )
