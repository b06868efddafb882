"""What a look at all images and masks tells before they are used: copies, flat pictures, pages, masks that are off."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from anogan_tf.data import images as image_files
from anogan_tf.data.samples import Samples
from anogan_tf.networks import MAX_SIDE

NEARLY_FLAT = 4  # levels of 255
MOSTLY = 0.5  # of a picture, more than which a defect seldom covers
SAME_RATIO = 0.03  # to which the proportions of a mask and its picture agree
NAMED = 5  # examples in a sentence
LOOKED_AT = 64  # files, to tell what they have in common
LONG = 1.4  # of the longer side over the shorter, from which pictures are not made square
ALIKE = 0.1  # to which the proportions of pictures agree that have them in common
STEP = 8  # pixels, of which sides are multiples


@dataclasses.dataclass(frozen=True)
class _Look:
    """What is to say of one mask: why it is of no use, whether it is resized, and the part that it marks."""

    problem: str | None = None
    resized: bool = False
    marked: float = 0.0


def sound_masks(samples: Samples) -> tuple[Samples, list[str]]:
    """The samples without the masks that are of no use, and sentences on those and on what else one should know.

    Of no use are masks that cannot be read, and those of other proportions than their pictures.

    Warns:
        UserWarning: If most masks mark most of their pictures, as inverted ones do.
    """
    if samples.masks is None:
        return samples, []
    indices = np.array([index for index, mask in enumerate(samples.masks) if mask is not None], int)
    with ThreadPoolExecutor() as pool:
        looks = list(pool.map(lambda index: _look(samples.files[index], samples.masks[index]), indices))
    _warn_of_inverted([look.marked for look in looks if look.marked])
    broken = indices[[look.problem is not None for look in looks]]
    masks = samples.masks.copy()
    masks[broken] = None
    empty = [look.problem is None and not look.marked for look in looks] & (samples.labels[indices] == 1)
    resized = sum(look.resized for look in looks)
    told = [f"{len(broken)} masks are not used: {_some([look.problem for look in looks if look.problem])}."]
    told += [f"{resized} masks are of another size than their pictures, and are resized by nearest neighbour."]
    told += [f"The masks of {np.count_nonzero(empty)} anomalous images mark nothing."]
    told = [sentence for sentence, said in zip(told, (len(broken), resized, empty.any()), strict=True) if said]
    some_left = any(mask is not None for mask in masks)
    samples = dataclasses.replace(samples, masks=masks if some_left else None)
    if some_left and (bare := np.count_nonzero(~samples.have_masks & (samples.parts == "test"))):
        told.append(f"{bare} anomalous images have no mask, and are left out of the figures of pixels.")
    return samples, told


def _look(file, paths):
    try:
        size, sizes = image_files.size_of(file), [image_files.size_of(path) for path in paths]
        mask = image_files.read_mask(*paths, size=size)
    except (ValueError, OSError) as error:
        return _Look(problem=str(error))
    for path, (height, width) in zip(paths, sizes, strict=True):
        if abs(np.log(height * size[1] / (width * size[0]))) > max(SAME_RATIO, 1.0 / min(height, width, *size)):
            sizes = f"{height}×{width} pixels, and so of other proportions than its picture of {size[0]}×{size[1]}"
            return _Look(problem=f"{path}: of {sizes}")
    return _Look(resized=any(tuple(own) != tuple(size) for own in sizes), marked=float(mask.mean()))


def _warn_of_inverted(marked):
    if marked and np.count_nonzero(np.array(marked) > MOSTLY) > len(marked) / 2:
        warnings.warn(
            f"The masks mark most of their pictures, {np.median(marked):.0%} in the middle, as inverted ones do: an "
            "image is anomalous where its mask is white, or of any level but 0.",
            stacklevel=4,
        )


def channels(samples: Samples) -> int:
    """1 where no picture that is trained on has a colour, or none of 64 where there are more, else 3."""
    with ThreadPoolExecutor() as pool:
        return 1 if all(pool.map(image_files.is_gray, _some_files(samples))) else 3


def sides(samples: Samples, side: int, crop: image_files.Crop = None) -> tuple[int, int]:
    """`(height, width)` of about side² pixels, in proportions that pictures have in common where they are long.

    Those are of the pictures that are trained on, or of 64 where there are more, as they are cropped.
    """
    try:
        boxes = [image_files.crop_box(image_files.size_of(file), crop, file) for file in _some_files(samples)]
    except (ValueError, OSError):  # which is said when they are read
        return side, side
    ratios = np.array([np.log((lower - upper) / (right - left)) for left, upper, right, lower in boxes])
    common = np.median(ratios)
    if abs(common) < np.log(LONG) or np.abs(ratios - common).max() > ALIKE:
        return side, side
    lengths = (STEP * max(2, round(side * np.exp(sign * common / 2) / STEP)) for sign in (1, -1))
    height, width = (min(length, MAX_SIDE) for length in lengths)
    return height, width


def _some_files(samples):
    files = samples.images[samples.rows[samples.parts == "train"]]
    if not len(files):
        files = samples.images[samples.rows]
    return files[np.unique(np.linspace(0, len(files) - 1, LOOKED_AT).astype(int))]


def copies(samples: Samples) -> Iterator[str]:
    """Sentences on images of equal content."""
    contents, numbers = np.unique(samples.contents, return_inverse=True)
    counts = np.bincount(numbers)
    if counts.max() == 1:
        return
    used = {(number, part) for number, part in zip(numbers.tolist(), samples.parts.tolist(), strict=True) if part}
    straddling = len(used) > len({number for number, _ in used})
    kept = "equal ones are kept together"
    if straddling:
        kept = "too few would be left to train on if equal ones were kept together"
    listing = (" = ".join(map(repr, samples.ids[numbers == n][:NAMED].tolist())) for n in np.flatnonzero(counts > 1))
    yield f"{len(samples) - len(contents)} images are copies of others; {kept}: {_some(listing, '; ')}."
    labelled = set(zip(numbers.tolist(), samples.labels.tolist(), strict=True))
    if len(labelled) > len(contents):
        yield f"{len(labelled) - len(contents)} contents are among the normal and among the anomalous images."


def flat(samples: Samples) -> Iterator[str]:
    """A sentence on images of one, or of nearly one, level."""
    if samples.spreads is not None and (found := samples.ids[samples.spreads < NEARLY_FLAT]).size:
        yield f"{len(found)} images are of one colour, or nearly: {_some(map(repr, map(str, found)))}."


def left_in_files(files: Sequence[str | os.PathLike]) -> tuple[list[str], list[str]]:
    """What of the files is not used, in words: the pages after the first; and a sentence on transparency."""
    with ThreadPoolExecutor() as pool:
        headers = [
            (file, found) for file, found in zip(files, pool.map(image_files.header, files), strict=True) if found
        ]
    paged = [(file, found["pages"]) for file, found in headers if found["pages"]]
    pages = sum(number for _, number in paged)
    unused = [f"{pages} pages after the first of {len(paged)} files, such as {Path(paged[0][0]).name}"] if paged else []
    transparent = sum(found["transparent"] for _, found in headers)
    told = [f"{transparent} images have transparency, and are laid on black."] if transparent else []
    return unused, told


def _some(values, separator=", "):
    values = list(values)
    return separator.join(values[:NAMED]) + (f" and {len(values) - NAMED} more" if len(values) > NAMED else "")
