"""What lies in a folder: its pictures, its masks by their names, and what is neither."""

from __future__ import annotations

import collections
import dataclasses
import os
import re
from pathlib import Path
from typing import TypeAlias

from anogan_tf.data import images as image_files

Names: TypeAlias = tuple[str, ...]  # on the way to a file, its own the last

SYSTEM = ("__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found")
MASK_WORDS = r"(?:ground[_\- ]?truths?|gts?|masks?|labels?|annotations?|segmentations?)"
MASK_FOLDER = re.compile(rf"(?:(?P<class_name>.+)[_\- ])?{MASK_WORDS}", re.IGNORECASE)
MASK_FILE = re.compile(rf"(?P<stem>.+?)[_\-. ](?:{MASK_WORDS}|seg)[_\-]?\d*", re.IGNORECASE)
AMBIGUOUS = re.compile(r"labels?|annotations?|segmentations?", re.IGNORECASE)
OTHER_SENSORS = ("xyz", "depth", "ir", "nir", "infrared", "thermal", "pointcloud", "pcd")
NOTHING = ", a link to nothing"
OURS = (re.compile(r"test_image_\d+\.png"), re.compile(r"epoch_\d+\.png"))


@dataclasses.dataclass(frozen=True)
class Listing:
    """The files in a folder and below, as tuples of the names on the way to them, in the order of these.

    Attributes:
        folder: The folder.
        pictures: Image files.
        masks: Image files that are masks by their name or that of their folder.
        others: Files that are no images.
        left_out: What was not looked into, in words.
    """

    folder: Path
    pictures: tuple[Names, ...]
    masks: tuple[Names, ...]
    others: tuple[Names, ...]
    left_out: tuple[str, ...]

    @property
    def dangling(self) -> list[str]:
        """The links to nothing."""
        return [what.removesuffix(NOTHING) for what in self.left_out if what.endswith(NOTHING)]

    def file(self, path: Names) -> Path:
        return self.folder.joinpath(*path)

    def check(self, pattern: str | None = None) -> None:
        """Raises a ValueError if there are no pictures, which says what there is."""
        if not self.pictures:
            wanted = f"named {pattern}" if pattern else f"ending in {', '.join(image_files.SUFFIXES)}"
            masks = [f"{len(self.masks)} masks"] if self.masks else []
            others = [f"{len(self.others)} other files, such as {'/'.join(self.others[0])}"] if self.others else []
            beside = "; ".join([*masks, *self.left_out, *others])
            raise ValueError(f"No images {wanted} in {self.folder} or below{beside and f', only {beside}'}.")


def list_folder(folder: str | os.PathLike, pattern: str | None = None) -> Listing:
    """Lists a folder, links to folders followed, hidden and system files and what this package wrote left out.

    Args:
        folder: Path.
        pattern: Glob pattern that pictures must match; None for all.

    Raises:
        FileNotFoundError: If there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"No such folder: {folder}.")
    left_out = []
    paths = sorted(_walk(folder, (), (), left_out))
    images = [path for path in paths if Path(path[-1]).suffix.lower() in image_files.SUFFIXES]
    masks = _masks(images)
    masks |= _black_and_white(folder, [path for path in images if path not in masks])
    pictures = [path for path in images if path not in masks]
    pictures = _one_sensor(pictures, left_out)
    if pattern:
        recursive = {found.relative_to(folder).parts for found in folder.rglob(pattern)} if "**" in pattern else ()
        matched = [path for path in pictures if Path(*path).match(pattern) or path in recursive]
        if len(matched) < len(pictures):
            left_out.append(f"{len(pictures) - len(matched)} pictures that do not match {pattern}")
        pictures = matched
    others = set(paths) - set(images)
    return Listing(folder, tuple(pictures), tuple(sorted(masks)), tuple(sorted(others)), tuple(left_out))


def without_mask_words(name: str) -> str:
    """What a mask's file or folder name says besides that it is one: `000` of `000_mask`, `""` of `masks`."""
    folder = MASK_FOLDER.fullmatch(name)
    if folder:
        return folder["class_name"] or ""
    file = MASK_FILE.fullmatch(name)
    return file["stem"] if file else name


def _walk(folder, path, above, left_out):
    """Yields the paths of files; a folder that is one of those `above` it, by a link, is not entered again."""
    status = folder.stat()
    above = (*above, (status.st_dev, status.st_ino))
    with os.scandir(folder) as entries:
        entries = sorted(entries, key=lambda entry: entry.name)
    for entry in entries:
        inside = (*path, entry.name)
        if entry.name.startswith(".") or entry.name.lower() in SYSTEM:
            continue
        if entry.is_dir():
            status = os.stat(entry.path)
            if (status.st_dev, status.st_ino) in above:
                left_out.append(f"{'/'.join(inside)}, a link to a folder that it lies in")
            elif what := _written_by_us(Path(entry.path)):
                left_out.append(f"{'/'.join(inside)}, {what}")
            else:
                yield from _walk(Path(entry.path), inside, above, left_out)
        elif entry.is_file():
            yield inside
        elif entry.is_symlink():
            left_out.append("/".join(inside) + NOTHING)


def _written_by_us(folder):
    """What a folder is that this package wrote: a run, or results; None for others."""
    names = {entry.name for entry in os.scandir(folder)}
    if "run.json" in names:
        return "a run"
    if {"scores.csv", "metrics.json"} <= names:
        return "results"
    images = [name for name in names if Path(name).suffix.lower() in image_files.SUFFIXES]
    drawn = any(images and all(map(name.fullmatch, images)) for name in OURS)
    return "pictures that a report or a training drew" if drawn else None


def _masks(images):
    """Those of the images that are masks.

    They lie in a folder named as masks are, or beside pictures under a name that says so. `crack_masks` is a folder of
    masks where there is a folder `crack`, and `labels`, which may also be a class, where its files fit pictures.
    """
    folders = {name for path in images for name in path[:-1]}
    in_folders = {path for path in images if any(_is_mask_folder(name, folders) for name in path[:-1])}
    left = [path for path in images if path not in in_folders]
    stems = {_stem(path) for path in left}
    for path in sorted(in_folders):
        only_ambiguous = all(AMBIGUOUS.fullmatch(name) for name in path[:-1] if _is_mask_folder(name, folders))
        if only_ambiguous and not {without_mask_words(_stem(path)), _stem(path), *path[:-1]} & stems:
            in_folders.remove(path)
    return in_folders | _beside_pictures(left)


def _is_mask_folder(name, folders):
    found = MASK_FOLDER.fullmatch(name)
    return bool(found) and (found["class_name"] is None or found["class_name"] in folders)


def _beside_pictures(images):
    """Files such as `000_mask.png` in folders where `000.png`, or another pair like it, lies too."""
    by_folder = collections.defaultdict(list)
    for path in images:
        by_folder[path[:-1]].append(path)
    pairs, named = set(), set()
    for paths in by_folder.values():
        stems = {_stem(path) for path in paths}
        marked = [path for path in paths if MASK_FILE.fullmatch(_stem(path))]
        if any(without_mask_words(_stem(path)) in stems for path in marked):
            pairs.update(marked)
        elif len(marked) < len(paths):
            named.update(marked)
    return pairs | named


def _black_and_white(folder, images):
    """Files such as `000.png` beside `000.jpg` of which those of one suffix have no more than two levels."""
    twins = collections.defaultdict(list)
    for path in images:
        twins[path[:-1], _stem(path)].append(path)
    twins = [path for paths in twins.values() if len(paths) == 2 for path in paths]
    by_suffix = collections.defaultdict(list)
    for path in twins:
        by_suffix[path[:-1], Path(path[-1]).suffix.lower()].append(path)
    return {
        path
        for paths in by_suffix.values()
        if all(image_files.is_black_and_white(folder.joinpath(*path)) for path in paths)
        for path in paths
    }


def _one_sensor(pictures, left_out):
    """The pictures without those of other sensors, which lie in folders beside one named `rgb`."""
    with_rgb = {path[:i] for path in pictures for i, name in enumerate(path[:-1]) if name.lower() == "rgb"}

    def is_other(path):
        return any(name.lower() in OTHER_SENSORS and path[:i] in with_rgb for i, name in enumerate(path[:-1]))

    kept = [path for path in pictures if not is_other(path)]
    if len(kept) < len(pictures):
        left_out.append(f"{len(pictures) - len(kept)} images of other sensors beside rgb/")
    return kept


def _stem(path):
    return Path(path[-1]).stem
