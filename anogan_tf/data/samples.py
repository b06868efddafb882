"""A manifest of images: where each one is, what it is called, whether it is normal, and what it is used for."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from anogan_tf.data import images as image_files
from anogan_tf.data.images import Crop
from anogan_tf.folds import linked

Allocate: TypeAlias = Callable[..., np.ndarray]  # of a shape and a dtype to an array to fill
Use: TypeAlias = Callable[[int, np.ndarray, tuple[int, int]], None]  # of an index, an image and its own size

LISTED = 10  # of images that cannot be read
FEWEST = 2  # images to train on, as a reference takes
MOST_GROUPS = 2000  # of which all sums are looked at
MOST_COPIES = 1.5  # times as many images as are wanted, from which on copies are drawn together in place of images


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes a network's input; the same for training, testing and scoring.

    Args:
        image_shape: `(height, width, channels)`.
        crop: Centre crop before resizing, see `images.read`.
        bits: Significant bits of 16-bit files.
        scale: None to resize the whole picture to `image_shape`. A number for networks that see patches of
            `image_shape`: then the picture keeps its own size, times this number.
    """

    image_shape: tuple[int, int, int]
    crop: Crop = None
    bits: int = 16
    scale: float | None = None

    def __post_init__(self) -> None:
        shape, crop, bits = self.image_shape, self.crop, self.bits
        if len(shape) != 3 or min(shape) < 1 or shape[2] not in (1, 3):
            raise ValueError(f"image_shape is (height, width, 1 or 3). Received: image_shape={shape}.")
        sides = crop if isinstance(crop, tuple) else (crop, crop)
        sound = len(sides) == 2 and all(isinstance(side, int) and side > 0 for side in sides)
        if crop not in (None, "square") and not sound:
            raise ValueError(f'crop is pixels, (height, width) in pixels, or "square". Received: crop={crop!r}.')
        if not 1 <= bits <= 16:
            raise ValueError(f"bits is from 1 to 16. Received: bits={bits}.")
        if self.scale is not None and not self.scale > 0:
            raise ValueError(f"scale is a number above 0. Received: scale={self.scale}.")

    @classmethod
    def of(cls, told: dict[str, Any]) -> Preprocessing:
        """That whose fields a `run.json` tells, which has lists for tuples, and may be older than some of them."""
        crop = told.get("crop")
        crop = tuple(crop) if isinstance(crop, list) else crop
        return cls(tuple(told["image_shape"]), crop, told.get("bits", 16), told.get("scale"))

    @property
    def common_shape(self) -> tuple[int | None, int | None, int]:
        """The shape of all images once read, None for sides that differ."""
        return self.image_shape if self.scale is None else (None, None, self.image_shape[-1])

    def shape_of(self, size: Sequence[int], name: object = "the images") -> tuple[int, int, int]:
        """The shape that a picture of `(height, width)` in its own pixels, after cropping, is read in.

        Raises:
            ValueError: If patches do not fit into it.
        """
        if self.scale is None:
            return self.image_shape
        height, width = (round(side * self.scale) for side in size)
        image_files.check_patch((height, width), self.image_shape, name)
        return height, width, self.image_shape[-1]

    def read(self, path: image_files.Source) -> tuple[np.ndarray, tuple[int, int]]:
        """The picture as float32 in [-1, 1], and its `(height, width)` in its own pixels."""
        picture = image_files.open_cropped(path, crop=self.crop, bits=self.bits)
        size = picture[0].size[::-1]
        return image_files.fit(picture, self.shape_of(size, image_files.name_of(path))), size


@dataclasses.dataclass(frozen=True)
class Samples:
    """Images with all that travels with them, in a fixed order.

    Args:
        ids: A name for each, `(n,)`.
        labels: 0 normal, 1 anomalous, `(n,)`.
        classes: The class each belongs to, in the source's words, `(n,)`.
        parts: What each is used for: `"train"`, `"validation"`, `"test"`, or `""` for nothing, `(n,)`.
        images: Files, or an array `(N, height, width, channels)` of bytes or of floats in [-1, 1]; of images of
            different sizes all their elements, one after the other, `(elements,)`. It is shared by all samples taken
            from these, never copied.
        rows: Where each sample is in `images`, or begins there, `(n,)`.
        sizes: `(height, width)` in the pictures' own pixels after cropping, `(n, 2)`, of files that were measured and
            of an array that already is cropped and resized; None where files or the array tell.
        groups: What a split must not break, such as the images of one patient, `(n,)`; None for each on its own.
        masks: A tuple of mask files or None for each, `(n,)`; None where the source has no masks.
        files: The file of each, `(n,)`; None where the source is no files.
        contents: The SHA-256 of each as the source has it, whatever size it is read in, `(n,)`; None where it was not
            asked for yet, see `hashed`.
        spreads: The largest less the smallest value of each, in levels of 255, `(n,)`; None where none was read yet.
    """

    ids: np.ndarray
    labels: np.ndarray
    classes: np.ndarray
    parts: np.ndarray
    images: np.ndarray
    rows: np.ndarray
    sizes: np.ndarray | None = None
    groups: np.ndarray | None = None
    masks: np.ndarray | None = None
    files: np.ndarray | None = None
    contents: np.ndarray | None = None
    spreads: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def are_files(self) -> bool:
        return self.images.dtype == object

    def take(self, indices: np.ndarray) -> Samples:
        """The samples at `indices` (or where a boolean array is True), in that order."""
        columns = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        taken = {n: c[indices] for n, c in columns.items() if c is not None and n != "images"}
        return dataclasses.replace(self, **taken)

    def part(self, name: str) -> Samples:
        """The samples used for `name`."""
        return self.take(self.parts == name)

    def read(self, index: int, preprocessing: Preprocessing) -> tuple[np.ndarray, tuple[int, int]]:
        """The image at `index` as float32 in [-1, 1], and its `(height, width)` in its own pixels."""
        image, size = self._stored(index, preprocessing)
        return _to_floats(image), size

    def read_patch(self, index: int, place: Sequence[float], preprocessing: Preprocessing) -> np.ndarray:
        """A patch of the image at `index`, float32 in [-1, 1].

        Args:
            index: Which image.
            place: Where its corner lies between the first and the last possible row and column, two numbers in [0, 1).
            preprocessing: A `Preprocessing` with a scale.
        """
        image, _ = self._stored(index, preprocessing)
        height, width, _ = preprocessing.image_shape
        top, left = (int(float(p) * (n - m + 1)) for p, n, m in zip(place, image.shape, (height, width), strict=False))
        return _to_floats(image[top : top + height, left : left + width])

    def shapes(self, preprocessing: Preprocessing) -> np.ndarray:
        """The shape of each image once read, `(n, 3)`; files of which patches are taken have to be measured."""
        if preprocessing.scale is None:
            return np.tile(preprocessing.image_shape, (len(self), 1))
        if self.sizes is not None:
            return np.array([preprocessing.shape_of(size) for size in self.sizes])
        left, upper, right, lower = image_files.crop_box(self.images.shape[1:3], preprocessing.crop)
        return np.tile(preprocessing.shape_of((lower - upper, right - left)), (len(self), 1))

    def measured(self, preprocessing: Preprocessing) -> Samples:
        """The same files with their sizes, for which each is read, and refused if it cannot be, see `check`."""
        if self.sizes is not None:
            return self
        sizes = np.empty((len(self), 2), int)

        def keep(index, _, size):
            sizes[index] = size

        spreads = self.check(preprocessing, keep)
        return dataclasses.replace(self, sizes=sizes, spreads=spreads)

    def _stored(self, index, preprocessing):
        """The image at `index` of its final shape, as bytes or as floats, and its size in its own pixels."""
        row = self.rows[index]
        if self.are_files:
            return preprocessing.read(self.images[row])
        if self.sizes is None:
            return fit_array(self.images[row], preprocessing)
        size = self.sizes[index]
        if self.images.ndim > 1:
            return self.images[row], size
        shape = preprocessing.shape_of(size)
        return self.images[row : row + math.prod(shape)].reshape(shape), size

    def mask(self, index: int, preprocessing: Preprocessing) -> np.ndarray | None:
        """The mask at `index`, `(height, width)` of the picture after cropping; None where it is not known.

        That of a normal image without one is all False, which None stands for too.
        """
        paths = self.masks[index]
        if paths is None:
            return None
        return image_files.read_mask(*paths, size=image_files.size_of(self.files[index]), crop=preprocessing.crop)

    @property
    def have_masks(self) -> np.ndarray:
        """Whether it is known of each where it is anomalous: by its mask, or as it is normal, `(n,)`."""
        return (self.masks != None) | (self.labels == 0)  # noqa: E711 (an element each)

    def decoded(self, preprocessing: Preprocessing, allocate: Allocate = np.empty) -> Samples:
        """The same samples with their images read into one array, of bytes, or of floats where files have 16 bits.

        Args:
            preprocessing: A `Preprocessing`.
            allocate: Function of shape and dtype to the array that is filled, such as one on disk.

        Raises:
            ValueError: If images cannot be read; it lists them all.
        """
        exact = self.are_files and any(map(image_files.is_sixteen_bit, self.images[self.rows]))
        dtype = np.float32 if exact else np.uint8
        if preprocessing.scale is not None:
            return self._decoded_flat(preprocessing, allocate, dtype)
        images = allocate((len(self), *preprocessing.image_shape), dtype)
        sizes = np.empty((len(self), 2), int)

        def keep(index, image, size):
            images[index], sizes[index] = image if exact else to_bytes(image), size

        spreads = self.check(preprocessing, keep)
        return dataclasses.replace(self, images=images, rows=np.arange(len(self)), sizes=sizes, spreads=spreads)

    def _decoded_flat(self, preprocessing, allocate, dtype):
        """As `decoded`, of images of different sizes; one pass over the files finds these, another decodes."""
        samples = self.measured(preprocessing)
        elements = samples.shapes(preprocessing).prod(axis=1)
        ends = np.cumsum(elements)
        images = allocate((int(ends[-1]),), dtype)

        def keep(index, image, _):
            values = image if dtype == np.float32 else to_bytes(image)
            images[ends[index] - elements[index] : ends[index]] = values.ravel()

        samples.check(preprocessing, keep)
        return dataclasses.replace(samples, images=images, rows=ends - elements)

    def check(self, preprocessing: Preprocessing, use: Use = lambda *_: None) -> np.ndarray:
        """Reads every image, in parallel, hands index, image and size to `use`, and returns the images' spreads.

        Raises:
            ValueError: If some cannot be read; it lists the first of them.
        """
        spreads = np.empty(len(self), np.float32)

        def keep(index, image, size):
            spreads[index] = spread(image)
            use(index, image, size)

        problems = [problem for problem in self.problems(preprocessing, keep) if problem]
        if problems:
            listing = "\n  ".join(problems[:LISTED])
            more = f"\n  and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
            advice = "Take them out of the source, or leave them out with skip_unreadable=True (--skip-unreadable)."
            if len(problems) == len(self):
                advice = "None is left: name another source, or change what none of them fits."
            raise ValueError(f"{len(problems)} of {len(self)} images cannot be used:\n  {listing}{more}\n{advice}")
        return spreads

    def problems(self, preprocessing: Preprocessing, use: Use = lambda *_: None) -> list[str | None]:
        """What is wrong with each image, None for those that can be read; these are handed to `use` as in `check`."""

        def problem(index):
            try:
                use(index, *self.read(index, preprocessing))
            except ValueError as error:
                return str(error)

        with ThreadPoolExecutor() as pool:
            return list(pool.map(problem, range(len(self))))

    def hashed(self) -> Samples:
        """The same samples with their `contents`; of files that is the hash of their bytes."""
        if self.contents is not None:
            return self

        def content(row):
            image = self.images[row]
            return image_files.content_hash(image) if self.are_files else hashlib.sha256(image.tobytes()).hexdigest()

        with ThreadPoolExecutor() as pool:
            return dataclasses.replace(self, contents=np.array(list(pool.map(content, self.rows))))

    def hashes(self) -> list[str]:
        """The SHA-256 of the content of each image, a list; equal for equal files, wherever they lie."""
        return self.hashed().contents.tolist()

    def without(self, hashes: Iterable[str]) -> Samples:
        """The samples whose content is none of `hashes`."""
        return self.take(~np.isin(self.hashes(), list(hashes)))

    def fingerprint(self) -> str:
        """A hash of names, labels, parts and contents, which tells whether the data changed."""
        digest = hashlib.sha256()
        for content, *columns in zip(self.hashes(), self.ids, self.labels, self.parts, strict=True):
            digest.update(repr(columns).encode() + bytes.fromhex(content))
        return digest.hexdigest()


def complete_shape(image_shape: Sequence[int | None] | None, own: Sequence[int | None]) -> tuple[int | None, ...]:
    """`image_shape`, with the source's `own` where it is None, or has None."""
    if image_shape is None:
        return tuple(own)
    if None not in image_shape:
        return tuple(image_shape)
    return tuple(o if n is None else n for n, o in zip(image_shape, own, strict=True))


def fit_array(image: np.ndarray, preprocessing: Preprocessing) -> tuple[np.ndarray, tuple[int, int]]:
    """An array of bytes, or of floats in [-1, 1], cropped and resized as `images.read` does, and its own size.

    What already is of the right shape is not converted.
    """
    left, upper, right, lower = image_files.crop_box(image.shape[:2], preprocessing.crop)
    image = image[upper:lower, left:right]
    size = image.shape[:2]
    shape = preprocessing.shape_of(size)
    if image.shape == shape:
        return image, size
    if image.dtype == np.uint8:
        picture = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)
        return image_files.fit(picture, shape), size
    return _resize_floats(image, shape), size


def spread(image: np.ndarray) -> float:
    """The largest less the smallest value of an image, in levels of 255; of its channels the largest."""
    levels = np.ptp(image.reshape(-1, image.shape[-1]), axis=0).max()
    return float(levels) if image.dtype == np.uint8 else float(levels) * 127.5


def to_bytes(image: np.ndarray) -> np.ndarray:
    """Floats in [-1, 1] as bytes; bytes as they are."""
    return image if image.dtype == np.uint8 else np.rint((np.asarray(image) + 1.0) * 127.5).astype(np.uint8)


def _to_floats(image):
    return image / np.float32(127.5) - np.float32(1.0) if image.dtype == np.uint8 else np.asarray(image, np.float32)


def _resize_floats(values, image_shape):
    height, width, channels = image_shape
    if values.shape[-1] == 3 and channels == 1:
        values = values @ np.array([[0.299], [0.587], [0.114]], np.float32)
    planes = [Image.fromarray(np.ascontiguousarray(values[..., c])) for c in range(values.shape[-1])]
    resized = [np.asarray(plane.resize((width, height), Image.Resampling.BILINEAR)) for plane in planes]
    return np.broadcast_to(np.clip(np.stack(resized, axis=-1), -1.0, 1.0), image_shape)


def assign_parts(samples: Samples, *, validation_fraction: float, test_fraction: float, seed: int) -> Samples:
    """Holds out validation images, and test images where only anomalous ones are there, from the training images.

    Groups are not broken: other images of a group that is tested on go to the test part, or are left out where the
    source has a test part of its own; so are training images of a group that the source's own validation part has.
    Images of equal content are kept together in the same way, unless hardly any would be left to train on.
    """
    fractions = {"test": test_fraction, "validation": validation_fraction}
    copies = _copies(samples)
    if copies is not None:
        with contextlib.suppress(ValueError):  # nothing is left to hold out
            parts = _assigned(samples, copies, fractions, seed)
            if np.count_nonzero(parts == "train") >= FEWEST:
                return dataclasses.replace(samples, parts=parts)
    return dataclasses.replace(samples, parts=_assigned(samples, None, fractions, seed))


def _assigned(samples, copies, fractions, seed):
    """The parts, in which neither groups nor copies, numbers that equal images share, are broken."""
    parts = samples.parts.astype("U10")  # as long as "validation"
    test = parts == "test"
    ours = test.any() and samples.labels[test].all()
    groups = samples.groups
    if groups is not None and copies is not None:
        groups = groups[linked([groups, copies])]  # those that have an image in common are one
    parts = _together(_together(parts, groups, ours), copies, ours)
    held_out = ("test",) if ours else ()
    held_out += () if "validation" in parts else ("validation",)
    for part in held_out:
        draw = fractions[part], (seed, ("test", "validation").index(part))
        chosen = _chosen(parts, groups, *draw)
        if copies is not None:
            alike = np.flatnonzero((parts == "train") & np.isin(copies, copies[chosen]))
            if groups is None and len(alike) > MOST_COPIES * len(chosen):
                wanted, together = len(chosen), _chosen(parts, copies, *draw)
                alike = together if len(together) * MOST_COPIES > wanted else alike
            chosen = alike
        parts[chosen] = part
    return parts


def _together(parts, groups, ours):
    """The parts without what is of the same group as something in a part that is tested or calibrated on."""
    if groups is None:
        return parts
    parts = parts.copy()
    for part, kept in (("validation", "test"), ("train", "test"), ("train", "validation")):
        straddling = (parts == part) & np.isin(groups, groups[parts == kept])
        parts[straddling] = "test" if ours and kept == "test" else ""
    return parts


def _copies(samples):
    """A number for each image, the same for equal ones; None where all differ, or none does, or nothing tells."""
    if samples.contents is None:
        return None
    contents, numbers = np.unique(samples.contents, return_inverse=True)
    return numbers if 1 < len(contents) < len(samples) else None


def _chosen(parts, groups, fraction, seed):
    """Indices of about `fraction` of the training images, in whole groups."""
    candidates = np.flatnonzero(parts == "train")
    names, members = np.unique(candidates if groups is None else groups[candidates], return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))
    sizes = np.bincount(members, minlength=len(names))[order]
    wanted = fraction * len(candidates)
    taken = order[_nearest(sizes, wanted)] if wanted and len(names) > 1 else []
    if not 0 < len(taken) < len(names) or not fraction < 1:
        in_groups, thing = ("", "") if groups is None else (f" in {len(names)} groups", " group")
        raise ValueError(
            f"Cannot hold out a fraction of {fraction:g} of {len(candidates)} normal images{in_groups}: "
            f"at least one{thing} must be held out, and one left to train on."
        )
    return candidates[np.isin(members, taken)]


def _nearest(sizes, wanted):
    """Which of some sizes, the first of them rather than others, add up to nearly what is wanted."""
    cumulated = np.cumsum(sizes)
    first = np.searchsorted(cumulated, wanted - 0.5) + 1
    if abs(cumulated[min(first, len(sizes)) - 1] - wanted) <= 0.5 or len(sizes) > MOST_GROUPS:
        return np.arange(min(first, len(sizes)))
    sums = [1]  # bit n of the i-th is set if some of the first i sizes add up to n
    for size in map(int, sizes):
        sums.append(sums[-1] | sums[-1] << size)
    reachable = [n for n in range(1, int(cumulated[-1])) if sums[-1] >> n & 1]
    total = min(reachable, key=lambda n: abs(n - wanted))
    taken = []
    for i in range(len(sizes) - 1, -1, -1):
        if not sums[i] >> total & 1:
            taken.append(i)
            total -= int(sizes[i])
    return np.array(taken)
