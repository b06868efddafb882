"""Folders as people and publishers lay them out: one table of layouts, each of which knows its own and reads it.

The first layout in `LAYOUTS` that recognises what lies in a folder reads it. To add one, write a function that
recognises a `Listing` and one that makes a `Reading` of it, in `folder_layouts` or in `published_layouts`, and name
both in a line of the table.
"""

from __future__ import annotations

import collections
import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from anogan_tf.data import folder_layouts, lists, published_layouts
from anogan_tf.data.listing import Listing, list_folder
from anogan_tf.data.masks import mark_anything, matched
from anogan_tf.data.reading import Reading, is_bad, is_good, normal_of


@dataclasses.dataclass(frozen=True)
class Layout:
    """A way to lay out a folder.

    Args:
        name: What people call it.
        recognises: Whether a `Listing` is laid out so.
        read: Function of a `Listing`, the names of normal classes or None, and whether all labelled pictures are for
            testing, to a `Reading`, or a ValueError that says what would be right.
    """

    name: str
    recognises: Callable[[Listing], bool]
    read: Callable[[Listing, Sequence[str] | None, bool], Reading]


LAYOUTS = (
    Layout("list of files", lists.is_list, lists.read_list),
    Layout("LSUN", published_layouts.is_lsun, published_layouts.read_lsun),
    Layout("CelebA", published_layouts.is_celeba, published_layouts.read_celeba),
    Layout("VisA", published_layouts.is_visa, published_layouts.read_visa),
    Layout("several categories", folder_layouts.has_categories, folder_layouts.refuse_categories),
    Layout("training and test folders", folder_layouts.has_parts, folder_layouts.read_parts),
    Layout("pictures with masks", folder_layouts.has_masks_alone, folder_layouts.read_by_masks),
    Layout("class folders", folder_layouts.has_class_folders, folder_layouts.read_classes),
    Layout("pictures", folder_layouts.has_pictures, folder_layouts.read_pictures),
)


def read(
    source: str | os.PathLike, *, normal: Sequence[str] | None = None, pattern: str | None = None, testing: bool = False
) -> Reading:
    """Reads a folder, or a list of files, by the first layout that recognises it.

    Args:
        source: Path.
        normal: Names of the normal classes, or glob patterns of such; None where the layout says which they are.
        pattern: Glob pattern of file names; None for all image files.
        testing: Whether all that is labelled is for testing, where the layout has no training part.

    Returns:
        A `Reading`.

    Raises:
        ValueError: For a folder that no layout understands; it says what it found and what would be right.
    """
    source = Path(source)
    listing = list_folder(source, pattern) if source.is_dir() else Listing(source.parent, (), (), ((source.name,),), ())
    layout = next((layout for layout in LAYOUTS if layout.recognises(listing)), None)
    if layout is None:
        listing.check(pattern)
    reading = layout.read(listing, normal, testing)
    suffixes = collections.Counter(Path(path[-1]).suffix.lower() or "no suffix" for path in listing.others)
    unused = [*listing.left_out, *reading.unused]
    if suffixes and source.is_dir():
        counts = ", ".join(f"{count} {suffix}" for suffix, count in sorted(suffixes.items()))
        unused.append(f"files of other suffixes ({counts})")
    return dataclasses.replace(reading, layout=layout.name, unused=tuple(unused))


def check_good(folder: str | os.PathLike, pattern: str | None = None, normal: Sequence[str] | None = None) -> None:
    """Raises a ValueError if a folder holds anomalous pictures, by the names of the folders in it or by masks.

    Args:
        folder: Path.
        pattern: Glob pattern of file names; None for all image files.
        normal: Names of normal classes, beside those that are called good, ok and the like.
    """
    listing = list_folder(folder, pattern)
    known = normal_of(normal or (), {name for path in listing.pictures for name in path[:-1]})
    in_good = {path: any(is_good(name) or name in known for name in path[:-1]) for path in listing.pictures}
    masks, _ = matched(listing, listing.pictures)

    def is_other(path, good):
        named = not good and (any(in_good.values()) or any(map(is_bad, path[:-1])))
        return named or mark_anything(listing, masks.get(path, ()))

    if others := [path for path, good in in_good.items() if is_other(path, good)]:
        raise ValueError(
            f"{folder} holds pictures that are not good: {len(others)} of {len(in_good)}, such as "
            f"{'/'.join(others[0])}. Name the folder of the good ones."
        )
