"""What layouts share: from the names of folders to the part and the class of each picture, and what a layout reads."""

from __future__ import annotations

import collections
import dataclasses
import fnmatch
import os
import re
import shlex
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from anogan_tf.data.listing import Listing, Names
from anogan_tf.data.records import Record

PARTS = {"train": "train", "val": "validation", "test": "test"}
PART = re.compile(
    r"(?:(train)(?:ing)?|(val)(?:id|idation)?|(test)(?:ing)?)(?:[_\- ]?(?:set|data|images|imgs|public))?", re.IGNORECASE
)
FILLERS = re.compile(r"(?:images?|imgs?|samples?|parts?|pictures?|pics?|products?|items?|data)$")
GOOD = (
    "good", "ok", "okay", "normal", "pass", "passed", "intact", "io", "defectfree", "nodefect", "nondefective",
    "undamaged", "faultless", "flawless", "anomalyfree", "nonanomalous",
)  # fmt: skip
BAD = (
    "bad", "ng", "nok", "notok", "ko", "nio", "notgood", "nogood", "abnormal", "anomaly", "anomalies", "anomalous",
    "defect", "defects", "defective", "fail", "failed", "faulty", "reject", "rejected", "damaged", "broken",
)  # fmt: skip
CONTAINERS = ("images", "image", "imgs", "img", "rgb", "data", "pictures")


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a layout made of a folder, a value a picture in each list.

    Attributes:
        ids: Paths relative to the folder.
        files: The files.
        parts: `"train"`, `"validation"`, `"test"`, or `""` for nothing.
        classes: The folder, or whatever else names the class of a picture; `""` for none.
        labels: 0 normal, 1 anomalous.
        masks: Tuples of mask files, empty without any.
        groups: What must not be split, or None.
        unused: What was found and is not used, in words.
        told: What the user should know, in sentences.
        layout: The name of the layout.
    """

    ids: list[str]
    files: list[Path | Record]
    parts: list[str]
    classes: list[str]
    labels: list[int]
    masks: list[tuple[Path, ...]]
    groups: list[str] | None = None
    unused: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    layout: str = ""

    @classmethod
    def of(
        cls,
        listing: Listing,
        paths: Sequence[Names],
        parts: Sequence[str],
        classes: Sequence[str],
        labels: Sequence[int],
        masks: dict[Names, Sequence[Names]],
        unused: Iterable[str] = (),
        told: Iterable[str] = (),
    ) -> Reading:
        """The reading of pictures by their paths in a listing; `masks` names the mask files of those that have some."""
        return cls(
            ids=["/".join(path) for path in paths],
            files=[listing.file(path) for path in paths],
            parts=list(parts),
            classes=list(classes),
            labels=list(labels),
            masks=[tuple(listing.file(mask) for mask in masks.get(path, ())) for path in paths],
            unused=tuple(unused),
            told=tuple(told),
        )


def is_good(name: str) -> bool:
    """Whether a class is called what only normal images are called, in any letter case and spelling."""
    return _letters(name) in GOOD


def is_bad(name: str) -> bool:
    """Whether a class is called what only anomalous images are called."""
    return _letters(name) in BAD


def _letters(name):
    """The letters of a name in lower case, without a last word such as `images`."""
    return FILLERS.sub("", re.sub(r"[^a-z]", "", name.lower()))


def part_of(name: str) -> str | None:
    """The part that a folder's name says; None for other names."""
    found = PART.fullmatch(name)
    return PARTS[next(filter(None, found.groups())).lower()] if found else None


def with_folders(listing: Listing, normal: Sequence[str] | None = None) -> list[tuple[Names, Names]]:
    """Pairs of a picture's path and the folders it lies in, but for a way into the folder that is the same for all."""
    ways = [path[:-1] for path in listing.pictures]
    depth = 0
    while ways and all(len(way) > depth and way[depth] == ways[0][depth] for way in ways):
        name = ways[0][depth]
        if part_of(name) or is_good(name) or is_bad(name) or normal_of(normal or ("",), {name}):
            break
        depth += 1
    return [(path, path[depth:-1]) for path in listing.pictures]


def classes_of(dirs: Sequence[Names], normal: Sequence[str] | None, where: Path) -> list[str]:
    """The class of each picture: its folder at the depth where the folders of normal ones lie, or the first.

    Raises:
        ValueError: If folders of normal ones lie at several depths.
    """
    known = normal_of(normal, {name for path in dirs for name in path})
    depths = [depth for path in dirs for depth, name in enumerate(path) if name in known]
    level = min(depths, default=0)
    for path in dirs:
        if len(path) > level and path[level] not in known and known & set(path):
            raise ValueError(
                f"{where} has folders of normal images at different depths, one of them {'/'.join(path)}/, so that it "
                "is not clear which folders are the classes. Bring them to one depth."
            )
    return [path[level] if len(path) > level else "" for path in dirs]


def normal_of(normal: Sequence[str] | None, classes: Collection[str]) -> set[str]:
    """Those of the classes that are normal: what `normal` names, by any letter case if by none as it is written."""
    if normal is None:
        return set(filter(is_good, classes))
    found = set()
    for name in normal:
        exact = {c for c in classes if _matches(c, (name,))}
        found |= exact or {c for c in classes if c.lower() == name.lower()}
    return found


def _matches(name, patterns):
    return any(name == pattern or fnmatch.fnmatchcase(name, pattern) for pattern in patterns or ())


def need_normal(
    where: str | os.PathLike,
    parts: Sequence[str],
    classes: Sequence[str],
    labels: Sequence[int],
    normal: Sequence[str] | None,
) -> None:
    """Raises a ValueError if no picture of the training part is normal."""
    if not any(part == "train" and label == 0 for part, label in zip(parts, labels, strict=True)):
        classes = {name for name, part in zip(classes, parts, strict=True) if part == "train"} or set(classes)
        raise ValueError(
            f"{where}: no images of the normal class {listed(normal or ('good',))}. There are: "
            f"{listed(sorted(classes))}. Name the normal class with normal= (--normal)."
        )


def need_known(names: Iterable[str], known: Collection[str], where: Path) -> None:
    """Raises a ValueError if a name is that of no known class."""
    missing = [name for name in names if not normal_of((name,), known)]
    if missing:
        raise ValueError(f"{where}: no class {listed(missing)}. There are: {listed(sorted(known))}.")


def ambiguity(folder: Path, dirs: Sequence[Names]) -> str:
    """Why class folders are refused, and what to do."""
    try:
        classes = collections.Counter(classes_of(dirs, None, folder))
    except ValueError:
        classes = collections.Counter(path[0] if path else "" for path in dirs)
    loose = classes.pop("", 0)
    if set(classes) <= {path[0] for path in dirs if path} and all(map(is_bad, classes)) and not loose:
        return f"{folder} has only {listed(classes)} images: an AnoGAN is trained on normal ones."
    counts = ", ".join(f"{name!r} ({count} images)" for name, count in sorted(classes.items())[:20])
    counts += f" and {len(classes) - 20} more" if len(classes) > 20 else ""
    first = next(iter(sorted(classes, key=lambda name: (not is_good(name), is_bad(name), -classes[name]))), "good")
    beside = f", and {loose} images beside them" if loose else ""
    named = any(is_good(name) or is_bad(name) for name in classes)
    everything = "" if named else ", or normal='*' (--normal '*') if all of them are"
    return (
        f"{folder} has class folders: {counts}{beside}. Say which are normal: normal={first!r}{everything}. On the "
        f"command line: anogan-tf train {shlex.quote(str(folder))} --normal {shlex.quote(first)}"
    )


def listed(names: Iterable[str]) -> str:
    """Names in quotes, at most 20 of them."""
    names = list(names)
    return ", ".join(repr(str(name)) for name in names[:20]) + (
        f" and {len(names) - 20} more" if len(names) > 20 else ""
    )
