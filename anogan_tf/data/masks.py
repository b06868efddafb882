"""Which masks are of which picture, by their names and folders."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from pathlib import Path

from anogan_tf.data import images as image_files
from anogan_tf.data.listing import Listing, Names, without_mask_words
from anogan_tf.data.reading import CONTAINERS, part_of


def matched(listing: Listing, paths: Sequence[Names]) -> tuple[dict[Names, tuple[Names, ...]], list[str]]:
    """The masks of pictures, path to paths, and a sentence on those that fit none.

    A mask fits where it has the picture's name, or one that adds `_mask` and the like, and lies in like folders, those
    that say that they hold masks, pictures or a part left out; also in a folder with the picture's name.
    """
    by_place = collections.defaultdict(list)
    for mask in listing.masks:
        part, dirs = _place(mask)
        stem = Path(mask[-1]).stem.lower()
        for name in dict.fromkeys((stem, without_mask_words(stem))):
            by_place[part, (*dirs, name)].append(mask)
        by_place[part, (*dirs, None)].append(mask)
    found = {}
    for path in paths:
        part, dirs = _place(path)
        stem = Path(path[-1]).stem.lower()
        keys = [(*dirs, stem), (*dirs, stem, None)]
        places = [(p, key) for p in dict.fromkeys((part, None if part in (None, "test") else part)) for key in keys]
        masks = next((by_place[place] for place in places if place in by_place), [])
        if masks:
            found[path] = tuple(masks)
    taken = {mask for masks in found.values() for mask in masks}
    found |= _matched_by_name(
        [path for path in paths if path not in found], [m for m in listing.masks if m not in taken]
    )
    taken |= {mask for masks in found.values() for mask in masks}
    left = len(listing.masks) - len(taken)
    return found, ([f"{left} of {len(listing.masks)} masks, which fit no picture"] if left else [])


def _matched_by_name(paths, masks):
    """Masks that lie in no class folder, by their names alone, where only one picture is called so."""
    stems = collections.defaultdict(list)
    for path in paths:
        stems[Path(path[-1]).stem.lower()].append(path)
    found = collections.defaultdict(tuple)
    for mask in masks:
        part, dirs = _place(mask)
        called = stems.get(without_mask_words(Path(mask[-1]).stem.lower()), [])
        called = [path for path in called if part in (None, _place(path)[0])]
        if not dirs and len(called) == 1:
            found[called[0]] += (mask,)
    return dict(found)


def _place(path):
    """The part of a picture or mask, None without one, and the folders that tell it from others."""
    names = [without_mask_words(name).lower() for name in path[:-1]]
    part = next(filter(None, map(part_of, names)), None)
    return part, tuple(name for name in names if name and not part_of(name) and name not in CONTAINERS)


def mark_anything(listing: Listing, masks: Sequence[Names]) -> bool:
    """Whether masks mark anything; those that cannot be read do, as nothing says that the picture is normal."""
    try:
        return bool(masks) and bool(image_files.read_mask(*map(listing.file, masks), size=(256, 256)).any())
    except ValueError:
        return True
